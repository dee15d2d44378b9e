"""From drawn sheets to a graph: sub-graphs opened, reroutes followed, muted and bypassed nodes taken out, as the editor does to export.

* A muted node is left out, and with it the inputs that hang on it; what needs them will be told.
* A bypassed node hands on the input of the same type, that of the same number if it can.
* Reroutes, primitives and notes exist in the editor only. A primitive's value replaces that of the widgets it is linked to.
* A node inside a sub-graph is called "outer:inner". The value of a widget that is shown on the outside counts where no wire does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple, TypeAlias

from sfumato.catalogue import Catalogue
from sfumato.faults import shown
from sfumato.graph import Graph, Link, Node
from sfumato.nodes import MISSING
from sfumato.sockets import SocketType
from sfumato.workflow_json import Budget, Findings, JsonPath, Refused, trouble_with
from sfumato_comfy.sheets import ANY, BYPASSED, ENTRY, MUTED, Box, Sheet, SheetReader, Slot
from sfumato_comfy.widgets import UNNAMED, Origin, Value, by_names, first_value, values_of

OWN_ID = "sfumato_id"
"""Property of a box: its id in the graph, where that is none that the editor takes."""

_PRIMITIVE = "PrimitiveNode"
_GET, _SET = "GetNode", "SetNode"
_HANDS_ON = {"Reroute", "Reroute (rgthree)", _SET}
_SILENT = {
    "Note", "MarkdownNote", "Label (rgthree)", "Bookmark (rgthree)", "Fast Groups Muter (rgthree)", "Fast Groups Bypasser (rgthree)",
    "Fast Muter (rgthree)", "Fast Bypasser (rgthree)", "Fast Actions Button (rgthree)", "Node Collector (rgthree)",
    "Mute / Bypass Repeater (rgthree)", "Mute / Bypass Relay (rgthree)",
}  # fmt: skip
_DEEPEST_NEST = 64
_ITSELF = "-1"
"""How a sub-graph's box calls itself among those whose widgets it shows."""


class _Gone:
    """What an input gets that hangs on a muted node."""


_GONE: Final = _Gone()
_Source: TypeAlias = Link | Value | _Gone | None


class _Onward(NamedTuple):
    """The wire that another one goes on from."""

    scope: _Scope
    wire: str


@dataclass(frozen=True)
class Flat:
    """A graph, and where its constants stand in the file; None for those that the file has no place for."""

    graph: Graph
    origins: Mapping[tuple[str, str], Origin | None]


@dataclass
class _Scope:
    """A sheet in one of its places: the workflow itself, or a sub-graph as one box of another scope.

    `entries` are the inputs of that box in the order of the sub-graph's. `own` are values of those that no wire feeds, `inner` those of
    widgets inside by box and name: both as the box shows them.
    """

    number: int
    sheet: Sheet
    keys: Mapping[str, str]
    outer: _Scope | None = None
    chain: tuple[str, ...] = ()
    entries: Sequence[Slot | None] = ()
    own: Mapping[str, Value] = field(default_factory=dict)
    inner: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    children: dict[str, _Scope] = field(default_factory=dict)

    @cached_property
    def setters(self) -> Mapping[str | None, Slot]:
        """The inputs of the boxes that give a name to what arrives there."""
        named = [(_first_text(box), box.inputs[0]) for box in self.sheet.boxes.values() if box.type == _SET and box.inputs]
        return {name: slot for name, slot in reversed(named) if name is not None}


def flattened(file: Any, catalogue: Catalogue, findings: Findings, budget: Budget) -> Flat:
    """The graph of a workflow of the editor. Raises Refused, with the faults in `findings`."""
    sheet, definitions = SheetReader(findings, budget).read(file)
    return _Flattening(catalogue, findings, budget, definitions).run(sheet)


