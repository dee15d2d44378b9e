"""From a ControlNet's file or folder to a CONTROL_NET handle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sfumato.engine.empty_network import empty_network
from sfumato.engine.handles import ControlHandle
from sfumato.engine.services import Services
from sfumato.engine.weights_file import Plan, fill, plan
from sfumato.errors import ModelFileError
from sfumato.models import ModelFile
from sfumato.models.folders import read_config
from sfumato.models.recognise import recognise
from sfumato.models.safetensors_file import Header, read_header
from sfumato.progress import Progress
from sfumato_control.original import ORIGINAL_PREFIXES, config_of, converter
from sfumato_control.unit import SdControlUnit

Config = Mapping[str, Any]

_OTHERS = {
    "lora_controlnet": "a Control-LoRA",
    "difference": "only the difference between a ControlNet and a model",
    "adapter.body.0.in_conv.weight": "a T2I-Adapter",
    "body.0.in_conv.weight": "a T2I-Adapter",
    "adapter.conv_in.weight": "a T2I-Adapter",
}
"""Tensors that tell relatives of ControlNets that are not read, and what those are."""


def load_control(file: ModelFile, services: Services, progress: Progress) -> ControlHandle:
    """The ControlNet in `file`: a folder in diffusers layout, or one file with diffusers' or the original names.

    It is loaded at once, so that what is wrong with it is said here. Raises ModelFileError for anything that is no ControlNet of
    Stable Diffusion 1.x.
    """
    config, sources = _folder(file.path) if file.path.is_dir() else _single_file(file.path)
    _refuse_other_families(config, file.path)
    parameters = sum(torch.Size(source.shape).numel() for source in sources.values())
    dtype = services.dtype_for(parameters)
    changed = max((source.file.stat().st_mtime_ns for source in sources.values()), default=0)
    key = f"{file.path}:{changed}:controlnet"
    weights = services.residency.add(
        key,
        lambda how: fill(empty_network(_build, config, str(file.path)), sources, dtype, how, "controlnet"),
        expected=parameters * dtype.itemsize,
    )
    with services.residency.use(weights, progress=progress):
        return ControlHandle(file.name, SdControlUnit(file.name, int(config["cross_attention_dim"])), weights, dtype)


def _folder(folder: Path) -> tuple[Config, Plan]:
    files = sorted(folder.glob("*.safetensors"))
    full = [path for path in files if ".fp16." not in path.name or folder / path.name.replace(".fp16.", ".") not in files]
    if not full:
        raise ModelFileError("no safetensors weights in this folder", str(folder), "Files that run code when opened (.bin) are not read.")
    sources = {name: source for path in full for name, source in plan(read_header(path)).items()}
    return read_config(folder / "config.json"), sources


def _single_file(path: Path) -> tuple[Config, Plan]:
    header = read_header(path)
    diffusers_names = "controlnet_cond_embedding.conv_in.weight" in header.tensors
    sources: Plan = plan(header) if diffusers_names else _from_original(header)
    return config_of({name: source.shape for name, source in sources.items()}, str(path)), sources


def _from_original(header: Header) -> Plan:
    for marker, what in _OTHERS.items():
        if marker in header.tensors:
            raise ModelFileError(f"this is {what}, which is not read", str(header.path), "Get the plain ControlNet of the same name.")
    for prefix in ORIGINAL_PREFIXES:
        if f"{prefix}input_hint_block.0.weight" in header.tensors:
            return plan(header, converter(header, prefix))
    reason = recognise(header).reason
    raise ModelFileError(f"this is no ControlNet: {reason}", str(header.path), "`sfumato models info` says what the file holds.")


def _refuse_other_families(config: Config, path: Path) -> None:
    name, width = config.get("_class_name", "ControlNetModel"), config.get("cross_attention_dim")
    remedy = "Use a ControlNet that was made for Stable Diffusion 1.x."
    if name != "ControlNetModel" or not isinstance(width, int):
        raise ModelFileError(f"this is a {name}, which no installed plugin can load", str(path), remedy)
    other = {1024: "Stable Diffusion 2.x", 2048: "Stable Diffusion XL", 1280: "the refiner of Stable Diffusion XL"}.get(width)
    if other or config.get("addition_embed_type"):
        raise ModelFileError(f"this ControlNet was made for {other or 'another family of models'}", str(path), remedy)


def _build(config: dict[str, Any]) -> nn.Module:
    from diffusers import ControlNetModel  # takes seconds

    network: nn.Module = ControlNetModel.from_config(config)
    return network
