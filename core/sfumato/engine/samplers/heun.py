"""Heun's method: an Euler step, corrected with the mean of the slopes at both ends."""

from __future__ import annotations

import math

from torch import Tensor

from sfumato.engine.samplers.churn import Churn
from sfumato.engine.samplers.context import Denoise, SamplerContext


def heun(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    ctx: SamplerContext,
    *,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Tensor:
    """Order 2, two evaluations a step but for one in the last (Karras et al. 2022, arXiv:2206.00364, algorithm 2)."""
    churn, levels = Churn(s_churn, s_tmin, s_tmax, s_noise), sigmas.tolist()
    for i in ctx.steps(sigmas):
        x, sigma = churn(x, levels[i], len(levels) - 1, ctx)
        denoised = denoise(x, sigmas.new_tensor(sigma))
        slope, step = (x - denoised) / sigma, levels[i + 1] - sigma
        if levels[i + 1] > 0:
            reached = x + slope * step
            slope = (slope + (reached - denoise(reached, sigmas[i + 1])) / levels[i + 1]) / 2
        x = x + slope * step
        ctx.done(i, x, denoised)
    return x
