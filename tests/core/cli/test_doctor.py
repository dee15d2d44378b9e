"""`sfumato doctor` and `sfumato plugins`: what is there, and what is broken and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sfumato.paths import Folders

Call = Callable[..., Any]


@pytest.fixture
def broken_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's plugin, installed, that cannot be imported."""
    (tmp_path / "stranger.py").write_text("import nothing_of_this_name\n")
    info = tmp_path / "stranger-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[sfumato]\nstranger = stranger\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_our_own_plugins_are_active(sfumato: Call) -> None:
    plugins = {plugin["name"]: plugin for plugin in sfumato("plugins", "list", "--json").json["plugins"]}
    assert {"nodes", "sd", "lora", "upscale"} <= set(plugins)
    assert {plugin["state"] for plugin in plugins.values()} == {"active"}
    assert "KSampler" in plugins["nodes"]["offers"]["nodes"]
    assert plugins["nodes"]["file"].endswith("__init__.py")


@pytest.mark.usefixtures("broken_plugin")
def test_a_broken_plugin_is_listed_with_its_reason_and_the_rest_works(sfumato: Call) -> None:
    ran = sfumato("plugins")
    assert ran.code == 0
    assert "stranger  broken  (stranger 1.2)" in ran.out
    assert "nothing_of_this_name" in ran.out
    assert "Traceback" not in ran.out
    assert "Traceback" in sfumato("plugins", "list", "--traceback").out
    assert "Traceback" in sfumato("plugins", "--traceback").out


@pytest.mark.slow
def test_everything_is_looked_at(sfumato: Call) -> None:
    answer = sfumato("doctor", "--json").json
    assert answer["ok"] is True, answer["checks"]
    names = {check["name"] for check in answer["checks"]}
    assert {"settings", "engine", "torchvision", "models folder", "output folder", "plugins", "embedded model", "tokenizers"} <= names
    assert answer["machine"]["device"] == "cpu"
    assert answer["machine"]["main_memory"] > 10**8
    assert answer["machine"]["large_networks"] == "float32"  # the settings say so
    assert answer["versions"]["torch"][0].isdigit()


@pytest.mark.slow
@pytest.mark.usefixtures("broken_plugin")
def test_what_is_broken_hides_nothing_else(sfumato: Call, home: Folders) -> None:
    home.settings_file.write_text("[engine\n")
    home.output.write_text("in the way")
    ran = sfumato("doctor", "--json")
    assert ran.code == 1
    bad = {check["name"]: check for check in ran.json["checks"] if not check["ok"]}
    assert set(bad) == {"settings", "output folder", "plugin stranger"}
    assert all(check["remedy"] for check in bad.values())


@pytest.mark.slow
def test_settings_that_ask_for_a_device_that_is_not_there(sfumato: Call, home: Folders) -> None:
    home.settings_file.write_text('[engine]\ndevice = "mps"\n')
    ran = sfumato("doctor", "--json")
    assert ran.code == 1
    assert [check["name"] for check in ran.json["checks"] if not check["ok"]] == ["engine"]
    failed = sfumato("generate", "x", "--width", "64", "--height", "64")
    assert failed.code == 2
    assert "there is no device 'mps'" in failed.err


@pytest.mark.slow
def test_a_model_folder_of_the_settings_that_is_gone_is_pointed_out(sfumato: Call, home: Folders, tmp_path: Path) -> None:
    home.settings_file.write_text(f"[models]\nfolders = ['{tmp_path / 'gone'}']\n")
    bad = [check for check in sfumato("doctor", "--json").json["checks"] if not check["ok"]]
    assert [check["name"] for check in bad] == ["more models"]
    assert str(tmp_path / "gone") in bad[0]["words"]


def test_what_is_not_confined_is_said_plainly(sfumato: Call) -> None:
    out = sfumato("doctor", "--trust").out
    assert "without any confinement" in out
    assert "no sandbox" in out
    assert sfumato("doctor", "--trust", "--json").json["confined"] is False
