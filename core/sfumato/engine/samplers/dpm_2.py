"""DPM-Solver-2: the slope at the geometric middle of a step carries the whole step."""

from __future__ import annotations

import math

from torch import Tensor

from sfumato.engine.samplers.ancestral import split
from sfumato.engine.samplers.churn import Churn
from sfumato.engine.samplers.context import Denoise, SamplerContext


def dpm_2(
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
    """Order 2, two evaluations a step but for one in the last.

    The midpoint method with the middle of Lu et al. 2022 (DPM-Solver, arXiv:2206.00927, algorithm 1), in log sigma, and
    the step of Karras et al. 2022 (arXiv:2206.00364), in sigma.
    """
    churn, levels = Churn(s_churn, s_tmin, s_tmax, s_noise), sigmas.tolist()
    for i in ctx.steps(sigmas):
        x, sigma = churn(x, levels[i], len(levels) - 1, ctx)
        denoised = denoise(x, sigmas.new_tensor(sigma))
        x = _midpoint_step(denoise, x, sigmas, denoised, sigma, levels[i + 1])
        ctx.done(i, x, denoised)
    return x


def dpm_2_ancestral(denoise: Denoise, x: Tensor, sigmas: Tensor, ctx: SamplerContext, *, eta: float = 1.0, s_noise: float = 1.0) -> Tensor:
    """`dpm_2` to below the next level, then up to it with noise (the split of `euler_ancestral`)."""
    levels = sigmas.tolist()
    for i in ctx.steps(sigmas):
        step = split(ctx.sampling, levels[i], levels[i + 1], eta)
        denoised = denoise(x, sigmas[i])
        x = _midpoint_step(denoise, x, sigmas, denoised, levels[i], step.down)
        x = step.renoised(x, ctx, s_noise)
        ctx.done(i, x, denoised)
    return x


def _midpoint_step(denoise: Denoise, x: Tensor, sigmas: Tensor, denoised: Tensor, sigma: float, target: float) -> Tensor:
    """`x` carried from `sigma` to `target`; to level 0, whose logarithm is no number, with Euler's step."""
    slope = (x - denoised) / sigma
    if target == 0:
        return x + slope * (target - sigma)
    middle = math.sqrt(sigma * target)
    between = x + slope * (middle - sigma)
    return x + (between - denoise(between, sigmas.new_tensor(middle))) / middle * (target - sigma)
