"""The parts of a workflow as ComfyUI's editor saves it: sheets of boxes, slots and wires, checked and put in order, not yet understood.

Facts about the format: schema versions 0.4 (wires are lists) and 1.0 (wires are objects, as always in definitions of sub-graphs).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sfumato.faults import shown
from sfumato.workflow_json import Budget, Findings, JsonPath, trouble_with

MUTED, BYPASSED = 2, 4
"""Modes of a box: it does not run; what comes in goes out."""

ENTRY, EXIT = "-10", "-20"
"""The borders of a sub-graph, as wires name them."""

ANY = "*"
_LARGEST_SLOT = 1 << 16


@dataclass(frozen=True)
class Slot:
    """An input of a box. `link` is the wire's id; `widget` the name of the widget that the wire stands in for."""

    name: str
    type: str
    link: str | None = None
    widget: str | None = None


@dataclass(frozen=True)
class Wire:
    """From an output of one box to an input of another, in one sheet."""

    origin: str
    origin_slot: int
    target: str
    target_slot: int


@dataclass(frozen=True)
class Box:
    """A node on a sheet. `values` are its widgets', by position or by name, `named` the same by name, as newer editors write them
    besides; these count. `outputs` are types; `path` leads to the box in the file."""

    id: str
    type: str
    path: JsonPath
    mode: int = 0
    title: str = ""
    inputs: tuple[Slot, ...] = ()
    outputs: tuple[str, ...] = ()
    values: list[Any] | dict[str, Any] | None = None
    named: dict[str, Any] | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sheet:
    """A graph as it is drawn: the workflow itself, or the definition of a sub-graph, whose `inputs` have names."""

    boxes: Mapping[str, Box]
    wires: Mapping[str, Wire]
    inputs: tuple[str, ...] = ()
    exits: Mapping[int, str] = field(default_factory=dict)
    """The id of the wire that ends at each output of a sub-graph."""


