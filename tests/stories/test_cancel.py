"""Ctrl+C and SIGTERM: the command ends soon and in order, with exit code 130, and leaves no file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="signals and terminals of Unix")]

ENDLESS = ("--steps", "5000", "--width", "128", "--height", "128", "--seed", "1")
"""Hours of work for a small machine."""


class Watched:
    """A command whose stderr is a terminal, so that its progress bar can be seen."""

    def __init__(self, terminal: Any, *words: object) -> None:
        import pty

        self._terminal, end = pty.openpty()
        command = [sys.executable, "-m", "sfumato.cli", *map(str, words)]
        self.process = subprocess.Popen(
            command, cwd=terminal.folder, env=terminal.environment, stdout=subprocess.PIPE, stderr=end, text=True
        )
        os.close(end)
        self.seen = ""

    def wait_for(self, words: str, seconds: float = 240) -> None:
        """Until `words` have been drawn."""
        until = time.monotonic() + seconds
        while words not in self.seen:
            assert time.monotonic() < until, self.seen[-2000:]
            self._read()

    def end(self) -> tuple[int, str]:
        """(exit code, stdout) when it has ended."""
        out = self.process.communicate(timeout=120)[0]
        while self._read():
            continue
        return self.process.returncode, out

    def close(self) -> None:
        """End it if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        os.close(self._terminal)

    def _read(self) -> bool:
        try:
            data = os.read(self._terminal, 4096)
        except OSError:  # the other end is closed: the command has ended
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)


@pytest.fixture
def watch(terminal: Any) -> Iterator[Any]:
    """`watch("generate", ...)`: a command that is ended with the test."""
    started: list[Watched] = []

    def start(*words: object) -> Watched:
        started.append(Watched(terminal, *words))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_generation_stops_between_two_blocks_of_the_network(watch: Any, terminal: Any, number: int) -> None:
    command = watch("generate", "a house", "-o", "house.png", *ENDLESS, "--json")
    command.wait_for("3/5000")
    start = time.monotonic()
    command.process.send_signal(number)
    code, out = command.end()
    assert code == 130
    assert time.monotonic() - start < 20
    assert '"kind": "CancelledError"' in out.splitlines()[-1]
    assert "sfumato: cancelled" in command.seen
    assert "Traceback" not in command.seen
    assert terminal.left() == set()


def test_a_sweep_writes_no_sheet(watch: Any, terminal: Any) -> None:
    command = watch("sweep", "a house", "--x", "cfg=1,2", *ENDLESS, "-o", "sheet.png")
    command.wait_for("2/5000")
    command.process.send_signal(signal.SIGINT)
    assert command.end() == (130, "")
    assert terminal.left() == set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("delay", [0.0, 0.3, 1.5])
def test_it_stops_at_any_other_time_too(terminal: Any, number: int, delay: float) -> None:
    """While plugins are loaded, while torch is imported, while models are read."""
    ready = "import sfumato.cli; print('ready', flush=True)"
    process = terminal.start("generate", "a house", "-o", "house.png", *ENDLESS, before=ready)
    with process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.05 + delay)  # main has begun
        process.send_signal(number)
        out, err = process.communicate(timeout=240)
    assert process.returncode == 130, err
    assert (out, err) == ("", "sfumato: cancelled\n")
    assert terminal.left() == set()
