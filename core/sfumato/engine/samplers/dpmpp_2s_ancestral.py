"""DPM-Solver++(2S), single step, with the noise of ancestral sampling after each step."""

from __future__ import annotations

from torch import Tensor

from sfumato.engine.model_sampling import ModelSampling
from sfumato.engine.samplers.ancestral import split
from sfumato.engine.samplers.context import Denoise, SamplerContext

BELOW_ONE = 0.9999
"""The inner level of a flow's first step from level 1, where lambda is minus infinity."""


def dpmpp_2s_ancestral(
    denoise: Denoise, x: Tensor, sigmas: Tensor, ctx: SamplerContext, *, eta: float = 1.0, s_noise: float = 1.0
) -> Tensor:
    """DPM-Solver++(2S) (Lu et al. 2022, arXiv:2211.01095, algorithm 1) to below the next level, then up to it with noise.

    The inner evaluation is in the middle of the step in lambda; its picture carries the whole step. Two evaluations a step; at
    `eta` 0 an ODE solver of order 2.
    """
    levels = sigmas.tolist()
    for i in ctx.steps(sigmas):
        sigma, step = levels[i], split(ctx.sampling, levels[i], levels[i + 1], eta)
        denoised = denoise(x, sigmas[i])
        picture = denoised
        if step.down > 0:
            inner = _middle(ctx.sampling, sigma, step.down)
            between = (inner / sigma) * x + (1 - inner / sigma) * denoised
            picture = denoise(between, sigmas.new_tensor(inner))
        x = (step.down / sigma) * x + (1 - step.down / sigma) * picture
        x = step.renoised(x, ctx, s_noise)
        ctx.done(i, x, denoised)
    return x


def _middle(sampling: ModelSampling, sigma: float, target: float) -> float:
    """The level whose lambda is the mean of both."""
    if sampling.is_flow and sigma >= 1:
        return BELOW_ONE
    return sampling.sigma_at((sampling.half_log_snr(sigma) + sampling.half_log_snr(target)) / 2)
