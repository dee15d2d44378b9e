"""UniPC: a predictor of order 3 whose every step is corrected with the evaluation that the next one needs anyway."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from sfumato.engine.samplers.context import Denoise, SamplerContext

ORDER = 3
LOWEST = 0.001
"""Stands for a last level of 0, whose logarithm is no number; what is left of the noise there cannot be seen."""


def uni_pc(denoise: Denoise, x: Tensor, sigmas: Tensor, ctx: SamplerContext) -> Tensor:
    """UniPC-3 with B1(h) = h (Zhao et al. 2023, arXiv:2302.04867, algorithms 5 and 6, data prediction).

    Predictor of order 3, with the corrector one more; lower in the first and the last steps; one evaluation a step.
    """
    return _sample(denoise, x, sigmas, ctx, lambda h: h)


def uni_pc_bh2(denoise: Denoise, x: Tensor, sigmas: Tensor, ctx: SamplerContext) -> Tensor:
    """`uni_pc` with B2(h) = e^h - 1."""
    return _sample(denoise, x, sigmas, ctx, math.expm1)


def _sample(denoise: Denoise, x: Tensor, sigmas: Tensor, ctx: SamplerContext, b_of: Callable[[float], float]) -> Tensor:
    levels = sigmas.tolist()
    if len(levels) > 1 and levels[-1] == 0:
        levels[-1] = min(LOWEST, levels[-2] / 2)
    step, past = None, list[tuple[float, Tensor]]()
    for i in ctx.steps(sigmas):
        denoised = denoise(x, sigmas[i])
        if step is not None:
            x = step.corrected(denoised)
        past = [(levels[i], denoised), *past][:ORDER]
        step = _Step(x, levels[i + 1], past[: min(i + 1, len(levels) - 1 - i)], b_of)
        x = step.predicted()
        ctx.done(i, x, denoised)
    return x


@dataclass
class _Step:
    """One step from `x` to `target`, with the (level, picture) pairs of the `past`, newest first, as many as its order."""

    x: Tensor
    target: float
    past: list[tuple[float, Tensor]]
    b_of: Callable[[float], float]
    h: float = field(init=False)
    ratios: list[float] = field(init=False)

    def __post_init__(self) -> None:
        sigma = self.past[0][0]
        self.h = math.log(sigma / self.target)
        self.ratios = [math.log(sigma / level) / self.h for level, _ in self.past[1:]]

    def predicted(self) -> Tensor:
        """UniP: through the pictures of the past."""
        return self._solved(self.ratios, [picture for _, picture in self.past[1:]])

    def corrected(self, reached: Tensor) -> Tensor:
        """UniC: through the picture at the end of the step too."""
        return self._solved([*self.ratios, 1.0], [*(picture for _, picture in self.past[1:]), reached])

    def _solved(self, ratios: list[float], pictures: list[Tensor]) -> Tensor:
        """The exact step with the newest picture, and the differences to the others with UniPC's weights."""
        newest, b = self.past[0][1], self.b_of(-self.h)
        result = (self.target / self.past[0][0]) * self.x - math.expm1(-self.h) * newest
        for weight, ratio, picture in zip(_weights(ratios, -self.h, b), ratios, pictures, strict=True):
            result = result - (b * weight / ratio) * (picture - newest)
        return result


def _weights(ratios: list[float], h: float, b: float) -> list[float]:
    """The a_m of equation 9: sum over m of a_m r_m^(k-1) = k! phi_(k+1)(h) h / B(h), k from 1; a single one is 1/2 (section 3.3)."""
    if len(ratios) < 2:
        return [0.5] * len(ratios)
    phi, moments = math.expm1(h) / h - 1, []
    for k in range(1, len(ratios) + 1):
        moments.append(phi * math.factorial(k) / b)
        phi = phi / h - 1 / math.factorial(k + 1)
    powers = np.vander(ratios, increasing=True).T
    return [float(weight) for weight in np.linalg.solve(powers, moments)]
