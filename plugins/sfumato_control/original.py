"""ControlNets under the names of the original code (`control_model.input_blocks...`), and what their shapes tell.

A single file has no configuration. Everything but the number of attention heads can be read off the shapes; Stable
Diffusion 1.x has 8 heads everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count, takewhile
from typing import Any

import torch

from sfumato.engine.weights_file import Convert
from sfumato.errors import ModelFileError
from sfumato.models.safetensors_file import Header

ORIGINAL_PREFIXES = ("control_model.", "")
HEADS = 8

Shapes = Mapping[str, tuple[int, ...]]


def converter(header: Header, prefix: str) -> Convert:
    """Renames the original names to diffusers'."""
    names = [name.removeprefix(prefix) for name in header.tensors if name.startswith(prefix)]
    layers = _layers_per_block(names)

    def convert(tensors: dict[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

        stripped = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        try:
            renamed = convert_controlnet_checkpoint(stripped, {"layers_per_block": layers})
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
            raise ModelFileError(
                "the names of its tensors are not those of a whole ControlNet", str(header.path), "Get the file again."
            ) from error
        # What the file lacks comes back as None; loading names the first of them.
        return {name: tensor for name, tensor in renamed.items() if tensor is not None}

    return convert


def _layers_per_block(names: list[str]) -> int:
    """Residual blocks before the first downsampler; all of them where there is none."""
    places = {int(name.split(".")[1]) for name in names if name.startswith("input_blocks.") and name.split(".")[1].isdecimal()}
    downsamplers = [place for place in places if f"input_blocks.{place}.0.op.weight" in names]
    return max(1, min(downsamplers, default=len(places)) - 1)


def config_of(shapes: Shapes, where: str) -> dict[str, Any]:
    """The configuration of a ControlNet from its shapes (diffusers' names). Raises ModelFileError if a telling tensor is missing."""

    def shape(name: str) -> tuple[int, ...]:
        if len(shapes.get(name, ())) < 2:
            raise ModelFileError(f"{name} is missing or no matrix: this is no whole ControlNet", where, "Get the file again.")
        return shapes[name]

    blocks = list(takewhile(lambda n: f"down_blocks.{n}.resnets.0.conv1.weight" in shapes, count()))
    layers = list(takewhile(lambda n: f"down_blocks.0.resnets.{n}.conv1.weight" in shapes, count()))
    attended = {block: f"down_blocks.{block}.attentions.0.proj_in.weight" in shapes for block in blocks}
    first = "mid_block.attentions.0"
    stages = takewhile(lambda n: f"controlnet_cond_embedding.blocks.{n}.weight" in shapes, count(1, 2))
    return {
        "_class_name": "ControlNetModel",
        "in_channels": shape("conv_in.weight")[1],
        "conditioning_channels": shape("controlnet_cond_embedding.conv_in.weight")[1],
        "down_block_types": ["CrossAttnDownBlock2D" if attended[block] else "DownBlock2D" for block in blocks],
        "block_out_channels": [shape(f"down_blocks.{block}.resnets.0.conv1.weight")[0] for block in blocks],
        "layers_per_block": len(layers),
        "cross_attention_dim": shape(f"{first}.transformer_blocks.0.attn2.to_k.weight")[1],
        "attention_head_dim": HEADS,
        "use_linear_projection": len(shape(f"{first}.proj_in.weight")) == 2,
        "conditioning_embedding_out_channels": [
            shape("controlnet_cond_embedding.conv_in.weight")[0],
            *(shape(f"controlnet_cond_embedding.blocks.{stage}.weight")[0] for stage in stages),
        ],
    }
