"""Tries every state that a power cut could leave behind a writer: a tool for the tests of writers, ours and plugins'.

The method is that of Pillai et al. (OSDI 2014): record what is asked of the file system, then work out what the disk may hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from sfumato.files import FileSystem

Operation: TypeAlias = tuple[Any, ...]
Writer: TypeAlias = Callable[[Path, FileSystem], object]
"""Writes its file to a path, through the file system that it is handed."""


class RecordingFileSystem(FileSystem):
    """The real file system, with a list of all that was asked of it. A file is known by the number of its `create`."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self._files: dict[int, int] = {}

    def create(self, path: Path) -> int | None:
        handle = super().create(path)
        if handle is not None:
            self._files[handle] = len(self.operations)
            self.operations.append(("create", path, self._files[handle]))
        return handle

    def write(self, handle: int, data: memoryview) -> int:
        taken = super().write(handle, data)
        self.operations.append(("write", self._files[handle], bytes(data[:taken])))
        return taken

    def sync(self, handle: int) -> None:
        super().sync(handle)
        self.operations.append(("sync", self._files[handle]))

    def replace(self, source: Path, target: Path) -> None:
        super().replace(source, target)
        self.operations.append(("replace", source, target))

    def remove(self, path: Path) -> None:
        super().remove(path)
        self.operations.append(("remove", path))

    def sync_folder(self, folder: Path) -> None:
        super().sync_folder(folder)
        self.operations.append(("sync_folder", folder))


def check_power_cuts(write: Writer, path: Path) -> int:
    """Runs `write` twice and tries every power cut of the second run; returns the number of states tried.

    Raises AssertionError if one leaves neither the first content nor the second, or if the second can be lost after `write` returned.
    """
    write(path, FileSystem())
    old = path.read_bytes()
    recorder = RecordingFileSystem()
    write(path, recorder)
    new = path.read_bytes()
    tried = 0
    for is_over, content in states_after_power_cut(recorder.operations, path, old):
        tried += 1
        if content != new and (is_over or content != old):
            shown = "no file" if content is None else f"{len(content)} bytes"
            raise AssertionError(f"a power cut {'after' if is_over else 'during'} the writing leaves {shown} at {path.name}")
    return tried


def states_after_power_cut(operations: Sequence[Operation], target: Path, old: bytes | None) -> Iterator[tuple[bool, bytes | None]]:
    """(whether everything had been asked for, content of `target`) for every state that a power cut could leave.

    Names reach the disk in order, at the latest with a sync of their folder. Bytes reach it at the latest with a sync of
    their file, before that to any extent, cut inside a write or as zeros, and independently of the names.
    """
    for reached in range(len(operations) + 1):
        done, is_over = operations[:reached], reached == len(operations)
        names = [each for each in done if each[0] in ("create", "replace", "remove")]
        synced = max((i for i, each in enumerate(done) if each == ("sync_folder", target.parent)), default=0)
        safe = sum(each[0] in ("create", "replace", "remove") for each in done[:synced])
        for kept in range(safe, len(names) + 1):
            entries = _entries(names[:kept], target, old)
            if target not in entries:
                yield is_over, None
            elif (file := entries[target]) is None:
                yield is_over, old
            else:
                yield from ((is_over, content) for content in _contents(done, file))


def _entries(names: Sequence[Operation], target: Path, old: bytes | None) -> dict[Path, int | None]:
    """Name -> file (None: the old one)."""
    entries: dict[Path, int | None] = {target: None} if old is not None else {}
    for each in names:
        if each[0] == "create":
            entries[each[1]] = each[2]
        elif each[0] == "replace":
            entries[each[2]] = entries.pop(each[1])
        else:
            entries.pop(each[1], None)
    return entries


def _contents(done: Sequence[Operation], file: int) -> set[bytes]:
    mine = [each for each in done if each[0] in ("write", "sync") and each[1] == file]
    last_sync = max((i for i, each in enumerate(mine) if each[0] == "sync"), default=-1)
    content = b"".join(each[2] for each in mine[: last_sync + 1] if each[0] == "write")
    found = {content}
    for each in mine[last_sync + 1 :]:
        found |= {content + each[2][: len(each[2]) // 2], content + bytes(len(each[2])), content + each[2]}
        content += each[2]
    return found
