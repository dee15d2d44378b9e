"""LoRA files: every dialect and method against independent arithmetic and against diffusers' own loading."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import sfumato_lora
from sfumato.engine.devices import Device
from sfumato.engine.handles import ClipHandle, LatentFormat, ModelHandle
from sfumato.engine.patches import Patch, applied
from sfumato.engine.services import Registered, Services
from sfumato.errors import ModelFileError, ModelMissingError
from sfumato.models import ModelLibrary
from sfumato.models.safetensors_file import read_header
from sfumato.nodes import node_types
from sfumato.paths import Folders
from sfumato.progress import Progress
from sfumato_lora import formats, names, nodes
from sfumato_lora.deltas import Added, Decomposed, Full, Hadamard, Kronecker, LowRank, Side
from sfumato_resources import embedded_model

Tensors = dict[str, torch.Tensor]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def array(tensor: torch.Tensor) -> Any:
    return tensor.double().numpy()


def shapes_of(component: str, file: str) -> dict[str, tuple[int, ...]]:
    header = read_header(embedded_model() / component / f"{file}.safetensors")
    return {name: info.shape for name, info in header.tensors.items()}


@pytest.fixture(scope="module")
def networks() -> dict[str, dict[str, tuple[int, ...]]]:
    """Parameters of the embedded networks, from the headers of their files."""
    return {"unet": shapes_of("unet", "diffusion_pytorch_model"), "text_encoder": shapes_of("text_encoder", "model")}


def matrices(parameters: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Weights that have at least two dimensions, less the embeddings."""
    return {name: shape for name, shape in parameters.items() if len(shape) > 1 and "embeddings" not in name}


