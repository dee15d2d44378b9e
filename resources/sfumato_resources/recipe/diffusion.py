"""The diffusion objective: noise schedule, velocity target, and how often and how heavily each noise level is trained.

Velocity: Salimans and Ho, Progressive Distillation, 2022. Loss weight: truncated signal-to-noise weighting as in Hang and others, 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch

TIMESTEPS: Final = 1000
_GAMMA: Final = 5.0


def alphas_cumprod() -> torch.Tensor:
    """Stable Diffusion's scaled-linear schedule: the share of the signal's variance after each of the 1000 steps."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TIMESTEPS) ** 2
    return torch.cumprod(1 - betas, 0)


@dataclass(frozen=True, slots=True)
class Noised:
    """A batch of noised latents [B, 4, h, w] (channels last), their timesteps [B], velocity targets, and loss weights [B]."""

    latents: torch.Tensor
    timesteps: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor

    def loss(self, prediction: torch.Tensor, pixel_weight: torch.Tensor | float = 1.0) -> torch.Tensor:
        """The weighted mean square error of a prediction of the velocity."""
        error = ((prediction.float() - self.target) ** 2 * pixel_weight).mean((1, 2, 3))
        return (error * self.weight).mean()


def noised(latents: torch.Tensor, generator: torch.Generator, low: int = 250, high: int = 900) -> Noised:
    """Noise a batch of clean latents.

    Somewhat more than half of the timesteps come evenly from ``low`` to ``high``, where colours and shapes are decided; the rest from
    all of them, the noisier more often.
    """
    count = len(latents)
    middle = low + (high - low) * torch.rand(count, generator=generator)
    anywhere = TIMESTEPS * torch.rand(count, generator=generator) ** 0.75
    chosen = torch.rand(count, generator=generator) < 0.55
    timesteps = torch.where(chosen, middle, anywhere).long().clamp(0, TIMESTEPS - 1)
    noise = torch.randn(latents.shape, generator=generator)
    share = alphas_cumprod()[timesteps]
    signal, spread = share.sqrt()[:, None, None, None], (1 - share).sqrt()[:, None, None, None]
    mixed = (signal * latents + spread * noise).contiguous(memory_format=torch.channels_last)
    weight = torch.clamp(_GAMMA / (share / (1 - share) + 1), max=1.0)
    return Noised(mixed, timesteps, signal * noise - spread * latents, weight)


def token_ids(tokenizer: Any, captions: list[str], length: int = 77) -> torch.Tensor:
    """[B, length] token numbers, padded."""
    return torch.tensor(tokenizer(captions, padding="max_length", max_length=length, truncation=True).input_ids)
