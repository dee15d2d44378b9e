"""Where files live."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfumato.paths import HOME_VARIABLE, Folders

NAMES = ["models", "output", "input", "temp", "settings", "cache"]


def test_the_home_variable_puts_everything_under_one_folder(tmp_path: Path) -> None:
    folders = Folders.of_user({HOME_VARIABLE: str(tmp_path)})
    assert [getattr(folders, name) for name in NAMES] == [tmp_path / name for name in NAMES]
    assert folders.settings_file == tmp_path / "settings" / "settings.toml"


def test_nothing_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "LOCALAPPDATA", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    folders = Folders.of_user({})
    assert all(getattr(folders, name).is_relative_to(tmp_path) for name in NAMES)
    assert list(tmp_path.iterdir()) == []


def test_a_relative_home_is_taken_from_here_and_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = Folders.of_user({HOME_VARIABLE: "here"})
    monkeypatch.chdir("/")
    assert folders.models == tmp_path / "here" / "models"


def test_an_empty_home_variable_counts_as_none() -> None:
    assert Folders.of_user({HOME_VARIABLE: ""}) == Folders.of_user({})