def factors(shape: tuple[int, ...], rank: int, seed: int, size: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
    """(up, down) for a weight, as trainers write them."""
    kernel = shape[2:]
    up = normal(shape[0], rank, *(1 for _ in kernel), seed=seed) * size
    return up, normal(rank, shape[1], *kernel, seed=seed + 1) * size


# --- Methods ---------------------------------------------------------------------------------------------------------


def test_low_rank_on_a_linear_layer_is_the_product_of_its_factors() -> None:
    weight, up, down = normal(6, 4), normal(6, 2, seed=1), normal(2, 4, seed=2)
    expected = array(weight) + 0.5 * 1.5 * (array(up) @ array(down))
    np.testing.assert_allclose(Added(LowRank(up, down, 1.5)).apply(weight, 0.5).numpy(), expected, atol=1e-6)


def test_low_rank_on_a_convolution_equals_two_convolutions_in_a_row() -> None:
    up, down, x = normal(5, 2, 1, 1), normal(2, 3, 3, 3, seed=1), normal(1, 3, 8, 8, seed=2)
    change = Added(LowRank(up, down, 1.0)).apply(torch.zeros(5, 3, 3, 3), 1.0)
    through_both = torch.conv2d(torch.conv2d(x, down), up)
    torch.testing.assert_close(torch.conv2d(x, change), through_both, atol=1e-5, rtol=0)


def test_low_rank_with_a_kernel_in_the_middle_equals_three_convolutions_in_a_row() -> None:
    up, mid, down = normal(5, 2, 1, 1), normal(2, 2, 3, 3, seed=1), normal(2, 3, 1, 1, seed=2)
    x = normal(1, 3, 8, 8, seed=3)
    change = Added(LowRank(up, down, 1.0, mid)).apply(torch.zeros(5, 3, 3, 3), 1.0)
    through_all = torch.conv2d(torch.conv2d(torch.conv2d(x, down), mid), up)
    torch.testing.assert_close(torch.conv2d(x, change), through_all, atol=1e-5, rtol=0)


def test_loha_is_the_product_of_two_low_rank_matrices_element_by_element() -> None:
    a1, b1, a2, b2 = normal(6, 2), normal(2, 12, seed=1), normal(6, 2, seed=2), normal(2, 12, seed=3)
    expected = 0.25 * (array(a1) @ array(b1)) * (array(a2) @ array(b2))
    changed = Added(Hadamard(a1, b1, a2, b2, 0.25)).apply(torch.zeros(6, 3, 2, 2), 1.0)
    np.testing.assert_allclose(changed.numpy(), expected.reshape(6, 3, 2, 2), atol=1e-5)


def test_loha_with_cores_contracts_each_core_on_both_sides() -> None:
    t1, t2 = normal(2, 2, 3, 3), normal(2, 2, 3, 3, seed=1)
    a1, b1, a2, b2 = normal(2, 6, seed=2), normal(2, 4, seed=3), normal(2, 6, seed=4), normal(2, 4, seed=5)
    expected = np.zeros((6, 4, 3, 3))
    for o, i in np.ndindex(6, 4):
        sides = [
            sum(array(t)[p, q] * float(a[p, o]) * float(b[q, i]) for p in range(2) for q in range(2))
            for t, a, b in ((t1, a1, b1), (t2, a2, b2))
        ]
        expected[o, i] = sides[0] * sides[1]
    changed = Added(Hadamard(a1, b1, a2, b2, 1.0, t1, t2)).apply(torch.zeros(6, 4, 3, 3), 1.0)
    np.testing.assert_allclose(changed.numpy(), expected, atol=1e-4)


def test_lokr_is_a_kronecker_product_of_whole_or_factored_sides() -> None:
    left, a, b = normal(2, 3), normal(4, 2, seed=1), normal(2, 5, seed=2)
    expected = 0.5 * np.kron(array(left), array(a) @ array(b))
    changed = Added(Kronecker(Side(left), Side(None, a, b), 0.5)).apply(torch.zeros(8, 15), 1.0)
    np.testing.assert_allclose(changed.numpy(), expected, atol=1e-5)


def test_lokr_on_a_convolution_gives_every_block_of_channels_a_scaled_copy_of_one_kernel() -> None:
    left, right = normal(2, 2), normal(3, 2, 3, 3, seed=1)
    changed = Added(Kronecker(Side(left), Side(right), 1.0)).apply(torch.zeros(6, 4, 3, 3), 1.0)
    for row, column in np.ndindex(2, 2):
        block = changed[3 * row : 3 * row + 3, 2 * column : 2 * column + 2]
        torch.testing.assert_close(block, left[row, column] * right)


def test_dora_gives_every_output_the_learnt_length_and_the_direction_of_the_changed_weight() -> None:
    weight, up, down, lengths = normal(6, 4), normal(6, 2, seed=1), normal(2, 4, seed=2), normal(6, seed=3).abs()
    changed = Decomposed(LowRank(up, down, 1.0), lengths, by_output=True).apply(weight, 1.0)
    torch.testing.assert_close(changed.norm(dim=1), lengths)
    torch.testing.assert_close(torch.cosine_similarity(changed, weight + up @ down), torch.ones(6))


def test_dora_by_input_keeps_the_length_of_columns_of_a_convolution() -> None:
    weight, lengths = normal(5, 4, 3, 3), normal(4, seed=1).abs()
    changed = Decomposed(Full(normal(5, 4, 3, 3, seed=2)), lengths, by_output=False).apply(weight, 1.0)
    torch.testing.assert_close(changed.transpose(0, 1).flatten(1).norm(dim=1), lengths)


def test_half_the_strength_of_dora_is_half_the_way() -> None:
    weight = normal(6, 4)
    delta = Decomposed(Full(normal(6, 4, seed=1)), normal(6, seed=2).abs(), by_output=True)
    torch.testing.assert_close(delta.apply(weight, 0.5), (weight + delta.apply(weight, 1.0)) / 2)


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_the_change_is_linear_in_the_strength(first: float, second: float) -> None:
    weight, delta = torch.zeros(4, 3), Added(LowRank(normal(4, 2), normal(2, 3, seed=1), 1.0))
    both = delta.apply(delta.apply(weight, first), second)
    torch.testing.assert_close(both, delta.apply(weight, first + second), atol=1e-4, rtol=1e-4)


def test_a_weight_is_never_written_by_a_change() -> None:
    weight = normal(4, 3)
    before = weight.clone()
    for delta in (Added(Full(normal(4, 3, seed=1))), Decomposed(Full(normal(4, 3, seed=1)), torch.ones(4), by_output=True)):
        delta.apply(weight, 1.0)
    assert torch.equal(weight, before)


# --- Names -----------------------------------------------------------------------------------------------------------


def kohya_file(networks: Mapping[str, Mapping[str, tuple[int, ...]]], rank: int = 2, alpha: float = 1.0, size: float = 0.2) -> Tensors:
    """A file that changes every weight of the networks, as kohya's scripts name them."""
    prefixes = {"unet": "lora_unet_", "text_encoder": "lora_te_text_model_"}
    tensors: Tensors = {}
    for network, parameters in networks.items():
        for seed, (name, shape) in enumerate(matrices(parameters).items()):
            key = prefixes[network] + name.removesuffix(".weight").replace(".", "_")
            tensors[f"{key}.lora_up.weight"], tensors[f"{key}.lora_down.weight"] = factors(shape, rank, 2 * seed, size)
            tensors[f"{key}.alpha"] = torch.tensor(alpha)
    return tensors


def dotted_file(networks: Mapping[str, Mapping[str, tuple[int, ...]]], rank: int = 2, size: float = 0.2) -> Tensors:
    """The same factors under peft's names. No alpha: the scale is 1."""
    tensors: Tensors = {}
    for network, parameters in networks.items():
        inner = "text_model." if network == "text_encoder" else ""
        for seed, (name, shape) in enumerate(matrices(parameters).items()):
            key = f"{network}.{inner}{name.removesuffix('.weight')}"
            tensors[f"{key}.lora_B.weight"], tensors[f"{key}.lora_A.weight"] = factors(shape, rank, 2 * seed, size)
    return tensors


def test_a_kohya_file_reaches_every_weight_of_both_networks(networks: Any) -> None:
    deltas = formats.kohya(kohya_file(networks), networks, {})
    assert deltas is not None
    for network, parameters in networks.items():
        assert set(deltas[network]) == set(matrices(parameters))


def test_both_dialects_say_the_same_when_alpha_is_the_rank(networks: Any) -> None:
    kohya = formats.kohya(kohya_file(networks, rank=2, alpha=2.0), networks, {})
    dotted = formats.diffusers(dotted_file(networks, rank=2), networks, {})
    assert kohya is not None and dotted is not None
    for network, parameters in networks.items():
        assert kohya[network].keys() == dotted[network].keys()
        for name in kohya[network]:
            zero = torch.zeros(parameters[name])
            assert torch.equal(kohya[network][name].apply(zero, 1.0), dotted[network][name].apply(zero, 1.0))


ATTENTION = "down_blocks.1.attentions.0.transformer_blocks.0.attn1"


@pytest.mark.parametrize(
    ("up", "down"),
    [
        (f"unet.{ATTENTION}.to_q.lora_B.weight", f"unet.{ATTENTION}.to_q.lora_A.weight"),
        (f"unet.{ATTENTION}.to_q.lora.up.weight", f"unet.{ATTENTION}.to_q.lora.down.weight"),
        (f"unet.{ATTENTION}.to_q.lora_linear_layer.up.weight", f"unet.{ATTENTION}.to_q.lora_linear_layer.down.weight"),
        (f"unet.{ATTENTION}.processor.to_q_lora.up.weight", f"unet.{ATTENTION}.processor.to_q_lora.down.weight"),
        (f"base_model.model.{ATTENTION}.to_q.lora_B.weight", f"base_model.model.{ATTENTION}.to_q.lora_A.weight"),
        (f"base_model.model.unet.{ATTENTION}.to_q.lora_B.default.weight", f"base_model.model.unet.{ATTENTION}.to_q.lora_A.default.weight"),
        (f"{ATTENTION}.to_q.lora_B.weight", f"{ATTENTION}.to_q.lora_A.weight"),
        (f"diffusion_model.{ATTENTION}.to_q.lora_up.weight", f"diffusion_model.{ATTENTION}.to_q.lora_down.weight"),
        # in the embedded UNet: conv_in, one block without attention and its downsampler come first
        (
            "diffusion_model.input_blocks.3.1.transformer_blocks.0.attn1.to_q.lora_up.weight",
            "diffusion_model.input_blocks.3.1.transformer_blocks.0.attn1.to_q.lora_down.weight",
        ),
    ],
)
def test_every_spelling_of_a_part_means_the_same_weight(networks: Any, up: str, down: str) -> None:
    name = f"{ATTENTION}.to_q.weight"
    tensors = dict(zip((up, down), factors(networks["unet"][name], 2, 0), strict=True))
    deltas = formats.diffusers(tensors, networks, {})
    assert deltas is not None and list(deltas["unet"]) == [name]


@pytest.mark.parametrize(
    ("part", "weight"),
    [
        ("unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora", f"{ATTENTION}.to_out.0.weight"),
        ("text_encoder.text_model.encoder.layers.0.self_attn.to_out_lora", "encoder.layers.0.self_attn.out_proj.weight"),
        ("text_encoder.encoder.layers.0.self_attn.q_proj.lora", "encoder.layers.0.self_attn.q_proj.weight"),
        ("text_encoder.text_model.encoder.layers.1.mlp.fc1.lora_linear_layer", "encoder.layers.1.mlp.fc1.weight"),
    ],
)
def test_old_names_of_attention_layers_are_understood(networks: Any, part: str, weight: str) -> None:
    network = part.partition(".")[0]
    up, down = factors(networks[network][weight], 2, 0)
    deltas = formats.diffusers({f"{part}.up.weight": up, f"{part}.down.weight": down}, networks, {})
    assert deltas is not None and list(deltas[network]) == [weight]


def test_a_text_encoder_that_keeps_the_old_prefix_is_reached_too(networks: Any) -> None:
    old = {f"text_model.{name}": shape for name, shape in networks["text_encoder"].items()}
    deltas = formats.kohya(kohya_file({"text_encoder": networks["text_encoder"]}), {"unet": {}, "text_encoder": old}, {})
    assert deltas is not None and set(deltas["text_encoder"]) == set(matrices(old))


@pytest.mark.slow
def test_the_original_block_names_are_those_that_diffusers_converts_from() -> None:
    from accelerate import init_empty_weights
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    with init_empty_weights():
        unet = UNet2DConditionModel(cross_attention_dim=768)
    shapes = {name: tuple(p.shape) for name, p in unet.named_parameters()}
    original = {ours: theirs for theirs, ours in names.original_names(names.parts(shapes))}
    assert set(original) == set(names.parts(shapes))
    file = {f"model.diffusion_model.{original[n.rpartition('.')[0]]}.{n.rpartition('.')[2]}": n for n in shapes}
    converted = convert_ldm_unet_checkpoint(dict(file), dict(unet.config))
    assert converted == {name: name for name in shapes}


def test_a_kohya_file_with_the_original_block_names_changes_the_same_weights(networks: Any) -> None:
    original = {ours: theirs for theirs, ours in names.original_names(names.parts(networks["unet"]))}
    ours = kohya_file({"unet": networks["unet"]})
    flat = {names.flat(part): names.flat(theirs) for part, theirs in original.items()}
    theirs = {}
    for name, tensor in ours.items():
        part, _, factor = name.removeprefix("lora_unet_").partition(".")
        theirs[f"lora_unet_{flat[part]}.{factor}"] = tensor
    assert not set(theirs) & set(ours)
    first, second = formats.kohya(ours, networks, {}), formats.kohya(theirs, networks, {})
    assert first is not None and second is not None and first["unet"].keys() == second["unet"].keys()


def test_no_two_parts_share_a_name_in_any_dialect(networks: Any) -> None:
    for prefixes in (names.KOHYA_PREFIXES, names.DOTTED_PREFIXES):
        for network, parameters in networks.items():
            found = names.table({network: parameters}, {network: prefixes[network][:1]})
            spelled = len(names.parts(parameters)) + (len(names.original_names(names.parts(parameters))) if network == "unet" else 0)
            same = sum(theirs == ours for theirs, ours in names.original_names(names.parts(parameters))) if network == "unet" else 0
            assert len(found) == spelled - same


# --- Files -----------------------------------------------------------------------------------------------------------

ONE = "lora_unet_down_blocks_1_attentions_0_proj_in"
ONE_WEIGHT = "down_blocks.1.attentions.0.proj_in.weight"


def read_one(networks: Any, **given: torch.Tensor) -> Any:
    deltas = formats.kohya({f"{ONE}.{name.replace('__', '.')}": tensor for name, tensor in given.items()}, networks, {})
    assert deltas is not None
    return deltas["unet"]


def test_methods_are_told_by_the_names_of_their_factors(networks: Any) -> None:
    out, inner, *_ = networks["unet"][ONE_WEIGHT]
    half = {"hada_w1_a": normal(out, 2), "hada_w1_b": normal(2, inner), "hada_w2_a": normal(out, 2), "hada_w2_b": normal(2, inner)}
    loha = read_one(networks, **half, alpha=torch.tensor(1.0))
    lokr = read_one(networks, lokr_w1=normal(2, 2), lokr_w2_a=normal(out // 2, 4), lokr_w2_b=normal(4, inner // 2), alpha=torch.tensor(1.0))
    full = read_one(networks, diff=normal(out, inner, 1, 1), diff_b=normal(out))
    assert loha[ONE_WEIGHT].change.scale == 0.5 and lokr[ONE_WEIGHT].change.scale == 0.25
    assert set(full) == {ONE_WEIGHT, ONE_WEIGHT.replace("weight", "bias")}


def test_whole_sides_of_lokr_are_not_scaled(networks: Any) -> None:
    out, inner, *_ = networks["unet"][ONE_WEIGHT]
    lokr = read_one(networks, lokr_w1=normal(2, 2), lokr_w2=normal(out // 2, inner // 2), alpha=torch.tensor(1.0))
    assert lokr[ONE_WEIGHT].change.scale == 1.0


def test_a_norm_of_lycoris_changes_weight_and_bias(networks: Any) -> None:
    size = networks["unet"]["down_blocks.1.attentions.0.norm.weight"]
    key = "lora_unet_down_blocks_1_attentions_0_norm"
    deltas = formats.kohya({f"{key}.w_norm": normal(*size), f"{key}.b_norm": normal(*size)}, networks, {})
    assert deltas is not None
    assert set(deltas["unet"]) == {f"down_blocks.1.attentions.0.norm.{leaf}" for leaf in ("weight", "bias")}


def test_magnitudes_make_a_dora_of_whatever_they_come_with(networks: Any) -> None:
    name = "down_blocks.1.attentions.0.transformer_blocks.0.ff.net.2.weight"
    out, inner = networks["unet"][name]
    key = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
    up, down = factors((out, inner), 2, 0)
    for magnitude, by_output in ((normal(out, 1), True), (normal(1, inner), False)):
        tensors = {f"{key}.lora_up.weight": up, f"{key}.lora_down.weight": down, f"{key}.dora_scale": magnitude}
        deltas = formats.kohya(tensors, networks, {})
        assert deltas is not None
        delta = deltas["unet"][name]
        assert isinstance(delta, Decomposed) and delta.by_output is by_output


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ('{"unet.lora_alpha": 8, "unet.r": 2}', 4.0),
        ('{"unet.lora_alpha": 8, "unet.use_rslora": true}', 8 / 2**0.5),
        ('{"unet.lora_alpha": 8, "unet.alpha_pattern": {"to_q": 1}}', 0.5),
        ('{"text_encoder.lora_alpha": 8}', 1.0),
    ],
)
def test_the_settings_that_peft_wrote_down_give_the_scale(networks: Any, settings: str, scale: float) -> None:
    up, down = factors(networks["unet"][f"{ATTENTION}.to_q.weight"], 2, 0)
    tensors = {f"unet.{ATTENTION}.to_q.lora_B.weight": up, f"unet.{ATTENTION}.to_q.lora_A.weight": down}
    deltas = formats.diffusers(tensors, networks, {"lora_adapter_metadata": settings})
    assert deltas is not None
    change = deltas["unet"][f"{ATTENTION}.to_q.weight"].change
    assert isinstance(change, LowRank) and change.scale == pytest.approx(scale)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"lora_up__weight": (96, 2)}, "missing"),
        ({"lora_up__weight": (96, 2), "lora_down__weight": (3, 96)}, "do not fit together"),
        ({"lora_up__weight": (96, 0), "lora_down__weight": (0, 96)}, "rank 0"),
        ({"lora_up__weight": (96, 2), "lora_down__weight": (2, 768)}, "in the model is"),
        ({"lora_up__weight": (320, 2), "lora_down__weight": (2, 96)}, "in the model is"),
        ({"lora_up__weight": (), "lora_down__weight": ()}, "rank 0"),
        ({"lora_up__weight": (96, 2), "lora_down__weight": (2, 96), "alpha": (2,)}, "no single number"),
        ({"lora_up__weight": (96, 2), "lora_down__weight": (2, 96), "dora_scale": (3,)}, "magnitudes"),
        ({"oft_blocks": (4, 4)}, "not known here"),
        ({"lokr_w1": (2, 2), "lokr_w2_a": (48, 2)}, "missing"),
        ({"diff_b": (7,)}, "in the model is"),
    ],
)
def test_a_file_that_cannot_be_applied_as_meant_is_refused(networks: Any, given: Any, says: str) -> None:
    with pytest.raises(ModelFileError, match=says):
        read_one(networks, **{name: torch.zeros(shape) for name, shape in given.items()})


