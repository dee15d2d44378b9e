"""ControlNets against diffusers' own pipeline, their files in every layout, and the edges that they follow."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sfumato.engine.conditioning import steered_alike
from sfumato.engine.devices import Device
from sfumato.engine.handles import Control, ControlHandle
from sfumato.engine.protocols import Call, Residuals
from sfumato.engine.residency import Weights
from sfumato.engine.sampling import GuiderChoice, sample
from sfumato.engine.services import Registered, Services
from sfumato.errors import BadValueError, CancelledError, ModelFileError, ModelMissingError
from sfumato.models import ModelLibrary
from sfumato.nodes import node_types
from sfumato.paths import Folders
from sfumato.progress import CancelFlag, Progress, Step
from sfumato_control import edges, nodes, register_preprocessors
from sfumato_control.original import config_of
from sfumato_lora import names as original

Tensors = dict[str, torch.Tensor]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def picture(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# --- Edges -----------------------------------------------------------------------------------------------------------


def step_picture(height: float, colour: slice = slice(None)) -> torch.Tensor:
    """A vertical step in the middle of 40x40 pixels."""
    image = torch.zeros(1, 40, 40, 3)
    image[:, :, 20:, colour] = height
    return image


def test_the_edge_of_a_square_is_a_thin_closed_line() -> None:
    image = torch.zeros(1, 64, 64, 3)
    image[:, 16:48, 16:48] = 1.0
    found = edges.canny(image)
    assert found.shape == image.shape and found.dtype == torch.float32 and set(found.flatten().tolist()) == {0.0, 1.0}
    line = found[0, ..., 0]
    assert line[20:44, 20:44].sum() == 0 and line[:12].sum() == 0
    assert line[30].sum() == 2 and line[:, 30].sum() == 2  # one pixel wide on both sides
    assert torch.equal(found[..., 0], found[..., 1]) and torch.equal(found[..., 0], found[..., 2])


@pytest.mark.parametrize(("height", "found"), [(0.1, False), (0.25, False), (0.45, True), (1.0, True)])
def test_the_high_threshold_decides_which_steps_are_edges(height: float, found: bool) -> None:
    # the blur leaves about 0.64 of the step between two neighbours two pixels apart, and Sobel sums four of those
    assert bool(edges.canny(step_picture(height)).any()) is found
    assert bool(edges.canny(step_picture(height), low_threshold=0.01, high_threshold=2.6 * height - 0.1).any())
    assert not bool(edges.canny(step_picture(height), low_threshold=0.01, high_threshold=2.6 * height + 0.1).any())


def test_a_weak_edge_counts_only_where_it_joins_a_strong_one() -> None:
    ramp = torch.zeros(1, 40, 40, 3)
    ramp[:, :, 20:] = torch.linspace(0.2, 0.6, 40).reshape(1, 40, 1, 1)  # the step grows from top to bottom
    joined = edges.canny(ramp, low_threshold=0.3, high_threshold=0.9)[0, ..., 0]
    alone = edges.canny(ramp, low_threshold=0.9, high_threshold=0.9)[0, ..., 0]
    cut = edges.canny(ramp[:, :20], low_threshold=0.3, high_threshold=1.0)
    assert joined.sum() == 40 and 15 < alone.sum() < 35 and cut.sum() == 0


def test_an_edge_between_colours_of_the_same_brightness_is_seen() -> None:
    image = torch.zeros(1, 40, 40, 3)
    image[:, :, :20, 0], image[:, :, 20:, 1] = 0.8, 0.8 * 0.299 / 0.587
    assert edges.canny(image).any()


def test_edges_of_the_embedded_models_world_are_those_it_was_trained_on() -> None:
    """The same detector written twice: OpenCV's here, NumPy's in the recipe. Its levels of 255 are a quarter of Sobel's sum."""
    from sfumato_resources.world.edges import canny

    generator = np.random.default_rng(0)
    image = np.zeros((96, 96, 3), np.uint8)
    rows, columns = np.mgrid[:96, :96]
    for _ in range(6):
        y, x, radius = generator.integers(15, 80, 3)
        image[(rows - y) ** 2 + (columns - x) ** 2 < (radius / 3) ** 2] = generator.integers(0, 256, 3)
    theirs = canny(image, 16, 32)
    ours = edges.canny(torch.from_numpy(image).float()[None] / 255, low_threshold=64 / 255, high_threshold=128 / 255)[0, ..., 0].bool()
    near = nn.functional.max_pool2d(ours[None].float(), 3, 1, 1)[0].bool().numpy()
    near_theirs = nn.functional.max_pool2d(torch.from_numpy(theirs)[None].float(), 3, 1, 1)[0].bool()
    assert theirs.sum() > 100
    assert (theirs & near).sum() > 0.97 * theirs.sum() and (ours & near_theirs).sum() > 0.97 * ours.sum()


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 1, 50, 3), (3, 7, 5, 4)])
def test_pictures_of_any_size_and_with_alpha_have_edges(shape: tuple[int, ...]) -> None:
    assert edges.canny(picture(*shape)).shape == (*shape[:3], 3)


