"""A workflow of ComfyUI's editor as a document: read as a graph, its values changed in place, everything else kept to the byte."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sfumato.catalogue import Catalogue
from sfumato.errors import BadValueError
from sfumato.faults import shown, workflow_error
from sfumato.graph import Graph, Link, Node
from sfumato.workflow_json import Budget, Findings, Refused, parse
from sfumato_comfy.flattening import Flat, flattened
from sfumato_comfy.splicing import spliced
from sfumato_comfy.widgets import Origin

_CANNOT = "Change it in ComfyUI, or save the workflow in API format."


class UiWorkflow:
    """A workflow in UI format. `raw` is its JSON, read-only; `text` what it was read from, or that JSON written."""

    def __init__(self, raw: Any, text: str | None = None, where: str = "", budget: Budget | None = None) -> None:
        self.raw, self._text, self._where, self._budget = raw, text, where, budget or Budget()

    @classmethod
    def parse(cls, source: str | bytes, *, where: str = "", budget: Budget | None = None) -> UiWorkflow:
        """The workflow in a text (UTF-8 if bytes). Raises WorkflowError if it is no JSON, or too much of it."""
        raw = parse(source, where=where, budget=budget)
        return cls(raw, source.decode("utf-8") if isinstance(source, bytes) else source, where, budget)

    @property
    def text(self) -> str:
        """The file's text. What was read and not changed comes back byte for byte."""
        if self._text is None:
            self._text = json.dumps(self.raw, ensure_ascii=False)
        return self._text

    def to_graph(self, catalogue: Catalogue) -> Graph:
        """The graph that ComfyUI's editor would export. Raises WorkflowError, and nothing else, with every fault and its JSON path."""
        return self._flat(catalogue).graph

    def with_values(self, values: Mapping[str, Mapping[str, Any]], catalogue: Catalogue) -> UiWorkflow:
        """The workflow with other constants, by node id and input name as `to_graph` gives them; all other text is as it was.

        Raises BadValueError for an input that is not there, is linked, or cannot be changed without changing another one.
        """
        changed, graph = self, self.to_graph(catalogue)
        for key, inputs in values.items():
            for name, value in inputs.items():
                changed = changed._with_value(key, name, value, catalogue)
                graph = _replaced(graph, key, name, value)
        if changed is not self and not is_same(changed.to_graph(catalogue), graph):
            raise BadValueError("the value stands for several inputs, and cannot be changed for one", self._where, _CANNOT)
        return changed

    def _with_value(self, key: str, name: str, value: Any, catalogue: Catalogue) -> UiWorkflow:
        flat = self._flat(catalogue)
        where = ", ".join(part for part in (self._where, f"node {key}", name) if part)
        node = flat.graph.nodes.get(key)
        if node is None:
            raise BadValueError(f"there is no node {shown(key)}", where)
        held = node.inputs.get(name)
        if isinstance(held, Link):
            raise BadValueError(f"the input {shown(name)} is linked to node {held.node}, which gives its value", where)
        if name in node.inputs and is_same(held, value):
            return self
        origin = flat.origins.get((key, name))
        if origin is None:
            raise BadValueError(f"the workflow has no place for the input {shown(name)}", where, _CANNOT)
        try:
            text = self._with(origin, value)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise BadValueError(f"the value cannot be written: {error}", where) from error
        return UiWorkflow(parse(text, where=self._where, budget=self._budget), text, self._where, self._budget)

    def _with(self, origin: Origin, value: Any) -> str:
        text, (*path, last) = self.text, origin.path
        added = [*origin.before, value]
        if isinstance(last, int) and last - len(origin.before) == 0 and not _has_list(self.raw, path):
            return spliced(text, tuple(path), added)
        for number, each in enumerate(added, 1):
            place = last if len(added) == 1 else last - len(added) + number
            text = spliced(text, (*path, place), each)
        return spliced(text, origin.again, value) if origin.again is not None else text

    def _flat(self, catalogue: Catalogue) -> Flat:
        findings = Findings(self._budget)
        try:
            return flattened(self.raw, catalogue, findings, self._budget)
        except Refused:
            raise workflow_error(findings.faults, self._where) from None


def _has_list(raw: Any, path: Sequence[Any]) -> bool:
    """Whether there is a list at `path`."""
    for part in path[1:]:
        raw = raw.get(part) if isinstance(raw, dict) else raw[part]
    return isinstance(raw, list)


def is_same(one: Any, other: Any) -> bool:
    """Whether two graphs or JSON values are equal, 1 and 1.0 and true being different."""
    if isinstance(one, Graph) and isinstance(other, Graph):
        return is_same(one.nodes, other.nodes)
    if isinstance(one, Node) and isinstance(other, Node):
        return (one.type, one.title) == (other.type, other.title) and is_same(one.inputs, other.inputs)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(is_same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        is_one_kind = isinstance(one, Link) == isinstance(other, Link)
        return is_one_kind and len(one) == len(other) and all(map(is_same, one, other))
    return type(one) is type(other) and bool(one == other)


def _replaced(graph: Graph, key: str, name: str, value: Any) -> Graph:
    node = graph.nodes[key]
    return Graph({**graph.nodes, key: Node(node.type, {**node.inputs, name: value}, node.title)})
