"""The asynchronous nodes of a run: their awaitables, on an event loop that is made when the first one comes."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sfumato.errors import UsageError

_CHECK_EVERY = 0.05
"""Seconds between two looks at the cancel flag while only awaitables are left to wait for."""


class AsyncTasks:
    """Awaitables that run side by side in the thread of the run. `close` ends those that are left."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: dict[asyncio.Task[Any], Callable[[asyncio.Task[Any]], None]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, awaitables: Sequence[Any], then: Callable[[asyncio.Task[Any]], None]) -> None:
        """Work out all of `awaitables` (plain values are passed on as they are); `then` gets the finished task with the list of them."""
        loop = self._own_loop(awaitables)
        # Each is a task of its own at once, so that closing finds it even if it has not begun.
        begun = [asyncio.ensure_future(each, loop=loop) if inspect.isawaitable(each) else each for each in awaitables]
        self._tasks[loop.create_task(_all(begun))] = then

    def now(self, value: Any) -> Any:
        """`value`, or what it gives if it is an awaitable; waits for it."""
        if not inspect.isawaitable(value):
            return value
        return self._own_loop([value]).run_until_complete(_all([value]))[0]

    def give_way(self) -> None:
        """Let the tasks go on as far as they can without waiting."""
        if self._tasks and self._loop is not None:
            self._loop.run_until_complete(asyncio.sleep(0))

    def wait(self, check: Callable[[], None]) -> None:
        """Wait until at least one task has finished and hand all that have to their `then`. Calls `check` meanwhile; it may raise."""
        while self._tasks and self._loop is not None:
            check()
            done, _ = self._loop.run_until_complete(asyncio.wait(self._tasks, timeout=_CHECK_EVERY, return_when=asyncio.FIRST_COMPLETED))
            if done:
                for task in [t for t in self._tasks if t in done]:
                    self._tasks.pop(task)(task)
                return

    def close(self) -> None:
        """Cancel what still runs, wait for its end, and close the loop."""
        if self._loop is None:
            return
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.exception()  # one failure is told already, and asyncio would complain about others nobody looked at
        self._loop.run_until_complete(asyncio.sleep(0))  # what has not begun cannot be ended, and Python would warn of it
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()
        self._loop = None
        self._tasks.clear()

    def _own_loop(self, awaitables: Sequence[Any]) -> asyncio.AbstractEventLoop:
        if _is_inside_a_loop():
            close_unawaited(awaitables)
            raise UsageError("a graph with asynchronous nodes was run inside an event loop", remedy="Run it in a thread of its own.")
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop


def close_unawaited(values: Sequence[Any]) -> None:
    """Close the awaitables among `values`, which nobody will wait for."""
    for value in values:
        if inspect.isawaitable(value) and hasattr(value, "close"):
            value.close()


def _is_inside_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _all(values: Sequence[Awaitable[Any] | Any]) -> list[Any]:
    waiting = [place for place, value in enumerate(values) if inspect.isawaitable(value)]
    found = await asyncio.gather(*(values[place] for place in waiting))
    results = list(values)
    for place, value in zip(waiting, found, strict=True):
        results[place] = value
    return results
