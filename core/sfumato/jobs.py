"""The queue: jobs wait in one order, and one worker thread for each backend takes the next when it is free.

A job that fails does not stop the queue. Listeners hear of everything in the thread in which it happens; nothing is called under the lock.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

from sfumato.backends import Backend
from sfumato.errors import CancelledError, NodeError, SfumatoError, UsageError
from sfumato.events import JobCancelled, JobDone, JobFailed, JobQueued, JobStarted, QueueChanged
from sfumato.graph import Graph
from sfumato.job_store import JobRecord, JobStore, MemoryStore
from sfumato.progress import CancelFlag
from sfumato.runner import RunResult

_log = logging.getLogger(__name__)

Listener = Callable[[str, Any], None]
"""Called with the id of a job ("" if none is meant) and an event of `sfumato.events`."""


@dataclass(eq=False)
class Job:
    """A graph on its way through the queue. `future` gives the `RunResult`, or raises what the run raised."""

    record: JobRecord
    future: Future[RunResult] = field(default_factory=Future)
    cancel_flag: CancelFlag = field(default_factory=CancelFlag)
    state: Literal["waiting", "running", "done", "failed", "cancelled"] = "waiting"
    is_announced: bool = False
    """Listeners have heard of it: only then may it begin."""

    @property
    def id(self) -> str:
        """The name of the job, given by whoever submitted it or made up."""
        return self.record.id


class JobQueue:
    """Jobs in their order, and the threads that work them off. To be closed: `with JobQueue(...) as queue`."""

    def __init__(self, backends: Sequence[Backend], store: JobStore | None = None, listeners: Iterable[Listener] = ()) -> None:
        self._store: JobStore = MemoryStore() if store is None else store
        self._backends = list(backends)
        self._listeners = list(listeners)
        self._changed = threading.Condition()
        self._waiting = [Job(record, is_announced=True) for record in self._store.load()]
        self._running: list[Job] = []
        self._paused = self._closed = False
        self._threads = [threading.Thread(target=self._work, args=(b,), name=f"sfumato-jobs-{b.name}", daemon=True) for b in self._backends]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> JobQueue:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- Coming and going ------------------------------------------------------------------------------------------------

    def submit(
        self,
        graph: Graph,
        targets: Iterable[str] | None = None,
        *,
        hidden: Mapping[str, Any] | None = None,
        job_id: str = "",
        tag: str = "",
        front: bool = False,
    ) -> Job:
        """Put a job at the end of the queue, or in `front` of all that wait. `tag` says whose it is.

        Raises UsageError if the queue is closed or already has a job of that id.
        """
        record = JobRecord(job_id or uuid.uuid4().hex, graph, None if targets is None else tuple(targets), hidden or {}, tag)
        job = Job(record)
        with self._changed:
            if self._closed:
                raise UsageError("the queue is closed")
            if self._find(record.id):
                raise UsageError(f"there is already a job {record.id!r} in the queue")
            position = 0 if front else len(self._waiting)
            self._waiting.insert(position, job)
            self._store.save(record)
            if front:
                self._store_order()
        self._tell(job.id, JobQueued(job.id, position))
        self._tell_queue()
        with self._changed:
            job.is_announced = True
            self._changed.notify()
        return job

    def cancel(self, job_id: str) -> bool:
        """Take the job out of the queue, or stop it if it runs. False if there is no such job (any more)."""
        with self._changed:
            job = self._find(job_id)
            if job is None:
                return False
            is_waiting = job in self._waiting
            if is_waiting:
                self._take_out(job)
        job.cancel_flag.set()
        if is_waiting:
            self._end_cancelled(job)
        return True

    def clear(self) -> list[str]:
        """Take out all jobs that wait; returns their ids. Those that run go on."""
        with self._changed:
            jobs = list(self._waiting)
            for job in jobs:
                self._take_out(job)
        for job in jobs:
            self._end_cancelled(job)
        return [job.id for job in jobs]

    def move(self, job_id: str, position: int) -> None:
        """Let a waiting job wait at `position` (0 is next; too far means last). Raises UsageError if it does not wait."""
        with self._changed:
            job = next((job for job in self._waiting if job.id == job_id), None)
            if job is None:
                raise UsageError(f"no job {job_id!r} waits in the queue")
            self._waiting.remove(job)
            self._waiting.insert(max(position, 0), job)
            self._store_order()
        self._tell_queue()

    def pause(self) -> None:
        """Start no more jobs; those that run go on."""
        with self._changed:
            self._paused = True

    def resume(self) -> None:
        """Start jobs again."""
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def close(self) -> None:
        """Stop what runs, end the threads, close the backends. Futures that are left end with CancelledError.

        The jobs stay in the store, for the next start.
        """
        with self._changed:
            if self._closed:
                return
            self._closed = True
            waiting, self._waiting = self._waiting, []
            running = list(self._running)
            self._changed.notify_all()
        for job in running:
            job.cancel_flag.set()
        for job in waiting:
            self._end(job, None, CancelledError("the program was closed before the job began"))
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        for backend in self._backends:
            backend.close()

    # --- Looking -----------------------------------------------------------------------------------------------------------

    def get(self, job_id: str) -> Job | None:
        """The job, if it waits or runs."""
        with self._changed:
            return self._find(job_id)

    def position(self, job_id: str) -> int | None:
        """How many jobs wait before this one; None if it does not wait."""
        with self._changed:
            return next((place for place, job in enumerate(self._waiting) if job.id == job_id), None)

    @property
    def waiting(self) -> tuple[Job, ...]:
        """The jobs that wait, in order."""
        with self._changed:
            return tuple(self._waiting)

    @property
    def running(self) -> tuple[Job, ...]:
        """The jobs that run."""
        with self._changed:
            return tuple(self._running)

    @property
    def is_paused(self) -> bool:
        """Whether no more jobs are started."""
        return self._paused

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener(job_id, event)` for everything that happens from now on; returns what ends that."""
        with self._changed:
            self._listeners = [*self._listeners, listener]

        def stop() -> None:
            with self._changed:
                self._listeners = [each for each in self._listeners if each is not listener]

        return stop

    # --- Work --------------------------------------------------------------------------------------------------------------

    def _work(self, backend: Backend) -> None:
        while (job := self._next()) is not None:
            if job.future.set_running_or_notify_cancel():
                self._tell(job.id, JobStarted(job.id))
                self._tell_queue()
                self._run(job, backend)
            else:  # someone has cancelled the future itself
                self._forget(job)
                self._end_cancelled(job)

    def _next(self) -> Job | None:
        with self._changed:
            while not self._closed:
                job = next((job for job in self._waiting if job.is_announced), None)
                if job is not None and not self._paused:
                    self._waiting.remove(job)
                    self._running.append(job)
                    job.state = "running"
                    return job
                self._changed.wait()
            return None

    def _run(self, job: Job, backend: Backend) -> None:
        result, failure = None, None
        try:
            record = job.record
            result = backend.run(
                record.graph, record.targets, hidden=record.hidden, cancel=job.cancel_flag, on_event=lambda event: self._tell(job.id, event)
            )
        except SfumatoError as error:
            failure = error
        except (Exception, SystemExit) as error:  # noqa: BLE001  the backend itself is broken; the queue goes on, and the job says why
            failure = NodeError(f"the backend {backend.name} failed: {type(error).__name__}: {error}")
            failure.__cause__ = error
        self._forget(job)
        self._end(job, result, failure)
        self._tell_queue()

    def _forget(self, job: Job) -> None:
        with self._changed:
            self._running.remove(job)
            if not self._closed:  # what the end of the program has stopped is done at the next start
                self._store.remove(job.id)

    def _end(self, job: Job, result: RunResult | None, failure: SfumatoError | None) -> None:
        if isinstance(failure, CancelledError):
            job.state = "cancelled"
            _fail(job, failure)
            self._tell(job.id, JobCancelled(job.id))
        elif failure is not None:
            job.state = "failed"
            _fail(job, failure)
            self._tell(job.id, JobFailed(job.id, failure))
        elif result is not None:
            job.state = "done"
            job.future.set_result(result)
            self._tell(job.id, JobDone(job.id, result))

    def _end_cancelled(self, job: Job) -> None:
        self._end(job, None, CancelledError())
        self._tell_queue()

    # --- Under the lock ------------------------------------------------------------------------------------------------------

    def _find(self, job_id: str) -> Job | None:
        return next((job for job in [*self._waiting, *self._running] if job.id == job_id), None)

    def _take_out(self, job: Job) -> None:
        self._waiting.remove(job)
        self._store.remove(job.id)

    def _store_order(self) -> None:
        self._store.reorder(tuple(job.id for job in self._waiting))

    # --- Listeners -----------------------------------------------------------------------------------------------------------

    def _tell(self, job_id: str, event: Any) -> None:
        for listener in self._listeners:
            try:
                listener(job_id, event)
            except Exception:  # noqa: BLE001  whoever listens must not stop the work of others; the log keeps what went wrong
                _log.exception("a listener failed at %s", type(event).__name__)

    def _tell_queue(self) -> None:
        with self._changed:
            event = QueueChanged(tuple(job.id for job in self._waiting), tuple(job.id for job in self._running))
        self._tell("", event)


def _fail(job: Job, error: SfumatoError) -> None:
    if not job.future.done():
        job.future.set_exception(error)
