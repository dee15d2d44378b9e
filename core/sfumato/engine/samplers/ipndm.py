"""iPNDM: the classical Adams-Bashforth weights of even steps, on whatever levels a run has."""

from __future__ import annotations

from torch import Tensor

from sfumato.engine.samplers.adams import checked_order, combined
from sfumato.engine.samplers.context import Denoise, SamplerContext

EVEN_WEIGHTS: tuple[tuple[float, ...], ...] = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""Adams-Bashforth of order 1 to 4, newest slope first."""


def ipndm(denoise: Denoise, x: Tensor, sigmas: Tensor, ctx: SamplerContext, *, max_order: int = 4) -> Tensor:
    """Improved PNDM (Zhang & Chen 2023, arXiv:2204.13902, section 4): lower orders in the first steps, one evaluation a step.

    Order 4 on evenly spaced levels; on others the weights do not fit the spacing, and the order is 2. The step to level 0
    takes the denoised picture.
    """
    levels, slopes = sigmas.tolist(), list[Tensor]()
    for i in ctx.steps(sigmas):
        denoised = denoise(x, sigmas[i])
        slopes = [(x - denoised) / levels[i], *slopes][: checked_order(max_order, 4)]
        slope = combined(EVEN_WEIGHTS[len(slopes) - 1], slopes)
        x = x + slope * (levels[i + 1] - levels[i]) if levels[i + 1] > 0 else denoised
        ctx.done(i, x, denoised)
    return x
