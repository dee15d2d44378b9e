"""The door for authors of plugins: what is promised is there, and nothing heavy comes along."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

import sfumato


def test_all_names_that_are_promised_are_there() -> None:
    assert [name for name in sfumato.__all__ if not hasattr(sfumato, name)] == []
    assert sorted(set(sfumato.__all__)) == sorted(sfumato.__all__)


def test_no_other_public_name_is_there() -> None:
    there = {name for name, value in vars(sfumato).items() if not name.startswith("_") and not isinstance(value, types.ModuleType)}
    assert there - set(sfumato.__all__) == {"Any", "annotations"}


def test_the_version_is_the_installed_one() -> None:
    from importlib.metadata import version

    assert sfumato.__version__ == version("sfumato")


def test_another_name_is_an_error_as_usual() -> None:
    with pytest.raises(AttributeError, match="no attribute 'brush'"):
        sfumato.brush  # noqa: B018


def test_a_plugin_written_against_the_door_works(tmp_path: object) -> None:
    code = """
from typing import Annotated
import sys
import sfumato
from sfumato import Image, NodeContext, Range, hookimpl, node, node_types

@node("Posterize", category="image/filter")
def posterize(image: Image, levels: Annotated[int, Range(2, 64)] = 8) -> Image:
    "Reduce every channel to a few tones."
    return image

@hookimpl
def register_nodes() -> list[sfumato.NodeType]:
    return node_types(sys.modules[__name__])

from sfumato.plugin_manager import PluginManager
info = PluginManager(environment={}).add(sys.modules[__name__], "posterize")
print(info.state, dict(info.offers), "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "active {'nodes': ('Posterize',)} False\n"