def test_a_file_that_is_no_lora_is_of_neither_dialect(networks: Any) -> None:
    tensors = {f"unet.{name}": torch.zeros(1) for name in networks["unet"]}
    assert formats.kohya(tensors, networks, {}) is None
    assert formats.diffusers(tensors, networks, {}) is None


# --- On a model ------------------------------------------------------------------------------------------------------


class Small(nn.Module):
    """A network with the names of a UNet's beginning."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(4, 6, 3, padding=1)
        self.down_blocks = nn.ModuleList([nn.ModuleDict({"proj": nn.Linear(6, 6)})])


class SmallText(nn.Module):
    """A network with the names of a text encoder's."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList([nn.ModuleDict({"fc1": nn.Linear(5, 5)})])})


@pytest.fixture
def engine(tmp_path: Path) -> Services:
    registered = Registered(lora_formats=sfumato_lora.register_lora_formats())
    library = ModelLibrary(Folders.under(tmp_path))
    return Services.make(library, registered, precision="float32", device=Device(torch.device("cpu"), 1 << 30))


@pytest.fixture
def context(engine: Services) -> Any:
    return SimpleNamespace(services=engine, progress=Progress.silent())


@pytest.fixture
def model(engine: Services) -> ModelHandle:
    weights = engine.residency.add("unet", lambda progress: Small())
    return ModelHandle("small", "sd1", None, weights, None, LatentFormat(), torch.float32)  # type: ignore[arg-type]


