"""Checks a graph before anything of it runs, and finds every fault at once.

A faulty output does not stop a good one: `Validation.good_targets` can run whatever else is wrong. Faults are looked for in
what the targets need, because half-wired nodes at the edge of a workflow do no harm; unknown node types are always told.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any

from sfumato.catalogue import Catalogue
from sfumato.coercion import BadValue, check_bounds, check_choice, coerced
from sfumato.errors import SfumatoError, WorkflowError
from sfumato.faults import Fault, plain, shown, workflow_error
from sfumato.graph import Graph, Link, Node
from sfumato.nodes import Input, NodeType
from sfumato.sockets import SocketType

__all__ = ["Fault", "Validation", "validate"]

_SUGGESTIONS = 5
"""So many unknown names are compared with all known ones; for 50,000 of them it would take minutes."""


@dataclass(frozen=True)
class Validation:
    """What a check found.

    `coerced` holds the nodes without a fault of their own, their constants turned into the types of their inputs and undeclared ones
    dropped; it is the graph to run.
    """

    good_targets: tuple[str, ...]
    faults: tuple[Fault, ...]
    coerced: Graph

    def error(self, where: str = "") -> WorkflowError:
        """The faults as one error that names the first of them; `where` is the file."""
        return workflow_error(self.faults, where)


def validate(
    graph: Graph, catalogue: Catalogue, targets: Iterable[str] | None = None, around: Mapping[str, Node] | None = None
) -> Validation:
    """Check what `targets` need, or all output nodes if None. Never raises for what is in the graph.

    `around` are nodes outside that the links of a sub-graph may lead to.
    """
    return _Check(graph, catalogue, around or {}).run(None if targets is None else list(dict.fromkeys(targets)))


class _Check:
    """One check: its faults so far, and the lists of choices that it has already asked for."""

    def __init__(self, graph: Graph, catalogue: Catalogue, around: Mapping[str, Node]) -> None:
        self._graph, self._catalogue, self._around = graph, catalogue, around
        self._faults: list[Fault] = []
        self._choices: dict[str, Sequence[Any]] = {}
        self._suggestions = _SUGGESTIONS

    def run(self, asked: list[str] | None) -> Validation:
        nodes, known = self._graph.nodes, self._catalogue
        targets = [key for key, node in nodes.items() if (t := known.get(node.type)) and t.is_output] if asked is None else asked
        needed = self._graph.ancestors(targets)
        self._check_types(nodes if asked is None else needed)
        self._check_targets(targets)
        clean = {key: node for key in nodes if (node := self._cleaned(key, key in needed)) is not None}
        self._check_cycles(Graph({key: node for key, node in clean.items() if key in needed}))
        bad = self._depend_on_bad(clean)
        good = tuple(target for target in targets if target in nodes and target not in bad)
        own = {fault.node_id for fault in self._faults}
        return Validation(good, tuple(self._faults), Graph({key: node for key, node in clean.items() if key not in own}))

    # --- The graph as a whole ----------------------------------------------------------------------------------------

    def _check_types(self, keys: Iterable[str]) -> None:
        for key in keys:
            name = self._graph.nodes[key].type
            if name not in self._catalogue:
                near = self._catalogue.near(name) if self._may_suggest() else []
                remedy = f"Did you mean {' or '.join(near)}?" if near else "A plugin or node pack that brings it is not installed."
                self._add(key, "missing_node_type", "there is no such node type", shown(name), remedy, class_type=name)

    def _check_targets(self, targets: Sequence[str]) -> None:
        for target in targets:
            if target not in self._graph.nodes:
                self._faults.append(Fault(target, "", "invalid_prompt", "there is no such node to run"))
        if not targets and not self._faults:
            remedy = "Add a node that shows or saves something, such as SaveImage or PreviewImage."
            self._faults.append(Fault("", "", "prompt_no_outputs", "the workflow has no output node", remedy=remedy))

    def _check_cycles(self, needed: Graph) -> None:
        for cycle in needed.cycles():
            path = " → ".join([*cycle[:10], "..."] if len(cycle) > 10 else [*cycle, cycle[0]])
            self._add(cycle[0], "dependency_cycle", "the nodes form a circle", path, "Take one of these links away.", nodes=cycle)

    def _depend_on_bad(self, clean: Mapping[str, Node]) -> set[str]:
        """The nodes that cannot run: the faulty ones, and all that depend on them."""
        dependents: dict[str, list[str]] = {}
        for key, node in clean.items():
            for _, link in node.links():
                dependents.setdefault(link.node, []).append(key)
        bad: set[str] = set()
        todo = [fault.node_id for fault in self._faults] + [key for key in self._graph.nodes if key not in clean]
        todo += [key for fault in self._faults for key in fault.extra_info.get("nodes", ())]
        while todo:
            key = todo.pop()
            if key not in bad:
                bad.add(key)
                todo.extend(dependents.get(key, ()))
        return bad

    # --- One node ----------------------------------------------------------------------------------------------------

    def _cleaned(self, key: str, is_needed: bool) -> Node | None:
        """The node with only the inputs that it takes, as the types that it takes; None if its type is unknown.

        Of a node that nobody needs only the types of constants are put right, so that its kept result can be recognised.
        """
        node = self._graph.nodes[key]
        node_type = self._catalogue.get(node.type)
        if node_type is None:
            return None
        before = len(self._faults)
        inputs: dict[str, Any] = {}
        for socket in node_type.inputs:
            if socket.name in node.inputs and (socket.required or node.inputs[socket.name] is not None):
                inputs[socket.name] = self._checked(key, node_type, socket, node.inputs[socket.name])
            elif socket.required:
                self._add(key, "required_input_missing", "a required input is missing", "", socket=socket)
        if node_type.takes_any:
            inputs |= {name: link for name, link in node.links() if name not in inputs and self._leads_somewhere(key, name, link)}
        if is_needed and len(self._faults) == before:
            self._ask_node(key, node_type, inputs)
        if not is_needed:
            del self._faults[before:]
        return Node(node.type, inputs, node.title)

    def _checked(self, key: str, node_type: NodeType, socket: Input, value: Any) -> Any:
        if isinstance(value, Link):
            if self._leads_somewhere(key, socket.name, value, socket):
                self._check_link(key, node_type, socket, value)
            return value
        try:
            value = coerced(socket, value)
            if node_type.validated_inputs is not None and socket.name not in node_type.validated_inputs:
                check_bounds(socket, value)
                self._check_choice(socket, value)
        except BadValue as bad:
            self._add(key, bad.type, bad.message, bad.details, bad.remedy, socket, **bad.info)
        except Exception as error:  # noqa: BLE001  a list of choices comes from a stranger's code, which may raise anything
            details, remedy = (error.what, error.remedy) if isinstance(error, SfumatoError) else (f"{type(error).__name__}: {error}", "")
            self._add(key, "exception_during_validation", "the value cannot be checked", details, remedy, socket)
        return value

    def _check_choice(self, socket: Input, value: Any) -> None:
        if socket.source is not None and socket.source not in self._choices:
            self._choices[socket.source] = tuple(self._catalogue.resolve(socket.source))
        choices = socket.choices if socket.source is None else self._choices[socket.source]
        if choices is not None and value not in choices:
            check_choice(value, choices, self._may_suggest())

    def _leads_somewhere(self, key: str, name: str, link: Link, socket: Input | None = None) -> bool:
        """Whether the link leads to an output that exists. Of a node of unknown type nothing can be said: it has a fault already."""
        socket = socket or Input(name, "*")
        source = self._graph.nodes.get(link.node) or self._around.get(link.node)
        if source is None:
            self._add(key, "bad_linked_input", "the link leads nowhere", f"there is no node {shown(link.node)}", socket=socket)
            return False
        source_type = self._catalogue.get(source.type)
        if source_type is not None and not 0 <= link.slot < len(source_type.outputs):
            details = f"node {link.node} ({source.type}) has {len(source_type.outputs)} outputs, and none with the number {link.slot}"
            self._add(key, "bad_linked_input", "the link leads nowhere", details, socket=socket)
            return False
        return source_type is not None

    def _check_link(self, key: str, node_type: NodeType, socket: Input, link: Link) -> None:
        received = self._output_type(link)
        if received == socket.type or SocketType(socket.type).accepts(received) or "input_types" in (node_type.validated_inputs or ()):
            return
        details = f"it takes {socket.type}, and node {link.node} gives {received} there"
        types: dict[str, Any] = {"received_type": received, "linked_node": list(link)}
        self._add(key, "return_type_mismatch", "the link brings the wrong type", details, socket=socket, **types)

    def _output_type(self, link: Link) -> str:
        source = self._graph.nodes.get(link.node) or self._around[link.node]
        source_type = self._catalogue.get(source.type)
        return source_type.outputs[link.slot].type if source_type and 0 <= link.slot < len(source_type.outputs) else "*"

    def _ask_node(self, key: str, node_type: NodeType, inputs: Mapping[str, Any]) -> None:
        """Let the node itself look at its constants."""
        if node_type.validated_inputs is not None and not node_type.validated_inputs:
            return
        constants = {name: None if isinstance(value, Link) else value for name, value in inputs.items()}
        if "input_types" in (node_type.validated_inputs or ()):
            constants["input_types"] = {name: self._output_type(value) for name, value in inputs.items() if isinstance(value, Link)}
        about = [socket for socket in node_type.inputs if socket.name in (node_type.validated_inputs or ())]
        socket = about[0] if len(about) == 1 else None
        try:
            answer = _now(node_type.make().validate(constants))
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever a stranger's check raises is a fault of that node, and told as such
            details = f"{type(error).__name__}: {error}"
            self._add(key, "exception_during_validation", "the node's own check failed", details, socket=socket)
        else:
            if answer is not None and answer is not True:
                words = answer if isinstance(answer, str) else "the node refuses its inputs"
                self._add(key, "custom_validation_failed", words, socket=socket)

    # --- Faults ------------------------------------------------------------------------------------------------------

    def _may_suggest(self) -> bool:
        self._suggestions -= 1
        return self._suggestions >= 0

    def _add(
        self, key: str, type: str, message: str, details: str = "", remedy: str = "", socket: Input | None = None, **info: Any
    ) -> None:
        node = self._graph.nodes[key]
        if socket is not None:
            options = {name: plain(value) for name, value in socket.options.items()}
            info = {"input_name": socket.name, "input_config": [socket.type, options], **info}
            info |= {"source": socket.source} if socket.source else {}
        name = socket.name if socket else ""
        self._faults.append(Fault(key, node.type, type, message, details, info, name, node.title, remedy))


def _now(value: Any) -> Any:
    """`value`, or what it gives if it is an awaitable: worked out in a thread of its own, since this one may belong to an event loop."""
    if not isawaitable(value):
        return value
    import asyncio  # only nodes with an asynchronous check need it

    async def wait() -> Any:
        return await value

    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(asyncio.run(wait()))
        except BaseException as error:  # noqa: BLE001  raised again in the thread that asked
            future.set_exception(error)

    thread = threading.Thread(target=work, name="sfumato-validate")
    thread.start()
    thread.join()
    return future.result()
