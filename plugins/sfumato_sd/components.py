"""Where each component of a Stable Diffusion 1.x model comes from: a diffusers folder or one file, brought to one form."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sfumato.bounded_json import JsonFault, read_json
from sfumato.engine.empty_network import empty_network
from sfumato.engine.weights_file import Convert, Plan, fill, plan
from sfumato.errors import ModelFileError
from sfumato.models.safetensors_file import read_header
from sfumato.progress import Progress
from sfumato_resources import family_configs

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Component:
    """One network of a model: its configuration (diffusers' or transformers' own), and where each of its tensors is."""

    kind: str
    config: Config
    sources: Plan

    @property
    def parameters(self) -> int:
        """Weights in the files, which is near enough to how many the network has."""
        return sum(torch.Size(source.shape).numel() for source in self.sources.values())

    @property
    def state(self) -> str:
        """Names the files as they were when the tensors were placed: another name as soon as one of them is replaced."""
        files = sorted({(str(source.file), source.stamp or (0, 0)) for source in self.sources.values()})
        return hashlib.sha256(repr(files).encode()).hexdigest()[:16]

    def load(self, dtype: torch.dtype, progress: Progress) -> nn.Module:
        """Build the network without weights and fill it, a tensor at a time."""
        where = str(next((source.file for source in self.sources.values()), self.kind))
        return fill(empty_network(_builder(self.kind), self.config, where), self.sources, dtype, progress, self.kind)


@dataclass(frozen=True)
class Model:
    """The components that are there, what the network predicts at which levels, and the tokenizer's folder.

    `scheduler` has the names and values of diffusers' `scheduler_config.json`; what it leaves out is Stable Diffusion's.
    """

    components: Mapping[str, Component]
    scheduler: Config
    tokenizer: Path

    def component(self, kind: str, where: Path) -> Component:
        if kind not in self.components:
            raise ModelFileError(f"there is no {kind} in this file", str(where), "Load that part from a file of its own.")
        return self.components[kind]


def from_folder(folder: Path) -> Model:
    """A model in diffusers layout: `unet/`, `vae/`, `text_encoder/`, `tokenizer/`, `scheduler/`."""
    components = {}
    for kind in ("unet", "vae", "text_encoder"):
        if (folder / kind / "config.json").is_file():
            components[kind] = Component(kind, read_json_file(folder / kind / "config.json"), _adapted(kind, _folder_plan(folder / kind)))
    scheduler = folder / "scheduler" / "scheduler_config.json"
    return Model(components, read_json_file(scheduler) if scheduler.is_file() else {}, folder / "tokenizer")


def from_file(path: Path) -> Model:
    """A single-file checkpoint in the original layout (or a loose UNet, VAE or text encoder)."""
    header = read_header(path)
    configs = family_configs("sd1")
    components = {}
    for kind, (prefix, convert) in _ORIGINAL.items():
        names = [name for name in header.tensors if name.startswith(prefix)]
        if not names:
            continue
        config = _fitted(kind, read_json_file(configs / kind / "config.json"), header.tensors, prefix)
        sources = plan(header, convert(config) if convert else None, prefix)
        if sources:
            components[kind] = Component(kind, config, _adapted(kind, sources))
    # Empty tensors by these names are how trainers mark single files.
    scheduler = {
        "prediction_type": "v_prediction" if "v_pred" in header.tensors else "epsilon",
        "rescale_betas_zero_snr": "ztsnr" in header.tensors,
    }
    return Model(components, scheduler, configs / "tokenizer")


def loose(path: Path, kind: str) -> Component:
    """One component in a file or folder of its own: diffusers folder, diffusers keys, or the original keys without prefix."""
    if path.is_dir():
        return Component(kind, read_json_file(path / "config.json"), _adapted(kind, _folder_plan(path)))
    whole = from_file(path)
    if kind in whole.components:
        return whole.components[kind]
    header = read_header(path)
    config = read_json_file(family_configs("sd1") / kind / "config.json")
    prefix = _ORIGINAL[kind][0]
    bare = {"unet": "input_blocks.", "vae": "encoder.down.", "text_encoder": "text_model."}[kind]
    convert = _ORIGINAL[kind][1]
    if convert and any(name.startswith(bare) for name in header.tensors):
        with_prefix = convert(_fitted(kind, config, {prefix + n: i for n, i in header.tensors.items()}, prefix))
        sources = plan(header, lambda tensors: with_prefix({prefix + name: tensor for name, tensor in tensors.items()}))
    else:
        sources = plan(header)
    return Component(kind, config, _adapted(kind, sources))


def read_json_file(path: Path) -> dict[str, Any]:
    """A configuration. Raises ModelFileError if it is no JSON object."""
    try:
        found = read_json(path.read_bytes(), most_bytes=1 << 20)
    except (JsonFault, OSError) as error:
        raise ModelFileError(f"the configuration cannot be read: {error}", str(path), "Download the model again.") from error
    if not isinstance(found, dict):
        raise ModelFileError("the configuration is no JSON object", str(path), "Download the model again.")
    return found


def _folder_plan(folder: Path) -> Plan:
    """The weights of a diffusers component: one file, or the shards of an index."""
    sources: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        if ".fp16." in path.name and (folder / path.name.replace(".fp16.", ".")).exists():
            continue
        if ".non_ema." not in path.name:
            sources |= plan(read_header(path))
    if not sources:
        raise ModelFileError(
            "no safetensors weights in this folder", str(folder), "Files that run code when opened (.bin, .ckpt) are not read."
        )
    return sources


def _adapted(kind: str, sources: Plan) -> Plan:
    """Text encoders may carry the `text_model.` prefix that transformers has dropped; and keys that hold no weight."""
    if kind != "text_encoder":
        return sources
    return {name.removeprefix("text_model."): source for name, source in sources.items()}


def _fitted(kind: str, config: Config, tensors: Mapping[str, Any], prefix: str) -> Config:
    """The family's configuration with what the file's own shapes say: inpainting UNets take more channels."""
    first = tensors.get(f"{prefix}input_blocks.0.0.weight")
    if kind == "unet" and first is not None:
        return {**config, "in_channels": first.shape[1]}
    return config


def _unet_converter(config: Config) -> Convert:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    return lambda tensors: convert_ldm_unet_checkpoint(tensors, config)


def _vae_converter(config: Config) -> Convert:
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    return lambda tensors: convert_ldm_vae_checkpoint(tensors, config)


_ORIGINAL: Mapping[str, tuple[str, Callable[[Config], Convert] | None]] = {
    "unet": ("model.diffusion_model.", _unet_converter),
    "vae": ("first_stage_model.", _vae_converter),
    "text_encoder": ("cond_stage_model.transformer.", None),
}


def _builder(kind: str) -> Callable[[dict[str, Any]], nn.Module]:
    """What makes a network of a configuration. Its library is imported when it is called, because that takes seconds."""

    def build(config: dict[str, Any]) -> nn.Module:
        if kind == "text_encoder":
            from transformers import CLIPTextConfig, CLIPTextModel

            return CLIPTextModel(CLIPTextConfig.from_dict(config))  # type: ignore[no-any-return]
        from diffusers import AutoencoderKL, UNet2DConditionModel

        from sfumato_sd.attention import direct

        return direct((UNet2DConditionModel if kind == "unet" else AutoencoderKL).from_config(config))

    return build
