"""The one way in which Sfumato writes files: aside in the same folder, synced, renamed into place, the folder synced.

After a crash or a power cut a file holds its old content or its new one, never half of it (the protocol is that of
Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014). Every call to the operating system goes through
`FileSystem`, so that a test can record the calls and try every state that a power cut could leave.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeAlias

from sfumato.errors import SaveError

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed: the lock is not needed
    fcntl = None  # type: ignore[assignment]

Content: TypeAlias = bytes | bytearray | memoryview | Callable[[IO[bytes]], object]
"""The bytes themselves, or a function that writes them to a stream (forward only: no seek)."""

_PREFIX, _SUFFIX = ".sfumato-", ".part"
_IS_WINDOWS = os.name == "nt"
_NO_SPACE = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})


class FileSystem:
    """The operating-system calls that writing needs, one method each; all raise OSError."""

    def create(self, path: Path) -> int | None:
        """Create a file that must not exist yet, locked while it is open; its descriptor, or None if it was removed at once."""
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        handle = os.open(path, flags, 0o666)
        with suppress(OSError):  # network drives without locks: `remove_if_abandoned` then leaves the file alone
            _lock(handle)
        if os.fstat(handle).st_nlink:
            return handle
        os.close(handle)
        return None

    def write(self, handle: int, data: memoryview) -> int:
        """Write some of `data`; how many bytes were taken."""
        return os.write(handle, data)

    def keep_mode(self, handle: int, like: Path) -> None:
        """Give the new file the permissions of the one that it will replace."""
        if not _IS_WINDOWS:
            os.fchmod(handle, stat.S_IMODE(like.stat().st_mode))

    def sync(self, handle: int) -> None:
        """Return when the file's bytes are on the disk."""
        os.fsync(handle)

    def close(self, handle: int) -> None:
        os.close(handle)

    def replace(self, source: Path, target: Path) -> None:
        """Rename over whatever is there, in one indivisible step."""
        source.replace(target)

    def sync_folder(self, folder: Path) -> None:
        """Return when the folder's names are on the disk (Windows does this by itself)."""
        if _IS_WINDOWS:
            return
        handle = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def remove(self, path: Path) -> None:
        path.unlink()

    def remove_if_abandoned(self, path: Path) -> bool:
        """Remove a file unless a living process holds its lock; whether it was removed."""
        if _IS_WINDOWS:
            path.unlink()  # refused by the system while the file is open
            return True
        handle = os.open(path, os.O_WRONLY)
        try:
            _lock(handle)
            path.unlink()
        finally:
            os.close(handle)
        return True

    def make_folder(self, path: Path) -> None:
        path.mkdir()


def _lock(handle: int) -> None:
    """Raises OSError if another process holds the lock, or if there are no locks here."""
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write_atomically(
    path: Path,
    content: Content,
    *,
    sync: bool = True,
    make_parents: bool = False,
    file_system: FileSystem | None = None,
) -> int:
    """Write `content` to `path`, whole or not at all, and return the number of bytes.

    A symbolic link stays one: the file that it names is replaced. The old file's permissions are kept. With `sync` the new
    content survives a power cut once this returns; without, either the old or the new content does. `make_parents`
    creates missing folders. Raises SaveError, with the old file untouched and nothing left beside it; an error of the
    writer function itself passes through after the same tidying.
    """
    system = file_system or FileSystem()
    expected = 0 if callable(content) else len(content)
    if make_parents:
        make_folder(path.parent, file_system=system)
    with _saving(path, expected):
        target = _target(path)
        aside, handle = _create_aside(system, target.parent)
    handles = [handle]
    try:
        stream = _Stream(system, handle, path, expected)
        content(stream) if callable(content) else stream.write(content)  # type: ignore[arg-type]
        with _saving(path, expected, stream.taken):
            if target.exists():
                system.keep_mode(handle, target)
            # The bytes must reach the disk before the name does, or a power cut leaves an empty file under it.
            system.sync(handle)
            if _IS_WINDOWS:
                system.close(handles.pop())
            system.replace(aside, target)
    except BaseException:
        _discard(system, aside, handles)
        raise
    with _saving(path, expected, stream.taken):
        if handles:
            system.close(handles.pop())
        if sync:
            system.sync_folder(target.parent)
    return stream.taken


