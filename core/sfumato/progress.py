"""Progress, previews and cancel as one small object that is handed down; `Progress.silent()` is its no-op twin."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sfumato.errors import CancelledError


@dataclass(frozen=True)
class Step:
    """`done` of `total` parts of the work called `what` are finished. `preview` makes a small picture when called."""

    what: str
    done: int
    total: int
    preview: Callable[[], Any] | None = None


class CancelFlag:
    """Set once by whoever wants the work to stop; read by the work wherever it can stop."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []

    def set(self) -> None:
        """Ask the work to stop; a second time changes nothing."""
        with self._lock:
            self._event.set()
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()

    def is_set(self) -> bool:
        """Whether somebody has asked for that."""
        return self._event.is_set()

    def when_set(self, listener: Callable[[], None]) -> None:
        """Call `listener` once, in the thread that sets the flag, or now if it is set: for work in another process, which cannot look."""
        with self._lock:
            if not self._event.is_set():
                self._listeners.append(listener)
                return
        listener()


class Progress:
    """Reports `Step`s to a listener and asks the cancel flag. Threads may share one."""

    def __init__(self, listener: Callable[[Step], None] | None = None, cancel: CancelFlag | None = None) -> None:
        self._listener = listener
        self.cancel = cancel or CancelFlag()

    @classmethod
    def silent(cls) -> Progress:
        """Reports to nobody and is never cancelled."""
        return cls()

    def check(self) -> None:
        """Raises CancelledError when the user said stop. Cheap: called before every block of a network."""
        if self.cancel.is_set():
            raise CancelledError

    def step(self, what: str, done: int, total: int, preview: Callable[[], Any] | None = None) -> None:
        """Report that `done` of `total` parts are finished; checks for cancel first."""
        self.check()
        if self._listener:
            self._listener(Step(what, done, total, preview))
