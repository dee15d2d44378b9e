"""RES: the refined exponential solver, in its multistep form of second order."""

from __future__ import annotations

import math

from torch import Tensor

from sfumato.engine.samplers.ancestral import split
from sfumato.engine.samplers.context import Denoise, SamplerContext
from sfumato.engine.samplers.log_snr import exponential_step, phi_2


def res_multistep(denoise: Denoise, x: Tensor, sigmas: Tensor, ctx: SamplerContext, *, eta: float = 0.0, s_noise: float = 1.0) -> Tensor:
    """RES multistep (Zhang et al. 2023, arXiv:2308.02157, section 4): order 2, one evaluation a step.

    With h the step in -log sigma and c2 = -h_last / h: x e^-h + h (b1 D + b2 D_last), b2 = phi2(-h) / c2, b1 = phi1(-h) - b2, which
    meets the order conditions without the simplification of `dpmpp_2m`. `eta` above 0 adds noise as in `euler_ancestral`.
    """
    levels, previous, reached = sigmas.tolist(), None, 0.0
    for i in ctx.steps(sigmas):
        sigma, step = levels[i], split(ctx.sampling, levels[i], levels[i + 1], eta)
        denoised = denoise(x, sigmas[i])
        if step.down == 0:
            x = denoised
        else:
            h = math.log(sigma / step.down)
            x = exponential_step(x, denoised, step.down / sigma, 1.0, h)
            if previous is not None:
                c2 = math.log(reached / levels[i - 1]) / h
                x = x + (phi_2(h) / c2) * (previous - denoised)
        x = step.renoised(x, ctx, s_noise)
        previous, reached = denoised, step.down
        ctx.done(i, x, denoised)
    return x


def res_multistep_ancestral(
    denoise: Denoise, x: Tensor, sigmas: Tensor, ctx: SamplerContext, *, eta: float = 1.0, s_noise: float = 1.0
) -> Tensor:
    """`res_multistep` with noise."""
    return res_multistep(denoise, x, sigmas, ctx, eta=eta, s_noise=s_noise)
