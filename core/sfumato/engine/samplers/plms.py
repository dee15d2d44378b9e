"""PLMS: the pseudo linear multistep method, started with one step of Heun's kind."""

from __future__ import annotations

from torch import Tensor

from sfumato.engine.samplers.adams import combined
from sfumato.engine.samplers.context import Denoise, SamplerContext
from sfumato.engine.samplers.ipndm import EVEN_WEIGHTS


def plms(denoise: Denoise, x: Tensor, sigmas: Tensor, ctx: SamplerContext) -> Tensor:
    """PNDM's multistep (Liu et al. 2022, arXiv:2202.09778, equation 12): one evaluation a step, two in the first.

    In sigma its transfer function is a straight line, so that it differs from `ipndm` in the start alone: the first slope is
    the mean of both ends, as in latent-diffusion's version of the sampler. The step to level 0 takes the denoised picture.
    """
    levels, slopes = sigmas.tolist(), list[Tensor]()
    for i in ctx.steps(sigmas):
        denoised = denoise(x, sigmas[i])
        slopes = [(x - denoised) / levels[i], *slopes][:4]
        slope, step = combined(EVEN_WEIGHTS[len(slopes) - 1], slopes), levels[i + 1] - levels[i]
        if i == 0 and levels[1] > 0:
            reached = x + slope * step
            slope = (slope + (reached - denoise(reached, sigmas[1])) / levels[1]) / 2
        x = x + slope * step if levels[i + 1] > 0 else denoised
        ctx.done(i, x, denoised)
    return x
