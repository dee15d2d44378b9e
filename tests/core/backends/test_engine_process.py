"""Engines that die, hang, talk nonsense or never start; and the parent that dies. Nothing is left behind, and the next run works."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfumato.app import App
from sfumato.backends.child import ChildBackend
from sfumato.errors import BadValueError, CancelledError, EngineDiedError, UsageError
from sfumato.events import NodeProgressed, RunProgressed
from sfumato.graph import Graph, Node
from sfumato.pixels import as_array
from sfumato.progress import CancelFlag
from sfumato.recipes import picture_of
from sfumato.request import GenerateRequest
from sfumato.settings import Settings, with_value

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
Make = Callable[..., ChildBackend]


def one(type: str, **inputs: Any) -> Graph:
    """A graph of one node, "1"."""
    return Graph({"1": Node(type, inputs)})


def is_alive(pid: int) -> bool:
    """Whether a process lives; a zombie does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def is_gone(pid: int) -> bool:
    """Whether nothing is left of a process, not even a zombie, or will be in a moment."""
    return soon(lambda: not Path(f"/proc/{pid}").exists())


def soon(is_so: Callable[[], bool], seconds: float = 5) -> bool:
    """Whether something comes true in a moment."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def descriptors() -> set[str]:
    """What this process has open."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.add(f"{entry.name}: {entry.readlink()}")
    return found


def at_first_step(action: Callable[[], Any]) -> Callable[[Any], None]:
    """A listener that does something, in another thread, when a node reports its first step."""
    done: list[threading.Thread] = []

    def hear(event: Any) -> None:
        if isinstance(event, NodeProgressed) and not done:
            done.append(threading.Thread(target=action))
            done[0].start()

    return hear


# --- Engines that do not start, which costs nothing ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("torch", "words"),
    [
        ("raise ImportError('libcuda.so.1: cannot open shared object file')", "exit code 1; its last words: ImportError: libcuda.so.1"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"native code \(SIGSEGV\); its last words: Fatal Python error: Segm"),
        ("import os; os._exit(3)", "exit code 3"),
    ],
)
def test_an_engine_whose_driver_is_broken_says_so(tmp_path: Path, new_child: Make, torch: str, words: str) -> None:
    (tmp_path / "torch.py").write_text(torch)
    child = new_child({"PYTHONPATH": str(tmp_path)})
    events: list[Any] = []
    with pytest.raises(EngineDiedError, match=f"^the engine could not start: it .*{words}") as caught:
        child.run(one("LoadImage", image="x"), ["1"], on_event=events.append)
    assert [type(each) for each in events] == [RunProgressed]
    assert caught.value.exit_code == 1
    assert "engine.device" in caught.value.remedy
    assert child.pid == 0


def test_a_python_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, new_child: Make) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(EngineDiedError, match="could not start: No such file"):
        new_child().run(one("LoadImage", image="x"), ["1"])


def test_a_start_that_hangs_can_be_cancelled_and_stopped(tmp_path: Path, new_child: Make) -> None:
    (tmp_path / "torch.py").write_text("import time; time.sleep(3600)")
    child = new_child({"PYTHONPATH": str(tmp_path)})
    flag = CancelFlag()
    with pytest.raises(CancelledError):
        child.run(one("LoadImage", image="x"), ["1"], cancel=flag, on_event=lambda event: flag.set())
    pid = child.pid
    assert is_alive(pid), "the engine goes on starting"
    with pytest.raises(CancelledError):
        child.run(one("LoadImage", image="x"), ["1"], on_event=lambda event: child.cancel(hard=True))
    assert is_gone(pid)


def test_closing_does_not_wait_for_a_start_that_hangs(tmp_path: Path, new_child: Make) -> None:
    (tmp_path / "torch.py").write_text("import time; time.sleep(3600)")
    child = new_child({"PYTHONPATH": str(tmp_path)})
    child.start()
    assert soon(lambda: child.pid != 0)
    pid, start = child.pid, time.monotonic()
    child.close()
    assert time.monotonic() - start < 4
    assert is_gone(pid)
    with pytest.raises(UsageError, match="the backend is closed"):
        child.run(one("LoadImage", image="x"), ["1"])


