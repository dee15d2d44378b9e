"""DDPM: the posterior of the forward process, drawn step by step."""

from __future__ import annotations

from torch import Tensor

from sfumato.engine.samplers.context import Denoise, SamplerContext


def ddpm(denoise: Denoise, x: Tensor, sigmas: Tensor, ctx: SamplerContext) -> Tensor:
    """DDPM (Ho et al. 2020, arXiv:2006.11239, equation 7), order 1, one evaluation a step.

    For any alpha and sigma the posterior q(x_next | x, denoised) is normal (Kingma et al. 2021, arXiv:2107.00630, appendix A):
    with a = alpha / alpha_next and v = sigma^2 - a^2 sigma_next^2 its mean is (a sigma_next^2 x + alpha_next v denoised) /
    sigma^2 and its variance v sigma_next^2 / sigma^2.
    """
    levels = sigmas.tolist()
    for i in ctx.steps(sigmas):
        sigma, target = levels[i], levels[i + 1]
        denoised = denoise(x, sigmas[i])
        alpha_next = ctx.sampling.alpha(target)
        ratio = ctx.sampling.alpha(sigma) / alpha_next
        variance = sigma**2 - (ratio * target) ** 2
        x = x * (ratio * target**2 / sigma**2) + denoised * (alpha_next * variance / sigma**2)
        if target > 0:
            x = x + ctx.white_noise(x) * (variance**0.5 * target / sigma)
        ctx.done(i, x, denoised)
    return x
