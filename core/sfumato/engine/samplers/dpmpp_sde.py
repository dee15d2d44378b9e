"""DPM-Solver++ for the diffusion SDE, single step: an evaluation inside the step, with noise on the way to it."""

from __future__ import annotations

import math

from torch import Tensor

from sfumato.engine.samplers.ancestral import split_exploding
from sfumato.engine.samplers.context import Denoise, SamplerContext
from sfumato.engine.samplers.log_snr import finite


def dpmpp_sde(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    ctx: SamplerContext,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
    r: float = 0.5,
) -> Tensor:
    """DPM-Solver++(2S) (Lu et al. 2022, arXiv:2211.01095, algorithm 1) with noise: two evaluations a step.

    The inner level lies the share `r` of the step away in lambda. Both parts read one Brownian path. At `eta` 0 an ODE
    solver of order 2.
    """
    sigmas = finite(sigmas, ctx.sampling)
    levels, sampling = sigmas.tolist(), ctx.sampling
    for i in ctx.steps(sigmas):
        sigma, target = levels[i], levels[i + 1]
        denoised = denoise(x, sigmas[i])
        if target == 0:
            x = denoised
        else:
            start, end = sampling.half_log_snr(sigma), sampling.half_log_snr(target)
            inner = sampling.sigma_at(start + r * (end - start))
            between = _step(x, denoised, ctx, (sigma, inner), eta, s_noise)
            blend = 1 / (2 * r)
            picture = (1 - blend) * denoised + blend * denoise(between, sigmas.new_tensor(inner))
            x = _step(x, picture, ctx, (sigma, target), eta, s_noise)
        ctx.done(i, x, denoised)
    return x


def _step(x: Tensor, picture: Tensor, ctx: SamplerContext, way: tuple[float, float], eta: float, s_noise: float) -> Tensor:
    """An ancestral step with a constant picture; it is split in x / alpha, whose level is e^-lambda for every model."""
    sampling, (sigma, target) = ctx.sampling, way
    level, level_next = (math.exp(-sampling.half_log_snr(s)) for s in way)
    down, _, up = split_exploding(level, level_next, eta)
    alpha, left = sampling.alpha(target), down / level
    x = (alpha / sampling.alpha(sigma) * left) * x + (alpha * (1 - left)) * picture
    return x + ctx.brownian(sigma, target) * (alpha * up * s_noise) if up * s_noise else x
