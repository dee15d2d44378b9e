"""The file layer: whole or not at all, whatever fails."""

from __future__ import annotations

import errno
import os
import random
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import SaveError
from sfumato.files import FileSystem, make_folder, remove_leftovers, write_atomically
from sfumato.power_cuts import RecordingFileSystem, check_power_cuts

OLD, NEW = b"old" * 1000, b"new content " * 5000


def chunks(stream: IO[bytes]) -> None:
    for at in range(0, len(NEW), 500):
        stream.write(NEW[at : at + 500])


def in_pieces(path: Path, system: FileSystem) -> None:
    content = chunks if path.exists() else OLD
    write_atomically(path, content, file_system=system)


def only(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


@settings(max_examples=30, deadline=None)
@given(content=st.binary(max_size=5000), old=st.none() | st.binary(max_size=50))
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, content: bytes, old: bytes | None) -> None:
    path = tmp_path_factory.mktemp("files") / "a"
    if old is not None:
        path.write_bytes(old)
    assert write_atomically(path, content) == len(content)
    assert path.read_bytes() == content and only(path.parent) == ["a"]


def test_every_power_cut_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    assert check_power_cuts(in_pieces, tmp_path / "a") >= 200


class Forgetful(FileSystem):
    """Passes everything on but one call."""

    def __init__(self, system: FileSystem, forgotten: str) -> None:
        self._system, self._forgotten = system, forgotten

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_"):
            return super().__getattribute__(name)
        return (lambda *_: None) if name == self._forgotten else getattr(self._system, name)


@pytest.mark.parametrize("forgotten", ["sync", "sync_folder"])
def test_a_writer_that_forgets_a_sync_fails_the_enumeration(tmp_path: Path, forgotten: str) -> None:
    with pytest.raises(AssertionError, match="a power cut"):
        check_power_cuts(lambda path, system: in_pieces(path, Forgetful(system, forgotten)), tmp_path / "a")


def test_a_writer_in_place_fails_the_enumeration(tmp_path: Path) -> None:
    def write(path: Path, system: FileSystem) -> None:
        content = OLD
        if path.exists():
            system.remove(path)
            content = NEW
        handle = system.create(path)
        assert handle is not None
        system.write(handle, memoryview(content))
        system.sync(handle)
        system.sync_folder(path.parent)
        system.close(handle)

    with pytest.raises(AssertionError, match="during the writing leaves"):
        check_power_cuts(write, tmp_path / "a")


def test_without_sync_the_bytes_still_come_before_the_name(tmp_path: Path) -> None:
    path, recording = tmp_path / "a", RecordingFileSystem()
    path.write_bytes(OLD)
    write_atomically(path, NEW, sync=False, file_system=recording)
    assert [each[0] for each in recording.operations] == ["create", "write", "sync", "replace"]


class Failing(FileSystem):
    """Fails with `code` at the call number `at` (counted over all calls)."""

    def __init__(self, at: int, code: int) -> None:
        self.left, self.code = at, code

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(self.code, os.strerror(self.code))

    def create(self, path: Path) -> int | None:
        self._count()
        return super().create(path)

    def write(self, handle: int, data: memoryview) -> int:
        self._count()
        return super().write(handle, data)

    def keep_mode(self, handle: int, like: Path) -> None:
        self._count()
        super().keep_mode(handle, like)

    def sync(self, handle: int) -> None:
        self._count()
        super().sync(handle)

    def replace(self, source: Path, target: Path) -> None:
        self._count()
        super().replace(source, target)


def _open_files() -> int:
    listed = Path("/proc/self/fd")
    return len(list(listed.iterdir())) if listed.is_dir() else 0


@pytest.mark.parametrize("at", range(1, 6))
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_a_failure_of_any_call_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, at: int, code: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(OLD)
    open_before = _open_files()
    with pytest.raises(SaveError) as caught:
        write_atomically(path, NEW, file_system=Failing(at, code))
    assert path.read_bytes() == OLD and only(tmp_path) == ["a"] and _open_files() == open_before
    assert str(path) in str(caught.value) and caught.value.remedy


def test_a_full_disk_says_how_much_is_needed_and_free(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match=r"no space: 60,000 bytes are needed, 0 were written, [\d,]+ bytes are free"):
        write_atomically(tmp_path / "a", NEW, file_system=Failing(2, errno.ENOSPC))