@pytest.fixture
def clip(engine: Services) -> ClipHandle:
    return ClipHandle("small", None, engine.residency.add("text", lambda progress: SmallText()))  # type: ignore[arg-type]


def save(context: Any, name: str, tensors: Tensors, metadata: dict[str, str] | None = None) -> str:
    from safetensors.torch import save_file

    folder = context.services.library.folders("loras")[0]
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / name, metadata)
    return name


def small_lora(seed: int = 0) -> Tensors:
    up, down = factors((6, 4, 3, 3), 2, seed)
    up2, down2 = factors((6, 6), 2, seed + 10)
    up3, down3 = factors((5, 5), 2, seed + 20)
    return {
        "lora_unet_conv_in.lora_up.weight": up, "lora_unet_conv_in.lora_down.weight": down,
        "lora_unet_down_blocks_0_proj.lora_up.weight": up2, "lora_unet_down_blocks_0_proj.lora_down.weight": down2,
        "lora_te_text_model_encoder_layers_0_fc1.lora_up.weight": up3, "lora_te_text_model_encoder_layers_0_fc1.lora_down.weight": down3,
    }  # fmt: skip


def state(services: Services, handle: Any) -> Tensors:
    """Copies of the weights as the network would use them under the handle's patches."""
    with (
        services.residency.use(handle.weights) as (module,),
        applied(services.residency, handle.weights, module, handle.patches, Progress.silent()),
    ):
        return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def test_a_lora_changes_both_sides_by_their_own_strengths(context: Any, model: ModelHandle, clip: ClipHandle) -> None:
    tensors = small_lora()
    name = save(context, "one.safetensors", tensors)
    patched, patched_clip = nodes.lora_loader(context, model, clip, name, 0.5, -2.0)
    before, after = state(context.services, model), state(context.services, patched)
    before_text, after_text = state(context.services, clip), state(context.services, patched_clip)

    def product(key: str, shape: tuple[int, ...]) -> torch.Tensor:
        up, down = tensors[f"{key}.lora_up.weight"], tensors[f"{key}.lora_down.weight"]
        return (up.flatten(1) @ down.flatten(1)).reshape(shape)

    torch.testing.assert_close(after["conv_in.weight"], before["conv_in.weight"] + 0.5 * product("lora_unet_conv_in", (6, 4, 3, 3)))
    fc1 = "encoder.layers.0.fc1.weight"
    torch.testing.assert_close(
        after_text[fc1], before_text[fc1] - 2.0 * product("lora_te_text_model_encoder_layers_0_fc1", (5, 5)), atol=1e-6, rtol=1e-5
    )
    assert torch.equal(after["conv_in.bias"], before["conv_in.bias"])


