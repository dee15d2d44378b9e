"""Opening an OpenRaster file from anybody: within budgets, with what only we know if it is there and still true."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from sfumato.bounded_json import JsonFault, read_json
from sfumato.document.blending import BlendMode
from sfumato.document.document import Document
from sfumato.document.history import History
from sfumato.document.layers import PARTS, GroupLayer, Layer, Part, RasterLayer, SurfaceId, Tree
from sfumato.document.ora_layout import DESCRIPTION, FORMAT, MIMETYPE, MIMETYPE_NAME, OWN_PICTURES, STACK, STANDARD
from sfumato.document.picture import Structure
from sfumato.document.png import decode_png, png_area
from sfumato.document.stack_xml import Element, parse_xml
from sfumato.document.structure_json import MOST_NESTING, structure_from_json
from sfumato.document.tiles import Tiles
from sfumato.document.zip_archive import ZipReader
from sfumato.errors import BadValueError, DocumentFileError
from sfumato.geometry import Bounds, Point, Size


@dataclass(frozen=True)
class Budget:
    """The most that a document may ask for."""

    picture_pixels: int = 1 << 28
    """Of one layer: 16384 x 16384."""
    all_pixels: int = 1 << 31
    """Of all pictures together, transparent ones as well."""
    memory: int = 8 << 30
    """Bytes of pixels once they are read."""
    file_bytes: int = 1 << 30
    """Of one packed picture."""
    unknown_bytes: int = 256 << 20
    """Of parts that are not ours and are kept."""


@dataclass(frozen=True)
class Opened:
    """A document, what could not be read as it was meant (`warnings`), and why it must not be saved over its file, if so."""

    document: Document
    warnings: tuple[str, ...] = ()
    read_only: str = ""


@dataclass
class _Plan:
    """What is to be read: the structure, and where each picture lies."""

    structure: Structure
    pictures: dict[SurfaceId, tuple[str, Point]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    read_only: str = ""
    shown: set[str] = field(default_factory=set)
    """What stack.xml names: written anew by every save."""


def read_ora(path: Path, *, budget: Budget | None = None, history: History | None = None) -> Opened:
    """Open a document. Raises DocumentFileError, with the reason, for what is none, is damaged, hostile or over the budget."""
    budget = budget or Budget()
    try:
        with ZipReader(path) as archive:
            return _read(archive, budget, history)
    except DocumentFileError as error:
        where = error.where if str(path) in error.where else ": ".join(each for each in (str(path), error.where) if each)
        raise DocumentFileError(error.what, where, error.remedy) from error


def _read(archive: ZipReader, budget: Budget, history: History | None) -> Opened:
    if MIMETYPE_NAME not in archive.names or archive.read(MIMETYPE_NAME, 1024).strip() != MIMETYPE:
        raise DocumentFileError("this is no OpenRaster document")
    stack = archive.read(STACK, 1 << 24)
    plan = _own_plan(archive, stack) or _stack_plan(parse_xml(stack))
    plan.shown = _sources(parse_xml(stack))
    surfaces = _pictures(archive, plan, budget)
    unknown, too_many = _unknown(archive, plan, budget)
    document = Document(plan.structure, surfaces, unknown, history)
    return Opened(document, tuple(plan.warnings), plan.read_only or too_many)


def _own_plan(archive: ZipReader, stack: bytes) -> _Plan | None:
    """What our own description says; None if there is none, or if another program has changed the stack since."""
    if DESCRIPTION not in archive.names:
        return None
    try:
        data = read_json(archive.read(DESCRIPTION, 1 << 26))
        version, checksum = data["format"], data["stack_crc32"]
        is_newer = isinstance(version, int) and version > FORMAT
        if checksum != zlib.crc32(stack):
            return None
        plan = _Plan(structure_from_json(data["structure"]))
        for each in data["surfaces"]:
            surface, source, corner = _listed(each)
            plan.pictures[surface] = source, corner
    except (JsonFault, KeyError, TypeError, ValueError, DocumentFileError) as error:
        plan = _stack_plan(parse_xml(stack))
        plan.warnings.append(f"what Sfumato had noted in this file cannot be read ({error}): masks and prompts are missing")
        plan.read_only = "Part of this document could not be read: save it under another name."
        return plan
    if is_newer:
        plan.read_only = f"This document was made by a newer version (format {version}): save it under another name."
    there = set(plan.structure.surfaces())
    plan.pictures = {surface: place for surface, place in plan.pictures.items() if surface in there}
    return plan


def _listed(each: Any) -> tuple[SurfaceId, str, Point]:
    owner, part, source, x, y = (each[name] for name in ("owner", "part", "src", "x", "y"))
    are_numbers = all(isinstance(value, int) and abs(value) <= 1 << 24 for value in (x, y))
    if not (isinstance(owner, str) and part in get_args(Part) and isinstance(source, str) and are_numbers):
        raise ValueError("a picture that is not described properly")
    return SurfaceId(owner, part), source, Point(x, y)


def _stack_plan(root: Element) -> _Plan:
    """What stack.xml says, as every reader of OpenRaster understands it."""
    if root.tag != "image":
        raise DocumentFileError("stack.xml holds no image")
    try:
        size = Size(int(root.number("w")), int(root.number("h")))
        plan = _Plan(Structure(size=size, frame=Bounds.of(size)))
        tops = [child for child in root.children if child.tag == "stack"]
        layers = tuple(layer for top in reversed(tops) for layer in _layers(top, _corner(top), plan, 0))
        plan.structure = Structure(size=size, frame=Bounds.of(size), layers=layers)
    except BadValueError as error:
        raise DocumentFileError(error.what, STACK, error.remedy) from error
    return plan


def _layers(stack: Element, corner: Point, plan: _Plan, depth: int) -> Iterator[Layer]:
    if depth > MOST_NESTING:
        raise DocumentFileError(f"groups are nested more than {MOST_NESTING} deep", STACK)
    for element in reversed(stack.children):
        common = _common(element, plan)
        if element.tag == "stack":
            children: Tree = tuple(_layers(element, corner + _corner(element), plan, depth + 1))
            isolated = element.attributes.get("isolation", "auto") == "isolate"
            yield GroupLayer(children=children, isolated=isolated, **common)
        elif element.tag == "layer":
            layer = RasterLayer(locked=element.attributes.get("edit-locked") == "true", **common)
            source = element.attributes.get("src", "")
            if source.lower().endswith(".png"):
                plan.pictures[SurfaceId(layer.id)] = source, corner + _corner(element)
            else:
                plan.warnings.append(f"the layer {layer.name!r} is no PNG ({source[-40:]!r}) and is shown empty")
                plan.read_only = "Some layers could not be read: save it under another name."
            yield layer
        else:
            plan.warnings.append(f"<{element.tag[:40]}> in stack.xml is not known and was left out")
            plan.read_only = "Part of this document could not be read: save it under another name."


def _common(element: Element, plan: _Plan) -> dict[str, Any]:
    name, mode = element.attributes.get("name", ""), element.attributes.get("composite-op", BlendMode.NORMAL)
    if mode not in set(BlendMode):
        plan.warnings.append(f"the blend mode {mode[:40]!r} of {name!r} is not known: it is painted plainly")
        mode = BlendMode.NORMAL
    return {
        "name": name,
        "opacity": min(max(element.number("opacity", 1.0), 0.0), 1.0),
        "visible": element.attributes.get("visibility", "visible") != "hidden",
        "blend": BlendMode(mode),
    }


def _sources(element: Element) -> set[str]:
    found = {element.attributes.get("src", "")}
    return found.union(*(_sources(child) for child in element.children))


def _corner(element: Element) -> Point:
    return Point(int(element.number("x")), int(element.number("y")))


def _pictures(archive: ZipReader, plan: _Plan, budget: Budget) -> dict[SurfaceId, Tiles]:
    pixels, memory, surfaces = 0, 0, {}
    for surface, (name, corner) in plan.pictures.items():
        data = archive.read(name, budget.file_bytes)
        area = png_area(data, name)
        pixels += area
        if area > budget.picture_pixels or pixels > budget.all_pixels:
            raise DocumentFileError(
                f"its layers have more pixels than the budget ({max(area, pixels):,})", name, "Scale it down elsewhere."
            )
        surfaces[surface] = decode_png(data, name, PARTS[surface.part][0], corner, PARTS[surface.part][1])
        memory += surfaces[surface].memory
        if memory > budget.memory:
            raise DocumentFileError(f"its layers take more than {budget.memory:,} bytes of memory", name, "Merge layers elsewhere.")
    return surfaces


def _unknown(archive: ZipReader, plan: _Plan, budget: Budget) -> tuple[dict[str, bytes], str]:
    """Parts that are nobody's here, to be written again as they were; and why the file must not be saved over, if they are too large."""
    used = STANDARD | plan.shown | {name for name, _ in plan.pictures.values()}
    names = [name for name in archive.names if name not in used and not name.startswith(OWN_PICTURES)]
    if sum(archive.size(name) for name in names) > budget.unknown_bytes:
        return {}, "It has large parts of other programs that would be lost: save it under another name."
    return {name: archive.read(name, budget.unknown_bytes) for name in names}, ""
