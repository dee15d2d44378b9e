"""From a graph to a workflow that opens in ComfyUI's editor: boxes in columns, wires, and the values of widgets in its order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sfumato.catalogue import Catalogue
from sfumato.graph import Graph, Link, Node
from sfumato.nodes import MISSING, Input, NodeType
from sfumato_comfy.flattening import OWN_ID
from sfumato_comfy.placing import columns, positions
from sfumato_comfy.sheets import ANY
from sfumato_comfy.widgets import OMITTED, UNNAMED, default_of, places_of, widget_sockets

VERSION = 0.4
"""The version of the format: that which every editor reads."""

_LONGEST_NUMBER = 15
_MOST_OUTPUTS = 256
_WIDTH, _WIDE = 320, 440
_ROW, _WIDGET_ROW, _TEXT_ROWS = 22, 26, 130


def written(graph: Graph, catalogue: Catalogue) -> dict[str, Any]:
    """The workflow, schema 0.4. Reading it gives the same graph, except for links that lead nowhere and constants that are None.

    Ids that are no positive numbers, and inputs that are left out although they have a widget, are noted in the boxes' properties.
    """
    return _Sheet(graph, catalogue).json()


class _Sheet:
    """One sheet being drawn: the numbers of its boxes, and its wires so far."""

    def __init__(self, graph: Graph, catalogue: Catalogue) -> None:
        self._graph, self._catalogue = graph, catalogue
        self._numbers = _numbers(graph)
        self._wires: list[list[Any]] = []
        self._leaving: dict[str, dict[int, list[int]]] = {}

    def json(self) -> dict[str, Any]:
        boxes = {key: self._box(key, node) for key, node in self._graph.nodes.items()}
        for key, box in boxes.items():
            box["outputs"] = self._outputs(key)
        sizes = {key: _size(box, self._catalogue.get(box["type"])) for key, box in boxes.items()}
        by_depth = columns(self._graph)
        places = positions(by_depth, sizes)
        for number, key in enumerate(key for column in by_depth for key in column):
            boxes[key] |= {"order": number, "pos": list(places[key]), "size": list(sizes[key])}
        return {
            "last_node_id": max(self._numbers.values(), default=0),
            "last_link_id": len(self._wires),
            "nodes": [_sorted(box) for box in boxes.values()],
            "links": self._wires,
            "groups": [],
            "config": {},
            "extra": {"ds": {"scale": 1.0, "offset": [0, 0]}},
            "version": VERSION,
        }

    def _box(self, key: str, node: Node) -> dict[str, Any]:
        node_type = self._catalogue.get(node.type)
        number = self._numbers[key]
        properties: dict[str, Any] = {"Node name for S&R": node.type}
        properties |= {OWN_ID: key} if str(number) != key else {}
        names, values, omitted = _values(node, node_type)
        properties |= {OMITTED: omitted} if omitted else {}
        title = {"title": node.title} if node.title else {}
        inputs = self._inputs(key, node, node_type, names)
        box = {"id": number, "type": node.type, **title, "flags": {}, "mode": 0, "inputs": inputs, "properties": properties}
        return box | ({"widgets_values": values} if values else {})

    def _inputs(self, key: str, node: Node, node_type: NodeType | None, names: list[str]) -> list[dict[str, Any]]:
        """The sockets, then the widgets `names`, which have a socket each, too."""
        with_widget = set(names)
        declared = [socket.name for socket in node_type.inputs] if node_type else []
        linked = [name for name, _ in node.links() if name not in declared]
        slots: list[dict[str, Any]] = []
        for name in dict.fromkeys([*(each for each in (*declared, *linked) if each not in with_widget), *names]):
            socket = node_type.input(name) if node_type else None
            value = node.inputs.get(name)
            wire = self._wire(value, key, len(slots), socket) if isinstance(value, Link) else None
            kind = socket.type if socket else self._wires[wire - 1][5] if wire else _type_of(value)
            slot: dict[str, Any] = {"name": name, "type": kind, "link": wire}
            slot |= {"shape": 7} if socket and not socket.required else {}
            slots.append(slot | ({"widget": {"name": name}} if name in with_widget else {}))
        return slots

    def _wire(self, link: Link, target: str, slot: int, socket: Input | None) -> int | None:
        """Draws a wire and returns its id; None if it would lead nowhere."""
        source = self._graph.nodes.get(link.node)
        if source is None:
            return None
        source_type = self._catalogue.get(source.type)
        known = source_type.outputs[link.slot].type if source_type and 0 <= link.slot < len(source_type.outputs) else None
        number = len(self._wires) + 1
        ends = [self._numbers[link.node], link.slot, self._numbers[target], slot]
        self._wires.append([number, *ends, known or (socket.type if socket else ANY)])
        self._leaving.setdefault(link.node, {}).setdefault(link.slot, []).append(number)
        return number

    def _outputs(self, key: str) -> list[dict[str, Any]]:
        node_type, leaving = self._catalogue.get(self._graph.nodes[key].type), self._leaving.get(key, {})
        if node_type is not None:
            named = [(output.name, output.type) for output in node_type.outputs]
        else:
            named = [(ANY, ANY)] * min(max(leaving, default=-1) + 1, _MOST_OUTPUTS)
        return [{"name": name, "type": kind, "links": leaving.get(slot)} for slot, (name, kind) in enumerate(named)]


def _values(node: Node, node_type: NodeType | None) -> tuple[list[str], list[Any], dict[str, Any]]:
    """(names of widgets, values with the editor's own among them, what stands for inputs that are left out) of a node."""
    constants = {name: value for name, value in node.inputs.items() if not isinstance(value, Link)}
    if node_type is None and list(constants) == [UNNAMED] and isinstance(constants[UNNAMED], list) and constants[UNNAMED]:
        return [], constants[UNNAMED], {}
    sockets = widget_sockets(node_type) if node_type else []
    given = {name for name, value in node.inputs.items() if value is not None}
    omitted = {socket.name: _filler(socket) for socket in sockets if socket.name not in given}
    while sockets and not sockets[-1].required and sockets[-1].name in omitted:
        omitted[sockets.pop().name] = None
    fillers = {socket.name: _filler(socket) for socket in sockets}
    values = {**fillers, **{name: value for name, value in constants.items() if name not in omitted}}
    names = list(values)
    return names, [values[place.name] if place.kind == "input" else place.own for place in places_of(node_type, names)], omitted


def _filler(socket: Input) -> Any:
    """What stands where a wire or nothing gives the value."""
    default = default_of(socket)
    return None if default is MISSING else default


def _numbers(graph: Graph) -> dict[str, int]:
    """The editor's ids are positive numbers; others get the next ones that are free."""
    own = {key: int(key) for key in graph.nodes if _is_number(key)}
    following = max(own.values(), default=0)
    found = {}
    for key in graph.nodes:
        following += key not in own
        found[key] = own.get(key, following)
    return found


def _is_number(key: str) -> bool:
    return key.isascii() and key.isdigit() and key[0] != "0" and len(key) <= _LONGEST_NUMBER


def _type_of(value: Any) -> str:
    kinds = {bool: "BOOLEAN", int: "INT", float: "FLOAT", str: "STRING"}
    return kinds.get(type(value), ANY)


def _size(box: Mapping[str, Any], node_type: NodeType | None) -> tuple[int, int]:
    """(width, height) in pixels, about as the editor would have it: texts of several lines need room."""
    sockets = sum("widget" not in slot for slot in box["inputs"])
    texts = [socket for socket in widget_sockets(node_type) if socket.options.get("multiline")] if node_type else []
    rows = max(sockets, len(box["outputs"]), 1) * _ROW
    widgets = len(box.get("widgets_values", ())) * _WIDGET_ROW + len(texts) * _TEXT_ROWS
    return (_WIDE if texts else _WIDTH), rows + widgets + 16


_FIELDS = ("id", "type", "pos", "size", "flags", "order", "mode", "inputs", "outputs", "title", "properties", "widgets_values")


def _sorted(box: Mapping[str, Any]) -> dict[str, Any]:
    """The fields in the editor's order."""
    return {name: box[name] for name in _FIELDS if name in box}