def test_a_backend_that_was_never_used_starts_nothing_and_closes(new_child: Make) -> None:
    child = new_child()
    assert child.pid == 0
    child.cancel()
    child.close()


def test_nothing_is_left_open_by_engines_that_came_and_went(tmp_path: Path, new_child: Make) -> None:
    (tmp_path / "torch.py").write_text("import os; os._exit(3)")
    child = new_child({"PYTHONPATH": str(tmp_path)})
    threads, before = threading.active_count(), descriptors()
    for _ in range(2):
        with pytest.raises(EngineDiedError):
            child.run(one("LoadImage", image="x"), ["1"])
    child.close()
    assert descriptors() <= before
    assert threading.active_count() == threads


def test_a_stranger_who_connects_without_the_secret_is_turned_away(tmp_path: Path, new_child: Make) -> None:
    """Over the loopback, anybody on this machine may knock."""
    (tmp_path / "torch.py").write_text("import time; time.sleep(3600)")
    child = new_child({"PYTHONPATH": str(tmp_path)}, transport="loopback")
    child.start()
    engine = child._engine
    assert engine is not None
    assert soon(lambda: engine.pid != 0)
    words = Path(f"/proc/{engine.pid}/cmdline").read_bytes().split(b"\0")
    if b"--port" not in words:
        assert soon(lambda: b"--port" in Path(f"/proc/{engine.pid}/cmdline").read_bytes())
        words = Path(f"/proc/{engine.pid}/cmdline").read_bytes().split(b"\0")
    port = int(words[words.index(b"--port") + 1])
    with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=5) as knock:
        knock.sendall(b"x" * 32)
        knock.settimeout(5)
        with suppress(ConnectionResetError):
            assert knock.recv(1) == b""
    assert soon(lambda: engine._channel is not None), "the engine itself is let in"


# --- Engines that die at work ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("killed", r"the engine has died: it was killed \(SIGKILL\), most often .*; its last words: the last thing that was printed"),
        ("crash", r"the engine has died: it crashed in native code \(SIGSEGV\); its last words: Fatal Python error: Segmentation fault"),
        ("exit", "the engine has died: it ended with exit code 7"),
        ("closed", "the engine has died: it has closed its connection"),
        ("garbage", "the engine said something that cannot be understood .*all "),
    ],
)
def test_an_engine_that_dies_at_work_is_told_and_the_next_run_works(new_child: Make, how: str, words: str) -> None:
    child = new_child()
    child.start()
    with pytest.raises(EngineDiedError, match=words) as caught:
        child.run(one("Die", how=how), ["1"])
    assert caught.value.where == "node 1 (Die)"
    assert "the next run starts a new engine" in caught.value.remedy
    assert child.run(one("Number", value=4), ["1"]).value("1") == 4


@pytest.mark.slow
def test_a_picture_after_a_kill_in_the_middle_of_another_is_the_same(app: App, new_child: Make) -> None:
    child = new_child()
    graph = app.graph_for(GenerateRequest("a yellow fish", width=64, height=64, steps=4, seed=11))
    link = picture_of(graph)
    with pytest.raises(EngineDiedError, match="SIGKILL") as caught:
        child.run(graph, [link.node], on_event=at_first_step(lambda: os.kill(child.pid, signal.SIGKILL)))
    assert caught.value.where.startswith("node ")
    found = child.run(graph, [link.node]).value(link.node, link.slot)
    np.testing.assert_array_equal(found, as_array(app.backend().run(graph, [link.node]).value(link.node, link.slot)))


@pytest.mark.slow
def test_a_node_that_never_returns_is_stopped_hard_or_by_a_second_cancel(new_child: Make) -> None:
    child = new_child()
    child.start()
    for hard in (True, False):
        pids: list[int] = []
        asked: list[float] = []

        def stop(hard: bool = hard, pids: list[int] = pids, asked: list[float] = asked) -> None:
            pids.append(child.pid)
            if not hard:
                child.cancel()
                time.sleep(0.3)
            asked.append(time.monotonic())
            child.cancel(hard=hard)

        with pytest.raises(CancelledError, match="the next run starts a new one"):
            child.run(one("Hang"), ["1"], on_event=at_first_step(stop))
        assert time.monotonic() - asked[0] < 2
        assert is_gone(pids[0])
    assert child.run(one("Number", value=4), ["1"]).value("1") == 4