def test_a_real_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here; the limit on file sizes below tests the same path")
    try:
        path = tmp_path / "a"
        write_atomically(path, OLD)
        with pytest.raises(SaveError, match="no space: 1,000,000 bytes are needed"):
            write_atomically(path, bytes(1_000_000))
        assert path.read_bytes() == OLD and only(tmp_path) == ["a"]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_limit_on_file_sizes_leaves_the_old_file_at_every_step(tmp_path: Path) -> None:
    program = """
        import resource, sys
        from pathlib import Path
        from sfumato.errors import SaveError
        from sfumato.files import write_atomically
        path, content = Path(sys.argv[1]), bytes(range(256)) * 2048
        write_atomically(path, b"old")
        for limit in range(0, len(content), 65536):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                write_atomically(path, content)
            except SaveError as error:
                assert f"{len(content):,} bytes are needed, {limit:,} were written" in str(error), error
            else:
                raise AssertionError(limit)
            assert path.read_bytes() == b"old" and len(list(path.parent.iterdir())) == 1
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program), tmp_path / "a"], check=True, timeout=60)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("folder", "this is a folder"),
        ("file/a", "file is a file, not a folder"),
        ("file/b/a", "file is a file, not a folder"),
        ("missing/a", "missing does not exist"),
        ("x" * 300, "too long"),
        ("\udc80" + "x" * 300, "too long"),
    ],
)
def test_a_place_that_cannot_be_written_says_why(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(OLD)
    with pytest.raises(SaveError, match=words) as caught:
        write_atomically(tmp_path / name, NEW)
    assert caught.value.remedy and only(tmp_path) == ["file", "folder"]


def test_a_folder_that_takes_no_files_says_so_even_to_root() -> None:
    with pytest.raises(SaveError, match=r"takes no new files|not writable"):
        write_atomically(Path("/proc/self/a"), NEW)


def test_an_error_of_the_writer_passes_through_and_nothing_is_left(tmp_path: Path) -> None:
    def fails(stream: IO[bytes]) -> None:
        stream.write(NEW)
        raise FileNotFoundError("what the writer wanted to read")

    path = tmp_path / "a"
    path.write_bytes(OLD)
    with pytest.raises(FileNotFoundError, match="wanted to read"):
        write_atomically(path, fails)
    assert path.read_bytes() == OLD and only(tmp_path) == ["a"]


def test_a_disk_that_takes_little_at_a_time_gets_everything(tmp_path: Path) -> None:
    class Slow(FileSystem):
        def write(self, handle: int, data: memoryview) -> int:
            return super().write(handle, data[:7])

    write_atomically(tmp_path / "a", OLD, file_system=Slow())
    assert (tmp_path / "a").read_bytes() == OLD


def test_permissions_stay_and_new_files_follow_the_mask(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(OLD)
    (tmp_path / "a").chmod(0o640)
    write_atomically(tmp_path / "a", NEW)
    write_atomically(tmp_path / "b", NEW)
    (tmp_path / "c").touch()
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert (tmp_path / "b").stat().st_mode == (tmp_path / "c").stat().st_mode


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "a")
    write_atomically(tmp_path / "link", NEW)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "there" / "a").read_bytes() == NEW and only(tmp_path / "there") == ["a"]


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "link")
    with pytest.raises(SaveError):
        write_atomically(tmp_path / "link" / "a", NEW)


def test_missing_folders_are_made_only_when_asked_for(tmp_path: Path) -> None:
    write_atomically(tmp_path / "x" / "y" / "a", NEW, make_parents=True)
    assert (tmp_path / "x" / "y" / "a").read_bytes() == NEW
    with pytest.raises(SaveError):
        make_folder(tmp_path / "x" / "y" / "a" / "z")


def test_a_file_that_is_being_written_is_no_leftover(tmp_path: Path) -> None:
    found: list[list[Path]] = []
    write_atomically(tmp_path / "a", lambda stream: found.append(remove_leftovers(tmp_path)))
    assert found == [[]] and only(tmp_path) == ["a"]


def _kill_while_writing(folder: Path, after: float) -> None:
    program = """
        import sys
        from pathlib import Path
        from sfumato.files import write_atomically
        path, number = Path(sys.argv[1]), 0
        print("ready", flush=True)
        while True:
            number += 1
            write_atomically(path, bytes([number % 256]) * 300_000, sync=False)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), folder / "a"], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline()
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def _check_kills(folder: Path, kills: int) -> None:
    seeded = random.Random(kills)
    for _ in range(kills):
        _kill_while_writing(folder, seeded.uniform(0.001, 0.05))
        if (folder / "a").exists():
            content = (folder / "a").read_bytes()
            assert len(content) == 300_000 and len(set(content)) == 1
        remove_leftovers(folder)
        assert only(folder) in ([], ["a"])


def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path: Path) -> None:
    _check_kills(tmp_path, 3)


@pytest.mark.slow
def test_a_hundred_killed_writers_leave_whole_files(tmp_path: Path) -> None:
    _check_kills(tmp_path, 100)
