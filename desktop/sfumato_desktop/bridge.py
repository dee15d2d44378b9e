"""The one door between threads: a worker thread owns the conversation with the engine, signals bring its words to the window."""

from __future__ import annotations

import queue
from dataclasses import dataclass
from functools import partial

from PySide6.QtCore import QObject, QThread, Signal

from sfumato.backends import Backend
from sfumato.errors import CancelledError, SfumatoError
from sfumato.progress import CancelFlag
from sfumato_desktop.generate import Job, hidden_for


@dataclass(frozen=True)
class _Work:
    job: Job
    cancel: CancelFlag


class _Worker(QThread):
    """Runs one job after the other. Its signals are delivered in the thread of whoever connected them."""

    told = Signal(int, object)
    done = Signal(object, object)
    failed = Signal(object, object)

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        self.setObjectName("sfumato engine talk")
        self._backend = backend
        self.waiting: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()

    def run(self) -> None:
        """Until a None is taken from the queue. Every job ends in exactly one of `done` and `failed`."""
        while (work := self.waiting.get()) is not None:
            job = work.job
            try:
                result = self._backend.run(
                    job.graph,
                    [job.target],
                    hidden=hidden_for(job, {}),
                    cancel=work.cancel,
                    on_event=partial(self.told.emit, job.number),
                )
                self.done.emit(job, result.value(job.target, job.slot))
            except SfumatoError as error:
                self.failed.emit(job, error)
            except Exception as error:  # noqa: BLE001  whatever the engine's side raises must reach the window, never end the thread
                self.failed.emit(job, SfumatoError(f"the engine failed: {type(error).__name__}: {error}", "engine"))


class Bridge(QObject):
    """Submits jobs and passes on what becomes of them, in the window's thread."""

    told = Signal(int, object)
    """(job number, event of `sfumato.events`)"""
    done = Signal(object, object)
    """(job, picture [B,H,W,C])"""
    failed = Signal(object, object)
    """(job, SfumatoError)"""

    def __init__(self, backend: Backend, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._backend = backend
        self._worker = _Worker(backend)
        self._worker.told.connect(self.told)
        self._worker.done.connect(self.done)
        self._worker.failed.connect(self.failed)
        self._cancels: dict[int, CancelFlag] = {}
        self._worker.start()

    def submit(self, job: Job) -> None:
        """Let the engine do `job` when those before it are done."""
        flag = CancelFlag()
        self._cancels[job.number] = flag
        self._worker.waiting.put(_Work(job, flag))

    def cancel(self) -> None:
        """Stop the running job and drop the waiting ones; each fails with CancelledError."""
        for flag in self._cancels.values():
            flag.set()
        self._cancels.clear()

    def close(self) -> None:
        """Stop everything and wait for the thread."""
        self.cancel()
        self._worker.waiting.put(None)
        self._worker.wait()
        self._backend.close()


def was_cancelled(error: SfumatoError) -> bool:
    """The user said stop: nothing to report."""
    return isinstance(error, CancelledError)
