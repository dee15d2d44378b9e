"""Which noise levels a run passes through: every schedule by name, and how denoise strength cuts it.

A schedule gives float32 sigmas on the CPU, descending, the last one 0: `steps + 1` values, so that a sampler makes
`steps` steps. Two count otherwise, because they pick entries of the model's table: `ddim_uniform` steps through it with a
whole stride (30 steps give 31 over 1000 entries), `beta` drops repeated entries. Names and definitions are ComfyUI's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from sfumato.engine.model_sampling import ModelSampling
from sfumato.errors import BadValueError

Schedule: TypeAlias = Callable[[ModelSampling, int], Tensor]

MAX_STEPS = 10_000
NOTHING = 1e-5
"""A table entry below this is level 0 already."""

DISCARDS_PENULTIMATE = frozenset({"dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2"})

AYS_LEVELS = {
    "SD1": (14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092, 0.9642583904, 0.6523686016, 0.3977456272,
            0.1515232662, 0.0291671582),
    "SDXL": (14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769, 1.3405244945, 0.8620721141, 0.5550693289, 0.3798540708, 0.2332364134,
             0.1114188177, 0.0291671582),
    "SVD": (700.00, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}  # fmt: skip
"""The ten optimised steps of Align Your Steps (Sabour et al. 2024, arXiv:2404.14507), for three families."""


def sigmas(name: str, model_sampling: ModelSampling, steps: int) -> Tensor:
    """The levels of the schedule `name` for `steps` (1..10000) steps; raises BadValueError for a bad name or number."""
    return _known(name)(model_sampling, _checked(steps))


def for_denoise(
    name: str | Schedule, model_sampling: ModelSampling, steps: int, denoise: float = 1.0, *, discard_penultimate: bool = False
) -> Tensor:
    """The last `steps` steps of a schedule (by name, or itself) made longer by `1 / denoise`: the start is a picture, not pure noise.

    `denoise` above 0.9999 is the whole schedule, 0 or less an empty row. `discard_penultimate` makes one step more and
    leaves out the level before the last: see the function `discard_penultimate`.
    """
    schedule, steps = _known(name) if isinstance(name, str) else name, _checked(steps)
    if denoise <= 0:
        return torch.zeros(0)
    longer = steps if denoise > 0.9999 else _longer(steps, denoise)
    levels = schedule(model_sampling, longer + discard_penultimate)
    if discard_penultimate:
        levels = torch.cat([levels[:-2], levels[-1:]])
    return levels if denoise > 0.9999 else levels[-(steps + 1) :]


def discard_penultimate(sampler: str) -> bool:
    """Whether a sampler by name wants no short last step: those that evaluate between two levels, or extrapolate."""
    return sampler in DISCARDS_PENULTIMATE


def normal(model_sampling: ModelSampling, steps: int, *, sgm: bool = False) -> Tensor:
    """Evenly spaced in the network's time, from the first level to the last; with `sgm` the last one is left out."""
    start, end = model_sampling.timestep(model_sampling.sigma_max), model_sampling.timestep(model_sampling.sigma_min)
    if sgm:
        return _ending_in_zero(model_sampling.sigma(torch.linspace(float(start), float(end), steps + 1)[:-1]))
    if float(model_sampling.sigma(end)) < NOTHING:
        levels = model_sampling.sigma(torch.linspace(float(start), float(end), steps + 1))
        return _ending_in_zero(levels[:-1])
    return _ending_in_zero(model_sampling.sigma(torch.linspace(float(start), float(end), steps)))


def sgm_uniform(model_sampling: ModelSampling, steps: int) -> Tensor:
    """`normal` with one step more and its last level left out, as Stability's generative-models spaces them."""
    return normal(model_sampling, steps, sgm=True)


def simple(model_sampling: ModelSampling, steps: int) -> Tensor:
    """Every (N / steps)-th entry of the table, counted from its noisy end and rounded down."""
    table = model_sampling.sigmas
    stride = len(table) / steps
    return _ending_in_zero(table[[-(1 + int(i * stride)) for i in range(steps)]])


