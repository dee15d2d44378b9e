"""LCM: consistency sampling, a denoised picture noised again to the next level."""

from __future__ import annotations

from torch import Tensor

from sfumato.engine.samplers.context import Denoise, SamplerContext


def lcm(denoise: Denoise, x: Tensor, sigmas: Tensor, ctx: SamplerContext) -> Tensor:
    """Multistep consistency sampling (Song et al. 2023, arXiv:2303.01469, algorithm 1; Luo et al. 2023, arXiv:2310.04378).

    For distilled models whose every output is a finished picture; one evaluation a step, no order of convergence.
    """
    levels = sigmas.tolist()
    for i in ctx.steps(sigmas):
        denoised = denoise(x, sigmas[i])
        x = denoised
        if levels[i + 1] > 0:
            x = ctx.sampling.add_noise(levels[i + 1], ctx.white_noise(x), denoised, False)
        ctx.done(i, x, denoised)
    return x
