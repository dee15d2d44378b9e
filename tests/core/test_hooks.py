"""Each hook at work, through a tiny stranger's plugin: one test for each, named after it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sfumato.catalogue import Catalogue
from sfumato.errors import NodeError, PluginError
from sfumato.events import NodeFailed
from sfumato.graph import Graph, GraphBuilder, Node
from sfumato.offers import (
    FileFormatOffer,
    InpaintFillOffer,
    LoraFormatOffer,
    ModelFamilyOffer,
    PreprocessorOffer,
    SamplerOffer,
    ScheduleOffer,
    UpscalerOffer,
)
from sfumato.plugin_manager import PluginManager
from sfumato.request import GenerateRequest


@pytest.fixture
def with_hooks(plugin_of: Any) -> Callable[..., PluginManager]:
    """A manager that knows one plugin, "stranger", with these hooks."""

    def make(**hooks: Callable[..., Any]) -> PluginManager:
        manager = PluginManager(environment={})
        info = manager.add(plugin_of(**hooks), "stranger")
        assert info.state == "active", info.error
        return manager

    return make


# --- What there is -------------------------------------------------------------------------------------------------------


def test_register_nodes(with_hooks: Any, bench: Any) -> None:
    manager = with_hooks(register_nodes=lambda: [bench.catalogue.get("Number")])
    catalogue = Catalogue()
    for plugin, types in manager.nodes_by_plugin().items():
        catalogue.add(types, plugin)
    assert catalogue.offered_by("Number") == "stranger"


@pytest.mark.parametrize(
    ("hook", "offer"),
    [
        ("register_samplers", SamplerOffer("swirl", "stranger.samplers:swirl")),
        ("register_schedules", ScheduleOffer("slow start", "stranger.schedules:slow")),
        ("register_preprocessors", PreprocessorOffer("edges", "stranger.edges:edges", options={"low": 0.1})),
        ("register_lora_formats", LoraFormatOffer("swirl", "stranger.lora:read")),
        ("register_upscalers", UpscalerOffer("swirl", "stranger.upscale:read")),
        ("register_model_families", ModelFamilyOffer("swirl", "stranger.family:FAMILY", recognise="stranger.recognise:recognise")),
        ("register_inpaint_fills", InpaintFillOffer("swirl", "stranger.fill:fill")),
        ("register_file_formats", FileFormatOffer("swirl", "stranger.files:SWIRL", endings=(".swl",))),
    ],
)
def test_what_a_stranger_offers_is_there_without_its_code_being_loaded(with_hooks: Any, hook: str, offer: Any) -> None:
    manager = with_hooks(**{hook: lambda: [offer]})
    assert getattr(manager, hook)() == [offer]
    with pytest.raises(PluginError, match="cannot be loaded"):
        offer.load()


def test_register_samplers(with_hooks: Any) -> None:
    assert with_hooks(register_samplers=lambda: [SamplerOffer("root", "math:sqrt")]).register_samplers()[0].load()(9) == 3


def test_register_schedules(with_hooks: Any) -> None:
    assert with_hooks(register_schedules=lambda: [ScheduleOffer("root", "math:sqrt")]).register_schedules()[0].load()(9) == 3


def test_register_preprocessors(with_hooks: Any) -> None:
    offer = PreprocessorOffer("root", "math:sqrt", "takes the root", {"low": 1})
    assert with_hooks(register_preprocessors=lambda: [offer]).register_preprocessors() == [offer]


def test_register_lora_formats(with_hooks: Any, plugin_of: Any) -> None:
    manager = with_hooks(register_lora_formats=lambda: [LoraFormatOffer("a", "x:y"), LoraFormatOffer("b", "x:y")])
    manager.add(plugin_of(register_lora_formats=lambda: [LoraFormatOffer("c", "x:y")]), "later")
    assert [offer.name for offer in manager.register_lora_formats()] == ["a", "b", "c"], "tried in the order of loading"


def test_register_upscalers(with_hooks: Any) -> None:
    assert with_hooks(register_upscalers=lambda: [UpscalerOffer("root", "math:sqrt")]).register_upscalers()[0].load()(4) == 2


def test_register_model_families(with_hooks: Any) -> None:
    manager = with_hooks(register_model_families=lambda: [ModelFamilyOffer("f", "math:pi", recognise="math:sqrt")])
    (family,) = manager.register_model_families()
    assert family.load_recogniser()(16) == 4
    assert family.load() == pytest.approx(3.14159, abs=1e-5)


def test_register_inpaint_fills(with_hooks: Any) -> None:
    assert with_hooks(register_inpaint_fills=lambda: (InpaintFillOffer("root", "math:sqrt"),)).register_inpaint_fills()[0].name == "root"


def test_register_file_formats(with_hooks: Any) -> None:
    offer = FileFormatOffer("swirl", "math:pi", endings=(".swl", ".swirl"))
    assert with_hooks(register_file_formats=lambda: [offer]).register_file_formats()[0].endings == (".swl", ".swirl")


# --- From a request to a graph, and where it runs ------------------------------------------------------------------------


def test_recipe_for(with_hooks: Any) -> None:
    def recipe_for(request: GenerateRequest) -> Graph | None:
        return Graph({"1": Node("Swirl", {"words": request.prompt})}) if "swirl" in request.prompt else None

    manager = with_hooks(recipe_for=recipe_for)
    assert manager.recipe_for(GenerateRequest(prompt="a swirl")) == Graph({"1": Node("Swirl", {"words": "a swirl"})})
    assert manager.recipe_for(GenerateRequest(prompt="a house")) is None


def test_backend_for(with_hooks: Any) -> None:
    manager = with_hooks(backend_for=lambda name, app: f"{name} for {app}" if name == "far" else None)
    assert manager.backend_for("far", "an app") == "far for an app"
    assert manager.backend_for("near", "an app") is None


def test_serve(with_hooks: Any) -> None:
    manager = with_hooks(serve=lambda options: options["exit"])
    assert manager.serve("an app", {"exit": 3}) == 3
    assert PluginManager(environment={}).serve("an app", {}) is None


def test_open_window(with_hooks: Any) -> None:
    manager = with_hooks(open_window=lambda app, file: len(file.name))
    assert manager.open_window("an app", Path("a.ora")) == 5
    assert PluginManager(environment={}).open_window("an app", None) is None


# --- While a graph runs --------------------------------------------------------------------------------------------------


def test_before_node(with_hooks: Any, make_bench: Any, build: GraphBuilder) -> None:
    seen: list[Any] = []
    manager = with_hooks(before_node=lambda node_id, node_type, inputs: seen.append((node_id, node_type, inputs)))
    number = build.node("Number", value=2)
    bench = make_bench(None, manager)
    for _ in range(2):  # the second time it is cached, and no hook is called
        bench.run(build, [number.id])
    assert seen == [("1", "Number", {"value": 2})]


def test_a_failing_before_node_fails_the_node_and_says_whose_hook_it_was(with_hooks: Any, make_bench: Any, build: GraphBuilder) -> None:
    def before_node(node_type: str) -> None:
        raise ValueError(f"no {node_type} today")

    number = build.node("Number", value=2)
    bench = make_bench(None, with_hooks(before_node=before_node))
    with pytest.raises(PluginError, match=r"node 1 \(Number\), plugin stranger: before_node failed: ValueError: no Number today"):
        bench.run(build, [number.id])
    assert len(bench.of(NodeFailed)) == 1


def test_after_node(with_hooks: Any, make_bench: Any, build: GraphBuilder) -> None:
    seen: list[Any] = []
    manager = with_hooks(after_node=lambda node_id, outputs: seen.append((node_id, outputs)))
    make_bench(None, manager).run(build, [build.node("Double", value=build.node("Number", value=2).out()).id])
    assert seen == [("1", (2,)), ("2.0.1", (4,)), ("2", (4,))]


def test_node_failed(with_hooks: Any, make_bench: Any, build: GraphBuilder) -> None:
    seen: list[Any] = []

    def node_failed(node_id: str, error: Exception) -> None:
        seen.append((node_id, str(error)))
        raise ValueError("and the hook, too")

    failing = build.node("Fail", value=1)
    with pytest.raises(NodeError, match="cannot use 1") as caught:
        make_bench(None, with_hooks(node_failed=node_failed)).run(build, [failing.id])
    assert seen == [("1", "node 1 (Fail): ValueError: cannot use 1")]
    assert "plugin stranger" in caught.value.__notes__[0], "the first error stays the error of the run"


def test_before_step(with_hooks: Any) -> None:
    seen: list[Any] = []
    with_hooks(before_step=lambda step, total, sigma, x: seen.append((step, total, sigma, x))).before_step(1, 20, 14.6, "latent")
    assert seen == [(1, 20, 14.6, "latent")]


def test_after_step(with_hooks: Any) -> None:
    seen: list[Any] = []
    with_hooks(after_step=lambda step, denoised: seen.append((step, denoised))).after_step(1, 20, 14.6, "latent", "clean")
    assert seen == [(1, "clean")]
