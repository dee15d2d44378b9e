"""Fixtures for all tests: the embedded model's library, one engine on the CPU, and its three handles."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
from hypothesis import settings

from sfumato.app import App
from sfumato.cli import main
from sfumato.models import ModelLibrary
from sfumato.paths import Folders
from sfumato.progress import Progress

# A change is judged by what it changes: continuous integration tries properties with the same examples every time, others with new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Folders of nobody: empty, thrown away afterwards."""
    return Folders.under(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def app(folders: Folders) -> App:
    """The kernel with all installed plugins, on the CPU in float32."""
    return App.make(folders, cpu=True, precision="float32")


@pytest.fixture(scope="session")
def library(app: App) -> ModelLibrary:
    return app.library


@pytest.fixture(scope="session")
def services(app: App) -> Any:
    """The engine of `app`."""
    return app.services()


@pytest.fixture(scope="session")
def embedded(services: Any) -> tuple[Any, Any, Any]:
    """(MODEL, CLIP, VAE) of the embedded model."""
    file = services.library.find("checkpoints", "embedded")
    handles: tuple[Any, Any, Any] = services.family_of(file).load_checkpoint(file, services, Progress.silent())
    return handles


@pytest.fixture(scope="session")
def embedded_folder() -> Path:
    """Where the embedded model lies, in diffusers layout."""
    import sfumato_resources

    return sfumato_resources.embedded_model()


@dataclass(frozen=True)
class Ran:
    """What a command gave: its exit code, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The last line of stdout, as `--json` promises it."""
        return json.loads(self.out.splitlines()[-1])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    """A user's folders with settings that say: on the CPU, in float32."""
    folders = Folders.under(tmp_path / "home")
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    folders.settings.mkdir(parents=True)
    folders.settings_file.write_text('[engine]\ndevice = "cpu"\nprecision = "float32"\n')
    return folders


@pytest.fixture
def sfumato(home: Folders, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """`sfumato("generate", ...)`: a command in this process, in the folders of `home`."""

    def run(*words: object) -> Ran:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Ran(code, *capsys.readouterr())

    return run


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind() -> Iterator[None]:
    """A test that leaves a thread of ours running fails, and says which."""
    before = set(threading.enumerate())
    yield
    left = [t.name for t in threading.enumerate() if t not in before and t.name.startswith("sfumato") and t.is_alive()]
    assert not left, f"threads left running: {left}"