def test_thresholds_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(BadValueError, match="above the high one"):
        nodes.canny(picture(1, 8, 8, 3), 0.9, 0.1)


def test_any_registered_preprocessor_is_a_node_with_its_own_defaults() -> None:
    registered = Registered(preprocessors={offer.name: offer for offer in register_preprocessors()})
    services = Services.make(None, registered, device=Device(torch.device("cpu"), 1))  # type: ignore[arg-type]
    context: Any = SimpleNamespace(services=services, progress=Progress.silent())
    image = picture(1, 30, 30, 3)
    assert torch.equal(nodes.preprocess(context, image, "canny")[0], edges.canny(image, low_threshold=0.4, high_threshold=0.8))
    with pytest.raises(BadValueError, match="unknown preprocessor"):
        nodes.preprocess(context, image, "cany")


# --- Conditioning ----------------------------------------------------------------------------------------------------


@pytest.fixture
def handle() -> ControlHandle:
    return ControlHandle("net", None, Weights("net", lambda progress: nn.Identity()), torch.float32)


def text(seed: int = 0, **options: Any) -> list[Any]:
    return [[normal(1, 77, 8, seed=seed), options]]


def test_a_control_is_put_on_every_entry_and_the_old_ones_are_not_touched(handle: ControlHandle) -> None:
    positive, negative = [*text(0), *text(1, pooled_output=5)], text(2)
    image = picture(2, 16, 24, 4)
    steered = nodes.control_net_apply_advanced(positive, negative, handle, image, 0.7, 0.1, 0.6)
    controls = [options["control"] for entries in steered for _, options in entries]
    assert len(controls) == 3 and all(c is controls[0] for c in controls)
    control = controls[0]
    assert (control.strength, control.start, control.end, control.previous) == (0.7, 0.1, 0.6, None)
    assert control.hint.shape == (2, 3, 16, 24) and torch.equal(control.hint, image[..., :3].movedim(-1, 1))
    assert steered[0][1][1]["pooled_output"] == 5 and all("control" not in options for _, options in positive + negative)


def test_controls_in_a_row_remember_each_other(handle: ControlHandle) -> None:
    positive, negative = text(0), text(1)
    first, second = picture(1, 8, 8, 3), picture(1, 8, 8, 3, seed=1)
    once = nodes.control_net_apply_advanced(positive, negative, handle, first)
    twice = nodes.control_net_apply_advanced(*once, handle, second, 0.5)
    control = twice[0][0][1]["control"]
    assert [torch.equal(c.hint, h.movedim(-1, 1)) for c, h in zip(control.chain(), (first, second), strict=True)] == [True, True]
    assert twice[1][0][1]["control"] is control


