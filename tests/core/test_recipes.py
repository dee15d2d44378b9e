"""From a request to a graph: every kind of picture is built of the right nodes, and every graph passes the checks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sfumato.app import App
from sfumato.catalogue import Catalogue
from sfumato.errors import PluginError
from sfumato.graph import Graph, GraphBuilder, Link, Node
from sfumato.recipes import graph_for, picture_of, saver_of
from sfumato.request import Borders, ControlUse, GenerateRequest, LoraUse, UpscaleUse
from sfumato.validation import validate

TEXT = GenerateRequest("a red circle", "blurry", width=128, height=64, steps=7, cfg=3.5, sampler="euler", schedule="normal", seed=9)
PICTURE = replace(TEXT, image="in.png", strength=0.4)


def only(graph: Graph, kind: str) -> Node:
    """The one node of a type."""
    (node,) = [node for node in graph.nodes.values() if node.type == kind]
    return node


def kinds(graph: Graph) -> list[str]:
    return [node.type for node in graph.nodes.values()]


def source(graph: Graph, node: Node, name: str) -> Node:
    """The node that feeds an input."""
    link = node.inputs[name]
    assert isinstance(link, Link)
    return graph.nodes[link.node]


def test_words_become_a_picture() -> None:
    graph = graph_for(TEXT)
    assert sorted(kinds(graph)) == [
        "CLIPTextEncode", "CLIPTextEncode", "CheckpointLoaderSimple", "EmptyLatentImage", "KSampler", "SaveImage", "VAEDecode",
    ]  # fmt: skip
    sampler = only(graph, "KSampler")
    settings = {name: value for name, value in sampler.inputs.items() if not isinstance(value, Link)}
    assert settings == {"seed": 9, "steps": 7, "cfg": 3.5, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    assert source(graph, sampler, "positive").inputs["text"] == "a red circle"
    assert source(graph, sampler, "negative").inputs["text"] == "blurry"
    assert source(graph, sampler, "latent_image").inputs == {"width": 128, "height": 64, "batch_size": 1}
    assert only(graph, "CheckpointLoaderSimple").inputs == {"ckpt_name": "embedded"}


def test_the_strength_counts_only_where_there_is_a_picture() -> None:
    assert only(graph_for(replace(TEXT, strength=0.3)), "KSampler").inputs["denoise"] == 1.0
    assert only(graph_for(PICTURE), "KSampler").inputs["denoise"] == 0.4


def test_a_picture_is_scaled_and_encoded() -> None:
    graph = graph_for(PICTURE)
    encoded = source(graph, only(graph, "KSampler"), "latent_image")
    scaled = source(graph, encoded, "pixels")
    assert (encoded.type, scaled.type, source(graph, scaled, "image").inputs["image"]) == ("VAEEncode", "ImageScale", "in.png")
    assert (scaled.inputs["width"], scaled.inputs["height"]) == (128, 64)
    assert "ImageCompositeMasked" not in kinds(graph)


def chain(graph: Graph, node: Node, *names: str) -> list[str]:
    """The types of the nodes that one comes to by these inputs, one after the other."""
    found = []
    for name in names:
        node = source(graph, node, name)
        found.append(node.type)
    return found


def test_a_masked_picture_is_cropped_to_the_model_and_stitched_under_protection() -> None:
    graph = graph_for(replace(PICTURE, mask="mask.png"))
    crop = only(graph, "InpaintCrop")
    assert chain(graph, crop, "image", "image") == ["ImageScale", "LoadImage"]
    assert chain(graph, crop, "mask") == ["LoadImageMask"] and chain(graph, crop, "model") == ["CheckpointLoaderSimple"]
    sampler = only(graph, "KSampler")
    assert chain(graph, sampler, "latent_image", "samples", "pixels") == ["SetLatentNoiseMask", "VAEEncode", "InpaintCrop"]
    stitched = graph.nodes[picture_of(graph).node]
    assert stitched.type == "InpaintStitch" and stitched.inputs["protect"] is True and stitched.inputs["edge"] == "inward"
    expected = ["SeamFit", "ColorMatchMasked", "InpaintSecondPass", "VAEDecode"]
    assert chain(graph, stitched, "image", "image", "image", "image") == expected


def test_more_than_the_selection_is_repainted_and_only_the_selection_is_laid_in() -> None:
    graph = graph_for(replace(PICTURE, mask="mask.png"))
    hole = source(graph, only(graph, "SetLatentNoiseMask"), "mask")
    assert hole.type == "MaskEdge" and hole.inputs["grow"] == 8
    assert source(graph, only(graph, "SeamFit"), "mask").type == "InpaintSecondPass"


def test_a_hole_painted_at_full_strength_does_not_see_what_was_there() -> None:
    full = graph_for(replace(PICTURE, mask="mask.png", strength=1.0))
    assert source(full, only(full, "VAEEncode"), "pixels").type == "InpaintFill"
    assert "InpaintFill" not in kinds(graph_for(replace(PICTURE, mask="mask.png")))


def test_a_control_picture_is_cropped_like_the_picture() -> None:
    graph = graph_for(replace(PICTURE, mask="mask.png", controls=(ControlUse("canny", "a.png"),)))
    applied = only(graph, "ControlNetApplyAdvanced")
    assert chain(graph, applied, "image", "image", "image") == ["Preprocess", "InpaintCropAlike", "ImageScale"]


def test_a_model_made_for_inpainting_gets_picture_and_mask_itself() -> None:
    graph = graph_for(replace(PICTURE, mask="mask.png", inpainting_model=True))
    sampler = only(graph, "KSampler")
    assert {source(graph, sampler, name).type for name in ("positive", "negative", "latent_image")} == {"InpaintModelConditioning"}
    assert [sampler.inputs[name].slot for name in ("positive", "negative", "latent_image")] == [0, 1, 2]
    assert "SetLatentNoiseMask" not in kinds(graph)


def test_a_border_is_painted_around_the_picture_in_the_size_of_the_result() -> None:
    graph = graph_for(replace(PICTURE, width=128, height=128, outpaint=Borders(left=32, bottom=64)))
    padded = only(graph, "ImagePadForOutpaint")
    scaled = source(graph, padded, "image")
    assert (scaled.inputs["width"], scaled.inputs["height"]) == (96, 64)
    assert {n: padded.inputs[n] for n in ("left", "top", "right", "bottom", "feathering")} == {
        "left": 32, "top": 0, "right": 0, "bottom": 64, "feathering": 0,
    }  # fmt: skip
    crop = only(graph, "InpaintCrop")
    assert chain(graph, crop, "image", "image") == ["InpaintFill", "ImagePadForOutpaint"]
    assert source(graph, crop, "mask") is padded


def test_a_mask_besides_a_border_counts_too() -> None:
    graph = graph_for(replace(PICTURE, mask="mask.png", outpaint=Borders(left=32)))
    joined = source(graph, only(graph, "InpaintCrop"), "mask")
    assert (joined.type, joined.inputs["operation"], joined.inputs["x"]) == ("MaskComposite", "add", 32)
    assert source(graph, joined, "destination").type == "ImagePadForOutpaint"


def test_loras_stand_one_on_the_other_for_network_and_text() -> None:
    graph = graph_for(replace(TEXT, loras=(LoraUse("a", 0.5), LoraUse("b", -1.0)), clip_skip=2))
    second = source(graph, only(graph, "KSampler"), "model")
    first = source(graph, second, "model")
    assert [node.inputs["lora_name"] for node in (first, second)] == ["a", "b"]
    assert second.inputs["strength_model"] == second.inputs["strength_clip"] == -1.0
    assert second.inputs["clip"].slot == 1
    assert source(graph, first, "clip").inputs["stop_at_clip_layer"] == -2
    assert all(source(graph, node, "clip") is second for node in graph.nodes.values() if node.type == "CLIPTextEncode")


def test_controls_stand_one_after_the_other_on_both_texts() -> None:
    controls = (ControlUse("canny", "a.png", 0.8, 0.1, 0.6), ControlUse("depth", "b.png", prepared=True, model="my depth"))
    graph = graph_for(replace(TEXT, controls=controls))
    second = source(graph, only(graph, "KSampler"), "positive")
    first = source(graph, second, "positive")
    assert second is source(graph, only(graph, "KSampler"), "negative")
    assert {n: first.inputs[n] for n in ("strength", "start_percent", "end_percent")} == {
        "strength": 0.8, "start_percent": 0.1, "end_percent": 0.6,
    }  # fmt: skip
    assert source(graph, first, "image").inputs["preprocessor"] == "canny"
    assert source(graph, second, "image").type == "ImageScale"  # it is a control picture already
    assert [source(graph, node, "control_net").inputs["control_net_name"] for node in (first, second)] == ["canny", "my depth"]


@pytest.mark.parametrize(("factor", "size"), [(0.0, None), (1.5, (192, 96))])
def test_an_upscaler_comes_last(factor: float, size: tuple[int, int] | None) -> None:
    graph = graph_for(replace(TEXT, upscale=UpscaleUse("fast", factor)))
    last = graph.nodes[picture_of(graph).node]
    assert last.type == ("ImageScale" if size else "ImageUpscaleWithModel")
    if size:
        assert (last.inputs["width"], last.inputs["height"]) == size


def test_a_batch_repeats_the_picture_it_starts_from() -> None:
    assert only(graph_for(replace(TEXT, batch=4)), "EmptyLatentImage").inputs["batch_size"] == 4
    graph = graph_for(replace(PICTURE, batch=4, mask="mask.png"))
    assert only(graph, "RepeatLatentBatch").inputs["amount"] == 4


def test_a_vae_of_its_own_encodes_and_decodes() -> None:
    graph = graph_for(replace(PICTURE, vae="mine"))
    assert {source(graph, only(graph, kind), "vae").type for kind in ("VAEEncode", "VAEDecode")} == {"VAELoader"}


def test_the_same_request_gives_the_same_graph() -> None:
    assert graph_for(PICTURE) == graph_for(replace(PICTURE))
    assert graph_for(PICTURE) != graph_for(replace(PICTURE, seed=10))


def test_a_graph_that_saves_nothing_is_told() -> None:
    build = GraphBuilder()
    build.node("VAEDecode")
    with pytest.raises(PluginError, match="saves no picture"):
        picture_of(build.graph())


@pytest.fixture(scope="module")
def catalogue(app: App) -> Catalogue:
    """All node types, with choices that hold what the requests here name."""
    whole = Catalogue()
    for name, types in app.plugins.nodes_by_plugin().items():
        whole.add(types, name)
    there = {
        "models": ["embedded", "a", "b", "mine", "canny", "depth", "my depth", "fast"],
        "images": ["in.png", "mask.png", "a.png", "b.png"],
    }
    for kind in ("samplers", "schedules", "preprocessors", "fills"):
        whole.add_source(kind, lambda source: app.catalogue.resolve(source))
    for kind, names in there.items():
        whole.add_source(kind, lambda source, names=names: names)  # type: ignore[misc]
    return whole


EVERYTHING: dict[str, dict[str, Any]] = {
    "words": {},
    "picture": {"image": "in.png"},
    "mask": {"image": "in.png", "mask": "mask.png"},
    "inpainting model": {"image": "in.png", "mask": "mask.png", "inpainting_model": True},
    "border": {"image": "in.png", "outpaint": Borders(8, 16, 0, 8)},
    "mask and border": {"image": "in.png", "mask": "mask.png", "outpaint": Borders(right=64)},
    "loras": {"loras": (LoraUse("a"), LoraUse("b", 0.3))},
    "controls": {"controls": (ControlUse("canny", "a.png"), ControlUse("depth", "b.png", prepared=True, model="my depth"))},
    "upscaler": {"upscale": UpscaleUse("fast")},
    "upscaler by a factor": {"upscale": UpscaleUse("fast", 1.7)},
    "vae and skip": {"vae": "mine", "clip_skip": 2},
}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", [*EVERYTHING, "all at once"])
def test_every_recipe_passes_the_check_of_its_nodes(catalogue: Catalogue, name: str, batch: int) -> None:
    merged = {key: value for values in EVERYTHING.values() for key, value in values.items()}
    changes = merged if name == "all at once" else EVERYTHING[name]
    request = replace(TEXT, width=256, height=256, batch=batch, **changes).checked()
    graph = graph_for(request)
    validation = validate(graph, catalogue)
    assert validation.faults == ()
    assert validation.good_targets == (saver_of(graph),)
    assert graph.cycles() == []
