"""Where a graph runs: in this process, or wherever a plugin's `backend_for` says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from sfumato.graph import Graph
from sfumato.progress import CancelFlag
from sfumato.runner import RunResult


class Backend(Protocol):
    """A place that runs graphs, one at a time. The queue gives each backend a worker thread of its own."""

    @property
    def name(self) -> str:
        """How users write it, e.g. "in-process"."""

    def run(
        self,
        graph: Graph,
        targets: Iterable[str] | None = None,
        *,
        hidden: Mapping[str, Any] | None = None,
        cancel: CancelFlag | None = None,
        on_event: Callable[[Any], None] | None = None,
    ) -> RunResult:
        """Run `graph` and wait for it; raises what `Runner.run` raises. Events arrive in the calling thread.

        `hidden` travels to the nodes as `ctx.hidden`. `cancel` may be set from any thread: the run then ends with CancelledError.
        """

    def cancel(self) -> None:
        """Stop the run in progress, if there is one. May be called from any thread."""

    def close(self) -> None:
        """Stop what runs and give back what the place holds. The backend is not used afterwards."""
