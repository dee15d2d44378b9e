"""The backend that runs graphs in a child process: generation never stalls a window, and an engine that dies takes nothing along.

The child loads plugins and torch; this process imports neither torch nor what would need it. A child is started when it is
first needed, or earlier by `start`; after its end, whatever the reason, the next run starts a new one.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sfumato
from sfumato.backends import messages
from sfumato.backends.engine_process import EngineProcess
from sfumato.backends.wire import ClosedFault, Message, WireFault
from sfumato.errors import BadValueError, CancelledError, SfumatoError, UsageError
from sfumato.events import NodeEvent, NodeFailed, NodeStarted, RunProgressed
from sfumato.graph import Graph
from sfumato.models import ModelFile
from sfumato.paths import Folders
from sfumato.progress import CancelFlag, Step
from sfumato.runner import RunResult
from sfumato.settings import Settings, format_settings

PROTOCOL = 1
_GLANCE = 0.05
"""Seconds between two looks at whether the user has said stop, where a run waits for something else."""


@dataclass(frozen=True)
class EngineOptions:
    """What the child's kernel is made of; see `App.make`. `output` is where nodes save instead of the user's own folder.

    `pictures` and `models`, those that the user named by path, are asked for at every run.
    """

    folders: Folders
    settings: Settings
    output: Path | None = None
    extra_models: Mapping[str, Iterable[Path]] = field(default_factory=dict)
    blocked: tuple[str, ...] = ()
    pictures: Callable[[], Mapping[str, Path]] = dict
    models: Callable[[], Iterable[ModelFile]] = tuple

    def to_plain(self) -> dict[str, Any]:
        """What the child is told when it starts."""
        return {
            "folders": {name: str(path) for name, path in vars(self.folders).items()},
            "settings": format_settings(self.settings),
            "output": None if self.output is None else str(self.output),
            "extra_models": messages.paths_to_plain(self.extra_models),
            "blocked": list(self.blocked),
        }


@dataclass
class _Run:
    """A run on its way."""

    number: int
    flag: CancelFlag
    is_asked: bool = False
    """Somebody has asked it to stop."""
    is_killed: bool = False
    at_work: str = ""
    """The node that was begun last."""

    def notice(self, event: Any) -> None:
        if isinstance(event, NodeStarted):
            self.at_work = f"node {event.display_id} ({event.node_type})"
        elif isinstance(event, NodeEvent) and not isinstance(event, NodeFailed):
            self.at_work = self.at_work or f"node {event.display_id} ({event.node_type})"


class ChildBackend:
    """Runs graphs in a process of its own; see `Backend`.

    Pictures and masks of a result arrive as NumPy arrays float32 that cannot be written to (`sfumato.pixels.as_array`); models and other
    handles stay in the child. Previews arrive as uint8 arrays, about ten in a second. The first events of a run may be `RunProgressed`
    steps "starting the engine".
    """

    name = "child"

    def __init__(self, options: EngineOptions, *, transport: str = "", environment: Mapping[str, str] | None = None) -> None:
        """Starts nothing. `transport` and `environment`: see `EngineProcess`."""
        self._options = options
        self._transport, self._environment = transport, environment
        self._engine: EngineProcess | None = None
        self._current: _Run | None = None
        self._numbers = itertools.count(1)
        self._version = sfumato.__version__  # now: an update would change what it says
        self._is_closed = False
        self._lock = threading.Lock()
        self._turn = threading.Lock()

    # --- From any thread ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Let an engine start now, without waiting for it, so that it is ready when the first graph comes."""
        with self._lock:
            self._begun()

    @property
    def pid(self) -> int:
        """The number of the engine's process, or 0."""
        with self._lock:
            return self._engine.pid if self._engine and not self._engine.is_over else 0

    def cancel(self, hard: bool = False) -> None:
        """Stop the run in progress, if there is one. May be called from any thread.

        The first time the engine is asked to stop, which it does at the next block of a network. `hard`, or a second time, ends its
        process at once, whatever it is doing; what it had loaded is lost. Either way the run ends with CancelledError.
        """
        with self._lock:
            run, engine = self._current, self._engine
            if run is None:
                return
            hard = hard or run.is_asked
            run.is_killed = run.is_killed or hard
        if not hard:
            run.flag.set()
        elif engine is not None:
            engine.kill()

    def close(self) -> None:
        """Stop what runs and end the process. The backend is not used afterwards."""
        with self._lock:
            self._is_closed = True
        self.cancel(hard=True)
        with self._turn, self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    # --- In the thread of the run ------------------------------------------------------------------------------------------

    def machine(self) -> dict[str, Any]:
        """As `App.machine`, of the engine; waits for it to be ready. Raises EngineDiedError if it does not start."""
        with self._turn:
            return dict(self._ready(_Run(0, CancelFlag()), _nobody).facts)

    def run(
        self,
        graph: Graph,
        targets: Iterable[str] | None = None,
        *,
        hidden: Mapping[str, Any] | None = None,
        cancel: CancelFlag | None = None,
        on_event: Callable[[Any], None] | None = None,
    ) -> RunResult:
        """See `Backend.run`. Also raises EngineDiedError, and BadValueError for what cannot travel to another process."""
        run = _Run(next(self._numbers), cancel or CancelFlag())
        request = {
            "kind": "run",
            "run": run.number,
            "graph": messages.checked("the graph", messages.graph_to_plain(graph)),
            "targets": None if targets is None else list(targets),
            "hidden": messages.checked("what travels with the run", dict(hidden or {})),
            "pictures": {name: str(path) for name, path in self._options.pictures().items()},
            "models": [[file.kind, str(file.path), file.name] for file in self._options.models()],
            "previews": on_event is not None,
        }
        with self._in_turn(run):
            return self._follow(self._ready(run, on_event or _nobody), run, request, on_event or _nobody)

    @contextmanager
    def _in_turn(self, run: _Run) -> Iterator[None]:
        """Runs of several threads wait for each other; one that is cancelled meanwhile does not begin."""
        while not self._turn.acquire(timeout=_GLANCE):
            if run.flag.is_set():
                raise CancelledError
        try:
            with self._lock:
                self._current = run
            run.flag.when_set(lambda: setattr(run, "is_asked", True))
            yield
        finally:
            with self._lock:
                self._current = None
            self._turn.release()

    def _begun(self) -> EngineProcess:
        """The engine that runs or is starting; a new one if there is none. Under the lock."""
        if self._is_closed:
            raise UsageError("the backend is closed")
        if self._engine is not None and self._engine.is_over:
            self._engine.close(patience=0)
            self._engine = None
        if self._engine is None:
            first = {"kind": "start", "protocol": PROTOCOL, **self._options.to_plain()}
            self._engine = EngineProcess(first, transport=self._transport, environment=self._environment)
        return self._engine

    def _ready(self, run: _Run, hear: Callable[[Any], None]) -> EngineProcess:
        """The engine, ready for work. Raises CancelledError if the user says stop meanwhile; the engine then goes on starting."""
        with self._lock:
            engine = self._begun()
        if engine.is_ready:
            return engine
        hear(RunProgressed(Step("starting the engine", 0, 1)))
        while not engine.wait(_GLANCE):
            if run.flag.is_set() or run.is_killed:
                raise CancelledError
            if self._is_closed:
                raise UsageError("the backend is closed")
        try:
            engine.welcome(_received(engine).body, PROTOCOL, self._version)
        except WireFault as fault:
            raise self._end(engine, run, fault) from None
        hear(RunProgressed(Step("starting the engine", 1, 1)))
        return engine

    def _follow(self, engine: EngineProcess, run: _Run, request: Mapping[str, Any], hear: Callable[[Any], None]) -> RunResult:
        """Send the request, and hear of it until its end. One that is cancelled already is not sent: its first node might never look."""
        if run.flag.is_set():
            raise CancelledError
        try:
            self._ask(engine, request)
            run.flag.when_set(lambda: self._ask_to_stop(engine, run))
            while True:
                message = _received(engine)
                if message.body.get("run") != run.number:  # of a run whose listener has failed
                    continue
                if "result" in message.body:
                    return messages.result_from_message(message)
                if "error" in message.body:
                    raise messages.error_from_plain(message.body["error"])
                event = messages.event_from_message(message)
                run.notice(event)
                self._tell(event, engine, run, hear)
        except WireFault as fault:
            raise self._end(engine, run, fault) from None

    def _ask(self, engine: EngineProcess, request: Mapping[str, Any]) -> None:
        try:
            engine.channel.send(request)
        except ClosedFault:
            raise
        except WireFault as fault:
            raise BadValueError(f"the graph is too large for another process: {fault}", "", "Run it in this process.") from None

    def _tell(self, event: Any, engine: EngineProcess, run: _Run, hear: Callable[[Any], None]) -> None:
        """Nobody waits any more for a run whose listener fails: it is stopped, and what still comes of it is passed over."""
        try:
            hear(event)
        except BaseException:
            self._ask_to_stop(engine, run)
            raise

    def _ask_to_stop(self, engine: EngineProcess, run: _Run) -> None:
        with suppress(WireFault):  # an engine that is gone has stopped
            engine.channel.send({"kind": "cancel", "run": run.number}, may_skip=True)

    def _end(self, engine: EngineProcess, run: _Run, fault: WireFault) -> SfumatoError:
        """What a run ends with whose engine has ended, or is ended here because of what it said."""
        if run.is_killed:
            return CancelledError("cancelled; the engine was ended at once, and the next run starts a new one")
        if isinstance(fault, ClosedFault):
            return engine.death(run.at_work)
        engine.kill()
        return engine.death(run.at_work, f"the engine said something that cannot be understood ({fault})")


def _received(engine: EngineProcess) -> Message:
    """The next message. An engine of which only a part of a message was read cannot be used any more."""
    try:
        return engine.channel.receive()
    except WireFault:
        raise
    except BaseException:
        engine.kill()
        raise


def _nobody(event: Any) -> None:
    """Listens to nothing."""
