"""The usual nodes: each does what its name says, with ComfyUI's names and sockets, and the sampling nodes agree with each other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

import sfumato_nodes
from sfumato.app import App
from sfumato.backends.in_process import Context, InProcessBackend
from sfumato.engine.samplers import SAMPLERS
from sfumato.engine.sampling import NoNoise, RandomNoise
from sfumato.engine.schedules import SCHEDULES
from sfumato.errors import ImageFileError, ModelMissingError, SfumatoError
from sfumato.graph import Graph, GraphBuilder, Link
from sfumato.nodes import MISSING
from sfumato.progress import Progress
from sfumato.recipes import graph_for, picture_of
from sfumato.request import GenerateRequest
from sfumato.runner import Runner, RunResult
from sfumato_nodes import conditioning, images, latents, masks, models, schedules, vae
from sfumato_nodes.loaders import state_of


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# --- Declarations --------------------------------------------------------------------------------------------------------


def test_declaring_all_nodes_imports_no_torch() -> None:
    code = "import sys, sfumato_nodes as n; [n.register_nodes(), n.register_schedules()]; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_all_samplers_and_schedules_of_the_engine_are_offered_and_load() -> None:
    assert {offer.name for offer in sfumato_nodes.register_samplers()} == set(SAMPLERS)
    assert {offer.name for offer in sfumato_nodes.register_schedules()} == set(SCHEDULES)
    for offer in [*sfumato_nodes.register_samplers(), *sfumato_nodes.register_schedules()]:
        assert callable(offer.load())


def test_every_node_has_words_a_category_and_outputs_or_is_one() -> None:
    for node_type in sfumato_nodes.register_nodes():
        assert node_type.description, node_type.name
        assert node_type.category, node_type.name
        assert node_type.outputs or node_type.is_output, node_type.name


INTERFACES = {
    "CheckpointLoaderSimple": ("ckpt_name", "MODEL CLIP VAE"),
    "CLIPTextEncode": ("text clip dialect", "CONDITIONING"),
    "EmptyLatentImage": ("width height batch_size", "LATENT"),
    "KSampler": ("model seed steps cfg sampler_name scheduler positive negative latent_image denoise", "LATENT"),
    "KSamplerAdvanced": (
        "model add_noise noise_seed steps cfg sampler_name scheduler positive negative latent_image start_at_step end_at_step "
        "return_with_leftover_noise",
        "LATENT",
    ),
    "SamplerCustom": ("model add_noise noise_seed cfg positive negative sampler sigmas latent_image", "LATENT LATENT"),
    "SamplerCustomAdvanced": ("noise guider sampler sigmas latent_image", "LATENT LATENT"),
    "VAEDecode": ("samples vae", "IMAGE"),
    "VAEEncode": ("pixels vae", "LATENT"),
    "VAEEncodeForInpaint": ("pixels vae mask grow_mask_by", "LATENT"),
    "InpaintModelConditioning": ("positive negative vae pixels mask noise_mask", "CONDITIONING CONDITIONING LATENT"),
    "LoadImage": ("image", "IMAGE MASK"),
    "SaveImage": ("images filename_prefix", ""),
    "ImageScale": ("image upscale_method width height crop", "IMAGE"),
    "ImageCompositeMasked": ("destination source x y resize_source mask", "IMAGE"),
    "ImagePadForOutpaint": ("image left top right bottom feathering", "IMAGE MASK"),
    "LatentUpscaleBy": ("samples upscale_method scale_by", "LATENT"),
    "BasicScheduler": ("model scheduler steps denoise", "SIGMAS"),
    "SplitSigmas": ("sigmas step", "SIGMAS SIGMAS"),
    "ConditioningSetArea": ("conditioning width height x y strength", "CONDITIONING"),
    "ConditioningSetMask": ("conditioning mask strength set_cond_area", "CONDITIONING"),
    "RescaleCFG": ("model multiplier", "MODEL"),
    "GrowMask": ("mask expand tapered_corners", "MASK"),
}


@pytest.mark.parametrize("name", INTERFACES)
def test_interfaces_are_comfyuis(name: str) -> None:
    node_type = next(t for t in sfumato_nodes.register_nodes() if t.name == name)
    inputs, outputs = INTERFACES[name]
    assert [socket.name for socket in node_type.inputs] == inputs.split()
    assert [socket.type for socket in node_type.outputs] == outputs.split()


# --- Latents -------------------------------------------------------------------------------------------------------------


def test_an_empty_latent_is_an_eighth_of_the_picture() -> None:
    (latent,) = latents.empty_latent_image(128, 64, 3)
    assert latent["samples"].shape == (3, 4, 8, 16)
    assert latent["samples"].abs().max() == 0


@pytest.mark.parametrize(("width", "height", "shape"), [(128, 64, (8, 16)), (0, 128, (16, 32)), (64, 0, (8, 8)), (0, 0, (8, 16))])
def test_a_latent_is_enlarged_to_a_size_in_pixels(width: int, height: int, shape: tuple[int, int]) -> None:
    (found,) = latents.latent_upscale({"samples": random(1, 4, 8, 16), "batch_index": [3]}, "bilinear", width, height)
    assert found["samples"].shape[2:] == shape
    assert found["batch_index"] == [3]


def test_a_latent_is_enlarged_by_a_factor() -> None:
    (found,) = latents.latent_upscale_by({"samples": random(1, 4, 8, 6)}, "nearest-exact", 1.5)
    assert found["samples"].shape == (1, 4, 12, 9)
    (tiny,) = latents.latent_upscale_by({"samples": random(1, 4, 8, 6)}, "nearest-exact", 0.01)
    assert tiny["samples"].shape == (1, 4, 1, 1)


def test_latents_repeat_with_places_of_their_own() -> None:
    latent: dict[str, Any] = {"samples": random(2, 4, 2, 2), "batch_index": [3, 5], "noise_mask": random(2, 1, 16, 16)}
    (found,) = latents.repeat_latent_batch(latent, 3)
    assert found["samples"].shape[0] == found["noise_mask"].shape[0] == 6
    assert torch.equal(found["samples"][4:], latent["samples"])
    assert found["batch_index"] == [3, 5, 6, 8, 9, 11]


def test_a_latent_taken_out_of_a_batch_keeps_its_place() -> None:
    latent: dict[str, Any] = {"samples": random(4, 4, 2, 2), "noise_mask": random(4, 1, 16, 16)}
    (found,) = latents.latent_from_batch(latent, 2, 2)
    assert (found["batch_index"], found["samples"].shape[0]) == ([2, 3], 2)
    assert torch.equal(found["noise_mask"], latent["noise_mask"][2:])
    (again,) = latents.latent_from_batch(found, 1, 5)
    assert again["batch_index"] == [3]
    (beyond,) = latents.latent_from_batch(latent, 60, 1)
    assert torch.equal(beyond["samples"], latent["samples"][3:])


def test_a_latent_is_laid_onto_another() -> None:
    below: dict[str, Any] = {"samples": torch.zeros(1, 4, 8, 8)}
    above = {"samples": torch.ones(1, 4, 4, 4)}
    (found,) = latents.latent_composite(below, above, 32, 16)
    assert torch.equal(found["samples"][0, 0, 2:6, 4:8], torch.ones(4, 4))
    assert found["samples"].sum() == 64
    (soft,) = latents.latent_composite(below, above, 32, 16, 16)
    assert soft["samples"][0, 0, 3].tolist()[4:] == pytest.approx([0.5, 1.0, 1.0, 1.0])  # fades only where the other goes on
    (cut,) = latents.latent_composite(below, above, 56, 56)
    assert cut["samples"].sum() == 4
    (outside,) = latents.latent_composite(below, above, 800, 0)
    assert torch.equal(outside["samples"], below["samples"])
    assert below["samples"].abs().max() == 0


# --- Masks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tapered", [True, False])
@pytest.mark.parametrize("expand", [0, 1, 3, -1, -2])
def test_masks_grow_and_shrink_as_morphology_says(expand: int, tapered: bool) -> None:
    mask = (random(2, 20, 24) > 0.8).float()
    shape = ndimage.generate_binary_structure(2, 1 if tapered else 2)
    work = ndimage.binary_dilation if expand > 0 else ndimage.binary_erosion
    (found,) = masks.grow_mask(mask, expand, tapered)
    for one, result in zip(mask, found, strict=True):
        edge = {} if expand > 0 else {"border_value": 1}
        wanted = one.numpy() > 0 if expand == 0 else work(one.numpy() > 0, shape, iterations=abs(expand), **edge)
        assert np.array_equal(result.numpy() > 0, wanted)


def test_a_mask_is_feathered_from_its_borders() -> None:
    (found,) = masks.feather_mask(torch.ones(1, 4, 6), left=2, bottom=4)
    assert found[0, 0].tolist() == pytest.approx([0.5, 1, 1, 1, 1, 1])
    assert found[0, :, 5].tolist() == pytest.approx([1, 0.75, 0.5, 0.25])


OPERATIONS: dict[str, Callable[[float, float], float]] = {
    "multiply": lambda a, b: a * b,
    "add": lambda a, b: min(a + b, 1),
    "subtract": lambda a, b: max(a - b, 0),
    "and": lambda a, b: float(a > 0.5 and b > 0.5),
    "or": lambda a, b: float(a > 0.5 or b > 0.5),
    "xor": lambda a, b: float((a > 0.5) != (b > 0.5)),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_two_masks_make_one(operation: str) -> None:
    tones = torch.tensor([0.0, 0.2, 0.6, 1.0])
    below, above = tones.repeat_interleave(4)[None, None], tones.repeat(4)[None, None]
    (found,) = masks.mask_composite(below, above, 0, 0, operation)  # type: ignore[arg-type]
    wanted = [OPERATIONS[operation](float(a), float(b)) for a, b in zip(below.flatten(), above.flatten(), strict=True)]
    assert found.flatten().tolist() == pytest.approx(wanted)


def test_a_mask_is_laid_into_another_at_its_place() -> None:
    (found,) = masks.mask_composite(torch.zeros(1, 4, 6), torch.ones(1, 3, 3), 4, 2, "add")
    assert found.sum() == 4
    assert torch.equal(found[0, 2:, 4:], torch.ones(2, 2))
    (outside,) = masks.mask_composite(torch.zeros(1, 4, 6), torch.ones(1, 3, 3), 40, 2, "add")
    assert outside.sum() == 0


def test_masks_and_pictures_turn_into_each_other() -> None:
    picture = random(2, 4, 5, 4)
    for place, channel in enumerate(("red", "green", "blue", "alpha")):
        assert torch.equal(masks.image_to_mask(picture, channel)[0], picture[..., place])  # type: ignore[arg-type]
    assert masks.image_to_mask(picture[..., :3], "alpha")[0].min() == 1
    (back,) = masks.mask_to_image(picture[..., 0])
    assert torch.equal(back, picture[..., :1].expand(-1, -1, -1, 3))


def test_small_masks() -> None:
    assert torch.equal(masks.solid_mask(0.25, 6, 4)[0], torch.full((1, 4, 6), 0.25))
    assert torch.equal(masks.invert_mask(torch.tensor([[[0.25]]]))[0], torch.tensor([[[0.75]]]))
    assert masks.threshold_mask(torch.tensor([[[0.5, 0.6]]]), 0.5)[0].tolist() == [[[0, 1]]]
    mask = random(1, 6, 8)
    assert torch.equal(masks.crop_mask(mask, 2, 1, 3, 4)[0], mask[:, 1:5, 2:5])


# --- Pictures ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height", "size"), [(10, 6, (6, 10)), (0, 8, (8, 16)), (4, 0, (2, 4)), (0, 0, (4, 8))])
def test_a_picture_is_scaled_to_a_size(width: int, height: int, size: tuple[int, int]) -> None:
    (found,) = images.image_scale(random(2, 4, 8, 3), "bilinear", width, height)
    assert found.shape == (2, *size, 3)


def test_a_picture_is_scaled_by_a_factor_and_to_a_number_of_pixels() -> None:
    assert images.image_scale_by(random(1, 4, 8, 3), "area", 0.5)[0].shape == (1, 2, 4, 3)
    (found,) = images.image_scale_to_total_pixels(random(1, 16, 64, 3), "nearest-exact", 0.25)
    assert found.shape[1] * found.shape[2] == pytest.approx(0.25 * 1024 * 1024, rel=0.01)
    assert found.shape[2] / found.shape[1] == 4


def test_a_rectangle_is_cut_and_stays_inside() -> None:
    picture = random(1, 8, 10, 3)
    assert torch.equal(images.image_crop(picture, 4, 3, 5, 2)[0], picture[:, 2:5, 5:9])
    assert images.image_crop(picture, 4, 3, 99, 99)[0].shape == (1, 1, 1, 3)


def test_two_batches_become_one() -> None:
    first, second = random(2, 4, 6, 3), random(1, 8, 8, 4)
    (found,) = images.image_batch(first, second)
    assert found.shape == (3, 4, 6, 3)
    assert torch.equal(found[:2], first)


def test_one_colour() -> None:
    (found,) = images.empty_image(3, 2, 2, 0xFF8000)
    assert found.shape == (2, 2, 3, 3)
    assert found[1, 1, 2].tolist() == pytest.approx([1, 128 / 255, 0])


def test_a_picture_is_laid_over_another_where_the_mask_says() -> None:
    below, above = torch.zeros(2, 4, 6, 3), torch.ones(1, 2, 2, 3)
    (whole,) = images.image_composite_masked(below, above, 1, 1)
    assert whole.sum() == 2 * 4 * 3
    (soft,) = images.image_composite_masked(below, above, 5, 1, False, torch.full((1, 8, 8), 0.5))
    assert torch.equal(soft[:, 1:3, 5], torch.full((2, 2, 3), 0.5))
    (resized,) = images.image_composite_masked(below, above, 0, 0, True, torch.ones(1, 4, 6))
    assert resized.min() == 1
    assert below.abs().max() == 0
    (outside,) = images.image_composite_masked(below, above, 60, 0)
    assert torch.equal(outside, below)


def test_a_picture_is_inverted_and_padded() -> None:
    assert torch.allclose(images.image_invert(torch.tensor([0.25]))[0], torch.tensor([0.75]))
    grown, mask = images.image_pad_for_outpaint(random(1, 8, 8, 3), 8, 0, 0, 8, 0)
    assert grown.shape == (1, 16, 16, 3)
    assert mask.sum() == 256 - 64


# --- Conditioning --------------------------------------------------------------------------------------------------------


def text(value: float, length: int = 77) -> list[Any]:
    return [[torch.full((1, length, 4), value), {"pooled_output": torch.full((1, 4), value), "other": 1}]]


def test_texts_are_combined_joined_and_mixed() -> None:
    assert len(conditioning.conditioning_combine(text(1.0), text(2.0))[0]) == 2
    ((joined, _),) = conditioning.conditioning_concat(text(1.0), text(2.0, 154))[0]
    assert joined.shape == (1, 231, 4)
    assert joined[0, 100, 0] == 2
    ((mixed, options),) = conditioning.conditioning_average(text(1.0, 154), text(3.0), 0.25)[0]
    assert mixed[0, 0, 0] == 2.5
    assert mixed[0, 100, 0] == 0.25
    assert options["pooled_output"][0, 0] == 2.5


def test_options_are_added_and_the_source_is_not_touched() -> None:
    source = text(1.0)
    ((_, area),) = conditioning.conditioning_set_area(source, 64, 128, 8, 16, 0.5)[0]
    assert {name: area[name] for name in ("area", "strength", "other")} == {"area": (16, 8, 2, 1), "strength": 0.5, "other": 1}
    ((_, share),) = conditioning.conditioning_set_area_percentage(source, 0.5, 0.25, 0.1, 0.2, 1.0)[0]
    assert share["area"] == ("percentage", 0.25, 0.5, 0.2, 0.1)
    ((_, mask),) = conditioning.conditioning_set_mask(source, torch.ones(8, 8), 0.7, "mask bounds")[0]
    assert (mask["mask"].shape, mask["mask_strength"], mask["set_area_to_bounds"]) == ((1, 8, 8), 0.7, True)
    ((_, way),) = conditioning.conditioning_set_timestep_range(source, 0.2, 0.8)[0]
    assert (way["start_percent"], way["end_percent"]) == (0.2, 0.8)
    assert set(source[0][1]) == {"pooled_output", "other"}


def test_no_text_at_all_is_zeros() -> None:
    ((nothing, options),) = conditioning.conditioning_zero_out(text(1.0))[0]
    assert nothing.abs().max() == options["pooled_output"].abs().max() == 0


# --- Sigmas and models ---------------------------------------------------------------------------------------------------


def test_sigmas_are_split_and_turned() -> None:
    levels = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0])
    high, low = schedules.split_sigmas(levels, 3)
    assert (high.tolist(), low.tolist()) == ([4, 3, 2, 1], [1, 0])
    high, low = schedules.split_sigmas_denoise(levels, 0.5)
    assert (high.tolist(), low.tolist()) == ([4, 3, 2], [2, 1, 0])
    high, low = schedules.split_sigmas_denoise(levels, 0.0)
    assert (high.tolist(), low.tolist()) == ([4, 3, 2, 1, 0], [0])
    assert schedules.flip_sigmas(levels)[0].tolist() == pytest.approx([0.0001, 1, 2, 3, 4])
    assert levels[0] == 4
    assert len(schedules.flip_sigmas(torch.zeros(0))[0]) == 0


def test_a_model_is_changed_in_a_copy(embedded: tuple[Any, Any, Any]) -> None:
    model = embedded[0]
    changes = [
        models.rescale_cfg(model, 0.5),
        models.dynamic_thresholding_simple(model, 5.0, 0.9),
        models.perturbed_attention_guidance(model, 2.0),
        models.skip_layer_guidance(model, 2.0, "1, 3 x"),
        models.differential_diffusion(model, 1.0),
        models.model_sampling_discrete(model, "eps", True),
    ]
    for (changed,) in changes:
        assert changed != model
        assert changed.weights is model.weights
    assert changes[-1][0].sampling.prediction == "eps"
    assert float(changes[-1][0].sampling.sigma_max) > 4000
    assert model.combine is None


# --- At work -------------------------------------------------------------------------------------------------------------


class Bench:
    """Graphs of these nodes, run by the real kernel in folders of its own."""

    def __init__(self, app: App, folder: Path) -> None:
        self.app = app
        for name in ("input", "output", "temp"):
            (folder / name).mkdir()
        self.folders = replace(app.run_folders(), input=folder / "input", output=folder / "output", temp=folder / "temp")
        self.backend = InProcessBackend(Runner(app.catalogue), app.services, self.folders)
        self.app.catalogue.add_source("images", lambda source: self.folders.names())

    def run(self, build: GraphBuilder, *targets: Any) -> RunResult:
        """Run a graph, what it leaves out filled with the nodes' defaults, as a window does."""
        nodes = {key: replace(node, inputs={**self._defaults(node.type), **node.inputs}) for key, node in build.graph().nodes.items()}
        found: RunResult = self.backend.run(Graph(nodes), [target.id for target in targets])
        return found

    def _defaults(self, kind: str) -> dict[str, Any]:
        node_type = self.app.catalogue.get(kind)
        assert node_type is not None, kind
        return {socket.name: socket.default for socket in node_type.inputs if socket.required and socket.default is not MISSING}

    def value(self, build: GraphBuilder, target: Any, slot: int = 0) -> Any:
        return self.run(build, target).value(target.id, slot)


