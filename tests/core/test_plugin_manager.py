"""Plugins are loaded one at a time; a broken one is listed with its reason and harms no other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from sfumato import hookspecs
from sfumato.errors import PluginError
from sfumato.graph import Graph
from sfumato.offers import SamplerOffer, UpscalerOffer
from sfumato.plugin_manager import DISABLE_VARIABLE, GROUP, OFFERED, DuplicateOffer, PluginInfo, PluginManager


@pytest.fixture
def manager() -> PluginManager:
    return PluginManager(environment={})


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], EntryPoint]:
    """Writes a stranger's module and gives the entry point that leads to it."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, text: str) -> EntryPoint:
        (tmp_path / f"{name}.py").write_text("from sfumato import *\n" + text)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return EntryPoint(name.removeprefix("stranger_"), name, GROUP)

    return write


GOOD = '@hookimpl\ndef register_samplers():\n    return [SamplerOffer("swirl", "x:y")]\n'
BROKEN = {
    "import": ("import nowhere_to_be_found\n", "ModuleNotFoundError"),
    "syntax": ("def (:\n", "SyntaxError"),
    "exit": ("raise SystemExit(3)\n", "SystemExit: 3"),
    "misspelt": ("@hookimpl\ndef register_sampler():\n    return []\n", "there is no hook 'register_sampler'"),
    "argument": ("@hookimpl\ndef before_node(node):\n    pass\n", "node"),
    "raises": ("@hookimpl\ndef register_nodes():\n    return 1 / 0\n", "ZeroDivisionError"),
    "wrong": ("@hookimpl\ndef register_nodes():\n    return ['Blur']\n", "register_nodes returned something else than a list of NodeType"),
    "no_list": ("@hookimpl\ndef register_upscalers():\n    return UpscalerOffer('a', 'b')\n", "a list of UpscalerOffer"),
    "node": ("@node('X', category='t')\ndef x(a):\n    return a\n", "parameter 'a' of node 'X' has no annotation"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_is_listed_with_its_reason_and_the_rest_goes_on(kind: str, stranger: Any, manager: PluginManager) -> None:
    text, reason = BROKEN[kind]
    points = [stranger(f"stranger_a_{kind}", text), stranger("stranger_good", GOOD)]
    broken, good = manager.load(points)
    assert (broken.state, good.state) == ("broken", "active")
    assert reason in broken.error
    assert broken.traceback.startswith("Traceback")
    assert broken.file.endswith(f"stranger_a_{kind}.py")
    assert [offer.name for offer in manager.register_samplers()] == ["swirl"]
    manager.before_node("1", "T", {})  # nothing of the broken one is called


def test_a_misspelt_hook_says_what_it_might_mean(stranger: Any, manager: PluginManager) -> None:
    (info,) = manager.load([stranger("stranger_misspelt2", BROKEN["misspelt"][0])])
    assert "Did you mean register_samplers?" in info.error


def test_an_optional_hook_of_another_version_is_no_fault(stranger: Any, manager: PluginManager) -> None:
    text = "import pluggy\n@pluggy.HookimplMarker('sfumato')(optionalhook=True)\ndef register_brushes():\n    return []\n"
    (info,) = manager.load([stranger("stranger_newer", text)])
    assert info.state == "active"


def test_a_plugin_tells_where_it_lives_and_what_it_offers(stranger: Any, manager: PluginManager) -> None:
    (info,) = manager.load([stranger("stranger_tells", GOOD)])
    assert info.name == "tells"
    assert info.file.endswith("stranger_tells.py")
    assert info.offers == {"samplers": ("swirl",)}


def test_plugins_can_be_left_out_by_name(stranger: Any) -> None:
    points = [stranger("stranger_one", GOOD), stranger("stranger_two", "raise AssertionError('imported')")]
    by_argument = PluginManager(["two"], {}).load(points)
    by_variable = PluginManager(environment={DISABLE_VARIABLE: " two ,three"}).load(points)
    assert [i.state for i in by_argument] == [i.state for i in by_variable] == ["active", "disabled"]


def test_all_strangers_can_be_left_out_at_once(stranger: Any) -> None:
    manager = PluginManager(environment={DISABLE_VARIABLE: "all"})
    manager.load()
    own = manager.plugins
    manager.load([stranger("stranger_three", GOOD)])
    assert {info.state for info in own} == {"active"}
    assert manager.plugins[-1].state == "disabled"


def test_the_second_plugin_of_a_name_is_broken(stranger: Any, manager: PluginManager) -> None:
    first = stranger("stranger_same", GOOD)
    second = EntryPoint("same", stranger("stranger_other", GOOD).value, GROUP)
    manager.load([first, second])
    assert [(i.name, i.state) for i in manager.plugins] == [("same", "active"), ("same", "broken")]
    assert "taken" in manager.plugins[1].error


def test_the_same_metadata_seen_twice_is_one_plugin(stranger: Any, manager: PluginManager) -> None:
    point = stranger("stranger_twice", GOOD)
    assert len(manager.load([point, point])) == 1


def test_an_object_can_be_taken_in_as_a_plugin(manager: PluginManager, plugin_of: Any) -> None:
    info = manager.add(plugin_of(register_samplers=lambda: [SamplerOffer("swirl", "x:y")]), "mine", "dist", "1.0")
    assert info == PluginInfo("mine", "dist", "1.0", info.file, offers={"samplers": ("swirl",)})
    assert manager.add(plugin_of(), "mine").state == "broken"
    assert [p.state for p in manager.plugins] == ["active", "broken"]


def test_of_two_equal_names_the_first_is_used_and_the_second_reported(manager: PluginManager, plugin_of: Any) -> None:
    manager.add(plugin_of(register_upscalers=lambda: [UpscalerOffer("a", "one:a"), UpscalerOffer("b", "one:b")]), "one")
    manager.add(plugin_of(register_upscalers=lambda: [UpscalerOffer("c", "two:c"), UpscalerOffer("a", "two:a")]), "two")
    assert [offer.target for offer in manager.register_upscalers()] == ["one:a", "one:b", "two:c"]
    assert manager.duplicates == [DuplicateOffer("upscalers", "a", "one", "two")]


def test_node_types_come_by_plugin(manager: PluginManager, plugin_of: Any, bench: Any) -> None:
    kind = bench.catalogue.get("Add")
    manager.add(plugin_of(register_nodes=lambda: [kind]), "one")
    manager.add(plugin_of(), "two")
    assert manager.nodes_by_plugin() == {"one": [kind]}
    assert manager.register_nodes() == [kind]


def test_every_hook_has_a_typed_method_of_its_name() -> None:
    hooks = {name for name, value in vars(hookspecs).items() if hasattr(value, "sfumato_spec")}
    assert hooks == {name for name in hooks if callable(getattr(PluginManager, name, None))}
    assert {name for name in hooks if name.startswith("register_")} == set(OFFERED)


def test_what_a_hook_raises_says_whose_it_is(manager: PluginManager, plugin_of: Any) -> None:
    def before_node(node_id: str) -> None:
        raise ValueError("out of paint")

    manager.add(plugin_of(before_node=lambda: None), "calm")
    manager.add(plugin_of(before_node=before_node), "angry")
    with pytest.raises(PluginError, match="plugin angry: before_node failed: ValueError: out of paint") as caught:
        manager.before_node("1", "T", {})
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_error_made_for_users_passes_a_hook_with_the_plugins_name(manager: PluginManager, plugin_of: Any) -> None:
    def after_node() -> None:
        raise PluginError("no licence", "paint.txt")

    manager.add(plugin_of(after_node=after_node), "angry")
    with pytest.raises(PluginError) as caught:
        manager.after_node("1", "T", ())
    assert caught.value.where == "plugin angry, paint.txt"


def test_the_first_answer_of_the_plugin_loaded_last_wins(manager: PluginManager, plugin_of: Any) -> None:
    ours, theirs = Graph({}), Graph({})
    manager.add(plugin_of(recipe_for=lambda: ours), "ours")
    manager.add(plugin_of(recipe_for=lambda: theirs), "theirs")
    manager.add(plugin_of(recipe_for=lambda: None), "undecided")
    assert manager.recipe_for(None) is theirs  # type: ignore[arg-type]


def test_a_recipe_that_is_no_graph_is_refused(manager: PluginManager, plugin_of: Any) -> None:
    manager.add(plugin_of(recipe_for=lambda: "a graph"), "odd")
    with pytest.raises(PluginError, match="recipe_for returned str"):
        manager.recipe_for(None)  # type: ignore[arg-type]


def test_our_own_plugins_load_without_torch_and_without_a_window() -> None:
    code = (
        "import sys; sys.modules['PySide6'] = None\n"
        "from sfumato.plugin_manager import PluginManager\n"
        "plugins = PluginManager(environment={'SFUMATO_DISABLE_PLUGINS': 'all'}).load()\n"
        "print([(p.name, p.error) for p in plugins if p.state == 'broken'], len(plugins) >= 5, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] True False\n"
