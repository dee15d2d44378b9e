"""The process of an engine as its parent sees it: started, listened to, and never left behind, alive or dead."""

from __future__ import annotations

import hmac
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sfumato.backends.messages import error_from_plain
from sfumato.backends.wire import Channel, ClosedFault
from sfumato.errors import EngineDiedError

PATIENCE = 2.0
"""Seconds that a process is given to end by itself."""

_MOST_SAID = 16 << 10
_LINES_TOLD = 20
_SECRET_BYTES = 32
_FIRST_WORD = "Fatal Python error"


class EngineProcess:
    """One child process and the connection with it. A thread of its own starts it, drains what it prints, and waits for its end.

    That thread lives as long as the process: on Linux the system ends a child with the *thread* that has started it.
    """

    def __init__(self, first: Mapping[str, Any], *, transport: str = "", environment: Mapping[str, str] | None = None) -> None:
        """`first` is told to the process as soon as it lives.

        `transport` "socketpair" or "loopback"; unless given, what this system has. `environment` counts more than ours.
        """
        self._first = first
        self._transport = transport or ("loopback" if sys.platform == "win32" else "socketpair")
        self._environment = {**os.environ, **(environment or {})}
        self._said = bytearray()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._failure: OSError | None = None
        self._connected = threading.Event()
        self._lock = threading.Lock()
        self._reaping = threading.Lock()
        self._is_killed = False
        self.is_ready = False
        self.facts: Mapping[str, Any] = {}
        """What the engine said of its machine when it was ready."""
        self._thread = threading.Thread(target=self._live, name="sfumato-engine", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """The process's number; 0 before it has one."""
        return self._process.pid if self._process else 0

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or is not to be used any more."""
        return self._is_killed or not self._thread.is_alive() or (self._channel is not None and self._channel.is_ended())

    @property
    def channel(self) -> Channel:
        """The connection. Raises EngineDiedError if there is none."""
        if self._channel is None:
            raise self.death("")
        return self._channel

    def wait(self, seconds: float) -> bool:
        """Whether it has something to say (its end, too), after waiting for it at most so long."""
        end = time.monotonic() + seconds
        if not self._connected.wait(seconds):
            return False
        return self._channel is None or self._channel.wait(max(0.0, end - time.monotonic()))

    def welcome(self, body: Mapping[str, Any], protocol: int, version: str) -> None:
        """Take the process's first message. Raises what it failed with, or EngineDiedError if it is of another version than we."""
        if "error" in body:
            self.kill()
            raise error_from_plain(body["error"])
        said = body.get("protocol"), body.get("version")
        if said != (protocol, version):
            self.kill()
            what = f"the engine is of version {said[1]} (protocol {said[0]}), this program of {version} ({protocol})"
            raise EngineDiedError(what, "", "Start Sfumato again: it was updated while it ran.")
        machine = body.get("machine")
        self.facts = machine if isinstance(machine, dict) else {}
        self.is_ready = True

    def kill(self) -> None:
        """End it now, whatever it does. May be called from any thread, and twice."""
        with self._lock:
            self._is_killed = True
            process = self._process
        if process is not None:
            self._kill_all(process)

    def close(self, *, patience: float = PATIENCE) -> None:
        """Ask it to end, end it if it does not, and give back everything. No other thread may use the channel any more."""
        if not self._is_killed and self._channel is not None:
            self._channel.close()
            self._thread.join(patience if self.is_ready else 0)
        self.kill()
        self._thread.join(PATIENCE)
        if self._channel is not None:
            self._channel.free()

    def death(self, where: str, why: str = "") -> EngineDiedError:
        """What is told of its end, `where` it was at work; waits for the end a little, then makes it. `why`: what we know better."""
        if self._channel is not None:
            self._channel.close()
        self._thread.join(PATIENCE)
        lives = self._process is not None and not _has_ended(self._process)
        self.kill()
        self._thread.join(PATIENCE)
        code = None if lives or self._process is None else self._process.returncode
        if self._failure is not None:
            how = self._failure.strerror or str(self._failure)
        else:
            how = "it has closed its connection" if code is None else _how(code)
        words = _last_words(self._text())
        what = why or f"the engine {'has died' if self.is_ready else 'could not start'}: {how}"
        return EngineDiedError(f"{what}; its last words: {words}" if words else what, where, _remedy(code), self.said())

    def said(self) -> str:
        """Its last lines on stdout and stderr."""
        return "\n".join(self._text().splitlines()[-_LINES_TOLD:])

    def _text(self) -> str:
        return bytes(self._said).decode("utf-8", "replace")

    # --- In the thread ---------------------------------------------------------------------------------------------------

    def _live(self) -> None:
        try:
            self._begin()
        except OSError as error:
            self._failure = error
        process, channel = self._process, self._channel
        if channel is not None:
            with suppress(ClosedFault):  # whoever waits hears of it
                channel.send(self._first)
        self._connected.set()
        if process is None:
            return
        assert process.stdout is not None
        while data := os.read(process.stdout.fileno(), 1 << 16):
            self._said = (self._said + data)[-_MOST_SAID:]
        process.stdout.close()
        self._reap(process)

    def _begin(self) -> None:
        if self._transport == "socketpair":
            ours, theirs = socket.socketpair()
            with theirs:
                self._channel = Channel(ours)
                self._spawn(["--descriptor", str(theirs.fileno())], theirs.fileno())
            return
        with socket.create_server(("127.0.0.1", 0)) as server:
            secret = secrets.token_bytes(_SECRET_BYTES)
            process = self._spawn(["--port", str(server.getsockname()[1])])
            assert process.stdin is not None
            with process.stdin as pipe, suppress(BrokenPipeError):
                pipe.write(secret)
            self._channel = self._accepted(server, secret, process)

    def _spawn(self, words: list[str], descriptor: int | None = None) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "sfumato.backends.child_main", "--parent", str(os.getpid()), *words]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if descriptor is not None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=() if descriptor is None else (descriptor,),
            env=self._environment,
            start_new_session=True,  # Ctrl+C is for the parent, which then asks the engine to stop
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        with self._lock:
            self._process = process
            is_unwanted = self._is_killed
        if is_unwanted:
            self._kill_all(process)
        return process

    def _accepted(self, server: socket.socket, secret: bytes, process: subprocess.Popen[bytes]) -> Channel | None:
        """The connection of whoever knows the secret; None if the process ends before. Others are turned away."""
        server.settimeout(0.2)
        while not _has_ended(process):
            with suppress(TimeoutError):
                connection, _ = server.accept()
                if hmac.compare_digest(_received(connection, len(secret)), secret):
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    return Channel(connection)
                connection.close()
        return None

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the end; then end what the engine itself has started, while its number still belongs to it."""
        if hasattr(os, "waitid"):
            with suppress(ChildProcessError):  # somebody in this program waits for every child there is
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
                self._kill_all(process)
            with self._reaping:
                process.wait()
        else:
            process.wait()

    def _kill_all(self, process: subprocess.Popen[bytes]) -> None:
        """The process and its group. A number that is already given back is not touched."""
        with self._reaping:
            if process.returncode is not None:
                return
            with suppress(ProcessLookupError, PermissionError):
                if sys.platform == "win32":
                    process.kill()
                else:  # `Popen.kill` would reap it, and the group would lose its number
                    os.killpg(process.pid, signal.SIGKILL)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has; its number stays its own."""
    if process.returncode is None and hasattr(os, "waitid"):
        try:
            return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        except ChildProcessError:  # reaped since we looked
            return True
    return process.poll() is not None


def _received(connection: socket.socket, count: int) -> bytes:
    data = b""
    connection.settimeout(2.0)
    with suppress(OSError):
        while len(data) < count and (more := connection.recv(count - len(data))):
            data += more
    return data


def _how(code: int) -> str:
    """An exit code in words."""
    if code == -getattr(signal, "SIGKILL", 9):
        return "it was killed (SIGKILL), most often by the system because memory ran out"
    if code in (-11, -7, -6, -4, -8) or code in (0xC0000005, 0xC0000409):
        name = signal.Signals(-code).name if code < 0 else f"{code:#x}"
        return f"it crashed in native code ({name})"
    if code < 0:
        return f"it was ended by signal {-code}"
    return f"it ended with exit code {code}"


def _remedy(code: int | None) -> str:
    kept = "Nothing else was lost, and the next run starts a new engine."
    if code == -9:
        return f"{kept} Make the picture smaller, or close other programs."
    return f"{kept} If it happens again: update the driver, or set engine.device to cpu."


def _last_words(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith(_FIRST_WORD)), lines[-1] if lines else "")[:300]