def test_loras_stack_and_come_off_to_the_bit(context: Any, model: ModelHandle) -> None:
    before = state(context.services, model)
    first = save(context, "first.safetensors", small_lora(1))
    second = save(context, "second.safetensors", small_lora(2))
    (one,) = nodes.lora_loader_model_only(context, model, first, 0.7)
    (other,) = nodes.lora_loader_model_only(context, model, second, -0.4)
    (both,) = nodes.lora_loader_model_only(context, one, second, -0.4)
    alone, alone_too, together = (state(context.services, handle) for handle in (one, other, both))
    for name in before:
        torch.testing.assert_close(together[name], alone[name] + alone_too[name] - before[name], atol=1e-6, rtol=1e-5)
    assert not torch.equal(together["conv_in.weight"], before["conv_in.weight"])
    after = state(context.services, model)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_strength_0_gives_back_the_handles_without_opening_the_model(context: Any, model: ModelHandle, clip: ClipHandle) -> None:
    name = save(context, "one.safetensors", small_lora())
    assert nodes.lora_loader(context, model, clip, name, 0.0, 0.0) == (model, clip)
    assert nodes.lora_loader_model_only(context, model, name, 0.0) == (model,)
    assert context.services.residency.counters.loads == 0
    patched, untouched = nodes.lora_loader(context, model, clip, name, 1.0, 0.0)
    assert patched is not model and untouched is clip