def ddim_uniform(model_sampling: ModelSampling, steps: int) -> Tensor:
    """Every (N // steps)-th entry of the table from its second on (Song et al. 2021, arXiv:2010.02502)."""
    table = model_sampling.sigmas
    if float(table[1]) < NOTHING:
        return _ending_in_zero(table[1 :: max(len(table) // (steps + 1), 1)][1:].flip(0))
    return _ending_in_zero(table[1 :: max(len(table) // steps, 1)].flip(0))


def beta(model_sampling: ModelSampling, steps: int, *, alpha: float = 0.6, beta: float = 0.6) -> Tensor:
    """Table entries at the quantiles of a Beta distribution: dense at both ends (Lee et al. 2024, arXiv:2407.12173)."""
    from scipy.special import betaincinv

    quantiles = betaincinv(alpha, beta, 1 - np.linspace(0, 1, steps, endpoint=False))
    places = dict.fromkeys(np.rint(quantiles * (len(model_sampling.sigmas) - 1)).astype(int).tolist())
    return _ending_in_zero(model_sampling.sigmas[list(places)])


def linear_quadratic(model_sampling: ModelSampling, steps: int, *, threshold: float = 0.025) -> Tensor:
    """Half of the steps linear over the first `threshold` of the way, then quadratic (Polyak et al. 2024, arXiv:2410.13720).

    The parabola continues the line at `steps // 2` with its slope, and reaches 1 at `steps`.
    """
    linear = steps // 2
    rest = steps - linear
    slope = threshold / linear if linear else 0.0
    curve = (1 - threshold - slope * rest) / rest**2 if linear else 1.0
    way = [slope * i for i in range(linear)]
    way += [threshold * bool(linear) + slope * i + curve * i**2 for i in range(rest)]
    return torch.tensor([1 - part for part in way] + [0.0]) * model_sampling.sigma_max


def karras(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """Evenly spaced in sigma^(1/rho) (Karras et al. 2022, arXiv:2206.00364, equation 5)."""
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return _ending_in_zero((high + torch.linspace(0, 1, steps) * (low - high)) ** rho)


def exponential(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Evenly spaced in log sigma."""
    return _ending_in_zero(torch.linspace(math.log(sigma_max), math.log(sigma_min), steps).exp())


def polyexponential(steps: int, sigma_min: float, sigma_max: float, rho: float = 1.0) -> Tensor:
    """A polynomial of degree `rho` in log sigma; `rho` 1 is `exponential`."""
    ramp = torch.linspace(1, 0, steps) ** rho
    return _ending_in_zero((ramp * (math.log(sigma_max) - math.log(sigma_min)) + math.log(sigma_min)).exp())


def kl_optimal(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Evenly spaced in arctan sigma (the optimum for Gaussian data of Sabour et al. 2024, arXiv:2404.14507)."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    return _ending_in_zero((ramp * math.atan(sigma_min) + (1 - ramp) * math.atan(sigma_max)).tan())


def vp(steps: int, beta_d: float = 19.9, beta_min: float = 0.1, eps_s: float = 1e-3) -> Tensor:
    """Evenly spaced in the time of the continuous variance-preserving SDE (Song et al. 2021, arXiv:2011.13456)."""
    time = torch.linspace(1, eps_s, steps)
    return _ending_in_zero(torch.expm1(beta_d * time**2 / 2 + beta_min * time).sqrt())


def laplace(steps: int, sigma_min: float, sigma_max: float, mu: float = 0.0, beta: float = 0.5) -> Tensor:
    """Quantiles of a Laplace distribution over log sigma, kept within the limits (Hang et al. 2024, arXiv:2407.03297)."""
    offset = 0.5 - torch.linspace(0, 1, steps)
    log_sigma = mu - beta * offset.sign() * torch.log(1 - 2 * offset.abs() + 1e-5)
    return _ending_in_zero(log_sigma.exp().clamp(sigma_min, sigma_max))


def align_your_steps(family: str, steps: int, denoise: float = 1.0) -> Tensor:
    """The optimised levels of "SD1", "SDXL" or "SVD", interpolated in log sigma; 0 takes the place of the last.

    `denoise` below 1 gives the last `round(steps * denoise)` steps, as ComfyUI's node does: here the schedule is not made longer.
    """
    if family not in AYS_LEVELS:
        raise BadValueError(f"there is no Align Your Steps table {family!r}", "schedule", f"Known: {', '.join(AYS_LEVELS)}.")
    if denoise <= 0:
        return torch.zeros(0)
    levels = _log_linear(AYS_LEVELS[family], _checked(steps) + 1)
    return _ending_in_zero(levels[:-1])[-(round(steps * min(denoise, 1.0)) + 1) :]


def sd_turbo(model_sampling: ModelSampling, steps: int, denoise: float = 1.0) -> Tensor:
    """Up to 10 levels at times 999, 899, ... 99, on which SD-Turbo was distilled (Sauer et al. 2023, arXiv:2311.17042)."""
    first = 10 - int(10 * min(max(denoise, 0.0), 1.0))
    times = torch.arange(999, 0, -100)[first : first + _checked(steps)]
    return _ending_in_zero(model_sampling.sigma(times))


def _between(schedule: Callable[[int, float, float], Tensor]) -> Schedule:
    """A schedule of two limits, with the limits of the model."""
    return lambda model_sampling, steps: schedule(steps, float(model_sampling.sigma_min), float(model_sampling.sigma_max))


SCHEDULES: dict[str, Schedule] = {
    "normal": normal,
    "karras": _between(karras),
    "exponential": _between(exponential),
    "sgm_uniform": sgm_uniform,
    "simple": simple,
    "ddim_uniform": ddim_uniform,
    "beta": beta,
    "linear_quadratic": linear_quadratic,
    "kl_optimal": _between(kl_optimal),
    "polyexponential": _between(polyexponential),
    "ays_sd1": lambda model_sampling, steps: align_your_steps("SD1", steps),
    "ays_sdxl": lambda model_sampling, steps: align_your_steps("SDXL", steps),
    "ays_svd": lambda model_sampling, steps: align_your_steps("SVD", steps),
}
"""By ComfyUI's name, and beyond its list `polyexponential` and the Align Your Steps tables."""


def _known(name: str) -> Schedule:
    """The schedule of a name, or BadValueError."""
    if name not in SCHEDULES:
        raise BadValueError(f"there is no schedule {name!r}", "schedule", f"Known: {', '.join(SCHEDULES)}.")
    return SCHEDULES[name]


def _longer(steps: int, denoise: float) -> int:
    """The whole schedule of which `steps` are the share `denoise`, or BadValueError if that is no usable number."""
    if not denoise >= steps / MAX_STEPS:
        raise BadValueError(
            f"denoise {denoise} with {steps} steps needs a schedule of more than {MAX_STEPS} steps",
            "denoise",
            "Use a larger denoise strength.",
        )
    return int(steps / denoise)


def _checked(steps: int) -> int:
    """`steps`, or BadValueError outside 1..10000."""
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= MAX_STEPS:
        raise BadValueError(f"{steps!r} steps cannot be made", "steps", f"Use a whole number from 1 to {MAX_STEPS}.")
    return steps


def _ending_in_zero(levels: Tensor) -> Tensor:
    """`levels` (1-D) and a 0, float32."""
    return torch.cat([levels.float(), torch.zeros(1)])


def _log_linear(levels: Sequence[float], count: int) -> Tensor:
    """`count` levels at even places of the given ones, linear in their logarithm; the given ones themselves if they are as many."""
    if count == len(levels):
        return torch.tensor(levels)
    places = np.linspace(0, len(levels) - 1, count)
    return torch.from_numpy(np.exp(np.interp(places, np.arange(len(levels)), np.log(levels))))
