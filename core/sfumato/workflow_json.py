"""Reads a workflow in ComfyUI's API format as a `Graph`, and finds every fault of the file at once.

A workflow comes from strangers. Its size, nesting and number of nodes are checked before it is parsed, nothing in it is run,
and whatever is wrong with it ends in one WorkflowError.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from sfumato.faults import Fault, shown, workflow_error
from sfumato.graph import Graph, Link, Node


@dataclass(frozen=True)
class Budget:
    """How much of a workflow is read: UTF-8 bytes, levels of nesting, nodes, values in all, and faults that are told."""

    bytes: int = 32 << 20
    depth: int = 100
    nodes: int = 50_000
    values: int = 4_000_000
    faults: int = 1000


JsonPath: TypeAlias = tuple[Any, ...]
"""From the root "$" down: names of objects and numbers of lists."""

_MOST_DIGITS = 40
_LARGEST_SLOT = 1 << 16


def read_api(source: str | bytes | Any, *, where: str = "", budget: Budget | None = None) -> Graph:
    """The graph of a workflow in API format: {id: {"class_type", "inputs", "_meta"?}}, as a text, bytes or parsed JSON.

    The body of a `POST /prompt` is taken too. Links are [id, slot]; other lists are wrapped as {"__value__": [...]}.
    Raises WorkflowError, and nothing else, with every fault in `faults`; each has its JSON path as `extra_info["path"]`.
    `where` names the file in the message.
    """
    reader = _Reader(budget or Budget())
    try:
        value = reader.parse(source) if isinstance(source, (str, bytes, bytearray)) else source
        return reader.graph(value)
    except Refused:
        raise workflow_error(reader.faults, where) from None


def parse(source: str | bytes | bytearray, *, where: str = "", budget: Budget | None = None) -> Any:
    """The JSON value of a workflow's text in any format, its size and nesting checked first. Raises WorkflowError."""
    reader = _Reader(budget or Budget())
    try:
        return reader.parse(source)
    except Refused:
        raise workflow_error(reader.faults, where) from None


def is_ui_format(value: Any) -> bool:
    """Whether parsed JSON is a workflow as ComfyUI's editor saves it, with places and colours, rather than in API format."""
    return isinstance(value, dict) and isinstance(value.get("nodes"), list) and ("links" in value or "last_node_id" in value)


class Refused(Exception):
    """A reading has found faults, and cannot go on."""


class Findings:
    """The faults of one reading so far. It ends where there are too many, or one that leaves nothing to go on with."""

    def __init__(self, budget: Budget) -> None:
        self._most = budget.faults
        self.faults: list[Fault] = []

    def add(self, path: JsonPath, type: str, message: str, details: str, *, remedy: str = "", **place: str) -> None:
        """Note a fault at `path`; `place` may give node_id, node_type and input_name. Raises Refused at the fault too many."""
        if len(self.faults) >= self._most:
            self.refuse("too_many_faults", f"there are more than these {self._most} faults")
        written = json_path(path)
        node = {"node_id": "", "node_type": "", **place}
        self.faults.append(
            Fault(type=type, message=message, details=f"{details}, at {written}", extra_info={"path": written}, remedy=remedy, **node)
        )

    def refuse(self, type: str, message: str, details: str = "", remedy: str = "") -> NoReturn:
        """Note a fault of the whole file, and end the reading: raises Refused."""
        self.faults.append(Fault("", "", type, message, details, {"path": "$"}, remedy=remedy))
        raise Refused


class _Twice(dict[str, Any]):
    """A JSON object in which a key stands twice."""

    repeated: tuple[str, ...] = ()