def test_the_same_file_under_two_names_has_one_identity(context: Any, model: ModelHandle) -> None:
    patches = []
    for name, seed in (("a.safetensors", 1), ("b.safetensors", 1), ("c.safetensors", 2)):
        (patched,) = nodes.lora_loader_model_only(context, model, save(context, name, small_lora(seed)), 1.0)
        patches.append(patched.patches[0].identity)
    assert patches[0] == patches[1] != patches[2]


def test_a_lora_for_another_family_says_so_and_counts_what_did_not_fit(context: Any, model: ModelHandle, clip: ClipHandle) -> None:
    up, down = factors((8, 8), 2, 0)
    key = "lora_unet_double_blocks_0_img_attn_qkv"
    name = save(context, "flux.safetensors", {f"{key}.lora_up.weight": up, f"{key}.lora_down.weight": down})
    with pytest.raises(ModelFileError) as caught:
        nodes.lora_loader(context, model, clip, name)
    assert "none of its 2 tensors" in caught.value.what and "flux.safetensors" in caught.value.where
    assert "another family" in caught.value.remedy


def test_errors_inside_a_format_name_the_file(context: Any, model: ModelHandle) -> None:
    name = save(context, "half.safetensors", {"lora_unet_conv_in.lora_up.weight": normal(6, 2, 1, 1)})
    with pytest.raises(ModelFileError) as caught:
        nodes.lora_loader_model_only(context, model, name, 1.0)
    assert caught.value.where.endswith("half.safetensors") and "conv_in" in caught.value.what


