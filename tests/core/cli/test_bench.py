"""`sfumato bench`: which benchmarks there are, and how their figures are told."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest

from sfumato.bench import NAMES
from sfumato.cli import main


def test_every_benchmark_has_words_and_can_be_run() -> None:
    for name in NAMES:
        module: Any = importlib.import_module(f"sfumato.bench.{name}")
        assert module.WORDS
        assert callable(module.run)


def test_an_unknown_benchmark_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "speed"]) == 2
    assert "speed" in capsys.readouterr().err


def test_the_help_names_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--help"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in NAMES)


def test_figures_are_told_as_a_table_and_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sfumato.bench.validation.COUNT", 3)
    monkeypatch.setattr("sfumato.bench.validation.hostile", lambda: [("nothing", "")])
    assert main(["bench", "validation"]) == 0
    assert capsys.readouterr().out.startswith("validation: ")
    assert main(["bench", "validation", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)["benchmarks"]["validation"]
    assert {figure["what"] for figure in told["figures"]} >= {"slowest", "uncaught errors"}
    assert told["seconds"] >= 0


@pytest.mark.slow
def test_loading_takes_hardly_more_memory_than_the_file_is_large(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "loading", "--json"]) == 0
    figures = {figure["what"]: figure for figure in json.loads(capsys.readouterr().out)["benchmarks"]["loading"]["figures"]}
    assert figures["peak / size of the file"]["value"] <= 1.15
    assert figures["size of the file"]["value"] > 2
