"""The backend that runs a graph in this process, in the thread that calls it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from sfumato.events import NodeProgressed, NodeStarted, RunStarted
from sfumato.graph import Graph
from sfumato.progress import CancelFlag, Progress, Step
from sfumato.runner import Runner, RunResult


@dataclass(frozen=True)
class Context:
    """What a node is handed; see `sfumato.nodes.NodeContext`."""

    node_id: str
    progress: Progress
    services: Any = None
    folders: Any = None
    hidden: Mapping[str, Any] = field(default_factory=dict)


class InProcessBackend:
    """Runs graphs with a `Runner`, and hands each node the services and folders that were handed in here.

    `services` may be a callable without arguments: it is called when the first graph runs, so that an engine is built only when needed.
    """

    name = "in-process"

    def __init__(self, runner: Runner, services: Any = None, folders: Any = None) -> None:
        self.runner = runner
        self._services, self._made = services, not callable(services)
        self._folders = folders
        self._running: set[CancelFlag] = set()
        self._lock, self._making = threading.Lock(), threading.Lock()

    def run(
        self,
        graph: Graph,
        targets: Iterable[str] | None = None,
        *,
        hidden: Mapping[str, Any] | None = None,
        cancel: CancelFlag | None = None,
        on_event: Callable[[Any], None] | None = None,
    ) -> RunResult:
        """See `Backend.run`. Previews and steps of the nodes arrive as `NodeProgressed`."""
        flag = cancel or CancelFlag()
        listener = _Listener(on_event)
        services = self._made_services()
        with self._lock:
            self._running.add(flag)

        def context_for(node_id: str) -> Context:
            return Context(node_id, Progress(partial(listener.step, node_id), flag), services, self._folders, hidden or {})

        rungs = getattr(services, "rungs", [])

        def hear(event: Any) -> None:
            if isinstance(event, RunStarted):  # only now are the runs before it over
                rungs.clear()
            listener.hear(event)

        try:
            result = self.runner.run(graph, targets, context_for=context_for, on_event=hear)
            return replace(result, rung=rungs[-1]) if rungs else result
        finally:
            with self._lock:
                self._running.discard(flag)

    def _made_services(self) -> Any:
        with self._making:
            if not self._made:
                self._services, self._made = self._services(), True
            return self._services

    def cancel(self) -> None:
        """See `Backend.cancel`."""
        with self._lock:
            for flag in self._running:
                flag.set()

    def close(self) -> None:
        """See `Backend.close`: cancels and lets go of cached results."""
        self.cancel()
        self.runner.forget()


class _Listener:
    """Passes events on, and turns the steps that a node reports into events of that node."""

    def __init__(self, on_event: Callable[[Any], None] | None) -> None:
        self._on_event = on_event
        self._started: dict[str, NodeStarted] = {}

    def hear(self, event: Any) -> None:
        if isinstance(event, NodeStarted):
            self._started[event.node_id] = event
        if self._on_event is not None:
            self._on_event(event)

    def step(self, node_id: str, step: Step) -> None:
        started = self._started.get(node_id)
        if started is not None:
            self.hear(NodeProgressed(node_id, started.node_type, started.display_id, step))