class _Reader:
    """One reading: its budget and the faults so far."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._findings = Findings(budget)
        self._add, self._refuse = self._findings.add, self._findings.refuse

    @property
    def faults(self) -> list[Fault]:
        return self._findings.faults

    # --- Text ----------------------------------------------------------------------------------------------------------

    def parse(self, source: str | bytes | bytearray) -> Any:
        text = self._decoded(source)
        self._check_size(text)
        try:
            return json.loads(text, object_pairs_hook=_object, parse_int=_integer)
        except json.JSONDecodeError as error:
            self._refuse("invalid_json", "this is no JSON", f"{error.msg} in line {error.lineno}, column {error.colno}")
        except (ValueError, RecursionError) as error:
            self._refuse("invalid_json", "this is no JSON", str(error))

    def _decoded(self, source: str | bytes | bytearray) -> str:
        if len(source) > self._budget.bytes:
            self._refuse("too_large", "the file is too large", f"{len(source)} bytes, at most {self._budget.bytes} are read")
        if isinstance(source, str):
            return source.removeprefix("\ufeff")
        try:
            return source.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self._refuse("invalid_json", "this is no UTF-8 text", f"at byte {error.start}")

    def _check_size(self, text: str) -> None:
        """What can be counted without parsing. A workflow within its bounds passes at the speed of a search."""
        budget = self._budget
        nodes = text.count('"class_type"')
        if nodes > budget.nodes:
            self._refuse("too_large", "the workflow has too many nodes", f"{nodes}, at most {budget.nodes} are read")
        if text.count(",") > budget.values or text.count("[") + text.count("{") > budget.depth:
            bare = _STRINGS.sub("", text)
            values = bare.count(",") + bare.count("[") + bare.count("{")
            if values > budget.values:
                self._refuse("too_large", "the workflow has too many values", f"{values}, at most {budget.values} are read")
            if _is_deeper(bare, budget.depth):
                self._refuse("too_deep", "the workflow is nested too deeply", f"at most {budget.depth} levels are read")

    # --- Graph ---------------------------------------------------------------------------------------------------------

    def graph(self, value: Any) -> Graph:
        root: JsonPath = ("$",)
        if is_ui_format(value):
            remedy = "Export it in API format: in ComfyUI, menu Workflow, Export (API)."
            self._refuse("ui_format", "this is a workflow as the editor saves it, not in API format", remedy=remedy)
        if isinstance(value, dict) and isinstance(prompt := value.get("prompt"), dict) and "class_type" not in prompt:
            root, value = ("$", "prompt"), prompt
        if not isinstance(value, dict):
            self._refuse("invalid_prompt", "a workflow is an object of nodes", f"this is {shown(value)}")
        if not value:
            self._refuse("invalid_prompt", "the workflow has no nodes")
        if len(value) > self._budget.nodes:
            self._refuse("too_large", "the workflow has too many nodes", f"{len(value)}, at most {self._budget.nodes} are read")
        self._check_values(root, value)
        nodes = {str(key): self._node((*root, key), str(key), entry) for key, entry in value.items()}
        if self.faults:
            raise Refused
        return Graph(nodes)

    def _node(self, path: JsonPath, key: str, entry: Any) -> Node:
        if not isinstance(entry, dict):
            self._add(path, "invalid_prompt", "a node is an object", f"this is {shown(entry)}", node_id=key)
            return Node("")
        kind, inputs, meta = entry.get("class_type"), entry.get("inputs", {}), entry.get("_meta")
        if not isinstance(kind, str) or not kind:
            details = f"its class_type is {shown(kind)}" if "class_type" in entry else "it has no class_type"
            self._add(path, "invalid_prompt", "a node needs the name of its type", details, node_id=key)
            kind = ""
        if not isinstance(inputs, dict):
            self._add((*path, "inputs"), "invalid_prompt", "inputs are an object", f"this is {shown(inputs)}", node_id=key, node_type=kind)
            inputs = {}
        read = {str(name): self._input((*path, "inputs", name), key, kind, value) for name, value in inputs.items()}
        title = meta.get("title") if isinstance(meta, dict) else None
        return Node(kind, read, title if isinstance(title, str) else "")

    def _input(self, path: JsonPath, key: str, kind: str, value: Any) -> Any:
        if isinstance(value, dict) and value.keys() == {"__value__"}:
            return value["__value__"]
        if not isinstance(value, list):
            return value
        if len(value) == 2 and (node := _node_id(value[0])) is not None and (slot := _slot(value[1])) is not None:
            return Link(node, slot)
        remedy = 'A link is ["node id", output number]; a list as a constant is written {"__value__": [...]}.'
        place = {"node_id": key, "node_type": kind, "input_name": str(path[-1])}
        self._add(path, "bad_linked_input", "this list is no link", f"{len(value)} items", remedy=remedy, **place)
        return None

    def _check_values(self, root: JsonPath, value: Any) -> None:
        """Keys and values that no node could take; also the depth and number of those that were not parsed here."""
        todo: list[tuple[JsonPath, Any]] = [(root, value)]
        seen = 0
        while todo:
            path, each = todo.pop()
            seen += 1
            if len(path) > self._budget.depth:
                self._refuse("too_deep", "the workflow is nested too deeply", f"at most {self._budget.depth} levels are read")
            if seen > self._budget.values:
                self._refuse("too_large", "the workflow has too many values", f"at most {self._budget.values} are read")
            if isinstance(each, dict):
                self._check_keys(path, each)
                todo.extend(((*path, key), item) for key, item in each.items())
            elif isinstance(each, (list, tuple)):
                todo.extend(((*path, place), item) for place, item in enumerate(each))
            elif (trouble := trouble_with(each)) is not None:
                self._add(path, *trouble)

    def _check_keys(self, path: JsonPath, value: dict[Any, Any]) -> None:
        for key in value.repeated if isinstance(value, _Twice) else ():
            self._add(path, "duplicate_key", "a name stands twice in one object", shown(key))
        for key in value:
            if not isinstance(key, str) or not key or trouble_with(key):
                self._add(path, "bad_text", "this cannot be a name", shown(key))


_STRINGS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NOT_BRACKETS = re.compile(r"[^\[\]{}]++")


def _is_deeper(bare: str, depth: int) -> bool:
    """Whether brackets are nested more than `depth` deep; `bare` has no strings. Innermost pairs are taken away, level by level."""
    brackets = _NOT_BRACKETS.sub("", bare)
    for _ in range(depth):
        fewer = brackets.replace("[]", "").replace("{}", "")
        if len(fewer) == len(brackets):
            break
        brackets = fewer
    left = brackets.count("[") + brackets.count("{")
    return left > depth or "[]" in brackets or "{}" in brackets


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    twice = _Twice(made)
    counts = Counter(key for key, _ in pairs)
    twice.repeated = tuple(key for key, count in counts.items() if count > 1)
    return twice


def _integer(digits: str) -> int:
    # One digit too many is enough to be refused later, and Python refuses to read thousands.
    return int(digits[: _MOST_DIGITS + 2])


def trouble_with(value: Any) -> tuple[str, str, str] | None:
    """(type, message, details) of a single value that cannot be in a workflow: half a character, a huge number, NaN; else None."""
    if isinstance(value, str):
        if value.isascii() or not _SURROGATE.search(value):
            return None
        return "bad_text", "a text holds half a character (a lone surrogate)", shown(value)
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return None if abs(value) < 10**_MOST_DIGITS else ("bad_number", "a number is too large", f"more than {_MOST_DIGITS} digits")
    if isinstance(value, float):
        return None if math.isfinite(value) else ("bad_number", "a number is not finite", repr(value))
    return "invalid_json", "this is no JSON value", shown(value)


_SURROGATE = re.compile("[\ud800-\udfff]")


def _node_id(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _slot(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LARGEST_SLOT or value != int(value):
        return None
    return int(value)


def json_path(path: JsonPath) -> str:
    """A JSON path: $.4.inputs.steps, $["a b"][0]."""
    parts = []
    for part in path[1:]:
        if isinstance(part, int):
            parts.append(f"[{part}]")
        else:
            parts.append(f".{part}" if isinstance(part, str) and re.fullmatch(r"\w{1,80}", part, re.ASCII) else f"[{shown(part)}]")
    return str(path[0]) + "".join(parts)
