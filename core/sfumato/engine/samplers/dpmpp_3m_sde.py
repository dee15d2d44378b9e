"""DPM-Solver++(3M) for the diffusion SDE: a parabola through the last three pictures."""

from __future__ import annotations

import math

from torch import Tensor

from sfumato.engine.samplers.context import Denoise, SamplerContext
from sfumato.engine.samplers.dpmpp_2m_sde import with_noise
from sfumato.engine.samplers.log_snr import exponential_step, finite, phi_2, phi_3


def dpmpp_3m_sde(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    ctx: SamplerContext,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
    curvature: float = 0.5,
) -> Tensor:
    """SDE-DPM-Solver++(3M): the multistep of Lu et al. 2022 (arXiv:2211.01095, appendix) with noise, one evaluation a step.

    Over a step of length h in lambda the picture is D_i + d1 u + d2 u^2, u from 0 to 1, through the last three pictures. Against
    the decay (1 + eta) h this integrates to phi_1 D_i + phi_2 d1 - 2 phi_3 d2. The published sampler, which every program
    runs under this name, takes d2 for the second derivative and so half of its weight: `curvature` 0.5, at `eta` 0 an ODE
    solver of order 2 with a small constant. `curvature` 1 is the whole weight, order 3.
    """
    sigmas = finite(sigmas, ctx.sampling)
    levels, past, lengths = sigmas.tolist(), list[Tensor](), list[float]()
    for i in ctx.steps(sigmas):
        sigma, target = levels[i], levels[i + 1]
        denoised = denoise(x, sigmas[i])
        if target == 0:
            x = denoised
        else:
            alpha = ctx.sampling.alpha(target)
            h = ctx.sampling.half_log_snr(target) - ctx.sampling.half_log_snr(sigma)
            x = exponential_step(x, denoised, target / sigma * math.exp(-h * eta), alpha, h * (1 + eta))
            if past:
                x = x + alpha * _bend([denoised, *past], [length / h for length in lengths], h * (1 + eta), curvature)
            x = with_noise(x, ctx, sigma, target, h, eta, s_noise)
            lengths = [h, *lengths][:2]
        past = [denoised, *past][:2]
        ctx.done(i, x, denoised)
    return x


def _bend(pictures: list[Tensor], ratios: list[float], decay: float, share: float) -> Tensor:
    """What slope and curvature of the last two or three pictures (newest first) add; `ratios`: earlier steps over this one;
    `share`: of the curvature's weight."""
    slope = (pictures[0] - pictures[1]) / ratios[0]
    if len(pictures) == 2:
        return phi_2(decay) * slope
    earlier = (pictures[1] - pictures[2]) / ratios[1]
    curvature = (slope - earlier) / (ratios[0] + ratios[1])
    return phi_2(decay) * (slope + ratios[0] * curvature) - (2 * share * phi_3(decay)) * curvature
