"""How an ancestral step is split: down below the level that is wanted, then up to it with fresh noise."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sfumato.engine.model_sampling import ModelSampling
from sfumato.engine.samplers.context import SamplerContext


@dataclass(frozen=True)
class Split:
    """Go to `down` without noise, multiply by `scale`, then add noise times `up`."""

    down: float
    scale: float
    up: float

    def renoised(self, x: Tensor, ctx: SamplerContext, s_noise: float) -> Tensor:
        """`x` at `down` brought to the level that is wanted; draws nothing if no noise is to be added."""
        if self.up == 0:
            return x
        return self.scale * x + ctx.white_noise(x) * (self.up * s_noise)


def split(sampling: ModelSampling, sigma: float, sigma_next: float, eta: float) -> Split:
    """The split of the step `sigma` -> `sigma_next`; `eta` 0 (the ODE) to 1 (the posterior of the forward process).

    With alpha = 1 the variance of the posterior q(x_next | x, x0) is sigma_next^2 (sigma^2 - sigma_next^2) / sigma^2
    (Ho et al. 2020, equation 7, in sigma). A flow goes down by the same share once more, and adds what the variance
    sigma_next^2 lacks after the picture's share was scaled back from 1 - down to 1 - sigma_next.
    """
    if eta == 0 or sigma_next == 0:
        return Split(sigma_next, 1.0, 0.0)
    if sampling.is_flow:
        down = sigma_next * max(1 + (sigma_next / sigma - 1) * eta, 0.0)
        scale = sampling.alpha(sigma_next) / sampling.alpha(down)
        return Split(down, scale, max(sigma_next**2 - (scale * down) ** 2, 0.0) ** 0.5)
    return Split(*split_exploding(sigma, sigma_next, eta))


def split_exploding(sigma: float, sigma_next: float, eta: float) -> tuple[float, float, float]:
    """`split` with alpha = 1: (down, 1, up)."""
    posterior = sigma_next * max(sigma**2 - sigma_next**2, 0.0) ** 0.5 / sigma
    up = min(sigma_next, eta * posterior)
    return max(sigma_next**2 - up**2, 0.0) ** 0.5, 1.0, up