@pytest.mark.slow
def test_an_engine_that_died_while_idle_is_replaced_without_a_word(new_child: Make) -> None:
    child = new_child()
    child.run(one("Number", value=1), ["1"])
    pid = child.pid
    os.kill(pid, signal.SIGKILL)
    assert is_gone(pid), "no zombie is left"
    assert child.run(one("Number", value=2), ["1"]).value("1") == 2
    assert child.pid != pid


@pytest.mark.slow
def test_what_an_engine_has_started_ends_with_it_and_nothing_stays_open(new_child: Make) -> None:
    threads, before = threading.active_count(), descriptors()
    child = new_child()
    grandchild = child.run(one("Spawn"), ["1"]).value("1")
    child.run(one("Ramp", width=512, height=512), ["1"])
    pid = child.pid
    assert is_alive(grandchild)
    child.close()
    assert is_gone(pid)
    assert soon(lambda: not is_alive(grandchild))
    assert descriptors() <= before
    assert threading.active_count() == threads


@pytest.mark.slow
def test_closing_ends_a_run_that_hangs(new_child: Make) -> None:
    child = new_child()
    caught: list[BaseException] = []
    running = threading.Event()

    def work() -> None:
        try:
            child.run(one("Hang"), ["1"], on_event=lambda event: running.set() if isinstance(event, NodeProgressed) else None)
        except CancelledError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert running.wait(120)
    start = time.monotonic()
    child.close()
    thread.join(10)
    assert time.monotonic() - start < 4
    assert len(caught) == 1


@pytest.mark.slow
def test_an_engine_outlives_the_thread_that_started_it(new_child: Make) -> None:
    """On Linux the system ends a child with the thread that has started it, not with the process."""
    child = new_child()
    thread = threading.Thread(target=lambda: child.run(one("Number", value=1), ["1"]))
    thread.start()
    thread.join()
    pid = child.run(one("Process"), ["1"]).value("1")
    time.sleep(0.1)
    assert child.run(one("Process"), ["1"]).value("1") == pid


@pytest.mark.slow
def test_an_engine_that_cannot_have_what_the_settings_want_says_so_in_their_words(new_child: Make) -> None:
    backend = new_child()
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a graphics card")
    object.__setattr__(backend._options, "settings", with_value(Settings(), "engine.device", "cuda"))
    with pytest.raises(BadValueError, match="there is no device 'cuda' that works here"):
        backend.run(one("Number", value=1), ["1"])


@pytest.mark.slow
def test_everything_works_over_the_loopback_too(new_child: Make) -> None:
    child = new_child(transport="loopback")
    found = child.run(one("Ramp", width=1024, height=1024), ["1"]).value("1")
    size = found.size
    np.testing.assert_array_equal(found.reshape(-1), np.arange(size, dtype=np.float32) / np.float32(size))
    with pytest.raises(CancelledError):
        child.run(one("Wait"), ["1"], on_event=at_first_step(child.cancel))
    with pytest.raises(EngineDiedError):
        child.run(one("Die", how="killed"), ["1"])


PARENT = """
import sys
from pathlib import Path
from sfumato.backends.child import ChildBackend, EngineOptions
from sfumato.events import NodeProgressed
from sfumato.graph import Graph, Node
from sfumato.paths import Folders
from sfumato.settings import Settings, with_value
options = EngineOptions(Folders.under(Path(sys.argv[1])), with_value(Settings(), "engine.device", "cpu"))
child = ChildBackend(options, transport=sys.argv[3])
def hear(event):
    if isinstance(event, NodeProgressed):
        print(child.pid, flush=True)
child.run(Graph({"1": Node(sys.argv[2])}), ["1"], on_event=hear)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("node", "transport"), [("Hang", "socketpair"), ("Wait", "loopback")])
def test_an_engine_does_not_outlive_a_parent_that_is_killed(
    tmp_path: Path, strangers: Mapping[str, str], node: str, transport: str
) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path), node, transport]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **strangers}) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.kill()
    assert soon(lambda: not is_alive(pid))
