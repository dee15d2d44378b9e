"""The engine's process: `python -m sfumato.backends.child_main`, started by `sfumato.backends.child` and by nobody else.

The main thread runs graphs; another one hears what the parent says meanwhile, so that a wish to stop comes through. When the parent
is gone, this process ends, whatever it is doing.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import sfumato
from sfumato.app import App
from sfumato.backends import messages
from sfumato.backends.child import PROTOCOL
from sfumato.backends.in_process import InProcessBackend
from sfumato.backends.wire import Channel, ClosedFault, WireFault
from sfumato.errors import MemoryExhaustedError, SfumatoError
from sfumato.events import NodeProgressed
from sfumato.paths import Folders
from sfumato.progress import CancelFlag
from sfumato.settings import parse_settings

PREVIEW_SECONDS = 0.1
"""At least so much time lies between two previews; the last one of a node is always sent."""

_GRACE = 2.0
"""Seconds in which what is being written may still be finished when the parent is gone."""
_PR_SET_PDEATHSIG = 1
_READILY_ENDED = "500"
_SECRET_BYTES = 32


def main(words: Sequence[str] | None = None) -> int:
    """Serve the parent until it has enough. Returns the exit code."""
    parser = argparse.ArgumentParser("sfumato-engine")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--descriptor", type=int)
    parser.add_argument("--port", type=int)
    options = parser.parse_args(words)
    _settle_down(options.parent)
    channel = Channel(_connection(options))
    try:
        first = channel.receive().body
    except ClosedFault:
        return 0
    return _Engine(channel).serve(first)


class _Engine:
    """One kernel, and the parent at the other end of the channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._wanted: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self._flags: dict[int, CancelFlag] = {}
        self._listener = threading.Thread(target=self._listen, name="sfumato-parent", daemon=True)

    def serve(self, first: Mapping[str, Any]) -> int:
        """Build the kernel, say so, and run what comes."""
        self._listener.start()
        try:
            app, backend = _kernel(first)
            machine = app.machine()
        except SfumatoError as error:
            self._channel.send({"error": messages.error_to_plain(error)})
            return 1
        self._channel.send({"protocol": PROTOCOL, "version": sfumato.__version__, "machine": machine})
        while (body := self._wanted.get()) is not None:
            self._run(app, backend, body)
        return 0

    def _run(self, app: App, backend: InProcessBackend, body: Mapping[str, Any]) -> None:
        number = body["run"]
        teller = _Teller(self._channel, number, wants_previews=body["previews"])
        try:
            app.pictures.clear()
            app.pictures.update({name: Path(path) for name, path in body["pictures"].items()})
            for kind, path, name in body["models"]:
                app.library.know(kind, Path(path), name)
            graph = messages.graph_from_plain(body["graph"])
            flag, hidden = self._flags[number], body["hidden"]
            result = backend.run(graph, body["targets"], hidden=hidden, cancel=flag, on_event=teller.hear)
            plain, arrays = messages.result_to_message(result)
            self._channel.send({"run": number, "result": plain}, arrays)
        except SfumatoError as error:
            self._fail(number, error)
        except MemoryError:
            self._fail(number, MemoryExhaustedError("there is no memory left", "", "Make it smaller, or close other programs."))
        except ClosedFault:
            raise
        except Exception as error:  # noqa: BLE001  a fault of ours ends this run, not the engine
            failure = SfumatoError(f"the engine failed: {type(error).__name__}: {error}")
            failure.__cause__ = error
            self._fail(number, failure)
        finally:
            self._flags.pop(number, None)

    def _fail(self, number: int, error: SfumatoError) -> None:
        self._channel.send({"run": number, "error": messages.error_to_plain(error)})

    def _listen(self) -> None:
        """In the other thread: hear the parent until it is gone."""
        try:
            while True:
                body = self._channel.receive().body
                if body["kind"] == "run":
                    self._flags[body["run"]] = CancelFlag()
                    self._wanted.put(body)
                elif flag := self._flags.get(body["run"]):
                    flag.set()
        except ClosedFault:
            self._leave()
        except WireFault as fault:
            print(f"the parent said something that cannot be understood ({fault})", file=sys.stderr, flush=True)
            self._leave()

    def _leave(self) -> None:
        """The parent is gone: stop what runs, and end, at the latest after a moment."""
        self._channel.close()
        for flag in list(self._flags.values()):
            flag.set()
        self._wanted.put(None)
        time.sleep(_GRACE)
        os._exit(0)


class _Teller:
    """Tells the parent of a run's events. Previews are made only as often as somebody could look at them."""

    def __init__(self, channel: Channel, number: int, *, wants_previews: bool) -> None:
        self._channel, self._number, self._wants_previews = channel, number, wants_previews
        self._shown = -PREVIEW_SECONDS

    def hear(self, event: Any) -> None:
        """Takes any event of a run."""
        preview = None
        if isinstance(event, NodeProgressed) and event.step.preview is not None and self._is_due(event.step.done >= event.step.total):
            preview = messages.as_preview(event.step.preview())
        plain, arrays = messages.event_to_message(event, preview)
        self._channel.send({"run": self._number, "event": plain}, arrays)

    def _is_due(self, is_last: bool) -> bool:
        now = time.monotonic()
        if not self._wants_previews or (not is_last and now - self._shown < PREVIEW_SECONDS):
            return False
        self._shown = now
        return True


def _kernel(told: Mapping[str, Any]) -> tuple[App, InProcessBackend]:
    """The kernel that the parent describes, torch loaded, and where its graphs run."""
    folders = Folders(**{name: Path(path) for name, path in told["folders"].items()})
    extra = {kind: [Path(path) for path in paths] for kind, paths in told["extra_models"].items()}
    app = App.make(folders, settings=parse_settings(told["settings"]), extra_models=extra, blocked=told["blocked"])
    app.services()
    backend = app.backend(InProcessBackend.name, output=None if told["output"] is None else Path(told["output"]))
    assert isinstance(backend, InProcessBackend)
    return app, backend


def _connection(options: argparse.Namespace) -> socket.socket:
    if options.descriptor is not None:
        connection = socket.socket(fileno=options.descriptor)
        connection.set_inheritable(False)
        return connection
    secret = sys.stdin.buffer.read(_SECRET_BYTES)
    connection = socket.create_connection(("127.0.0.1", options.port), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(secret)
    return connection


def _settle_down(parent: int) -> None:
    """End with the parent, leave Ctrl+C to it, be the one that the system ends when memory runs out, and leave word of a crash."""
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it has died before it could be watched
            os._exit(0)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_READILY_ENDED)


if __name__ == "__main__":
    try:
        code = main()
    except ClosedFault:  # the parent is gone
        code = 0
    except Exception:  # noqa: BLE001  whatever it is, it is told to the parent, on stderr
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)  # no thread of a library may hold up the end
