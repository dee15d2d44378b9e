"""OpenRaster's stack.xml, as plain elements: parsed without entities or document types, within bounds (OpenRaster 0.0.6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from sfumato.errors import DocumentFileError

MOST_BYTES = 16 << 20
MOST_ELEMENTS = 50_000
MOST_DEPTH = 100


@dataclass
class Element:
    """An XML element; text between elements has no meaning here."""

    tag: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    children: list[Element] = field(default_factory=list)

    def number(self, name: str, default: float = 0.0) -> float:
        """An attribute as a number. Raises DocumentFileError if it is none, or beyond reason."""
        try:
            value = float(self.attributes.get(name, default))
        except ValueError:
            value = float("nan")
        if not abs(value) <= 1 << 24:
            raise DocumentFileError(f"{name}={self.attributes[name][:40]!r} is no number that can be", f"stack.xml: {self.tag}")
        return value


def parse_xml(data: bytes) -> Element:
    """The root. Raises DocumentFileError for what is no XML, has a document type, or is too large or too deep."""
    if len(data) > MOST_BYTES:
        raise DocumentFileError("stack.xml is too large")
    open_elements, roots, count = [Element("")], [], 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if count > MOST_ELEMENTS or len(open_elements) > MOST_DEPTH:
            raise DocumentFileError("stack.xml has too many elements, or is nested too deeply")
        element = Element(tag, attributes)
        open_elements[-1].children.append(element)
        roots.append(element) if len(open_elements) == 1 else None
        open_elements.append(element)

    def refuse(*_: object) -> None:
        raise DocumentFileError("stack.xml declares a document type, which is not read", remedy="This file may be an attack.")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda tag: open_elements.pop()
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise DocumentFileError(f"stack.xml is no XML: {error}") from error
    return roots[0]


def write_xml(root: Element) -> bytes:
    """The text of an element, in UTF-8."""
    return b"<?xml version='1.0' encoding='UTF-8'?>\n" + "\n".join(_lines(root, 0)).encode("utf-8", "replace") + b"\n"


def _lines(element: Element, depth: int) -> list[str]:
    attributes = "".join(f" {name}={quoteattr(_sayable(value))}" for name, value in element.attributes.items())
    head = f"{' ' * depth}<{element.tag}{attributes}"
    if not element.children:
        return [f"{head}/>"]
    inner = [line for child in element.children for line in _lines(child, depth + 1)]
    return [f"{head}>", *inner, f"{' ' * depth}</{element.tag}>"]


def _sayable(text: str) -> str:
    """What XML 1.0 cannot hold, replaced."""
    return "".join(
        sign if sign in "\t\n\r" or " " <= sign < "\ud800" or "\ue000" <= sign < "\ufffe" or sign >= "\U00010000" else "\ufffd"
        for sign in text
    )
