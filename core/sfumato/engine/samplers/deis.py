"""DEIS: Adams-Bashforth in the time of the variance-preserving SDE."""

from __future__ import annotations

import math

from torch import Tensor

from sfumato.engine.samplers.adams import checked_order, combined, weights
from sfumato.engine.samplers.context import Denoise, SamplerContext

VP_SIGMA_MIN, VP_SIGMA_MAX, VP_TIME_MIN = 0.002, 80.0, 1e-3
"""The SDE whose time is used: sigma is 80 at time 1 and 0.002 at time 0.001."""


def deis(denoise: Denoise, x: Tensor, sigmas: Tensor, ctx: SamplerContext, *, max_order: int = 3) -> Tensor:
    """tAB-DEIS (Zhang & Chen 2023, arXiv:2204.13902): order 3 (growing from 1 in the first steps), one evaluation a step.

    The slope is extrapolated as a polynomial in the time t of the linear-beta VP SDE and integrated over sigma(t): where sigma
    changes by orders of magnitude, t changes evenly. The step to level 0 takes the denoised picture.
    """
    levels, slopes = sigmas.tolist(), list[Tensor]()
    for i in ctx.steps(sigmas):
        denoised = denoise(x, sigmas[i])
        slopes = [(x - denoised) / levels[i], *slopes][: checked_order(max_order, 4)]
        past = levels[i::-1][: len(slopes)]
        x = x + combined(weights(past, levels[i], levels[i + 1], vp_time), slopes) if levels[i + 1] > 0 else denoised
        ctx.done(i, x, denoised)
    return x


def vp_time(sigma: float) -> float:
    """The time at which the VP SDE with beta(t) linear has the level `sigma`: log(sigma^2 + 1) = beta_d t^2 / 2 + beta_min t."""
    low, high = math.log1p(VP_SIGMA_MIN**2), math.log1p(VP_SIGMA_MAX**2)
    beta_d = 2 * (low / VP_TIME_MIN - high) / (VP_TIME_MIN - 1)
    beta_min = high - beta_d / 2
    return (math.sqrt(beta_min**2 + 2 * beta_d * math.log1p(sigma**2)) - beta_min) / beta_d
