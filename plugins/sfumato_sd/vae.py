"""The autoencoder of Stable Diffusion 1.x: the adapter over diffusers' `AutoencoderKL`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


class KlCodec:
    """Encodes to the mean of the posterior (a picture always gives the same latent), decodes without scaling."""

    def __init__(self, channels: int = 4, downscale: int = 8) -> None:
        self.channels, self.downscale = channels, downscale

    def encode(self, module: Any, pixels: torch.Tensor) -> torch.Tensor:
        latents: torch.Tensor = module.encode(pixels, return_dict=False)[0].mode()
        return latents

    def decode(self, module: Any, latents: torch.Tensor) -> torch.Tensor:
        pixels: torch.Tensor = module.decode(latents, return_dict=False)[0]
        return pixels

    def blocks(self, module: Any) -> Sequence[nn.Module]:
        """Every residual block of both halves."""
        halves = (module.encoder, module.decoder)
        parts = [part for half in halves for part in [half.mid_block, *getattr(half, "down_blocks", ()), *getattr(half, "up_blocks", ())]]
        return [resnet for part in parts for resnet in part.resnets]
