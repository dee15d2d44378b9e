"""The walls of the house: source roots hold packages only, what is declared is there, and the light half stays light."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOTS = ("core", "desktop", "plugins", "resources")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("root", ROOTS)
def test_a_source_root_holds_packages_of_ours_and_nothing_loose(root: str) -> None:
    """A loose module would be installed under its bare name for everybody."""
    entries = [p for p in (ROOT / root).iterdir() if p.name != "__pycache__" and not p.name.startswith(".")]
    strange = [p.name for p in entries if not (p.is_dir() and p.name.startswith("sfumato")) and p.suffix != ".md"]
    assert not strange
    assert all((p / "__init__.py").is_file() for p in entries if p.is_dir())


def test_every_plugin_folder_has_an_entry_point_and_the_other_way_round() -> None:
    declared = {value.partition(":")[0].partition(".")[0] for value in PROJECT["project"]["entry-points"]["sfumato"].values()}
    there = {p.name for p in (ROOT / "plugins").iterdir() if p.name.startswith("sfumato_")}
    assert declared == there | {"sfumato_desktop"}


def test_every_package_stands_in_the_import_contracts() -> None:
    packages = {p.name for root in ROOTS for p in (ROOT / root).iterdir() if p.name.startswith("sfumato")}
    assert packages == set(PROJECT["tool"]["importlinter"]["root_packages"])


def test_every_module_of_core_but_the_engine_is_forbidden_torch() -> None:
    contract = next(c for c in PROJECT["tool"]["importlinter"]["contracts"] if c["name"].startswith("torch"))
    modules = {f"sfumato.{p.stem}" for p in (ROOT / "core" / "sfumato").iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    free = {"sfumato.__init__", "sfumato.engine", "sfumato.bench"}
    assert modules - free <= set(contract["source_modules"])


def test_every_module_says_what_lives_there() -> None:
    silent = []
    for root in ROOTS:
        for path in (ROOT / root).rglob("*.py"):
            text = path.read_text()
            if text.strip() and not text.startswith('"""'):
                silent.append(str(path.relative_to(ROOT)))
    assert not silent


def test_every_headless_plugin_loads_without_qt_and_without_torch() -> None:
    code = (
        "import json, sys; sys.modules['PySide6'] = None\n"
        "from sfumato.app import App; from sfumato.paths import Folders; from pathlib import Path\n"
        "app = App.make(Folders.under(Path('nowhere')))\n"
        "broken = [(p.name, p.error) for p in app.plugins.plugins if p.state == 'broken']\n"
        "app.catalogue.object_info()\n"
        "heavy = sorted({'torch', 'diffusers', 'transformers', 'cv2', 'scipy'} & set(sys.modules))\n"
        "print(json.dumps([broken, heavy]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "tests", check=False)
    assert done.returncode == 0, done.stderr
    broken, heavy = json.loads(done.stdout)
    assert broken == []
    assert heavy == []


def test_the_wheel_would_hold_our_packages_only() -> None:
    """`only-include` and `sources` name the same four roots, so that their contents lie at the top of the wheel."""
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(wheel["only-include"]) == set(wheel["sources"]) == set(wheel["dev-mode-dirs"]) == set(ROOTS)


def test_nothing_of_ours_unpickles() -> None:
    """Nothing that is opened may run code."""
    words = ("pickle.load", "torch.load(", "allow_pickle=True", "trust_remote_code=True", "joblib")
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for root in ROOTS
        for path in (ROOT / root).rglob("*.py")
        for word in words
        if word in path.read_text()
    ]
    assert not found
