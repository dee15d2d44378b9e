"""A stranger's plugin for an engine in another process, with nodes that misbehave in every way, and one such engine for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from sfumato.app import App
from sfumato.backends.child import ChildBackend, EngineOptions
from sfumato.paths import Folders
from sfumato.settings import Settings, with_value

NODES = '''
"""Nodes that misbehave."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Annotated

from sfumato import AnyValue, Image, NodeContext, Range, Result, errors, hookimpl, lazy_module, node, node_types

torch = lazy_module("torch")


@node("Ramp", category="test")
def ramp(width: Annotated[int, Range(1, 8192)], height: Annotated[int, Range(1, 8192)]) -> Image:
    """A picture whose pixels count up."""
    return (torch.arange(width * height * 3, dtype=torch.float32) / (width * height * 3)).reshape(1, height, width, 3)


@node("Half", category="test")
def half(width: int) -> Image:
    """A picture of another number format."""
    return torch.full((1, width, width, 3), 0.5, dtype=torch.bfloat16)


@node("Show", category="test", is_output=True)
def show(value: AnyValue) -> Result:
    """Shows a value."""
    return Result(shown={"text": [str(value)]})


@node("ShowModel", category="test", is_output=True)
def show_strange(text: str) -> Result:
    """Shows what JSON does not have."""
    return Result(shown={"strange": [object()], "text": [text]})


@node("Handle", category="test")
def handle() -> AnyValue:
    """A value that only this process can use."""
    return object()


@node("Number", category="test")
def number(value: int) -> int:
    """A number."""
    return value


@node("Process", category="test", idempotent=False)
def process() -> int:
    """The number of this process."""
    return os.getpid()


@node("Numbers", category="test", outputs=("first", "second"))
def numbers(text: str) -> tuple[AnyValue, AnyValue]:
    """Plain values."""
    return {"a": [1, 2.5, None, True], "text": text}, float("inf")


@node("Count", category="test", idempotent=False)
def count(ctx: NodeContext, steps: int, seconds: float) -> int:
    """Reports steps with previews, evenly over the seconds."""
    made = []
    for step in range(steps):
        time.sleep(seconds / steps)
        def preview(step=step):
            made.append(step)
            return torch.full((1, 4, 6, 3), step % 256, dtype=torch.uint8)
        ctx.progress.step("counting", step + 1, steps, preview)
    return len(made)


@node("Wait", category="test", idempotent=False)
def wait(ctx: NodeContext) -> int:
    """Waits until it is cancelled."""
    ctx.progress.step("waiting", 0, 1)
    while True:
        ctx.progress.check()
        time.sleep(0.005)


@node("Hang", category="test", idempotent=False)
def hang(ctx: NodeContext) -> int:
    """Never returns and never looks whether it should."""
    ctx.progress.step("hanging", 0, 1)
    while True:
        time.sleep(3600)


@node("Fail", category="test", idempotent=False)
def fail(name: str) -> int:
    """Raises an error of that name."""
    kind = getattr(errors, name, None) or getattr(__builtins__, name, None) or __builtins__[name]
    if not issubclass(kind, errors.SfumatoError):
        raise kind("it is broken")
    raise kind("it is broken", "here", "Mend it.")


@node("Die", category="test", idempotent=False)
def die(ctx: NodeContext, how: str) -> int:
    """Ends this process, or what connects it with its parent."""
    ctx.progress.step("dying", 0, 1)
    print("the last thing that was printed", file=sys.stderr, flush=True)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "crash":
        ctypes.string_at(0)
    if how == "exit":
        os._exit(7)
    if how == "closed":
        for descriptor in range(3, 256):
            if _is_socket(descriptor):
                socket.socket(fileno=os.dup(descriptor)).shutdown(socket.SHUT_RDWR)
        time.sleep(3600)
    for descriptor in range(3, 256):
        if how == "garbage" and _is_socket(descriptor):
            os.write(descriptor, b"all work and no play makes Jack a dull boy" * 10)
    time.sleep(3600)
    return 0


def _is_socket(descriptor):
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")
    except OSError:
        return False


@node("Spawn", category="test", idempotent=False)
def spawn() -> int:
    """Starts a process and forgets it."""
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]).pid


@hookimpl
def register_nodes():
    """All of them."""
    return node_types(sys.modules[__name__])
'''


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment in which the plugin is installed."""
    folder = tmp_path_factory.mktemp("strangers")
    (folder / "misbehaving_nodes.py").write_text(NODES)
    installed = folder / "misbehaving_nodes-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: misbehaving-nodes\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[sfumato]\nmisbehaving = misbehaving_nodes\n")
    return {"PYTHONPATH": str(folder)}


def options_for(folders: Folders, **more: Any) -> EngineOptions:
    """Options of an engine on the CPU in float32."""
    settings = with_value(with_value(Settings(), "engine.device", "cpu"), "engine.precision", "float32")
    return EngineOptions(folders, settings, **more)


@pytest.fixture
def new_child(folders: Folders, strangers: Mapping[str, str]) -> Iterator[Callable[..., ChildBackend]]:
    """Makes backends, and closes them."""
    made: list[ChildBackend] = []

    def make(environment: Mapping[str, str] | None = None, transport: str = "", **more: Any) -> ChildBackend:
        made.append(ChildBackend(options_for(folders, **more), environment={**strangers, **(environment or {})}, transport=transport))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(scope="session")
def child(app: App, strangers: Mapping[str, str]) -> Iterator[ChildBackend]:
    """One engine in a child process for many tests, which leave it alive."""
    options = options_for(app.folders, pictures=lambda: app.pictures, models=lambda: app.library.typed)
    backend = ChildBackend(options, environment=strangers)
    backend.start()
    yield backend
    backend.close()
