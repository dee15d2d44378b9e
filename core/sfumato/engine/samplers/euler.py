"""Euler's method on the probability-flow ODE ``dx/dsigma = (x - denoised) / sigma``."""

from __future__ import annotations

import math

from torch import Tensor

from sfumato.engine.samplers.ancestral import split
from sfumato.engine.samplers.churn import Churn
from sfumato.engine.samplers.context import Denoise, SamplerContext


def euler(
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
    """Order 1, one evaluation a step (Karras et al. 2022, arXiv:2206.00364, algorithm 2 without its correction).

    The order of operations, difference over sigma and only then times the step, gives the bits of diffusers' scheduler.
    """
    churn, levels = Churn(s_churn, s_tmin, s_tmax, s_noise), sigmas.tolist()
    for i in ctx.steps(sigmas):
        x, sigma = churn(x, levels[i], len(levels) - 1, ctx)
        denoised = denoise(x, sigmas.new_tensor(sigma))
        x = x + (x - denoised) / sigma * (levels[i + 1] - sigma)
        ctx.done(i, x, denoised)
    return x


def euler_ancestral(denoise: Denoise, x: Tensor, sigmas: Tensor, ctx: SamplerContext, *, eta: float = 1.0, s_noise: float = 1.0) -> Tensor:
    """Euler steps to below the next level, then up to it with noise: at `eta` 1 the ancestral sampling of
    Song et al. 2021 (arXiv:2011.13456, section 3); at `eta` 0 `euler`. Order 1, one evaluation a step."""
    levels = sigmas.tolist()
    for i in ctx.steps(sigmas):
        sigma, step = levels[i], split(ctx.sampling, levels[i], levels[i + 1], eta)
        denoised = denoise(x, sigmas[i])
        x = x + (x - denoised) / sigma * (step.down - sigma)
        x = step.renoised(x, ctx, s_noise)
        ctx.done(i, x, denoised)
    return x
