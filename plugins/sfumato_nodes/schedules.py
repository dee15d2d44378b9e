"""Nodes that make and cut SIGMAS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from sfumato.lazy import lazy_module
from sfumato.nodes import NodeContext, node
from sfumato.sockets import Choice, Model, Range, Sigmas, Strength

if TYPE_CHECKING:
    import torch

    from sfumato.engine import schedules
else:
    torch = lazy_module("torch")
    schedules = lazy_module("sfumato.engine.schedules")

Steps = Annotated[int, Range(1, 10000)]
SigmaMax = Annotated[float, Range(0.0, 5000.0, 0.01, round=0.000001)]
Factor = Annotated[float, Range(0.0, 100.0, 0.01)]
CATEGORY = "sampling/custom_sampling/schedulers"


@node("BasicScheduler", category=CATEGORY, outputs=("SIGMAS",))
def basic_scheduler(
    ctx: NodeContext, model: Model, scheduler: Annotated[str, Choice("schedules")] = "normal", steps: Steps = 20, denoise: Strength = 1.0
) -> tuple[Sigmas]:
    """A schedule by name."""
    return (schedules.for_denoise(ctx.services.schedule(scheduler), model.sampling, steps, denoise),)


@node("KarrasScheduler", category=CATEGORY, outputs=("SIGMAS",))
def karras_scheduler(
    steps: Steps = 20, sigma_max: SigmaMax = 14.614642, sigma_min: SigmaMax = 0.0291675, rho: Factor = 7.0
) -> tuple[Sigmas]:
    """Levels spaced evenly in sigma^(1/rho)."""
    return (schedules.karras(steps, sigma_min, sigma_max, rho),)


@node("ExponentialScheduler", category=CATEGORY, outputs=("SIGMAS",))
def exponential_scheduler(steps: Steps = 20, sigma_max: SigmaMax = 14.614642, sigma_min: SigmaMax = 0.0291675) -> tuple[Sigmas]:
    """Levels spaced evenly in log sigma."""
    return (schedules.exponential(steps, sigma_min, sigma_max),)


@node("PolyexponentialScheduler", category=CATEGORY, outputs=("SIGMAS",))
def polyexponential_scheduler(
    steps: Steps = 20, sigma_max: SigmaMax = 14.614642, sigma_min: SigmaMax = 0.0291675, rho: Factor = 1.0
) -> tuple[Sigmas]:
    """Levels spaced along a power in log sigma."""
    return (schedules.polyexponential(steps, sigma_min, sigma_max, rho),)


@node("VPScheduler", category=CATEGORY, outputs=("SIGMAS",))
def vp_scheduler(
    steps: Steps = 20,
    beta_d: SigmaMax = 19.9,
    beta_min: SigmaMax = 0.1,
    eps_s: Annotated[float, Range(0.0, 1.0, 0.0001)] = 0.001,
) -> tuple[Sigmas]:
    """Levels of the variance-preserving diffusion."""
    return (schedules.vp(steps, beta_d, beta_min, eps_s),)


@node("LaplaceScheduler", category=CATEGORY, outputs=("SIGMAS",))
def laplace_scheduler(
    steps: Steps = 20,
    sigma_max: SigmaMax = 14.614642,
    sigma_min: SigmaMax = 0.0291675,
    mu: Annotated[float, Range(-10.0, 10.0, 0.1)] = 0.0,
    beta: Annotated[float, Range(0.0, 10.0, 0.1)] = 0.5,
) -> tuple[Sigmas]:
    """Levels of a Laplace distribution of log sigma: most steps in the middle."""
    return (schedules.laplace(steps, sigma_min, sigma_max, mu, beta),)


@node("AlignYourStepsScheduler", category=CATEGORY, outputs=("SIGMAS",))
def align_your_steps_scheduler(
    model_type: Literal["SD1", "SDXL", "SVD"] = "SD1", steps: Steps = 10, denoise: Strength = 1.0
) -> tuple[Sigmas]:
    """The optimised tables of Align Your Steps."""
    return (schedules.align_your_steps(model_type, steps, denoise),)


@node("SDTurboScheduler", category=CATEGORY, outputs=("SIGMAS",))
def sd_turbo_scheduler(model: Model, steps: Annotated[int, Range(1, 10)] = 1, denoise: Strength = 1.0) -> tuple[Sigmas]:
    """The ten levels of turbo models."""
    return (schedules.sd_turbo(model.sampling, steps, denoise),)


@node("SplitSigmas", category="sampling/custom_sampling/sigmas", outputs=("high_sigmas", "low_sigmas"))
def split_sigmas(sigmas: Sigmas, step: Annotated[int, Range(0, 10000)] = 0) -> tuple[Sigmas, Sigmas]:
    """The steps before and after one of them; both parts hold the level between them."""
    return sigmas[: step + 1], sigmas[step:]


@node("SplitSigmasDenoise", category="sampling/custom_sampling/sigmas", outputs=("high_sigmas", "low_sigmas"))
def split_sigmas_denoise(sigmas: Sigmas, denoise: Strength = 1.0) -> tuple[Sigmas, Sigmas]:
    """The last part of the steps (by share) and what comes before."""
    steps = max(sigmas.shape[-1] - 1, 0)
    last = round(steps * denoise)
    return sigmas[: len(sigmas) - last], sigmas[-(last + 1) :]


@node("FlipSigmas", category="sampling/custom_sampling/sigmas", outputs=("SIGMAS",))
def flip_sigmas(sigmas: Sigmas) -> tuple[Sigmas]:
    """Backwards: from picture to noise. The first level is never exactly 0."""
    if len(sigmas) == 0:
        return (sigmas,)
    flipped = sigmas.flip(0)
    if flipped[0] == 0:
        flipped[0] = 0.0001
    return (flipped,)
