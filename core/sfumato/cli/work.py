"""Runs graphs for a command: with a progress bar, with Ctrl+C, and with what their pictures carry."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.app import App
from sfumato.backends.child import ChildBackend
from sfumato.cli.output import Bar, cancel_on_interrupt, peak_bytes
from sfumato.errors import NodeError, UsageError
from sfumato.graph import Graph, Link
from sfumato.images.metadata import PictureMetadata
from sfumato.pixels import as_array
from sfumato.progress import CancelFlag, Progress
from sfumato.records import hidden_of
from sfumato.request import GenerateRequest
from sfumato.runner import RunResult
from sfumato.saving import metadata_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Made:
    """Pictures float32 [B,H,W,3|4] in 0..1, what travelled with the run, the node that saves them, and the rung that was needed."""

    images: NDArray[np.float32]
    hidden: Mapping[str, Any]
    target: str
    rung: str

    def carried(self, index: int) -> PictureMetadata:
        """What the picture number `index` carries."""
        return metadata_of(self.hidden, self.target, index, self.rung)


class Work:
    """One command at work: `with Work(app) as work`. From there on Ctrl+C is a wish that runs look for, so that what has
    begun to be written is written whole."""

    def __init__(self, app: App, output: Path | None = None, backend: str = "in-process") -> None:
        self.app, self._backend = app, app.backend(backend, output=output)
        self._bar, self._stack = Bar(), ExitStack()
        self._start = time.perf_counter()
        self._cancel = CancelFlag()
        self.rung = "full"
        """The highest rung of the memory ladder that the last run needed."""

    def __enter__(self) -> Work:
        self._cancel = self._stack.enter_context(cancel_on_interrupt())
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()
        self._backend.close()

    @property
    def progress(self) -> Progress:
        """Draws the bar, and raises CancelledError after Ctrl+C."""
        return Progress(self._bar.step, self._cancel)

    def hidden(self, graph: Graph, request: GenerateRequest | None = None, workflow: Any = None) -> dict[str, Any]:
        """What travels with a run of `graph`; see `hidden_of`."""
        try:
            machine = self._backend.machine() if isinstance(self._backend, ChildBackend) else None
            return hidden_of(self.app, graph, request, workflow, self.progress, machine)
        finally:
            self._bar.clear()

    def run(
        self,
        graph: Graph,
        targets: Iterable[str] | None,
        hidden: Mapping[str, Any],
        on_event: Callable[[Any], None] | None = None,
    ) -> RunResult:
        """Run `graph`; results are kept for the next run of this command. Raises what `Backend.run` raises."""

        def hear(event: Any) -> None:
            self._bar.hear(event)
            if on_event is not None:
                on_event(event)

        try:
            result = self._backend.run(graph, targets, hidden=hidden, cancel=self._cancel, on_event=hear)
        finally:
            self._bar.clear()
        self.rung = result.rung
        return result

    def pictures(self, graph: Graph, target: str, link: Link, hidden: Mapping[str, Any]) -> Made:
        """The pictures at `link`, which the node `target` would save."""
        result = self.run(graph, [link.node], hidden)
        try:
            images = as_array(result.value(link.node, link.slot))
        except UsageError as error:
            raise NodeError(error.what, f"node {link.node}", node_id=link.node, node_type=graph.nodes[link.node].type) from error
        return Made(images, hidden, target, result.rung)

    def figures(self) -> dict[str, Any]:
        """What every result tells besides its files."""
        return {"seconds": round(time.perf_counter() - self._start, 3), "rung": self.rung, "peak_bytes": peak_bytes()}