class _Flattening:
    """One reading: the scopes that were opened, and where the wires that were followed come from."""

    def __init__(self, catalogue: Catalogue, findings: Findings, budget: Budget, definitions: Mapping[str, Sheet]) -> None:
        self._catalogue, self._findings, self._budget, self._definitions = catalogue, findings, budget, definitions
        self._sources: dict[tuple[int, str, str], _Source] = {}
        self._under_way: set[tuple[int, str, str]] = set()
        self._checked: set[JsonPath] = set()
        self._boxes = self._values = 0

    def run(self, sheet: Sheet) -> Flat:
        nodes: dict[str, Node] = {}
        origins: dict[tuple[str, str], Origin | None] = {}
        for scope in self._opened(sheet):
            for box in scope.sheet.boxes.values():
                if box.mode in (MUTED, BYPASSED) or box.id in scope.children or self._is_drawn_only(box):
                    continue
                key = scope.keys[box.id]
                if key in nodes:
                    self._fault(box, "two nodes have the same id", shown(key))
                inputs, places = self._inputs(scope, box)
                nodes[key] = Node(box.type, inputs, box.title)
                origins.update({(key, name): origin for name, origin in places.items()})
        if self._findings.faults:
            raise Refused
        return Flat(Graph(nodes), origins)

    # --- Scopes --------------------------------------------------------------------------------------------------------

    def _opened(self, sheet: Sheet) -> list[_Scope]:
        """All scopes, the workflow itself first."""
        self._count(sheet)
        scopes = [_Scope(0, sheet, _keys(sheet))]
        for scope in scopes:
            for box in scope.sheet.boxes.values():
                if box.type in self._definitions and box.mode not in (MUTED, BYPASSED):
                    if box.type in scope.chain or len(scope.chain) >= _DEEPEST_NEST:
                        self._fault(box, "a sub-graph cannot be opened", "it contains itself, or is nested too deeply")
                    else:
                        scope.children[box.id] = self._child(scope, box, len(scopes))
                        scopes.append(scope.children[box.id])
        return scopes

    def _child(self, scope: _Scope, box: Box, number: int) -> _Scope:
        sheet = self._definitions[box.type]
        self._count(sheet)
        self._spend(len(sheet.inputs) + len(box.inputs) + len(box.values or ()))
        own: dict[str, Value] = {}
        inner: dict[str, dict[str, Value]] = {}
        outside = scope.inner.get(box.id, {})
        for inside, name, value in _shown_outside(box):
            value = outside.get(name, value)
            if value is not None and inside == _ITSELF:
                own[name] = value
            elif value is not None:
                inner.setdefault(inside, {})[name] = value
        keys = {each: f"{scope.keys[box.id]}:{each}" for each in sheet.boxes}
        return _Scope(number, sheet, keys, scope, (*scope.chain, box.type), _entries(sheet, box), own, inner)

    def _count(self, sheet: Sheet) -> None:
        self._boxes += len(sheet.boxes)
        if self._boxes > self._budget.nodes:
            details = f"more than {self._budget.nodes}, with its sub-graphs opened"
            self._findings.refuse("too_large", "the workflow has too many nodes", details)

    def _spend(self, values: int) -> None:
        """A box of a sub-graph is drawn once and read wherever it is used: what that comes to is within the budget, too."""
        self._values += values
        if self._values > self._budget.values:
            details = f"at most {self._budget.values} are read, with sub-graphs opened"
            self._findings.refuse("too_large", "the workflow has too many values", details)

    # --- One node ------------------------------------------------------------------------------------------------------

    def _inputs(self, scope: _Scope, box: Box) -> tuple[dict[str, Any], dict[str, Origin | None]]:
        """(inputs, where the constants among them stand)."""
        self._spend(len(box.values or ()) + len(box.named or ()) + len(box.inputs))
        values = values_of(box, self._catalogue.get(box.type), self._catalogue)
        values |= {name: value for name, value in scope.inner.get(box.id, {}).items() if name in values}
        inputs: dict[str, Any] = {name: each.value for name, each in values.items() if each.value is not MISSING}
        places = {name: each.origin for name, each in values.items()}
        for slot in box.inputs:
            source = self._source(scope, slot.link, slot.type) if slot.link is not None else None
            if isinstance(source, Value):
                inputs[slot.name], places[slot.name] = source.value, source.origin
            elif source is not None:
                places.pop(slot.name, None)
                inputs.pop(slot.name, None)
                if isinstance(source, Link):
                    inputs[slot.name] = source
        for name, value in inputs.items():
            if not isinstance(value, Link):
                self._check(box, name, value, places[name])
        return inputs, places

    def _check(self, box: Box, name: str, value: Any, origin: Origin | None) -> None:
        """Notes what no node could take, once for each place in the file."""
        if origin is None or origin.path in self._checked:
            return
        self._checked.add(origin.path)
        todo: list[tuple[JsonPath, Any]] = [(origin.path, value)]
        while todo:
            place, each = todo.pop()
            if len(place) > self._budget.depth:
                self._findings.refuse("too_deep", "the workflow is nested too deeply", f"at most {self._budget.depth} levels are read")
            elif isinstance(each, dict):
                todo += [((*place, key), part) for key, item in each.items() for part in (key, item)]
            elif isinstance(each, (list, tuple)):
                todo += [((*place, number), item) for number, item in enumerate(each)]
            elif trouble := trouble_with(each):
                self._findings.add(place, *trouble, node_id=box.id, node_type=box.type, input_name=name)

    # --- Wires ---------------------------------------------------------------------------------------------------------

    def _source(self, scope: _Scope, wire: str, wanted: str) -> _Source:
        """What arrives over the wire: an output, a value, nothing (None), or less than nothing: `_GONE`."""
        trail: list[tuple[int, str, str]] = []
        found: _Source | _Onward = _Onward(scope, wire)
        while isinstance(found, _Onward):
            scope, wire = found
            step = (scope.number, wire, wanted)
            if step in self._sources:
                found = self._sources[step]
            elif step in self._under_way:
                box = scope.sheet.boxes.get(scope.sheet.wires[wire].origin)
                self._fault(box or Box("", "", ("$",)), "links lead in a circle", "through nodes that only hand on", "dependency_cycle")
                found = None
            else:
                trail.append(step)
                self._under_way.add(step)
                found = self._back(scope, wire, wanted)
        self._sources.update(dict.fromkeys(trail, found))
        self._under_way.difference_update(trail)
        return found

    def _back(self, scope: _Scope, name: str, wanted: str) -> _Source | _Onward:
        """One step against the direction of a wire: its source, or the wire that this one goes on from."""
        wire = scope.sheet.wires.get(name)
        if wire is None:
            return None
        if wire.origin == ENTRY and scope.outer is not None:
            return self._out_of(scope, wire.origin_slot)
        box = scope.sheet.boxes.get(wire.origin)
        if box is None:
            return None
        if box.id in scope.children:
            exit = scope.children[box.id].sheet.exits.get(wire.origin_slot)
            return None if exit is None else _Onward(scope.children[box.id], exit)
        if self._is_drawn_only(box):
            return self._through(scope, box)
        if box.mode == MUTED:
            return _GONE
        if box.mode == BYPASSED:
            self._spend(len(box.inputs))
            slot = _handed_on(box, wire.origin_slot, wanted)
            return _Onward(scope, slot.link) if slot is not None and slot.link is not None else None
        return Link(scope.keys[box.id], wire.origin_slot)

    def _out_of(self, scope: _Scope, number: int) -> _Source | _Onward:
        """From the entry of a sub-graph to what feeds it outside."""
        if scope.outer is None or number >= len(scope.entries):
            return None
        slot = scope.entries[number]
        if slot is not None and slot.link is not None and slot.link in scope.outer.sheet.wires:
            return _Onward(scope.outer, slot.link)
        shown_as = [scope.sheet.inputs[number], *([slot.widget or slot.name, slot.name] if slot else [])]
        return next((scope.own[name] for name in shown_as if name in scope.own), None)

    def _through(self, scope: _Scope, box: Box) -> _Source | _Onward:
        """What a box that exists in the editor only hands on."""
        if box.type == _PRIMITIVE:
            return first_value(box)
        if box.type == _GET:
            setter = scope.setters.get(_first_text(box))
            return None if setter is None or setter.link is None else _Onward(scope, setter.link)
        link = box.inputs[0].link if box.inputs else None
        return _Onward(scope, link) if link is not None and box.type in _HANDS_ON else None

    def _is_drawn_only(self, box: Box) -> bool:
        """Whether nothing of the box runs. A node of that name in the catalogue counts more than what the editor once had."""
        return (box.type in _HANDS_ON or box.type in _SILENT or box.type in (_PRIMITIVE, _GET)) and box.type not in self._catalogue

    def _fault(self, box: Box, message: str, details: str, type: str = "invalid_prompt") -> None:
        self._findings.add(box.path, type, message, details, node_id=box.id, node_type=box.type)