@pytest.fixture
def bench(app: App, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(app, tmp_path)
    yield made
    app.catalogue.add_source("images", lambda source: app.run_folders().names())


class Scene:
    """The nodes that every picture needs."""

    def __init__(self, batch: int = 1) -> None:
        self.build = GraphBuilder()
        loaded = self.build.node("CheckpointLoaderSimple", ckpt_name="embedded")
        self.model, self.clip, self.vae = (loaded.out(slot) for slot in range(3))
        self.positive = self.build.node("CLIPTextEncode", text="a red circle", clip=self.clip).out()
        self.negative = self.build.node("CLIPTextEncode", text="blurry", clip=self.clip).out()
        self.latent = self.build.node("EmptyLatentImage", width=64, height=64, batch_size=batch).out()

    def sampled(self, node: str = "KSampler", **changes: Any) -> Any:
        seed = "seed" if node == "KSampler" else "noise_seed"
        usual = {
            "model": self.model, seed: 3, "steps": 4, "cfg": 4.0, "sampler_name": "euler", "scheduler": "karras",
            "positive": self.positive, "negative": self.negative, "latent_image": self.latent,
        }  # fmt: skip
        return self.build.node(node, **{**usual, **changes})


def test_the_simple_and_the_assembled_way_give_the_same_bits(bench: Bench) -> None:
    scene = Scene()
    simple = scene.sampled()
    whole = scene.sampled("KSamplerAdvanced")
    levels = scene.build.node("BasicScheduler", model=scene.model, scheduler="karras", steps=4, denoise=1.0).out()
    sampler = scene.build.node("KSamplerSelect", sampler_name="euler").out()
    texts = {"positive": scene.positive, "negative": scene.negative}
    custom = scene.build.node(
        "SamplerCustom", model=scene.model, noise_seed=3, cfg=4.0, **texts, sampler=sampler, sigmas=levels, latent_image=scene.latent
    )
    guider = scene.build.node("CFGGuider", model=scene.model, **texts, cfg=4.0).out()
    noise = scene.build.node("RandomNoise", noise_seed=3).out()
    parts = scene.build.node("SamplerCustomAdvanced", noise=noise, guider=guider, sampler=sampler, sigmas=levels, latent_image=scene.latent)
    found = bench.run(scene.build, simple, whole, custom, parts)
    first, *others = (found.value(node.id)["samples"] for node in (simple, whole, custom, parts))
    assert all(torch.equal(first, other) for other in others)
    assert (found.value(parts.id, 1)["samples"] - first).abs().max() < 1e-4


@pytest.mark.parametrize("sampler", [name for name, spec in SAMPLERS.items() if spec.one_step and spec.deterministic])
def test_a_run_in_two_nodes_is_the_run_in_one_to_the_bit(bench: Bench, sampler: str) -> None:
    scene = Scene()
    whole = scene.sampled("KSamplerAdvanced", steps=6, sampler_name=sampler)
    first = scene.sampled("KSamplerAdvanced", steps=6, sampler_name=sampler, end_at_step=3, return_with_leftover_noise="enable")
    more = {"add_noise": "disable", "start_at_step": 3, "latent_image": first.out()}
    second = scene.sampled("KSamplerAdvanced", steps=6, sampler_name=sampler, **more)
    found = bench.run(scene.build, whole, second)
    assert torch.equal(found.value(whole.id)["samples"], found.value(second.id)["samples"])


def test_a_run_that_ends_early_without_leftover_noise_is_clean(bench: Bench) -> None:
    scene = Scene()
    clean = scene.sampled("KSamplerAdvanced", steps=6, end_at_step=3)
    noisy = scene.sampled("KSamplerAdvanced", steps=6, end_at_step=3, return_with_leftover_noise="enable")
    found = bench.run(scene.build, clean, noisy)
    assert found.value(clean.id)["samples"].std() < found.value(noisy.id)["samples"].std()
    beyond = scene.sampled("KSamplerAdvanced", steps=6, start_at_step=9)
    assert bench.value(scene.build, beyond)["samples"].abs().max() == 0


def test_a_strength_of_0_changes_nothing(bench: Bench) -> None:
    scene = Scene()
    first = scene.sampled()
    again = scene.sampled(latent_image=first.out(), denoise=0.0)
    found = bench.run(scene.build, first, again)
    assert torch.equal(found.value(first.id)["samples"], found.value(again.id)["samples"])


@pytest.mark.parametrize("node", ["SamplerEulerAncestral", "SamplerDPMPP_2M_SDE", "SamplerDPMPP_SDE", "SamplerDPMPP_3M_SDE"])
def test_samplers_with_options_are_those_without_at_their_defaults(bench: Bench, node: str) -> None:
    name = {"SamplerEulerAncestral": "euler_ancestral"}.get(node, node.removeprefix("Sampler").lower())
    scene = Scene()
    levels = scene.build.node("BasicScheduler", model=scene.model, scheduler="karras", steps=3, denoise=1.0).out()
    texts = {"positive": scene.positive, "negative": scene.negative, "model": scene.model, "noise_seed": 3, "cfg": 4.0}
    plain, other = (
        scene.build.node("SamplerCustom", **texts, sampler=made.out(), sigmas=levels, latent_image=scene.latent)
        for made in (scene.build.node(node), scene.build.node("KSamplerSelect", sampler_name=name))
    )
    found = bench.run(scene.build, plain, other)
    assert torch.equal(found.value(plain.id)["samples"], found.value(other.id)["samples"])


SCHEDULERS = {
    "KarrasScheduler": "karras", "ExponentialScheduler": "exponential", "PolyexponentialScheduler": "polyexponential",
}  # fmt: skip


@pytest.mark.parametrize("node", SCHEDULERS)
def test_schedule_nodes_have_stable_diffusions_levels_as_defaults(bench: Bench, node: str) -> None:
    scene = Scene()
    own = scene.build.node(node, steps=8)
    named = scene.build.node("BasicScheduler", model=scene.model, scheduler=SCHEDULERS[node], steps=8, denoise=1.0)
    found = bench.run(scene.build, own, named)
    assert torch.allclose(found.value(own.id), found.value(named.id), rtol=1e-4)


@pytest.mark.parametrize("node", ["VPScheduler", "LaplaceScheduler", "AlignYourStepsScheduler", "SDTurboScheduler"])
def test_other_schedules_fall_to_0(bench: Bench, node: str) -> None:
    scene = Scene()
    more = {"model": scene.model} if node == "SDTurboScheduler" else {}
    levels = bench.value(scene.build, scene.build.node(node, steps=5, **more))
    assert (len(levels), float(levels[-1])) == (6, 0.0)
    assert bool((levels.diff() < 0).all())


def test_noise_sockets(bench: Bench) -> None:
    build = GraphBuilder()
    noise, nothing = build.node("RandomNoise", noise_seed=7), build.node("DisableNoise")
    found = bench.run(build, noise, nothing)
    assert (found.value(noise.id), found.value(nothing.id)) == (RandomNoise(7), NoNoise())


def test_every_change_of_a_model_changes_the_picture(bench: Bench) -> None:
    scene = Scene()
    plain = scene.sampled()
    changed = {
        node: scene.sampled(model=scene.build.node(node, model=scene.model).out())
        for node in ("RescaleCFG", "DynamicThresholdingSimple", "PerturbedAttentionGuidance", "SkipLayerGuidance")
    }
    found = bench.run(scene.build, plain, *changed.values())
    pictures = [found.value(node.id)["samples"] for node in (plain, *changed.values())]
    for number, picture in enumerate(pictures):
        assert bool(picture.isfinite().all())
        assert not any(torch.equal(picture, other) for other in pictures[:number])


# --- Files ---------------------------------------------------------------------------------------------------------------


def drawn(path: Path, tone: int) -> None:
    Image.fromarray(np.full((64, 64, 3), tone, np.uint8)).save(path)


def test_a_picture_that_was_replaced_is_loaded_again_and_one_that_was_not_is_kept(bench: Bench) -> None:
    build = GraphBuilder()
    loaded = build.node("LoadImage", image="in.png")
    mask = build.node("LoadImageMask", image="in.png", channel="red")
    drawn(bench.folders.input / "in.png", 0)
    assert bench.value(build, loaded).max() == 0
    assert bench.run(build, loaded).executed == ()
    drawn(bench.folders.input / "in.png", 255)
    os.utime(bench.folders.input / "in.png", ns=(5, 5))
    assert bench.value(build, loaded).min() == 1
    assert bench.value(build, mask).min() == 1


def test_a_picture_that_is_gone_is_an_error_of_its_file(bench: Bench) -> None:
    build = GraphBuilder()
    loaded = build.node("LoadImage", image="in.png")
    drawn(bench.folders.input / "in.png", 0)
    bench.run(build, loaded)
    bench.app.catalogue.add_source("images", lambda source: ["in.png"])
    (bench.folders.input / "in.png").unlink()
    with pytest.raises(ImageFileError, match=r"in\.png"):
        bench.run(build, loaded)


def test_pictures_are_saved_with_what_made_them(bench: Bench) -> None:
    build = GraphBuilder()
    picture = build.node("EmptyImage", width=64, height=32, batch_size=2, color=0xFF0000)
    saved = build.node("SaveImage", images=picture.out(), filename_prefix="sub/red")
    shown = build.node("PreviewImage", images=picture.out())
    found = bench.run(build, saved, shown)
    assert [each["filename"] for each in found.shown[saved.id]["images"]] == ["red_00001_.png", "red_00002_.png"]
    assert found.shown[shown.id]["images"][0]["type"] == "temp"
    with Image.open(bench.folders.output / "sub" / "red_00001_.png") as file:
        assert (file.size, file.getpixel((0, 0))) == ((64, 32), (255, 0, 0))


def test_a_replaced_model_is_opened_again(app: App, embedded_folder: Path, tmp_path: Path) -> None:
    own = App.make(replace(app.folders, models=tmp_path / "models"), settings=app.settings, cpu=True, precision="float32")
    folder = tmp_path / "models" / "checkpoints" / "mine"
    shutil.copytree(embedded_folder, folder, ignore=shutil.ignore_patterns("controlnet*", "loras", "upscale", "embeddings"))
    build = GraphBuilder()
    loaded, backend = build.node("CheckpointLoaderSimple", ckpt_name="mine"), own.backend()
    first = backend.run(build.graph(), [loaded.id])
    assert backend.run(build.graph(), [loaded.id]).executed == ()
    os.utime(folder / "unet" / "diffusion_pytorch_model.safetensors", ns=(5, 5))
    again = backend.run(build.graph(), [loaded.id])
    assert again.executed == (loaded.id,)
    assert again.value(loaded.id).weights is not first.value(loaded.id).weights


def test_a_model_that_is_not_there_is_named_with_those_like_it(app: App) -> None:
    ctx = Context("1", Progress.silent(), app.services())
    with pytest.raises(ModelMissingError, match="embeded"):
        state_of(ctx, "checkpoints", "embeded")
    assert state_of(ctx, "checkpoints", None) is None


# --- Painting into pictures ----------------------------------------------------------------------------------------------


def test_a_hole_is_grey_before_it_is_encoded_and_its_mask_grows(bench: Bench, embedded: tuple[Any, Any, Any]) -> None:
    ctx = Context("1", Progress.silent(), bench.app.services())
    picture, mask = random(1, 64, 64, 3), torch.zeros(1, 64, 64)
    mask[:, 16:32, 16:32] = 1
    (latent,) = vae.vae_encode_for_inpaint(ctx, picture, embedded[2], mask, 6)
    grey = picture.clone()
    grey[:, 16:32, 16:32] = 0.5
    assert torch.equal(latent["samples"], vae.vae_encode(ctx, grey, embedded[2])[0]["samples"])
    assert latent["noise_mask"].sum() > mask.sum()
    assert torch.equal(latent["noise_mask"][0, 0, 16:32, 16:32], torch.ones(16, 16))
    (tight,) = vae.vae_encode_for_inpaint(ctx, picture, embedded[2], mask, 0)
    assert torch.equal(tight["noise_mask"][:, 0], mask)
    positive, negative, whole = vae.inpaint_model_conditioning(ctx, text(1.0), text(2.0), embedded[2], picture, mask, True)
    for ((_, options),) in (positive, negative):
        assert torch.equal(options["concat_latent_image"], tight["samples"])
        assert torch.equal(options["concat_mask"][:, 0], mask)
    assert torch.equal(whole["samples"], vae.vae_encode(ctx, picture, embedded[2])[0]["samples"])
    assert "noise_mask" not in vae.inpaint_model_conditioning(ctx, text(1.0), text(2.0), embedded[2], picture, mask, False)[2]


def test_a_batch_painted_into_a_picture_keeps_the_rest_to_the_bit(bench: Bench) -> None:
    pixels = (random(64, 64, 3) * 255).byte().numpy()
    Image.fromarray(pixels).save(bench.folders.input / "in.png")
    hole = np.zeros((64, 64), np.uint8)
    hole[:, 32:] = 255
    Image.fromarray(hole).save(bench.folders.input / "mask.png")
    request = GenerateRequest("a tree", width=64, height=64, steps=2, image="in.png", mask="mask.png", batch=2, strength=1.0)
    graph: Graph = graph_for(request)
    link: Link = picture_of(graph)
    found = bench.backend.run(graph, [link.node]).value(link.node, link.slot)
    assert found.shape == (2, 64, 64, 3)
    kept = torch.from_numpy(pixels).float() / 255
    assert torch.equal((found[:, :, :32] * 255).round(), (kept[:, :32] * 255).round().expand(2, -1, -1, -1))
    assert not torch.equal(found[0], found[1])


def test_tiled_nodes_take_comfyuis_settings(bench: Bench) -> None:
    scene = Scene()
    plain = scene.build.node("VAEDecode", samples=scene.latent, vae=scene.vae)
    tiled = scene.build.node("VAEDecodeTiled", samples=scene.latent, vae=scene.vae, tile_size=512, overlap=64)
    back = scene.build.node("VAEEncodeTiled", pixels=plain.out(), vae=scene.vae, tile_size=64, overlap=64)
    found = bench.run(scene.build, plain, tiled, back)
    assert torch.allclose(found.value(plain.id), found.value(tiled.id), atol=1e-6)
    assert found.value(back.id)["samples"].shape == (1, 4, 8, 8)


def test_clip_skip_changes_the_text(bench: Bench) -> None:
    scene = Scene()
    skipped = scene.build.node("CLIPSetLastLayer", clip=scene.clip, stop_at_clip_layer=-2)
    other = scene.build.node("CLIPTextEncode", text="a red circle", clip=skipped.out())
    found = bench.run(scene.build, other)
    plain = bench.run(scene.build, scene.build.node("ConditioningZeroOut", conditioning=scene.positive))
    assert found.value(other.id)[0][0].shape == plain.value(next(iter(plain.outputs)))[0][0].shape
    with pytest.raises(SfumatoError):
        bench.value(scene.build, scene.build.node("CLIPSetLastLayer", clip=scene.clip, stop_at_clip_layer=-99))
