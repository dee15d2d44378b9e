"""Exponential integration over lambda = log(alpha / sigma), the time of the DPM-Solver++ family."""

from __future__ import annotations

import math

from torch import Tensor

from sfumato.engine.model_sampling import ModelSampling

FLOW_START = 1e-4
"""A flow starts at level 1, where lambda is minus infinity: its first level becomes the one after this share of the way."""


def finite(sigmas: Tensor, sampling: ModelSampling) -> Tensor:
    """`sigmas` with a first level of 1 of a flow moved below 1, so that every level above 0 has a lambda."""
    if not sampling.is_flow or len(sigmas) < 2 or sigmas[0] < 1:
        return sigmas
    return sigmas.index_fill(0, sigmas.new_zeros(1).long(), sampling.percent_to_sigma(FLOW_START))


def exponential_step(x: Tensor, picture: Tensor, ratio: float, alpha: float, h: float) -> Tensor:
    """``ratio x + alpha (1 - e^-h) picture``: a step of length `h` in lambda with a constant picture (exact then).

    `ratio` is what is left of x, `alpha` the picture's share at the level that is reached.
    """
    return ratio * x - (alpha * math.expm1(-h)) * picture


def phi_1(h: float) -> float:
    """``(1 - e^-h) / h``, 1 at 0."""
    return -math.expm1(-h) / h if h else 1.0


def phi_2(h: float) -> float:
    """``(e^-h - 1) / h + 1``, about h / 2: the weight of the picture's slope in lambda over a step of `h`."""
    return _series(h, 2) * h if abs(h) < 1e-2 else math.expm1(-h) / h + 1


def phi_3(h: float) -> float:
    """``phi_2(h) / h - 1/2``, about -h / 6: the weight of half the curvature."""
    return -_series(h, 3) * h if abs(h) < 1e-2 else phi_2(h) / h - 0.5


def _series(h: float, start: int) -> float:
    """The sum of (-h)^k / (k + start)! for k from 0: what is left of e^-h after its first terms, without their cancellation."""
    return sum((-h) ** k / math.factorial(k + start) for k in range(8))
