"""DDIM: denoising diffusion implicit models, in sigma."""

from __future__ import annotations

from torch import Tensor

from sfumato.engine.samplers.context import Denoise, SamplerContext
from sfumato.engine.samplers.euler import euler, euler_ancestral


def ddim(denoise: Denoise, x: Tensor, sigmas: Tensor, ctx: SamplerContext, *, eta: float = 0.0) -> Tensor:
    """DDIM (Song et al. 2021, arXiv:2010.02502, equation 12), order 1, one evaluation a step.

    In x / sqrt(alphas_cumprod), whose level is sigma, equation 12 reads x + (x - denoised) / sigma (sqrt(sigma_next^2 - s^2)
    - sigma) + s noise with s = eta sigma_next sqrt(1 - sigma_next^2 / sigma^2): Euler's step at `eta` 0, the ancestral one
    above, at `eta` 1 DDPM's.
    """
    return euler(denoise, x, sigmas, ctx) if eta == 0 else euler_ancestral(denoise, x, sigmas, ctx, eta=eta)
