"""The frame of the command line: what it lists, how it tells errors, and what it does not import."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sfumato.cli import COMMANDS

SfumatoCall = Callable[..., Any]


def test_the_help_names_every_command(sfumato: SfumatoCall) -> None:
    ran = sfumato("--help")
    assert ran.code == 0
    assert all(name in ran.out for name in COMMANDS)


def test_nothing_is_listed_that_is_not_there(sfumato: SfumatoCall) -> None:
    listed = sfumato("--help").out
    assert "serve" not in listed
    assert "new" not in sfumato("plugins", "--help").out.split()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_is_listed_exists(name: str) -> None:
    module = importlib.import_module(f"sfumato.cli.{name}")
    assert callable(module.configure)
    assert callable(module.run)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(sfumato: SfumatoCall, name: str) -> None:
    ran = sfumato(name, "--help")
    assert ran.code == 0
    assert ran.out.startswith(f"usage: sfumato {name}")


def test_the_version_is_told(sfumato: SfumatoCall) -> None:
    ran = sfumato("--version")
    assert (ran.code, ran.out) == (0, f"sfumato {sys.modules['sfumato'].__version__}\n")


def test_an_unknown_command_is_bad_usage(sfumato: SfumatoCall) -> None:
    ran = sfumato("paint")
    assert ran.code == 2
    assert "'paint'" in ran.err
    assert "sfumato --help" in ran.err


def test_an_unknown_option_names_itself_and_the_help_of_its_command(sfumato: SfumatoCall) -> None:
    ran = sfumato("generate", "x", "--stepz", "3")
    assert ran.code == 2
    assert "--stepz" in ran.err


def test_errors_of_usage_are_json_too(sfumato: SfumatoCall) -> None:
    error = sfumato("generate", "x", "--steps", "many", "--json").json["error"]
    assert error["kind"] == "UsageError"
    assert error["exit_code"] == 2
    assert "many" in error["what"]
    assert "sfumato generate --help" in error["remedy"]


def test_a_mistake_of_ours_is_one_line_and_a_file(sfumato: SfumatoCall, home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(options: object) -> int:
        raise LookupError("the seventh seal")

    monkeypatch.setattr("sfumato.cli.plugins.run", broken)
    ran = sfumato("plugins", "--json")
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert "LookupError: the seventh seal" in ran.err
    path = home.cache / "last-error.txt"
    assert str(path) in ran.err
    assert "Traceback" in path.read_text()
    assert ran.json["error"]["what"] == "LookupError: the seventh seal"


def test_ctrl_c_before_the_work_is_a_cancelled_command(sfumato: SfumatoCall, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("sfumato.cli.plugins.run", interrupted)
    ran = sfumato("plugins", "--json")
    assert ran.code == 130
    assert ran.err == "sfumato: cancelled\n"
    assert ran.json["error"]["kind"] == "CancelledError"


def test_no_memory_is_exit_code_5(sfumato: SfumatoCall, monkeypatch: pytest.MonkeyPatch) -> None:
    def huge(options: object) -> int:
        raise MemoryError

    monkeypatch.setattr("sfumato.cli.plugins.run", huge)
    assert sfumato("plugins").code == 5


def test_settings_that_cannot_be_read_name_the_line_and_the_way_around(sfumato: SfumatoCall, home: Any) -> None:
    home.settings_file.write_text("[engine]\ndevice = 7\n")
    ran = sfumato("models", "--json")
    assert ran.code == 3
    assert "line 2: engine.device" in ran.err
    assert str(home.settings_file) in ran.err
    assert "--ignore-settings" in ran.json["error"]["remedy"]
    assert sfumato("models", "--ignore-settings").code == 0
    assert sfumato("models", "list", "--ignore-settings").code == 0


def test_what_needs_no_engine_imports_none(tmp_path: Path) -> None:
    """One process, several commands: after each of them, neither torch nor anything else that is heavy has been imported."""
    workflow = tmp_path / "workflow.json"
    workflow.write_text(json.dumps({"1": {"class_type": "Nothing", "inputs": {}}}))
    commands = [
        ["--help"],
        ["plugins", "list"],
        ["plugins", "--json"],
        ["models", "list"],
        ["run", str(workflow), "--check"],
        ["generate", "x", "--steps", "0"],
        ["generate", "x", "--sampler", "none"],
        ["doctor", "--trust"],
    ]
    heavy = ("torch", "torchvision", "diffusers", "transformers", "scipy", "cv2", "spandrel", "PySide6")
    light = (*heavy, "numpy", "PIL")
    code = (
        "import json, sys\n"
        "from sfumato.cli import main\n"
        f"for number, words in enumerate({commands!r}):\n"
        "    main(words)\n"
        f"    found = sorted(set({light!r} if number < 3 else {heavy!r}) & set(sys.modules))\n"
        "    assert not found, (words, found)\n"
        "print('light', file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env={"SFUMATO_HOME": str(tmp_path)}, check=False
    )
    assert done.stderr.splitlines()[-1] == "light", done.stderr


def test_a_closed_pipe_is_no_mistake_of_ours(tmp_path: Path) -> None:
    """`sfumato models | head -1`"""
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "sfumato.cli", "models"]
    with os.fdopen(writer, "wb") as pipe:
        done = subprocess.run(words, stdout=pipe, stderr=subprocess.PIPE, text=True, env={"SFUMATO_HOME": str(tmp_path)}, check=False)
    assert done.returncode == 1
    assert done.stderr == ""
