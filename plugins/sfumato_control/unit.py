"""The adapter of Stable Diffusion 1.x's control nets over diffusers' `ControlNetModel` (Zhang et al. 2023, arXiv:2302.05543)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sfumato.engine.protocols import Call, Residuals
from sfumato.errors import BadValueError


@dataclass(frozen=True)
class SdControlUnit:
    """A control net that wants text of `context_width` numbers a token."""

    name: str
    context_width: int

    def __call__(self, module: Any, call: Call, hint: torch.Tensor, strength: float) -> Residuals:
        """`strength` times what it adds to the UNet's skip connections and middle. Raises BadValueError beside another family's model."""
        if call.context.shape[-1] != self.context_width:
            raise BadValueError(
                f"the ControlNet {self.name!r} reads text of width {self.context_width}, this model's is {call.context.shape[-1]}",
                "control_net",
                "Use a ControlNet that was made for the family of the model.",
            )
        dtype = next(module.parameters()).dtype
        down, middle = module(
            call.x.to(dtype),
            call.timestep,
            encoder_hidden_states=call.context.to(dtype),
            controlnet_cond=hint.to(dtype),
            conditioning_scale=strength,
            return_dict=False,
        )
        return Residuals(tuple(part.to(call.x.dtype) for part in down), middle.to(call.x.dtype))

    def blocks(self, module: Any) -> Sequence[nn.Module]:
        """Every residual block and every transformer, as in the UNet that it is half a copy of."""
        found: list[nn.Module] = [module.controlnet_cond_embedding]
        for block in [*module.down_blocks, module.mid_block]:
            found += [*block.resnets, *(getattr(block, "attentions", None) or [])]
        return found
