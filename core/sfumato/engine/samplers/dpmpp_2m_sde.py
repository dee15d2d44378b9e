"""DPM-Solver++(2M) for the diffusion SDE, in its two variants, midpoint and Heun."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from sfumato.engine.samplers.context import Denoise, SamplerContext
from sfumato.engine.samplers.log_snr import exponential_step, finite, phi_2


def dpmpp_2m_sde(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    ctx: SamplerContext,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
    solver_type: Literal["midpoint", "heun"] = "midpoint",
) -> Tensor:
    """SDE-DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, section 5 and appendix): one evaluation a step.

    With noise `eta` the linear part decays with (1 + eta) h over a step of length h in lambda, and the noise that comes in has
    the variance sigma_next^2 (1 - e^(-2 eta h)). The picture's slope is weighted with the exact integral ("heun") or with
    half of the constant term's weight ("midpoint"). At `eta` 0 an ODE solver of order 2.
    """
    sigmas = finite(sigmas, ctx.sampling)
    levels, previous, last_h = sigmas.tolist(), None, 0.0
    for i in ctx.steps(sigmas):
        sigma, target = levels[i], levels[i + 1]
        denoised = denoise(x, sigmas[i])
        if target == 0:
            x = denoised
        else:
            alpha = ctx.sampling.alpha(target)
            h = ctx.sampling.half_log_snr(target) - ctx.sampling.half_log_snr(sigma)
            decay = h * (1 + eta)
            x = exponential_step(x, denoised, target / sigma * math.exp(-h * eta), alpha, decay)
            if previous is not None:
                weight = phi_2(decay) if solver_type == "heun" else -math.expm1(-decay) / 2
                x = x + (alpha * weight * h / last_h) * (denoised - previous)
            x = with_noise(x, ctx, sigma, target, h, eta, s_noise)
            last_h = h
        previous = denoised
        ctx.done(i, x, denoised)
    return x


def dpmpp_2m_sde_heun(
    denoise: Denoise, x: Tensor, sigmas: Tensor, ctx: SamplerContext, *, eta: float = 1.0, s_noise: float = 1.0
) -> Tensor:
    """`dpmpp_2m_sde` with the slope's exact weight."""
    return dpmpp_2m_sde(denoise, x, sigmas, ctx, eta=eta, s_noise=s_noise, solver_type="heun")


def with_noise(x: Tensor, ctx: SamplerContext, sigma: float, target: float, h: float, eta: float, s_noise: float) -> Tensor:
    """`x` and the noise that the SDE adds on its way of length `h` from `sigma` to `target`; draws nothing at `eta` 0."""
    if eta == 0 or s_noise == 0:
        return x
    return x + ctx.brownian(sigma, target) * (target * math.sqrt(-math.expm1(-2 * h * eta)) * s_noise)
