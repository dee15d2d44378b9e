"""Runs a graph: what is asked for and nothing else, with lazy inputs, lists, sub-graphs, blocked values and asynchronous nodes.

One thread runs it. Nothing recurses, so that a chain may be as long as memory allows. The nodes that are ready wait on a
stack, so that one branch is finished before the next begins: the first picture comes early and values do not pile up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sfumato.caching import Cache, ClassicCache, NodeObjects
from sfumato.catalogue import Catalogue
from sfumato.errors import UsageError
from sfumato.events import RunStarted
from sfumato.graph import Graph
from sfumato.nodes import NodeContext
from sfumato.running import GraphRun, RunHooks
from sfumato.validation import Fault, validate


@dataclass(frozen=True)
class LeftBehind:
    """Stands for a value that stays in the process in which the graph ran: a model, a conditioning. `kind` is its type's name."""

    kind: str


@dataclass(frozen=True)
class RunResult:
    """What a run gave.

    `outputs` holds the targets' outputs: for each output the list of its values (one, unless lists flowed through the graph).
    `shown` holds what each node showed to the user, by node id. `faults` are those of targets that could not be run at all. `rung` is the
    highest rung of the memory ladder that was needed. Pictures are tensors or arrays, depending on where the graph ran:
    `sfumato.pixels.as_array` takes both.
    """

    outputs: Mapping[str, tuple[list[Any], ...]]
    shown: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    executed: tuple[str, ...] = ()
    cached: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    rung: str = "full"

    def value(self, node_id: str, slot: int = 0) -> Any:
        """The first value at the output number `slot` of the target `node_id`.

        Raises UsageError if there is none, or if it cannot leave the process in which the graph ran.
        """
        outputs = self.outputs.get(node_id, ())
        if not 0 <= slot < len(outputs) or not outputs[slot]:
            raise UsageError(f"the run gave no value for output {slot} of node {node_id}")
        value = outputs[slot][0]
        if isinstance(value, LeftBehind):
            remedy = "Ask for a picture, a mask, a number or a text, or run the graph in this process."
            raise UsageError(f"output {slot} of node {node_id} is a {value.kind}, which cannot leave the engine's process", "", remedy)
        return value


class Runner:
    """Runs graphs one after the other, with one cache. Several threads may share it; their runs wait for each other."""

    def __init__(self, catalogue: Catalogue, cache: Cache | None = None, hooks: RunHooks | None = None) -> None:
        self.catalogue = catalogue
        self.cache: Cache = ClassicCache() if cache is None else cache
        self._hooks = hooks
        self._objects = NodeObjects()
        self._lock = threading.Lock()

    def run(
        self,
        graph: Graph,
        targets: Iterable[str] | None = None,
        *,
        context_for: Callable[[str], NodeContext],
        on_event: Callable[[Any], None] | None = None,
    ) -> RunResult:
        """Check `graph`, then work out `targets` (all output nodes if None), and return what they gave.

        `context_for(node_id)` makes the context that a node is handed. Faulty targets do not stop good ones: they are in `faults`.
        Raises WorkflowError if no target can run, CancelledError if the user said stop, and what a node failed with:
        a SfumatoError of its own, which then says which node it was, or NodeError with the cause chained.
        """
        validation = validate(graph, self.catalogue, targets)
        if not validation.good_targets:
            raise validation.error()
        emit = on_event or _nobody
        with self._lock:
            run = GraphRun(self.catalogue, self.cache, self._objects, self._hooks, context_for, emit)
            emit(RunStarted(validation.good_targets))
            outputs = run.work_out(validation.coerced, validation.good_targets)
        return RunResult(outputs, run.shown, tuple(run.executed), tuple(run.cached), validation.faults)

    def forget(self) -> None:
        """Let go of all kept results and node objects."""
        with self._lock:
            self.cache.clear()
            self._objects.keep_only(())


def _nobody(event: Any) -> None:
    """Listens to nothing."""