def test_entries_with_different_controls_before_stay_apart(handle: ControlHandle) -> None:
    image = picture(1, 8, 8, 3)
    (steered,) = nodes.control_net_apply(text(0), handle, image)
    both = nodes.control_net_apply_advanced(steered, text(1), handle, image, 0.5)
    on_positive, on_negative = both[0][0][1]["control"], both[1][0][1]["control"]
    assert len(on_positive.chain()) == 2 and len(on_negative.chain()) == 1


def test_strength_0_changes_nothing(handle: ControlHandle) -> None:
    positive, negative = text(0), text(1)
    assert nodes.control_net_apply(positive, handle, picture(1, 8, 8, 3), 0.0)[0] is positive
    assert nodes.control_net_apply_advanced(positive, negative, handle, picture(1, 8, 8, 3), 0.0) == (positive, negative)


def test_the_old_node_steers_a_negative_that_has_no_control_of_its_own(handle: ControlHandle) -> None:
    (steered,) = nodes.control_net_apply(text(0), handle, picture(1, 8, 8, 3))
    control = steered[0][1]["control"]
    own = Control(handle, torch.zeros(1, 3, 8, 8))
    against = steered_alike(steered, [*text(1), *text(2, control=own)])
    assert [options["control"] for _, options in against] == [control, own]
    advanced, _ = nodes.control_net_apply_advanced(text(0), text(1), handle, picture(1, 8, 8, 3))
    negative = text(1)
    assert steered_alike(advanced, negative) is negative


def test_a_grey_picture_is_a_hint_too_and_no_picture_is_none(handle: ControlHandle) -> None:
    image = picture(1, 8, 8, 1)
    (steered,) = nodes.control_net_apply(text(0), handle, image)
    assert torch.equal(steered[0][1]["control"].hint, image.movedim(-1, 1).expand(1, 3, 8, 8))
    with pytest.raises(BadValueError, match="no picture"):
        nodes.control_net_apply(text(0), handle, picture(8, 8, 3))


# --- Files -----------------------------------------------------------------------------------------------------------

SMALL: Mapping[str, Any] = {
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "layers_per_block": 2,
    "cross_attention_dim": 24,
    "attention_head_dim": 8,
    "conditioning_embedding_out_channels": (4, 8, 12, 16),
}


def small_network(seed: int = 0, **config: Any) -> Any:
    """A random ControlNet whose outputs are not zero."""
    from diffusers import ControlNetModel

    network = ControlNetModel(**{**SMALL, **config}).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return network


@pytest.fixture(scope="module")
def network() -> Any:
    return small_network()


@pytest.fixture
def context(tmp_path: Path) -> Any:
    services = Services.make(
        ModelLibrary(Folders.under(tmp_path)), Registered(), precision="float32", device=Device(torch.device("cpu"), 1 << 30)
    )
    return SimpleNamespace(services=services, progress=Progress.silent())


def save(context: Any, tensors: Tensors, name: str = "net.safetensors") -> str:
    folder = context.services.library.folders("controlnet")[0]
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / name)
    return name


def original_tensors(network: Any) -> Tensors:
    """The network's tensors under the names of the original code."""
    state = network.state_dict()
    parts = {ours: theirs for theirs, ours in original.original_names(original.parts(dict.fromkeys(state, ())))}
    for number in range(len(network.controlnet_down_blocks)):
        parts[f"controlnet_down_blocks.{number}"] = f"zero_convs.{number}.0"
    parts["controlnet_mid_block"] = "middle_block_out.0"
    embedding = "controlnet_cond_embedding"
    parts |= {f"{embedding}.conv_in": "input_hint_block.0", f"{embedding}.conv_out": "input_hint_block.14"}
    parts |= {f"{embedding}.blocks.{number}": f"input_hint_block.{2 * number + 2}" for number in range(6)}
    return {f"control_model.{parts[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": tensor for name, tensor in state.items()}


def answer(context: Any, handle: ControlHandle, strength: float = 1.0) -> Residuals:
    call = Call(normal(2, 4, 8, 8), torch.tensor(321.0), normal(2, 77, 24, seed=1), {})
    with context.services.residency.use(handle.weights) as (module,), torch.inference_mode():
        residuals: Residuals = handle.unit(module, call, picture(2, 3, 64, 64), strength)
    return residuals