def test_a_checkpoint_is_not_taken_for_a_lora(context: Any, model: ModelHandle) -> None:
    name = save(context, "model.safetensors", {"model.diffusion_model.input_blocks.0.0.weight": normal(6, 4, 3, 3)})
    with pytest.raises(ModelFileError, match="no installed LoRA format"):
        nodes.lora_loader_model_only(context, model, name, 1.0)


def test_a_missing_lora_is_named(context: Any, model: ModelHandle) -> None:
    with pytest.raises(ModelMissingError, match="nowhere"):
        nodes.lora_loader_model_only(context, model, "nowhere.safetensors", 1.0)


def test_a_pickled_lora_is_refused(context: Any, model: ModelHandle) -> None:
    folder = context.services.library.folders("loras")[0]
    folder.mkdir(parents=True)
    (folder / "old.pt").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(ModelFileError, match="pickled"):
        nodes.lora_loader_model_only(context, model, "old.pt", 1.0)


def test_the_nodes_have_comfyuis_names_sockets_and_defaults() -> None:
    types = {t.name: t for t in node_types(nodes)}
    loader, model_only = types["LoraLoader"], types["LoraLoaderModelOnly"]
    assert [(i.name, i.type) for i in loader.inputs] == [
        ("model", "MODEL"), ("clip", "CLIP"), ("lora_name", "COMBO"), ("strength_model", "FLOAT"), ("strength_clip", "FLOAT"),
    ]  # fmt: skip
    assert [i.name for i in model_only.inputs] == ["model", "lora_name", "strength_model"]
    assert [o.type for o in loader.outputs] == ["MODEL", "CLIP"] and [o.type for o in model_only.outputs] == ["MODEL"]
    assert {i.default for t in types.values() for i in t.inputs if i.type == "FLOAT"} == {1.0}


def test_the_plugin_imports_no_torch() -> None:
    code = "import sys, sfumato_lora as p; p.register_nodes(); p.register_lora_formats(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- Against diffusers and peft --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipeline() -> Any:
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(embedded_model(), torch_dtype=torch.float32, safety_checker=None, local_files_only=True)


