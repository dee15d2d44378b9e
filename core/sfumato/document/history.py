"""Undo and redo within a budget of bytes: packed in the background, moved to the disk where memory is short, the oldest forgotten."""

from __future__ import annotations

import itertools
import shutil
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path

from sfumato.document.commands import Command
from sfumato.errors import DocumentFileError

MEMORY_BUDGET = 32 << 20
"""Bytes of packed history that stay in memory."""

TOTAL_BUDGET = 2 << 30
"""Bytes of history in memory and on the disk together."""

_LENGTH = struct.Struct("<I")


class History:
    """What has been done and undone to one document.

    `folder` is where it may put what does not fit `memory_budget` (a folder of its own, removed by `close`); without one the oldest
    commands are forgotten instead. `executor` packs and writes in the background, one thing at a time; without one it is done at once.
    """

    def __init__(
        self,
        *,
        memory_budget: int = MEMORY_BUDGET,
        total_budget: int = TOTAL_BUDGET,
        folder: Path | None = None,
        executor: Executor | None = None,
    ) -> None:
        self._memory_budget, self._total_budget = memory_budget, total_budget
        self._folder, self._executor = folder, executor
        self._done: list[Command] = []
        self._undone: list[Command] = []
        self._held: dict[int, int] = {}
        self._on_disk: dict[int, tuple[Path, int]] = {}
        self._numbers = itertools.count()
        self._lock = threading.RLock()
        self.trouble = ""
        """Why the disk could not be used, if it could not."""

    @property
    def undo_label(self) -> str | None:
        return self._done[-1].label if self._done else None

    @property
    def redo_label(self) -> str | None:
        return self._undone[-1].label if self._undone else None

    @property
    def last(self) -> Command | None:
        """The newest command that is done: says whether a document is as it was at some moment."""
        return self._done[-1] if self._done else None

    @property
    def labels(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(done, the oldest first; undone, the next to be redone first)."""
        return tuple(each.label for each in self._done), tuple(each.label for each in reversed(self._undone))

    @property
    def memory(self) -> int:
        """Bytes in memory."""
        with self._lock:
            return sum(self._held.values())

    @property
    def stored(self) -> int:
        """Bytes on the disk."""
        with self._lock:
            return sum(size for _, size in self._on_disk.values())

    def push(self, command: Command) -> None:
        """Something was done: what had been undone can no more be redone."""
        with self._lock:
            self._drop(self._undone)
            merged = self._done[-1].merged_with(command) if self._done else None
            if merged is not None:
                self._drop(self._done, last=True)
            self._done.append(merged or command)
            self._count(self._done[-1])
        self._in_background(lambda: self._shrink(command))

    def step_back(self, swap: Callable[[Command], None]) -> Command | None:
        """Hand the newest done command to `swap` and count it as undone; None if there is none."""
        return self._step(self._done, self._undone, swap)

    def step_forward(self, swap: Callable[[Command], None]) -> Command | None:
        """Hand the command that was undone last to `swap` and count it as done."""
        return self._step(self._undone, self._done, swap)

    def close(self) -> None:
        """Forget everything, and remove what is on the disk."""
        with self._lock:
            self._drop(self._done)
            self._drop(self._undone)
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)

    def _step(self, source: list[Command], target: list[Command], swap: Callable[[Command], None]) -> Command | None:
        with self._lock:
            if not source:
                return None
            command = source[-1]
            self._fetch(command)
            swap(command)
            target.append(source.pop())
            self._count(command)
        self._in_background(lambda: self._shrink(command))
        return command

    def _in_background(self, work: Callable[[], None]) -> None:
        if self._executor is None:
            work()
        else:
            self._executor.submit(work)

    def _shrink(self, command: Command) -> None:
        for patch in command.all_patches():
            patch.shrink()
        with self._lock:
            if id(command) in self._held:
                self._count(command)
            self._keep_to_budget()

    def _count(self, command: Command) -> None:
        self._held[id(command)] = command.memory

    def _keep_to_budget(self) -> None:
        for command in self._done + self._undone:
            if self.memory <= self._memory_budget:
                break
            self._store(command)
        kept_on_disk = self._folder is not None and not self.trouble
        budget = self._total_budget if kept_on_disk else self._memory_budget
        while len(self._done) > 1 and self.memory + self.stored > budget:
            self._drop(self._done, 1)

    def _store(self, command: Command) -> None:
        """Move one command's pixels to the disk, unless they are there or still wait to be packed."""
        packed = [patch.packed for patch in command.all_patches()]
        if self._folder is None or not packed or None in packed:
            return
        path = self._folder / f"{next(self._numbers)}.tiles"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"".join(_LENGTH.pack(len(each)) + each for each in packed if each is not None))
        except OSError as error:
            self.trouble = f"older steps cannot be kept on the disk ({error.strerror or error})"
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return
        for patch in command.all_patches():
            patch.forget()
        self._on_disk[id(command)] = path, sum(_LENGTH.size + len(each or b"") for each in packed)
        self._count(command)

    def _fetch(self, command: Command) -> None:
        path, _ = self._on_disk.get(id(command), (None, 0))
        if path is None:
            return
        try:
            data, at = path.read_bytes(), 0
            packed = []
            for _ in command.all_patches():
                (length,) = _LENGTH.unpack_from(data, at)
                packed.append(data[at + _LENGTH.size : at + _LENGTH.size + length])
                at += _LENGTH.size + length
        except (OSError, struct.error) as error:
            raise DocumentFileError("this step of the history is gone from the disk", str(path), "Later steps can be undone.") from error
        for patch, content in zip(command.all_patches(), packed, strict=True):
            patch.restore(content)
        path.unlink(missing_ok=True)
        del self._on_disk[id(command)]

    def _drop(self, commands: list[Command], count: int | None = None, *, last: bool = False) -> None:
        part = slice(len(commands) - 1, None) if last else slice(count)
        for command in commands[part]:
            self._held.pop(id(command), None)
            path, _ = self._on_disk.pop(id(command), (None, 0))
            if path is not None:
                path.unlink(missing_ok=True)
        del commands[part]