def expected(network: Any, strength: float = 1.0) -> Any:
    with torch.inference_mode():
        return network(
            normal(2, 4, 8, 8),
            torch.tensor(321.0),
            normal(2, 77, 24, seed=1),
            picture(2, 3, 64, 64),
            conditioning_scale=strength,
            return_dict=False,
        )


def check_same(context: Any, network: Any, name: str) -> ControlHandle:
    (handle,) = nodes.control_net_loader(context, name)
    found, (down, middle) = answer(context, handle, 0.6), expected(network, 0.6)
    assert len(found.down) == len(down) and float(middle.abs().max()) > 0
    for ours, theirs in zip([*found.down, found.middle], [*down, middle], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    loaded: ControlHandle = handle
    return loaded


def test_a_diffusers_folder_is_read(context: Any, network: Any) -> None:
    folder = context.services.library.folders("controlnet")[0] / "edges"
    network.save_pretrained(folder)
    network.half().save_pretrained(folder, variant="fp16")
    network.float()
    assert len(list(folder.glob("*.safetensors"))) == 2
    handle = check_same(context, small_network(), "edges")
    assert handle.name == "edges" and handle.dtype == torch.float32


def test_a_file_with_diffusers_names_is_read(context: Any, network: Any) -> None:
    check_same(context, small_network(), save(context, small_network().state_dict()))


@pytest.mark.parametrize("prefix", ["control_model.", ""])
def test_a_file_with_the_original_names_is_read(context: Any, prefix: str) -> None:
    network = small_network()
    tensors = {name.replace("control_model.", prefix): tensor for name, tensor in original_tensors(network).items()}
    check_same(context, network, save(context, tensors))


def test_the_configuration_of_stable_diffusions_control_nets_is_read_off_their_shapes() -> None:
    from accelerate import init_empty_weights
    from diffusers import ControlNetModel

    with init_empty_weights():
        network = ControlNetModel(cross_attention_dim=768)
    config = config_of({name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}, "")
    for name, value in config.items():
        wanted = network.config.get(name, value)
        assert list(value) == list(wanted) if isinstance(value, list) else value == wanted, name


def test_a_control_net_belongs_to_the_residency_and_is_loaded_once(context: Any, network: Any) -> None:
    name = save(context, small_network().state_dict())
    first, second = nodes.control_net_loader(context, name)[0], nodes.control_net_loader(context, "net")[0]
    assert first.weights is second.weights and context.services.residency.counters.loads == 1
    context.services.residency.unload()
    assert context.services.residency.resident_bytes() == 0
    answer(context, first)
    assert context.services.residency.counters.loads == 2


def test_loading_can_be_cancelled_between_two_tensors(context: Any) -> None:
    name = save(context, small_network().state_dict())
    flag = CancelFlag()
    seen: list[Step] = []

    def listen(step: Step) -> None:
        seen.append(step)
        if step.done == 3:
            flag.set()

    context.progress = Progress(listen, flag)
    with pytest.raises(CancelledError):
        nodes.control_net_loader(context, name)
    assert seen[-1].done == 3 and seen[-1].total > 50
    assert context.services.residency.resident_bytes() == 0


def test_a_control_net_beside_a_model_with_other_text_is_refused(context: Any) -> None:
    (handle,) = nodes.control_net_loader(context, save(context, small_network().state_dict()))
    call = Call(normal(1, 4, 8, 8), torch.tensor(1.0), normal(1, 77, 768), {})
    with context.services.residency.use(handle.weights) as (module,), pytest.raises(BadValueError, match="width 24, this model's is 768"):
        handle.unit(module, call, picture(1, 3, 64, 64), 1.0)


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"lora_controlnet": torch.zeros(1), "input_hint_block.0.weight": torch.zeros(1)}, "Control-LoRA"),
        ({"difference": torch.zeros(1), "control_model.input_hint_block.0.weight": torch.zeros(1)}, "difference"),
        ({"adapter.body.0.in_conv.weight": torch.zeros(1)}, "T2I-Adapter"),
        ({"something.weight": torch.zeros(1)}, "no ControlNet"),
        ({"controlnet_cond_embedding.conv_in.weight": torch.zeros(4, 3, 3, 3)}, "no whole ControlNet"),
        ({"control_model.input_hint_block.0.weight": torch.zeros(4, 3, 3, 3)}, "not those of a whole|no whole|are missing"),
    ],
)
def test_a_file_that_is_no_control_net_says_what_it_is(context: Any, tensors: Tensors, says: str) -> None:
    name = save(context, tensors)
    with pytest.raises(ModelFileError, match=says) as caught:
        nodes.control_net_loader(context, name)
    assert name in caught.value.where


