"""DPM-Solver++(2M): exponential integration with the picture extrapolated from the last two steps."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from sfumato.engine.samplers.context import Denoise, SamplerContext
from sfumato.engine.samplers.log_snr import exponential_step, finite


def dpmpp_2m(
    denoise: Denoise, x: Tensor, sigmas: Tensor, ctx: SamplerContext, *, time: Literal["log_sigma", "half_log_snr"] = "log_sigma"
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, algorithm 2): order 2, one evaluation a step.

    The picture is a straight line in `time`: minus log sigma, as ComfyUI has it for every model, or the paper's lambda. The two
    differ for flows alone, where both are of order 2. The first and the last step use the newest picture alone.
    """
    sigmas = finite(sigmas, ctx.sampling) if time == "half_log_snr" else sigmas
    levels, previous = sigmas.tolist(), None
    at = ctx.sampling.half_log_snr if time == "half_log_snr" else _minus_log
    for i in ctx.steps(sigmas):
        sigma, target = levels[i], levels[i + 1]
        denoised = denoise(x, sigmas[i])
        picture = denoised
        if previous is not None and target > 0:
            half_ratio = (at(target) - at(sigma)) / (at(sigma) - at(levels[i - 1])) / 2
            picture = (1 + half_ratio) * denoised - half_ratio * previous
        x = exponential_step(x, picture, target / sigma, 1.0, math.log(sigma / target)) if target > 0 else denoised
        previous = denoised
        ctx.done(i, x, denoised)
    return x


def _minus_log(sigma: float) -> float:
    """Minus log sigma."""
    return -math.log(sigma)