class SheetReader:
    """Reads sheets out of parsed JSON, and notes what is wrong with them."""

    def __init__(self, findings: Findings, budget: Budget) -> None:
        self._findings, self._budget = findings, budget

    def read(self, file: Any) -> tuple[Sheet, dict[str, Sheet]]:
        """The sheet of the workflow itself, and those of its sub-graphs by the type that stands for them. Raises Refused."""
        if not isinstance(file, dict) or not isinstance(file.get("nodes"), list):
            self._findings.refuse("invalid_prompt", "a workflow of the editor is an object with a list of nodes", f"this is {shown(file)}")
        definitions = file.get("definitions")
        found: dict[str, Sheet] = {}
        if isinstance(definitions, dict):
            for path, each in self._objects(definitions, "subgraphs", ("$", "definitions")):
                name = self._id(path, each)
                if name in found:
                    self._add((*path, "id"), "a sub-graph is defined twice", shown(name))
                found[name] = self._sheet(path, each)
        return self._sheet(("$",), file), found

    def _sheet(self, path: JsonPath, raw: Mapping[str, Any]) -> Sheet:
        boxes: dict[str, Box] = {}
        for place, each in self._objects(raw, "nodes", path):
            box = self._box(place, each)
            if box.id in boxes:
                self._add((*place, "id"), "two nodes have the same id", shown(box.id), box)
            boxes[box.id] = box
        wires = dict(self._wires(path, raw))
        inputs = tuple(self._text((*place, "name"), each.get("name", "")) for place, each in self._objects(raw, "inputs", path))
        return Sheet(boxes, wires, inputs, {wire.target_slot: name for name, wire in wires.items() if wire.target == EXIT})

    def _box(self, path: JsonPath, raw: Mapping[str, Any]) -> Box:
        key, kind, values, mode = self._id(path, raw), raw.get("type"), raw.get("widgets_values"), raw.get("mode")
        if not isinstance(kind, str) or not kind:
            self._add((*path, "type"), "a node needs the name of its type", f"this is {shown(kind)}")
            kind = ""
        if values is not None and not isinstance(values, (list, dict)):
            self._add((*path, "widgets_values"), "values of widgets are a list or an object", f"this is {shown(values)}")
            values = None
        title, properties, named = raw.get("title"), raw.get("properties"), raw.get("widgets_values_named")
        return Box(
            key,
            self._text((*path, "type"), kind),
            path,
            mode if isinstance(mode, int) else 0,
            self._text((*path, "title"), title) if isinstance(title, str) else "",
            tuple(self._slot(place, each) for place, each in self._objects(raw, "inputs", path)),
            tuple(_type(each.get("type")) for _, each in self._objects(raw, "outputs", path)),
            values,
            named if isinstance(named, dict) and named else None,
            properties if isinstance(properties, dict) else {},
        )

    def _slot(self, path: JsonPath, raw: Mapping[str, Any]) -> Slot:
        name, link, widget = self._text((*path, "name"), raw.get("name")), raw.get("link"), raw.get("widget")
        if link is not None and _plain_id(link) is None:
            self._add((*path, "link"), "this is no id of a link", shown(link))
        named = widget.get("name", name) if isinstance(widget, dict) else None
        return Slot(name, _type(raw.get("type")), _plain_id(link), named if isinstance(named, str) else None)

    def _wires(self, path: JsonPath, raw: Mapping[str, Any]) -> Iterator[tuple[str, Wire]]:
        entries = raw.get("links")
        if entries is not None and not isinstance(entries, list):
            self._add((*path, "links"), "links are a list", f"this is {shown(entries)}")
            return
        for place, each in enumerate(entries or ()):
            if each is None:
                continue  # the editor leaves holes where links were
            parts = each[:5] if isinstance(each, list) else [each.get(name) for name in _WIRE] if isinstance(each, dict) else []
            ids = [_plain_id(part) for part in parts[0:1] + parts[1:2] + parts[3:4]]
            slots = [_slot_number(part) for part in parts[2:3] + parts[4:5]]
            if len(parts) < 5 or None in ids or None in slots:
                remedy = "A link is [id, from node, output number, to node, input number, type]."
                self._add((*path, "links", place), "this is no link", shown(each), remedy=remedy)
            else:
                yield str(ids[0]), Wire(str(ids[1]), slots[0] or 0, str(ids[2]), slots[1] or 0)

    def _objects(self, raw: Mapping[str, Any], name: str, path: JsonPath) -> Iterator[tuple[JsonPath, dict[str, Any]]]:
        """(path, entry) of each entry of the list `name`, which may be missing; entries that are no objects are faults."""
        entries = raw.get(name)
        if entries is not None and not isinstance(entries, list):
            self._add((*path, name), f"{name} are a list", f"this is {shown(entries)}")
            return
        if entries and len(entries) > self._budget.nodes:
            details = f"{len(entries)} {name}, at most {self._budget.nodes} are read"
            self._findings.refuse("too_large", "the workflow is too large", details)
        for place, each in enumerate(entries or ()):
            if isinstance(each, dict):
                yield (*path, name, place), each
            else:
                self._add((*path, name, place), f"one of the {name} is no object", f"this is {shown(each)}")

    def _id(self, path: JsonPath, raw: Mapping[str, Any]) -> str:
        key = _plain_id(raw.get("id"))
        if key is None:
            self._add((*path, "id"), "an id is needed", f"this is {shown(raw.get('id'))}")
        return self._text((*path, "id"), key or "")

    def _text(self, path: JsonPath, value: Any) -> str:
        if not isinstance(value, str):
            self._add(path, "a text is needed", f"this is {shown(value)}")
            return ""
        if trouble := trouble_with(value):
            self._findings.add(path, *trouble)
        return value

    def _add(self, path: JsonPath, message: str, details: str, box: Box | None = None, remedy: str = "") -> None:
        place = {"node_id": box.id, "node_type": box.type} if box else {}
        self._findings.add(path, "invalid_prompt", message, details, remedy=remedy, **place)


_WIRE = ("id", "origin_id", "origin_slot", "target_id", "target_slot")


def _plain_id(value: Any) -> str | None:
    """An id as a text: the editor writes numbers and texts for the same thing."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 64 else None


def _slot_number(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LARGEST_SLOT or value != int(value):
        return None
    return int(value)


def _type(value: Any) -> str:
    """A socket type's name. Old files write 0 or nothing for any type, and the list of choices for a choice."""
    if isinstance(value, list):
        return "COMBO"
    return value if isinstance(value, str) and value else ANY
