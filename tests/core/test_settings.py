"""Settings: typed, kept whole, with faults that name their line."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import BadFileError, BadValueError, SaveError
from sfumato.power_cuts import check_power_cuts
from sfumato.settings import (
    PictureSettings,
    Settings,
    all_settings,
    format_settings,
    load_settings,
    parse_settings,
    save_settings,
    with_value,
)

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
unknown_values = (
    st.booleans() | st.integers() | names | st.lists(st.integers(), max_size=3) | st.dictionaries(names, st.integers(), max_size=3)
)


def test_without_a_file_there_are_the_defaults(tmp_path: Path) -> None:
    assert load_settings(tmp_path / "settings.toml") == Settings()
    assert list(tmp_path.iterdir()) == []


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    changed = with_value(with_value(Settings(), "engine.device", "cpu"), "models.folders", ["/a", 'C:\\b "c"'])
    save_settings(tmp_path / "new" / "settings.toml", changed)
    assert load_settings(tmp_path / "new" / "settings.toml") == changed
    assert changed.models.folders == ("/a", 'C:\\b "c"')


def test_the_file_names_every_setting_and_only_changes_are_in_force() -> None:
    text = format_settings(with_value(Settings(), "cache.results", 7))
    assert tomllib.loads(text) == {"engine": {}, "models": {}, "pictures": {}, "cache": {"results": 7}}
    assert all(f"{each.name.partition('.')[2]} = " in text and each.words in text for each in all_settings(Settings()))


@settings(max_examples=100, deadline=None)
@given(top=st.dictionaries(names, unknown_values, max_size=3), inner=st.dictionaries(names, unknown_values, max_size=3))
def test_unknown_keys_are_kept(top: dict[str, Any], inner: dict[str, Any]) -> None:
    taken = {section.name for section in dataclasses.fields(Settings)}
    top = {key: value for key, value in top.items() if key not in taken}
    inner = {key: value for key, value in inner.items() if key not in {each.name for each in dataclasses.fields(PictureSettings)}}
    unknown = {**top, **({"pictures": inner} if inner else {})}
    read = parse_settings(format_settings(Settings(unknown=unknown)))
    assert read.unknown == unknown


def test_every_fault_is_told_with_its_line() -> None:
    text = 'engine.device = "fridge"\n\n[pictures]\nformat = "png"\nquality = 0\n\n[ models ] # more\nfolders = "one"\n'
    with pytest.raises(BadFileError) as caught:
        parse_settings(text, "settings.toml")
    told = str(caught.value)
    assert "settings.toml" in told and caught.value.remedy
    assert "line 1: engine.device is 'fridge'" in told and "line 5: pictures.quality is 0" in told and "line 8: models.folders" in told


@pytest.mark.parametrize(
    "text",
    ["a = ", "[engine", 'x = "\x01"', "a = 1\na = 2", "engine = 3", "cache.results = true", "cache.results = 1.0", "cache.results = 0"],
)
def test_what_is_wrong_is_refused(text: str) -> None:
    with pytest.raises(BadFileError):
        parse_settings(text)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60) | st.text("[]{}=.\"'\n# abengil01,", max_size=60))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    try:
        parse_settings(text)
    except BadFileError as error:
        assert str(error)


def test_a_file_of_other_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadFileError, match="UTF-8"):
        load_settings(path)
    with pytest.raises(BadFileError):
        load_settings(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("engine.speed", 1), ("engine.device", "gpu"), ("pictures.quality", "95"), ("cache.results", True)]
)
def test_a_setting_takes_only_what_fits(name: str, value: Any) -> None:
    with pytest.raises(BadValueError, match=name.replace(".", r"\.")):
        with_value(Settings(), name, value)


def test_a_whole_number_is_a_number() -> None:
    assert with_value(Settings(), "engine.memory_gb", 4).engine.memory_gb == 4.0


def test_every_default_passes_its_own_check() -> None:
    for each in all_settings(Settings()):
        assert with_value(Settings(), each.name, each.default) == Settings() and each.words.endswith((".", "none."))


def test_saving_survives_power_cuts(tmp_path: Path) -> None:
    def save(path: Path, system: Any) -> None:
        save_settings(path, with_value(Settings(), "engine.device", "cpu") if path.exists() else Settings(), file_system=system)

    assert check_power_cuts(save, tmp_path / "settings.toml") > 5


def test_a_place_that_cannot_be_written_keeps_the_settings(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SaveError):
        save_settings(tmp_path / "file" / "settings.toml", Settings())
