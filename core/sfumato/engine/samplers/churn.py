"""Churn: a little noise added before a step of an otherwise deterministic sampler (Karras et al. 2022, algorithm 2)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sfumato.engine.samplers.context import SamplerContext


@dataclass(frozen=True)
class Churn:
    """How much (`s_churn`, over the whole run), between which levels, and the noise's standard deviation `s_noise`."""

    s_churn: float
    s_tmin: float
    s_tmax: float
    s_noise: float

    def __call__(self, x: Tensor, sigma: float, steps: int, ctx: SamplerContext) -> tuple[Tensor, float]:
        """`x` at `sigma` moved up to a level at most sqrt(2) times as high, and that level.

        x keeps the forward process: it is scaled by alpha_hat / alpha (1 unless the model is a flow) and gets what its
        variance then lacks. A flow ends at level 1, so it stops short of it.
        """
        gamma = min(self.s_churn / steps, 2**0.5 - 1) if self.s_tmin <= sigma <= self.s_tmax else 0.0
        sigma_hat = sigma * (1 + gamma)
        if gamma <= 0 or (ctx.sampling.is_flow and sigma_hat >= 1):
            return x, sigma
        scale = ctx.sampling.alpha(sigma_hat) / ctx.sampling.alpha(sigma)
        spread = (sigma_hat**2 - (scale * sigma) ** 2) ** 0.5
        return scale * x + ctx.white_noise(x) * (spread * self.s_noise), sigma_hat
