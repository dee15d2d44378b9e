"""A lock that says whether the process that owns a folder is alive: it goes with the process, however that ends."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

_NAME = "lock"


class FolderLock:
    """Held from `take` until `release`, or the end of the process."""

    def __init__(self, folder: Path) -> None:
        self._path, self._handle = folder / _NAME, -1

    def take(self) -> bool:
        """Whether it is ours now; False while a living process holds it. Raises OSError if the folder cannot be written to."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            _lock(handle)
        except OSError:
            os.close(handle)
            return False
        self._handle = handle
        return True

    def release(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def _lock(handle: int) -> None:
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    with suppress(ImportError):
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