def _keys(sheet: Sheet) -> dict[str, str]:
    """The ids of the graph by those of the boxes: the same, except where a box says otherwise and nobody else is called so."""
    keys = {key: key for key in sheet.boxes}
    taken = set(keys)
    for key, box in sheet.boxes.items():
        own = box.properties.get(OWN_ID)
        if isinstance(own, str) and own and own not in taken and not trouble_with(own):
            keys[key] = own
            taken.add(own)
    return keys


def _entries(sheet: Sheet, box: Box) -> list[Slot | None]:
    """The inputs of a sub-graph's box in the order of the sub-graph's own: by name, or by number where one was renamed inside."""
    named = {slot.name: slot for slot in box.inputs}
    known = set(sheet.inputs)
    by_number = [slot if slot.name not in known else None for slot in box.inputs[: len(sheet.inputs)]]
    by_number += [None] * (len(sheet.inputs) - len(by_number))
    return [named.get(name, slot) for name, slot in zip(sheet.inputs, by_number, strict=True)]


def _shown_outside(box: Box) -> Iterator[tuple[str, str, Value | None]]:
    """(box inside, or `_ITSELF`; name; value) of each widget that a sub-graph's box shows."""
    proxies = box.properties.get("proxyWidgets")
    if isinstance(proxies, list) and proxies:
        pairs = [(str(each[0]), each[1]) for each in proxies if isinstance(each, list) and len(each) == 2]
    else:
        pairs = [(_ITSELF, slot.widget) for slot in box.inputs if slot.widget is not None]
    by_name = by_names(box) if not isinstance(box.values, list) or len(box.values) != len(pairs) else None
    values = box.values if isinstance(box.values, list) else []
    for index, (inside, name) in enumerate(pairs):
        if isinstance(name, str):
            held = Value(values[index], Origin((*box.path, UNNAMED, index))) if index < len(values) else None
            held = by_name.get(name, held) if by_name else held
            yield inside, name, None if held is None or held.value is None else held


def _handed_on(box: Box, number: int, wanted: str) -> Slot | None:
    """The input that a bypassed box hands on at the output `number`, to an input of the type `wanted`."""
    given = box.outputs[number] if number < len(box.outputs) else ANY
    kind = SocketType(wanted if wanted != ANY else given)
    opposite = list(box.inputs[number : number + 1])
    if kind.name == ANY:
        return next(iter([*opposite, *box.inputs]), None)
    same = [slot for slot in box.inputs if slot.type == kind.name]
    fitting = [slot for slot in (*opposite, *same, *box.inputs) if kind.accepts(slot.type)]
    return next(iter(fitting), None)


def _first_text(box: Box) -> str | None:
    first = first_value(box)
    return first.value if first is not None and isinstance(first.value, str) else None
