"""Stable Diffusion 1.x: folders, single files and loose parts, and every way in which they may be broken."""

from __future__ import annotations

import gc
import json
import os
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from diffusers.models.attention_processor import Attention
from torch import nn

from sfumato.bench.original_layout import Shapes, shapes, write_checkpoint
from sfumato.errors import ModelFileError
from sfumato.models import ModelFile
from sfumato.progress import Progress
from sfumato_resources import family_configs
from sfumato_sd.attention import DirectAttention, direct
from sfumato_sd.components import from_file, loose
from sfumato_sd.family import FAMILY

PARTS = ("unet", "vae", "text_encoder")


def network(kind: str, **changes: Any) -> nn.Module:
    """A network of Stable Diffusion 1.5 without weights, built by its own library."""
    config = {**json.loads((family_configs("sd1") / kind / "config.json").read_text()), **changes}
    with torch.device("meta"):
        if kind == "unet":
            return diffusers.UNet2DConditionModel.from_config(config)  # type: ignore[no-any-return]
        if kind == "vae":
            return diffusers.AutoencoderKL.from_config(config)  # type: ignore[no-any-return]
        return transformers.CLIPTextModel(transformers.CLIPTextConfig(**config))  # type: ignore[no-any-return]


def hollow(path: Path, tensors: Shapes) -> Path:
    """A checkpoint with a true header and a hole instead of weights: it takes no room on the disk."""
    table, at = {}, 0
    for name, shape in tensors.items():
        size = torch.Size(shape).numel() * 2
        table[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    head = json.dumps(table).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(len(head).to_bytes(8, "little") + head)
    os.truncate(path, 8 + len(head) + at)
    return path


def places(component: Any) -> dict[str, tuple[int, ...]]:
    return {name: source.shape for name, source in component.sources.items()}


def wanted(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Parameter -> shape; the text encoder's names with and without the prefix that transformers has dropped."""
    return {name.removeprefix("text_model."): tuple(parameter.shape) for name, parameter in module.named_parameters()}


# --- Single files --------------------------------------------------------------------------------------------------------


def test_every_tensor_of_the_original_layout_finds_its_place(tmp_path: Path) -> None:
    model = from_file(hollow(tmp_path / "model.safetensors", shapes()))
    assert set(model.components) == set(PARTS)
    for kind in PARTS:
        found = places(model.components[kind])
        assert {name: found.get(name) for name in wanted(network(kind))} == wanted(network(kind)), kind


def test_a_single_file_is_recognised_and_loaded_by_this_family(services: Any, tmp_path: Path) -> None:
    file = ModelFile("checkpoints", "model", hollow(tmp_path / "model.safetensors", shapes()))
    assert services.recognise(file).family == "sd1"
    assert services.family_of(file) is FAMILY


def test_each_tensor_of_the_file_is_used_once(tmp_path: Path) -> None:
    model = from_file(hollow(tmp_path / "model.safetensors", shapes()))
    starts = [source.start for kind in PARTS for source in model.components[kind].sources.values()]
    assert len(starts) == len(set(starts)) == len(shapes())


@pytest.mark.parametrize(
    ("marks", "prediction", "levels"), [([], "eps", 14.6), (["v_pred"], "v", 14.6), (["v_pred", "ztsnr"], "v", 4518.0)]
)
def test_what_a_single_file_predicts_is_told_by_marks_in_it(
    services: Any, tmp_path: Path, marks: list[str], prediction: str, levels: float
) -> None:
    path = hollow(tmp_path / "model.safetensors", shapes() | dict.fromkeys(marks, (0,)))
    model, _, _ = FAMILY.load_checkpoint(ModelFile("checkpoints", "model", path), services, Progress.silent())
    assert model.sampling.prediction == prediction
    assert float(model.sampling.sigma_max) == pytest.approx(levels, rel=0.01)


def test_an_inpainting_checkpoint_is_known_by_its_nine_channels(services: Any, tmp_path: Path) -> None:
    first = "model.diffusion_model.input_blocks.0.0.weight"
    path = hollow(tmp_path / "model.safetensors", shapes() | {first: (320, 9, 3, 3)})
    model, _, _ = FAMILY.load_checkpoint(ModelFile("checkpoints", "model", path), services, Progress.silent())
    assert model.network.in_channels == 9
    assert places(from_file(path).components["unet"])["conv_in.weight"] == (320, 9, 3, 3)


def broken(tmp_path: Path, change: Callable[[Shapes], Shapes]) -> Any:
    """The UNet of a checkpoint in which something was changed."""
    return from_file(hollow(tmp_path / "model.safetensors", change(shapes()))).components["unet"]


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    component = broken(tmp_path, lambda all_: {n: s for n, s in all_.items() if n != "model.diffusion_model.out.2.weight"})
    with pytest.raises(ModelFileError, match=r"conv_out\.weight") as caught:
        component.load(torch.float16, Progress.silent())
    assert str(tmp_path / "model.safetensors") in str(caught.value)


def test_a_part_that_is_missing_altogether_is_named(services: Any, tmp_path: Path) -> None:
    path = hollow(tmp_path / "model.safetensors", {n: s for n, s in shapes().items() if not n.startswith("first_stage")})
    with pytest.raises(ModelFileError, match="no vae in this file"):
        FAMILY.load_checkpoint(ModelFile("checkpoints", "model", path), services, Progress.silent())


def test_a_wrong_shape_is_told(tmp_path: Path) -> None:
    component = broken(tmp_path, lambda all_: all_ | {"model.diffusion_model.time_embed.0.weight": (1280, 321)})
    with pytest.raises(ModelFileError, match=r"linear_1\.weight is \[1280, 321\], the network wants \[1280, 320\]"):
        component.load(torch.float16, Progress.silent())


def test_a_file_cut_short_is_refused_before_anything_is_loaded(services: Any, tmp_path: Path) -> None:
    path = hollow(tmp_path / "model.safetensors", shapes())
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(ModelFileError):
        FAMILY.load_checkpoint(ModelFile("checkpoints", "model", path), services, Progress.silent())


def test_a_file_replaced_between_opening_and_loading_is_noticed_and_the_new_one_is_another(services: Any, tmp_path: Path) -> None:
    path = hollow(tmp_path / "model.safetensors", shapes())
    file = ModelFile("checkpoints", "model", path)
    model, _, _ = FAMILY.load_checkpoint(file, services, Progress.silent())
    os.utime(path, ns=(1, 1))
    with pytest.raises(ModelFileError, match="replaced"), services.residency.use(model.weights):
        raise AssertionError("never reached")
    assert (model.weights.pins, model.weights.module) == (0, None)
    again, _, _ = FAMILY.load_checkpoint(file, services, Progress.silent())
    assert again.weights is not model.weights


@pytest.mark.parametrize(
    ("kind", "bare"), [("unet", "model.diffusion_model."), ("vae", "first_stage_model."), ("text_encoder", "cond_stage_model.transformer.")]
)
@pytest.mark.parametrize("with_prefix", [True, False])
def test_a_part_in_a_file_of_its_own_is_read_with_and_without_its_prefix(tmp_path: Path, kind: str, bare: str, with_prefix: bool) -> None:
    own = {n if with_prefix else n.removeprefix(bare): s for n, s in shapes().items() if n.startswith(bare)}
    component = loose(hollow(tmp_path / "part.safetensors", own), kind)
    assert places(component).items() >= wanted(network(kind)).items()


@pytest.mark.parametrize("kind", PARTS)
def test_a_part_with_diffusers_names_is_read(tmp_path: Path, kind: str) -> None:
    named = {name: tuple(parameter.shape) for name, parameter in network(kind).named_parameters()}
    component = loose(hollow(tmp_path / "part.safetensors", named), kind)
    assert places(component) == wanted(network(kind))


@pytest.mark.slow
def test_a_whole_checkpoint_has_the_bits_that_diffusers_finds_in_it(services: Any, tmp_path: Path) -> None:
    path = tmp_path / "random.safetensors"
    write_checkpoint(path, shapes(), seed=3)
    configs = str(family_configs("sd1"))
    theirs = diffusers.StableDiffusionPipeline.from_single_file(str(path), config=configs, dtype=torch.float16, local_files_only=True)
    model = from_file(path)
    for kind in PARTS:
        ours = model.components[kind].load(torch.float16, Progress.silent()).state_dict()
        expected = getattr(theirs, kind).state_dict()
        assert {n for n in expected if "position_ids" not in n} == {n for n in ours if "position_ids" not in n}
        for name, tensor in ours.items():
            assert torch.equal(tensor, expected[name]), (kind, name)


# --- Folders -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(embedded_folder: Path, tmp_path: Path) -> Path:
    """A copy of the embedded model that may be broken."""
    copy = tmp_path / "model"
    shutil.copytree(
        embedded_folder, copy, ignore=lambda path, names: {n for n in names if n.startswith("controlnet") or n in ("loras", "upscale")}
    )
    return copy


def opened(services: Any, folder: Path) -> tuple[Any, Any, Any]:
    handles: tuple[Any, Any, Any] = FAMILY.load_checkpoint(ModelFile("checkpoints", folder.name, folder), services, Progress.silent())
    return handles


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_opening_a_model_reads_no_weights(services: Any, folder: Path) -> None:
    loads = services.residency.counters.loads
    model, clip, vae = opened(services, folder)
    assert services.residency.counters.loads == loads
    assert {handle.weights.module for handle in (model, clip, vae)} == {None}
    assert (model.name, model.family, model.latent.channels, vae.codec.channels, vae.codec.downscale) == ("model", "sd1", 4, 4, 8)


def test_the_networks_are_those_that_diffusers_and_transformers_load(services: Any, folder: Path) -> None:
    handles = dict(zip(("unet", "text_encoder", "vae"), opened(services, folder), strict=True))
    theirs = {
        "unet": diffusers.UNet2DConditionModel.from_pretrained(folder / "unet", dtype=torch.float32),
        "vae": diffusers.AutoencoderKL.from_pretrained(folder / "vae", dtype=torch.float32),
        "text_encoder": transformers.CLIPTextModel.from_pretrained(str(folder / "text_encoder"), dtype=torch.float32),
    }
    for kind, handle in handles.items():
        with services.residency.use(handle.weights) as (module,):
            expected = theirs[kind].state_dict()
            assert module.state_dict().keys() == expected.keys()
            assert all(torch.equal(tensor, expected[name]) for name, tensor in module.state_dict().items())
            assert not module.training


def test_the_same_folder_opened_twice_shares_its_weights(services: Any, folder: Path) -> None:
    assert opened(services, folder)[0].weights is opened(services, folder)[0].weights


def test_weights_in_several_files_are_put_together(services: Any, folder: Path) -> None:
    with services.residency.use(opened(services, folder)[0].weights) as (before,):
        expected = before.state_dict()
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    diffusers.UNet2DConditionModel.from_config(before.config)  # the library agrees that this is a whole network
    before.save_pretrained(folder / "unet", max_shard_size="2MB")
    assert len(list((folder / "unet").glob("*.safetensors"))) > 2
    with services.residency.use(opened(services, folder)[0].weights) as (again,):
        assert all(torch.equal(tensor, expected[name]) for name, tensor in again.state_dict().items())


@pytest.mark.parametrize(
    ("scheduler", "prediction", "highest"),
    [
        ({"prediction_type": "epsilon"}, "eps", 14.6146),
        ({"prediction_type": "sample"}, "x0", 14.6146),
        ({"rescale_betas_zero_snr": True}, "v", 4518.0),
        ({"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02}, "v", 157.4),
    ],
)
def test_the_scheduler_says_what_is_predicted_and_at_which_levels(
    services: Any, folder: Path, scheduler: dict[str, Any], prediction: str, highest: float
) -> None:
    edit(folder / "scheduler" / "scheduler_config.json", **scheduler)
    sampling = opened(services, folder)[0].sampling
    assert sampling.prediction == prediction
    assert float(sampling.sigma_max) == pytest.approx(highest, rel=0.01)


def test_levels_are_those_of_diffusers_scheduler(services: Any, folder: Path) -> None:
    for changes in ({}, {"num_train_timesteps": 500}, {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02}):
        edit(folder / "scheduler" / "scheduler_config.json", **changes)
        sampling = opened(services, folder)[0].sampling
        table = diffusers.EulerDiscreteScheduler.from_pretrained(folder / "scheduler").alphas_cumprod.double()
        assert torch.allclose(sampling.sigmas.double(), ((1 - table) / table).sqrt(), rtol=2e-4)


@pytest.mark.parametrize(
    "scheduler",
    [
        {"prediction_type": "flow"},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"beta_start": "low"},
        {"num_train_timesteps": None},
        {"trained_betas": [0.1, 0.2]},
    ],
)
def test_a_scheduler_that_no_such_network_has_is_refused(services: Any, folder: Path, scheduler: dict[str, Any]) -> None:
    edit(folder / "scheduler" / "scheduler_config.json", **scheduler)
    with pytest.raises(ModelFileError, match="scheduler"):
        opened(services, folder)


def test_without_a_scheduler_it_is_that_of_stable_diffusion(services: Any, folder: Path) -> None:
    shutil.rmtree(folder / "scheduler")
    assert opened(services, folder)[0].sampling.prediction == "eps"


def test_a_part_that_is_not_there_is_named(services: Any, folder: Path) -> None:
    shutil.rmtree(folder / "text_encoder")
    with pytest.raises(ModelFileError, match="no text_encoder"):
        opened(services, folder)


@pytest.mark.parametrize("content", ["", "[1]", "{", "\x00", '{"a": ' * 500])
def test_a_configuration_that_is_none_is_told_with_its_file(services: Any, folder: Path, content: str) -> None:
    (folder / "vae" / "config.json").write_text(content)
    with pytest.raises(ModelFileError, match="configuration") as caught:
        opened(services, folder)
    assert str(folder / "vae" / "config.json") in str(caught.value)


def test_pickled_weights_are_not_read(services: Any, folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ModelFileError, match=r"no safetensors weights(.|\n)*\.bin"):
        opened(services, folder)


def test_without_a_tokenizer_the_remedy_is_told(services: Any, folder: Path) -> None:
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(ModelFileError, match="tokenizer"):
        opened(services, folder)


# --- Attention -----------------------------------------------------------------------------------------------------------


def test_direct_attention_gives_the_bits_of_the_layer_it_stands_for(embedded_folder: Path) -> None:
    plain, quick = (diffusers.UNet2DConditionModel.from_pretrained(embedded_folder / "unet") for _ in range(2))
    direct(quick)
    assert sum(isinstance(layer, DirectAttention) for layer in quick.modules()) > 4
    assert plain.state_dict().keys() == quick.state_dict().keys()
    given = torch.randn(2, 4, 8, 8), torch.tensor(500), torch.randn(2, 77, int(plain.config.cross_attention_dim))
    with torch.no_grad():
        assert torch.equal(plain(*given).sample, quick(*given).sample)


def test_direct_attention_asks_the_processor_it_has_now_and_hands_on_what_it_is_given() -> None:
    told: list[dict[str, Any]] = []

    class Processor:
        def __call__(self, layer: nn.Module, hidden_states: torch.Tensor, scale: float = 1.0, **more: Any) -> torch.Tensor:
            told.append({"scale": scale, **more})
            return hidden_states

    layer = direct(Attention(8, heads=2, dim_head=4))
    layer.processor = Processor()  # type: ignore[assignment]
    x = torch.randn(1, 3, 8)
    assert torch.equal(layer(x), x)
    layer(x, scale=2.0)
    layer(x, temb=None)
    assert [each["scale"] for each in told] == [1.0, 2.0, 1.0]


def test_a_network_is_gone_as_soon_as_nobody_holds_it(embedded_folder: Path) -> None:
    network = direct(diffusers.UNet2DConditionModel.from_pretrained(embedded_folder / "unet"))
    gc.collect()
    gc.disable()
    try:
        left = weakref.ref(network)
        del network
        assert left() is None
    finally:
        gc.enable()