@pytest.mark.parametrize(
    "missing", ["zero_convs.2.0.weight", "middle_block_out.0.bias", "input_blocks.3.0.op.weight", "time_embed.0.weight"]
)
def test_a_file_without_some_of_its_tensors_names_one(context: Any, missing: str) -> None:
    tensors = original_tensors(small_network())
    del tensors[f"control_model.{missing}"]
    with pytest.raises(ModelFileError):
        nodes.control_net_loader(context, save(context, tensors))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel"),
        ({"cross_attention_dim": 2048}, "Stable Diffusion XL"),
        ({"addition_embed_type": "text_time"}, "another family"),
        ({"layers_per_block": 10**9}, "layers_per_block"),
        ({"block_out_channels": [32] * 1000}, "block_out_channels"),
        ({"down_block_types": ["Nothing", "Nowhere"]}, "no network can be built"),
    ],
)
def test_a_folder_with_a_configuration_that_cannot_be_right_says_so(context: Any, network: Any, change: Any, says: str) -> None:
    folder = context.services.library.folders("controlnet")[0] / "edges"
    network.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ModelFileError, match=says) as caught:
        nodes.control_net_loader(context, "edges")
    assert "edges" in caught.value.where


def test_a_folder_of_pickled_weights_is_refused(context: Any, tmp_path: Path) -> None:
    folder = context.services.library.folders("controlnet")[0] / "edges"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x02.")
    with pytest.raises(ModelFileError, match="no safetensors"):
        nodes.control_net_loader(context, "edges")


def test_a_missing_control_net_is_named(context: Any) -> None:
    with pytest.raises(ModelMissingError, match="nowhere"):
        nodes.control_net_loader(context, "nowhere")


# --- Against diffusers' pipeline -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipeline(embedded_folder: Path) -> Any:
    """The embedded model with two random control nets, on an Euler sampler whose steps fall on trained ones."""
    from diffusers import ControlNetModel, EulerDiscreteScheduler, StableDiffusionControlNetPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(embedded_folder / "unet")
    nets = []
    for seed in (1, 2):
        net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 32, 64))
        generator = torch.Generator().manual_seed(seed)
        zeros = [
            *net.controlnet_down_blocks.parameters(),
            *net.controlnet_mid_block.parameters(),
            net.controlnet_cond_embedding.conv_out.weight,
        ]
        for parameter in zeros:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
        nets.append(net.eval())
    pipe = StableDiffusionControlNetPipeline.from_pretrained(
        embedded_folder, unet=unet, controlnet=nets, torch_dtype=torch.float32, safety_checker=None, local_files_only=True
    )
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing", use_karras_sigmas=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def control_files(services: Any, pipeline: Any) -> Iterator[list[str]]:
    import shutil

    folder = services.library.folders("controlnet")[0]
    for number, net in enumerate(pipeline.controlnet.nets):
        net.save_pretrained(folder / f"random-{number}")
    yield ["random-0", "random-1"]
    for number in range(2):
        shutil.rmtree(folder / f"random-{number}")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # diffusers' own
