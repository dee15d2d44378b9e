"""The format that this plugin offers: workflows of ComfyUI's editor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sfumato.catalogue import Catalogue
from sfumato.errors import BadValueError
from sfumato.graph import Graph, Link, Node
from sfumato_comfy.widgets import default_of
from sfumato_comfy.workflow import UiWorkflow, is_same
from sfumato_comfy.writing import written


class UiFormat:
    """A `sfumato.workflow_formats.WorkflowFormat`."""

    def is_mine(self, value: Any) -> bool:
        """Whether this is an object with a list of nodes. (In API format, a node may be called "nodes", but is no list.)"""
        return isinstance(value, dict) and isinstance(value.get("nodes"), list)

    def read(self, value: Any, catalogue: Catalogue) -> Graph:
        """The graph that the editor would export; see `sfumato_comfy.flattening`. Raises WorkflowError."""
        return UiWorkflow(value).to_graph(catalogue)

    def write(self, graph: Graph, catalogue: Catalogue) -> dict[str, Any]:
        """A workflow that opens in the editor; see `sfumato_comfy.writing`."""
        return written(graph, catalogue)

    def updated(self, value: Any, graph: Graph, catalogue: Catalogue) -> Any:
        """The workflow with the constants of `graph`; written anew where it differs in more than constants and titles.

        A constant that `graph` does not have stays where it is the default. Raises WorkflowError.
        """
        workflow = UiWorkflow(value)
        before = workflow.to_graph(catalogue)
        if is_same(before, graph):
            return value
        changes = _changes(before, graph, catalogue)
        if changes is not None:
            try:
                return workflow.with_values(changes, catalogue).raw
            except BadValueError:
                pass  # shared values cannot be told apart in the file: the sheet is drawn anew
        return written(graph, catalogue)


def _changes(before: Graph, after: Graph, catalogue: Catalogue) -> dict[str, dict[str, Any]] | None:
    """The constants that differ, by node and input; None if anything else does."""
    if before.nodes.keys() != after.nodes.keys():
        return None
    changes: dict[str, dict[str, Any]] = {}
    for key, node in after.nodes.items():
        held = before.nodes[key].inputs
        extra = {name: value for name, value in held.items() if name not in node.inputs}
        if node.type != before.nodes[key].type or not node.inputs.keys() <= held.keys() or not _are_defaults(node, extra, catalogue):
            return None
        differ = {name: value for name, value in node.inputs.items() if not is_same(value, held[name])}
        if any(isinstance(value, Link) or isinstance(held[name], Link) for name, value in differ.items()):
            return None
        changes |= {key: differ} if differ else {}
    return changes


def _are_defaults(node: Node, constants: Mapping[str, Any], catalogue: Catalogue) -> bool:
    node_type = catalogue.get(node.type)
    sockets = {name: node_type.input(name) if node_type else None for name in constants}
    return all(socket is not None and is_same(constants[name], default_of(socket, catalogue)) for name, socket in sockets.items())


WORKFLOW = UiFormat()