def outputs(pipeline: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What the pipeline's UNet and text encoder make of fixed inputs."""
    with torch.inference_mode():
        noise = pipeline.unet(normal(2, 4, 16, 16), torch.tensor(500), normal(2, 77, 128, seed=1)).sample
        text = pipeline.text_encoder(torch.arange(77)[None]).last_hidden_state
    return noise.clone(), text.clone()


def patched_outputs(pipeline: Any, networks: Any, stack: list[tuple[str, Any, float]]) -> tuple[torch.Tensor, torch.Tensor]:
    """The same inputs, with our patches on the pipeline's own networks."""
    residency = Services.make(None, Registered(), device=Device(torch.device("cpu"), 1 << 30)).residency  # type: ignore[arg-type]
    text = residency.add("text_encoder", lambda progress: pipeline.text_encoder)
    unet = residency.add("unet", lambda progress: pipeline.unet)
    silent = Progress.silent()
    with (
        residency.use(unet, text),
        applied(residency, unet, pipeline.unet, tuple(Patch(i, s, d["unet"]) for i, d, s in stack), silent),
        applied(residency, text, pipeline.text_encoder, tuple(Patch(i, s, d["text_encoder"]) for i, d, s in stack), silent),
    ):
        return outputs(pipeline)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # peft's and diffusers' own
def test_two_loras_of_two_dialects_equal_diffusers_adapters_and_come_off_to_the_bit(pipeline: Any, networks: Any) -> None:
    plain = outputs(pipeline)
    kohya_tensors = kohya_file(networks, rank=3, alpha=1.5, size=0.1)
    # diffusers knows these parts of a kohya file: attention, feed-forward, and the convolutions around them
    dotted_tensors = dotted_file(networks, rank=2, size=0.08)
    kohya = formats.kohya(kohya_tensors, networks, {})
    dotted = formats.diffusers(dotted_tensors, networks, {})
    ours = patched_outputs(pipeline, networks, [("a", kohya, 0.8), ("b", dotted, -0.5)])
    assert all(torch.equal(a, b) for a, b in zip(plain, outputs(pipeline), strict=True))

    pipeline.load_lora_weights(dict(kohya_tensors), adapter_name="a")
    pipeline.load_lora_weights(dict(dotted_tensors), adapter_name="b")
    pipeline.set_adapters(["a", "b"], [0.8, -0.5])
    theirs = outputs(pipeline)
    pipeline.unload_lora_weights()
    for what, untouched, expected, found in zip(("noise", "text"), plain, theirs, ours, strict=True):
        assert (expected - untouched).abs().max() > 1e-2, what
        print(f"{what}: {(expected - found).abs().max():.1e} of {expected.abs().max():.1e}")
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0, msg=what)


PEFT_METHODS = {
    "loha": ("LoHaConfig", {"r": 3, "alpha": 2, "use_effective_conv2d": True}, 2),
    "lokr": ("LoKrConfig", {"r": 1, "alpha": 3, "use_effective_conv2d": True}, 3),
    "dora": ("LoraConfig", {"r": 2, "lora_alpha": 5, "use_dora": True}, 5),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # peft's own
@pytest.mark.parametrize("method", PEFT_METHODS)
def test_lycoris_methods_equal_what_peft_merges(method: str) -> None:
    import peft

    config_class, options, alpha = PEFT_METHODS[method]
    torch.manual_seed(0)
    network = Small()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    wrapped = peft.get_peft_model(network, getattr(peft, config_class)(target_modules=["conv_in", "proj"], **options))
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.rand_like(parameter) if "magnitude" in name else torch.randn_like(parameter) * 0.6)
    stored = peft.get_peft_model_state_dict(wrapped)
    tensors = {name: tensor.detach().clone() for name, tensor in stored.items()}
    tensors |= {f"base_model.model.{part}.alpha": torch.tensor(alpha) for part in ("conv_in", "down_blocks.0.proj")}
    deltas = formats.diffusers(tensors, {"unet": {name: tuple(p.shape) for name, p in before.items()}}, {})
    merged = dict(wrapped.merge_and_unload().named_parameters())
    assert deltas is not None and set(deltas["unet"]) == {"conv_in.weight", "down_blocks.0.proj.weight"}
    for name, delta in deltas["unet"].items():
        assert (merged[name] - before[name]).abs().max() > 0.05
        torch.testing.assert_close(delta.apply(before[name], 1.0), merged[name].detach(), atol=2e-6, rtol=1e-5)
