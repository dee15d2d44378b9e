"""The queue: order, cancel, pause, failure, and its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sfumato.backends.in_process import InProcessBackend
from sfumato.errors import CancelledError, NodeError, UsageError
from sfumato.events import JobCancelled, JobDone, JobFailed, JobQueued, JobStarted, NodeDone, QueueChanged
from sfumato.graph import Graph, Link, Node
from sfumato.job_store import JobRecord, JobStore, MemoryStore
from sfumato.jobs import Job, JobQueue
from sfumato.progress import CancelFlag
from sfumato.runner import RunResult

WAIT = 20
"""Seconds after which a test gives up waiting; none should wait for more than a fraction of one."""


class GateBackend:
    """A backend that runs a job only when it is let through, and notes the order."""

    name = "gate"

    def __init__(self, name: str = "gate") -> None:
        self.name = name
        self.started: list[str] = []
        self.gate = threading.Semaphore(0)
        self.has_started = threading.Semaphore(0)
        self.is_closed = False

    def run(
        self, graph: Graph, targets: Any = None, *, hidden: Any = None, cancel: CancelFlag | None = None, on_event: Any = None
    ) -> RunResult:
        (word,) = graph.nodes
        self.started.append(word)
        self.has_started.release()
        while not self.gate.acquire(timeout=0.005):
            if cancel is not None and cancel.is_set():
                raise CancelledError
        if word == "bad":
            raise NodeError("this job fails")
        if word == "broken":
            raise ZeroDivisionError
        return RunResult({word: ([word],)})

    def cancel(self) -> None:
        """Not used by the queue."""

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def backend() -> GateBackend:
    return GateBackend()


@pytest.fixture
def open_queue() -> Iterator[Callable[..., JobQueue]]:
    """Makes queues that are closed after the test."""
    queues: list[JobQueue] = []

    def make(*backends: Any, store: JobStore | None = None) -> JobQueue:
        queues.append(JobQueue(backends, store))
        return queues[-1]

    yield make
    for queue in queues:
        queue.close()


@pytest.fixture
def queue(open_queue: Any, backend: GateBackend) -> JobQueue:
    """A queue that is stopped until `backend.gate` is released."""
    made: JobQueue = open_queue(backend)
    return made


def submit(queue: JobQueue, word: str, **options: Any) -> Job:
    return queue.submit(Graph({word: Node("T")}), job_id=word, **options)


def result(job: Job) -> RunResult:
    return job.future.result(timeout=WAIT)


def test_jobs_run_one_after_the_other_in_their_order(queue: JobQueue, backend: GateBackend) -> None:
    jobs = [submit(queue, word) for word in "abc"]
    backend.gate.release(3)
    assert [result(job).value(job.id) for job in jobs] == ["a", "b", "c"]
    assert backend.started == ["a", "b", "c"]
    assert {job.state for job in jobs} == {"done"}


def test_a_job_has_an_id_of_its_own_if_none_is_given(queue: JobQueue) -> None:
    assert queue.submit(Graph({"a": Node("T")})).id != queue.submit(Graph({"a": Node("T")})).id


def test_two_jobs_of_one_id_are_refused(queue: JobQueue) -> None:
    submit(queue, "a")
    with pytest.raises(UsageError, match="already a job 'a'"):
        submit(queue, "a")


def test_a_failing_job_does_not_stop_the_queue(queue: JobQueue, backend: GateBackend) -> None:
    bad, broken, good = (submit(queue, word) for word in ("bad", "broken", "good"))
    backend.gate.release(3)
    assert result(good).value("good") == "good"
    assert (bad.state, broken.state) == ("failed", "failed")
    with pytest.raises(NodeError, match="this job fails"):
        result(bad)
    with pytest.raises(NodeError, match="the backend gate failed: ZeroDivisionError"):
        result(broken)


def test_a_waiting_job_can_be_cancelled(queue: JobQueue, backend: GateBackend) -> None:
    first, second, third = (submit(queue, word) for word in "abc")
    backend.has_started.acquire(timeout=WAIT)
    assert queue.cancel("b")
    with pytest.raises(CancelledError):
        result(second)
    backend.gate.release(2)
    result(first)
    result(third)
    assert backend.started == ["a", "c"]


def test_a_running_job_can_be_cancelled(queue: JobQueue, backend: GateBackend) -> None:
    first, second = submit(queue, "a"), submit(queue, "b")
    backend.has_started.acquire(timeout=WAIT)
    assert queue.cancel("a")
    with pytest.raises(CancelledError):
        result(first)
    assert first.state == "cancelled"
    backend.gate.release()
    assert result(second).value("b") == "b"


def test_what_is_not_in_the_queue_cannot_be_cancelled(queue: JobQueue) -> None:
    assert not queue.cancel("nobody")


def test_cancelling_the_future_of_a_waiting_job_takes_it_out(queue: JobQueue, backend: GateBackend) -> None:
    first, second, third = (submit(queue, word) for word in "abc")
    backend.has_started.acquire(timeout=WAIT)
    assert second.future.cancel()
    backend.gate.release(3)
    result(first)
    result(third)
    assert backend.started == ["a", "c"]
    assert second.state == "cancelled"


def test_a_paused_queue_starts_nothing(queue: JobQueue, backend: GateBackend) -> None:
    queue.pause()
    assert queue.is_paused
    job = submit(queue, "a")
    assert not backend.has_started.acquire(timeout=0.05)
    assert [waiting.id for waiting in queue.waiting] == ["a"]
    queue.resume()
    backend.gate.release()
    assert result(job).value("a") == "a"


def test_jobs_can_change_places_while_they_wait(queue: JobQueue, backend: GateBackend) -> None:
    queue.pause()
    jobs = [submit(queue, word) for word in "abc"]
    submit(queue, "front", front=True)
    queue.move("c", 0)
    queue.move("a", 99)
    assert [job.id for job in queue.waiting] == ["c", "front", "b", "a"]
    assert (queue.position("b"), queue.position("nobody")) == (2, None)
    queue.resume()
    backend.gate.release(4)
    result(jobs[0])
    assert backend.started == ["c", "front", "b", "a"]
    with pytest.raises(UsageError, match="no job 'c' waits"):
        queue.move("c", 0)


def test_clear_takes_out_what_waits_and_leaves_what_runs(queue: JobQueue, backend: GateBackend) -> None:
    jobs = [submit(queue, word) for word in "abc"]
    backend.has_started.acquire(timeout=WAIT)
    assert queue.clear() == ["b", "c"]
    backend.gate.release(3)
    assert result(jobs[0]).value("a") == "a"
    assert [job.state for job in jobs] == ["done", "cancelled", "cancelled"]


def test_each_backend_has_a_worker_of_its_own(open_queue: Any) -> None:
    one, two = GateBackend("one"), GateBackend("two")
    queue = open_queue(one, two)
    jobs = [submit(queue, word) for word in "ab"]
    for backend in (one, two):
        assert backend.has_started.acquire(timeout=WAIT), "both run at the same time"
    for backend in (one, two):
        backend.gate.release()
    assert sorted(one.started + two.started) == ["a", "b"]
    for job in jobs:
        result(job)


def test_listeners_hear_of_everything_in_order(queue: JobQueue, backend: GateBackend) -> None:
    heard: list[tuple[str, Any]] = []
    finished = threading.Event()

    def listen(job_id: str, event: Any) -> None:
        heard.append((job_id, event))
        if isinstance(event, QueueChanged) and not event.waiting and not event.running and len(heard) > 10:
            finished.set()

    queue.listen(listen)
    submit(queue, "a")
    submit(queue, "bad")
    backend.has_started.acquire(timeout=WAIT)
    submit(queue, "c")
    queue.cancel("c")
    backend.gate.release(2)
    assert finished.wait(WAIT)
    of_jobs = [(job_id, type(event)) for job_id, event in heard if not isinstance(event, QueueChanged)]
    assert [kind for job_id, kind in of_jobs if job_id == "a"] == [JobQueued, JobStarted, JobDone]
    assert [kind for job_id, kind in of_jobs if job_id == "bad"] == [JobQueued, JobStarted, JobFailed]
    assert [kind for job_id, kind in of_jobs if job_id == "c"] == [JobQueued, JobCancelled]


def test_a_listener_that_fails_or_has_left_disturbs_nobody(queue: JobQueue, backend: GateBackend, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    def fail(job_id: str, event: Any) -> None:
        raise ValueError("not listening")

    queue.listen(fail)
    stop = queue.listen(lambda job_id, event: heard.append(job_id))
    stop()
    backend.gate.release()
    assert result(submit(queue, "a")).value("a") == "a"
    assert heard == []
    assert "a listener failed at JobQueued" in caplog.text


def test_a_listener_may_ask_the_queue_and_hears_of_a_job_before_it_begins(queue: JobQueue, backend: GateBackend) -> None:
    heard: list[tuple[int | None, bool]] = []

    def listen(job_id: str, event: Any) -> None:
        if isinstance(event, JobQueued):
            backend.gate.release()  # the worker becomes free, and looks for the next job
            heard.append((queue.position(job_id), backend.has_started.acquire(timeout=0.05)))

    submit(queue, "first")
    backend.has_started.acquire(timeout=WAIT)
    queue.listen(listen)
    job = submit(queue, "a")
    backend.gate.release()
    result(job)
    assert heard == [(0, False)]


def test_closing_ends_the_threads_and_all_that_is_left(open_queue: Any, backend: GateBackend) -> None:
    queue = open_queue(backend)
    running, waiting = submit(queue, "a"), submit(queue, "b")
    backend.has_started.acquire(timeout=WAIT)
    queue.close()
    assert backend.is_closed
    assert [thread for thread in threading.enumerate() if thread.name.startswith("sfumato-jobs")] == []
    for job in (running, waiting):
        with pytest.raises(CancelledError):
            result(job)
    with pytest.raises(UsageError, match="the queue is closed"):
        submit(queue, "c")
    queue.close()


def test_what_a_program_left_undone_is_done_at_the_next_start(open_queue: Any) -> None:
    store, first, second = MemoryStore(), GateBackend(), GateBackend()
    queue = open_queue(first, store=store)
    done = submit(queue, "done")
    first.gate.release()
    result(done)
    submit(queue, "running")
    for _ in range(2):
        first.has_started.acquire(timeout=WAIT)
    for word in "abc":
        submit(queue, word, tag="tests", hidden={"prompt": word}, targets=[word])
    queue.move("c", 0)
    queue.cancel("b")
    queue.close()
    assert store.load()[1] == JobRecord("c", Graph({"c": Node("T")}), ("c",), {"prompt": "c"}, "tests")
    second.gate.release(3)
    again = open_queue(second, store=store)
    for job in again.waiting:
        result(job)
    while again.running or again.waiting:
        threading.Event().wait(0.005)
    assert second.started == ["running", "c", "a"]
    assert store.load() == []


def test_graphs_run_through_the_queue(open_queue: Any, bench: Any) -> None:
    queue = open_queue(InProcessBackend(bench.runner))
    heard: list[Any] = []
    queue.listen(lambda job_id, event: heard.append((job_id, event)))
    job = queue.submit(Graph({"1": Node("Number", {"value": 4}), "2": Node("Show", {"value": Link("1", 0)})}), job_id="job")
    assert result(job).shown == {"2": {"text": ["4"]}}
    assert [event.node_id for job_id, event in heard if isinstance(event, NodeDone) and job_id == "job"] == ["1", "2"]
