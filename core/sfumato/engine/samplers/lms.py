"""LMS: the linear multistep method (Adams-Bashforth) on the uneven levels of a run."""

from __future__ import annotations

from torch import Tensor

from sfumato.engine.samplers.adams import checked_order, combined, weights
from sfumato.engine.samplers.context import Denoise, SamplerContext


def lms(denoise: Denoise, x: Tensor, sigmas: Tensor, ctx: SamplerContext, *, order: int = 4) -> Tensor:
    """Order 4 (growing from 1 in the first steps), one evaluation a step.

    The slope's polynomial in sigma is integrated exactly (Hairer, Norsett & Wanner, Solving Ordinary Differential Equations
    I, chapter III.5). The step to level 0 takes the denoised picture: to extrapolate the slope there is unstable.
    """
    levels, slopes = sigmas.tolist(), list[Tensor]()
    for i in ctx.steps(sigmas):
        denoised = denoise(x, sigmas[i])
        slopes = [(x - denoised) / levels[i], *slopes][: checked_order(order, 8)]
        past = levels[i::-1][: len(slopes)]
        x = x + combined(weights(past, levels[i], levels[i + 1]), slopes) if levels[i + 1] > 0 else denoised
        ctx.done(i, x, denoised)
    return x