def check_writable(path: Path, *, file_system: FileSystem | None = None) -> None:
    """Raise now what `write_atomically` would raise for the place of `path`: better before the work than after it."""
    system = file_system or FileSystem()
    with _saving(path):
        aside, handle = _create_aside(system, _target(path).parent)
    _discard(system, aside, [handle])


def make_folder(folder: Path, *, file_system: FileSystem | None = None) -> None:
    """Create `folder` and what is missing above it, synced into their parents. Raises SaveError."""
    system = file_system or FileSystem()
    with _saving(folder):
        if folder.is_dir():
            return
        if folder.parent != folder:
            make_folder(folder.parent, file_system=system)
        try:
            system.make_folder(folder)
        except FileExistsError:  # made by another process in the meantime, or a file is in the way
            if not folder.is_dir():
                raise
        system.sync_folder(folder.parent)


def remove_leftovers(folder: Path, *, file_system: FileSystem | None = None) -> list[Path]:
    """Remove what killed writers left in `folder`, and return it. Files that are still being written are locked, and stay."""
    system = file_system or FileSystem()
    removed = []
    for path in sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}")):
        with suppress(OSError):
            if system.remove_if_abandoned(path):
                removed.append(path)
    return removed


class _Stream(io.RawIOBase):
    """A forward-only stream onto the aside file: takes everything or raises SaveError."""

    def __init__(self, system: FileSystem, handle: int, path: Path, expected: int) -> None:
        super().__init__()
        self._system, self._handle, self._path, self._expected = system, handle, path, expected
        self.taken = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.taken

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest:
            with _saving(self._path, self._expected or self.taken + size, self.taken):
                taken = self._system.write(self._handle, rest)
            self.taken += taken
            rest = rest[taken:]
        return size


def _target(path: Path) -> Path:
    """Where `path` leads after symbolic links; raises OSError early for what can never be replaced."""
    target = Path(os.path.realpath(path))
    try:
        kind = target.lstat().st_mode
    except FileNotFoundError:
        return target
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return target


def _create_aside(system: FileSystem, folder: Path) -> tuple[Path, int]:
    while True:
        aside = folder / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        handle = system.create(aside)
        if handle is not None:
            return aside, handle


def _discard(system: FileSystem, aside: Path, handles: list[int]) -> None:
    for handle in handles:
        with suppress(OSError):
            system.close(handle)
    with suppress(OSError):
        system.remove(aside)


@contextmanager
def _saving(path: Path, needed: int = 0, taken: int = 0) -> Iterator[None]:
    """Turns an OSError into a SaveError that says what is in the way of `path` and what to do."""
    try:
        yield
    except OSError as error:
        what, remedy = _explain(error, path, needed, taken)
        raise SaveError(what, str(path), remedy) from error


def _explain(error: OSError, path: Path, needed: int, taken: int) -> tuple[str, str]:
    code = error.errno
    if code in _NO_SPACE:
        limit = "the largest file that is allowed here was reached" if code == errno.EFBIG else f"{_free(path)} free"
        return f"no space: {needed:,} bytes are needed, {taken:,} were written, {limit}", "Free some space, or save elsewhere."
    if code == errno.ENAMETOOLONG:
        return "the name is too long", "Choose a shorter name."
    if code == errno.EISDIR:
        return "this is a folder", "Name a file in it."
    if code in (errno.ENOENT, errno.ENOTDIR):
        in_the_way = next((each for each in path.parents if each.exists()), path)
        if not in_the_way.is_dir():
            return f"{in_the_way} is a file, not a folder", "Choose another folder."
        if path.parent.is_dir():
            return "this place takes no new files", "Choose another folder."
        return f"the folder {path.parent} does not exist", "Create it, or save elsewhere."
    if code == errno.EEXIST:
        return "a file of this name is in the way", "Move it, or choose another name."
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"this place is not writable ({error.strerror})", "Choose another folder, or change its permissions."
    return f"the file could not be written ({error.strerror or error})", "Save elsewhere; the disk or network drive may have failed."


def _free(path: Path) -> str:
    folder = next((each for each in path.parents if each.is_dir()), None)
    return f"{shutil.disk_usage(folder).free:,} bytes are" if folder else "an unknown number is"