@pytest.mark.parametrize("strengths", [(1.0, 0.0), (0.8, 0.5)], ids=["one", "two"])
def test_latents_equal_those_of_diffusers_controlnet_pipeline(
    services: Any, embedded: Any, pipeline: Any, control_files: list[str], strengths: tuple[float, float]
) -> None:
    model = embedded[0]
    width = pipeline.unet.config.cross_attention_dim
    side = pipeline.unet.config.sample_size
    prompts = [normal(1, 77, width, seed=seed) for seed in (1, 2)]
    hints = [picture(1, side * 8, side * 8, 3, seed=seed) for seed in (3, 4)]
    steps, noise = 4, normal(1, 4, side, side, seed=5)
    pipeline.scheduler.set_timesteps(steps)
    sigmas = pipeline.scheduler.sigmas.float().clone()
    start = model.sampling.add_noise(sigmas[0], noise, torch.zeros_like(noise), True)

    def theirs(scales: list[float]) -> torch.Tensor:
        with torch.inference_mode():
            latents: torch.Tensor = pipeline(
                prompt_embeds=prompts[0],
                negative_prompt_embeds=prompts[1],
                image=[hint.movedim(-1, 1) for hint in hints],
                controlnet_conditioning_scale=scales,
                num_inference_steps=steps,
                guidance_scale=4.0,
                latents=start / pipeline.scheduler.init_noise_sigma,
                output_type="latent",
            ).images
        return latents

    context: Any = SimpleNamespace(services=services, progress=Progress.silent())
    positive, negative = [[prompts[0], {}]], [[prompts[1], {}]]
    for name, hint, strength in zip(control_files, hints, strengths, strict=True):
        (net,) = nodes.control_net_loader(context, name)
        positive, negative = nodes.control_net_apply_advanced(positive, negative, net, hint, strength)
    fixed: Any = SimpleNamespace(seed=0, generate=lambda latent: noise)
    guider = GuiderChoice(model, positive, negative, 4.0)
    result = sample(services, guider, fixed, services.sampler("euler"), sigmas, {"samples": torch.zeros_like(noise)}, Progress.silent())
    ours, wanted, plain = model.latent.into_model(result.samples), theirs(list(strengths)), theirs([0.0, 0.0])
    print(f"{(ours - wanted).abs().max():.1e} of {wanted.abs().max():.1e}; the control moves {(wanted - plain).abs().max():.1e}")
    assert (wanted - plain).abs().max() > 0.05
    assert result.calls.control == steps * sum(strength > 0 for strength in strengths)
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=0)


# --- Declarations ----------------------------------------------------------------------------------------------------


def test_the_nodes_have_comfyuis_names_sockets_and_defaults() -> None:
    types = {t.name: t for t in node_types(nodes)}
    sockets = {name: [(i.name, i.type, i.required) for i in t.inputs] for name, t in types.items()}
    assert sockets["ControlNetLoader"] == [("control_net_name", "COMBO", True)]
    assert [s[0] for s in sockets["ControlNetApply"]] == ["conditioning", "control_net", "image", "strength"]
    assert sockets["ControlNetApplyAdvanced"] == [
        ("positive", "CONDITIONING", True), ("negative", "CONDITIONING", True),
        ("control_net", "CONTROL_NET", True), ("image", "IMAGE", True),
        ("strength", "FLOAT", True), ("start_percent", "FLOAT", True), ("end_percent", "FLOAT", True), ("vae", "VAE", False),
    ]  # fmt: skip
    assert [(i.name, i.default) for i in types["Canny"].inputs[1:]] == [("low_threshold", 0.4), ("high_threshold", 0.8)]
    assert [i.default for i in types["ControlNetApplyAdvanced"].inputs if i.type == "FLOAT"] == [1.0, 0.0, 1.0]
    assert [o.name for o in types["ControlNetApplyAdvanced"].outputs] == ["positive", "negative"]


def test_the_plugin_imports_no_torch() -> None:
    code = "import sys, sfumato_control as p; p.register_nodes(); p.register_preprocessors(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
