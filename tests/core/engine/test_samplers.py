"""The samplers against mathematics: data whose exact denoiser, ODE and distribution are known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from torch import Tensor

from sfumato.engine.model_sampling import Discrete, Flow, ModelSampling
from sfumato.engine.samplers import SAMPLERS, SimpleContext, sampler
from sfumato.engine.schedules import SCHEDULES, karras, sigmas
from sfumato.errors import BadValueError, CancelledError

MEAN, SPREAD = 0.7, 0.5
SD, FLOW = Discrete.scaled_linear(), Flow()
SOLVERS = [name for name in SAMPLERS if name not in ("lcm", "ddpm")]
"""All but those that solve no ODE at any option."""


def level_of(sigma: Tensor | float, x: Tensor) -> Tensor | float:
    """`sigma` so that it multiplies `x`."""
    return sigma.reshape(-1, *[1] * (x.ndim - 1)) if isinstance(sigma, Tensor) and sigma.ndim else sigma


def one_hill(x: Tensor, sigma: Tensor | float) -> Tensor:
    """The exact denoiser of normal data."""
    square = level_of(sigma, x) ** 2
    return (SPREAD**2 * x + square * MEAN) / (SPREAD**2 + square)


def one_hill_flow(x: Tensor, sigma: Tensor | float) -> Tensor:
    """The exact denoiser of normal data under a flow."""
    s = level_of(sigma, x)
    return MEAN + (1 - s) * SPREAD**2 / ((1 - s) ** 2 * SPREAD**2 + s**2) * (x - (1 - s) * MEAN)


def two_hills(x: Tensor, sigma: Tensor | float) -> Tensor:
    """The exact denoiser of an even mixture of two normal distributions at -1 and 1, of standard deviation 0.3."""
    square = level_of(sigma, x) ** 2
    variance = 0.09 + square
    return (0.09 * x + square * torch.tanh(x / variance)) / variance


def one_hill_solution(x: Tensor, start: float, end: float) -> Tensor:
    """Where the probability-flow ODE of `one_hill` leads from `x`."""
    return MEAN + (x - MEAN) * math.sqrt((SPREAD**2 + end**2) / (SPREAD**2 + start**2))


def two_hills_solution(x: Tensor, start: float, end: float) -> Tensor:
    """The same for `two_hills`, integrated by SciPy to 12 places."""

    def slope(sigma: float, y: Any) -> Any:
        state = torch.from_numpy(y)
        return ((state - two_hills(state, sigma)) / sigma).numpy()

    solved = solve_ivp(slope, (start, end), x.flatten().numpy(), method="DOP853", rtol=1e-12, atol=1e-13)
    return torch.from_numpy(solved.y[:, -1].copy()).reshape(x.shape)


def without_noise(name: str) -> dict[str, Any]:
    """The options that make a sampler an ODE solver."""
    return {"eta": 0.0} if "eta" in sampler(name).options else {}


def power_grid(start: float, end: float, steps: int) -> Tensor:
    """Levels even in sigma^(1/7), without a last one of 0."""
    return (torch.linspace(start ** (1 / 7), end ** (1 / 7), steps + 1, dtype=torch.float64)) ** 7


def even_grid(start: float, end: float, steps: int) -> Tensor:
    """Levels even in sigma."""
    return torch.linspace(start, end, steps + 1, dtype=torch.float64)


def start_at(sigma: float) -> Tensor:
    """Starting points over the breadth of the noise."""
    return torch.linspace(-1.5, 1.5, 16, dtype=torch.float64).reshape(1, 1, 4, 4) * sigma


# From high noise, where a solver's first steps of lower order are exact, to low noise, where the last ones are.
FAR, NEAR = 300.0, 1e-4
EVEN = {"ipndm": (60.0, 2.0), "plms": (60.0, 2.0)}
"""Their weights are those of even steps."""


def errors(
    name: str, counts: tuple[int, ...], denoiser: Callable[..., Tensor], solution: Callable[..., Tensor], **options: Any
) -> list[float]:
    """The largest error of a sampler for each number of steps."""
    start, end = EVEN.get(name, (FAR, NEAR))
    grid = even_grid if name in EVEN else power_grid
    x = start_at(start)
    exact = solution(x, start, end)
    context = SimpleContext(0, x, grid(start, end, 1))
    return [
        float((sampler(name)(denoiser, x, grid(start, end, n), context, **without_noise(name), **options) - exact).abs().max())
        for n in counts
    ]


def order_between(coarse: float, fine: float) -> float:
    """The measured order, of twice as many steps."""
    return math.log2(coarse / fine)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_sampler_converges_with_its_order(name: str) -> None:
    nominal = sampler(name).order
    counts = (640, 1280) if nominal >= 3 else (160, 320)
    for denoiser, solution in ((one_hill, one_hill_solution), (two_hills, two_hills_solution)):
        coarse, fine = errors(name, counts, denoiser, solution)
        measured = order_between(coarse, fine)
        print(f"{name:24} {denoiser.__name__:10} {counts}: errors {coarse:.1e}, {fine:.1e}, order {measured:.2f} of {nominal}")
        assert nominal - 0.25 < measured < nominal + 0.5, (name, coarse, fine)


def test_the_whole_curvature_makes_the_third_order() -> None:
    published = errors("dpmpp_3m_sde", (320, 640), one_hill, one_hill_solution)
    whole = errors("dpmpp_3m_sde", (320, 640), one_hill, one_hill_solution, curvature=1.0)
    assert order_between(*published) == pytest.approx(2, abs=0.1)
    assert order_between(*whole) == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_sampler_solves_the_ode_of_a_flow(name: str) -> None:
    grid = torch.cat([power_grid(1.0, 1e-3, 400), torch.zeros(1, dtype=torch.float64)])
    x = start_at(1.0)
    result = sampler(name)(one_hill_flow, x, grid, SimpleContext(0, x, grid, FLOW), **without_noise(name))
    assert float((result - (MEAN + SPREAD * x)).abs().max()) < (0.02 if sampler(name).order == 1 else 2e-3)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if not sampler(name).deterministic])
@pytest.mark.parametrize("sampling", [SD, FLOW], ids=["sd", "flow"])
def test_a_stochastic_sampler_draws_from_the_data(name: str, sampling: ModelSampling) -> None:
    grid = karras(80, 0.005, 20.0) if not sampling.is_flow else torch.cat([power_grid(1.0, 1e-3, 80).float(), torch.zeros(1)])
    noise = torch.randn(1, 4, 40, 40, generator=torch.Generator().manual_seed(3))
    denoiser = one_hill_flow if sampling.is_flow else one_hill
    x = sampling.add_noise(float(grid[0]), noise, torch.full_like(noise, MEAN), False)
    result = sampler(name)(denoiser, x, grid, SimpleContext(8, x, grid, sampling))
    assert float(result.mean()) == pytest.approx(MEAN, abs=0.02)
    if name != "lcm":  # whose step takes the mean of all pictures for one of them
        assert float(result.std()) == pytest.approx(SPREAD, rel=0.08 if sampler(name).order == 1 else 0.03)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_seed_gives_the_same_bits_again_and_keeps_the_dtype(name: str, dtype: torch.dtype) -> None:
    x = start_at(14.6).to(dtype)
    grid = sigmas("karras", SD, 7)
    first, again = (sampler(name)(two_hills, x, grid, SimpleContext(4, x, grid)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.dtype == dtype
    other = sampler(name)(two_hills, x, grid, SimpleContext(5, x, grid))
    assert torch.equal(first, other) == sampler(name).deterministic


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(sorted(SAMPLERS)), st.sampled_from(sorted(SCHEDULES)), st.integers(1, 12), st.booleans())
def test_every_sampler_takes_every_schedule_of_every_model(name: str, schedule: str, steps: int, flow: bool) -> None:
    sampling: ModelSampling = FLOW if flow and not schedule.startswith("ays") else SD
    grid = sigmas(schedule, sampling, steps)
    x = (start_at(1.0) * float(grid[0])).float()
    result = sampler(name)(one_hill_flow if sampling.is_flow else one_hill, x, grid, SimpleContext(1, x, grid, sampling))
    assert result.shape == x.shape
    assert result.isfinite().all()
    assert float(result.abs().max()) < 5 * float(grid[0]) + 5


@pytest.mark.parametrize("name", [name for name in SAMPLERS if sampler(name).one_step and sampler(name).deterministic])
def test_a_split_run_of_a_one_step_sampler_is_the_whole_run(name: str) -> None:
    grid, x = sigmas("karras", SD, 9), start_at(14.6).float()
    context = SimpleContext(1, x, grid)
    whole = sampler(name)(two_hills, x, grid, context)
    half = sampler(name)(two_hills, x, grid[:5], context)
    assert torch.equal(sampler(name)(two_hills, half, grid[4:], context), whole)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_run_of_no_steps_changes_nothing(name: str) -> None:
    x = start_at(1.0)
    for grid in (torch.zeros(0), torch.tensor([0.7])):
        assert torch.equal(sampler(name)(two_hills, x, grid, SimpleContext(1, x, grid)), x)


class Reporting(SimpleContext):
    """A context that keeps what it is told, and cancels before a step."""

    def __init__(self, x: Tensor, grid: Tensor, cancel_before: int | None = None) -> None:
        super().__init__(1, x, grid)
        self.told: list[tuple[int, Tensor, Tensor]] = []
        self.cancel_before = cancel_before

    def steps(self, sigmas: Tensor) -> Iterator[int]:
        """Counts until the step before which it cancels."""
        for i in super().steps(sigmas):
            if i == self.cancel_before:
                raise CancelledError()
            yield i

    def done(self, i: int, x: Tensor, denoised: Tensor) -> None:
        """Keeps all of it."""
        self.told.append((i, x, denoised))


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_step_is_told_and_may_be_the_last(name: str) -> None:
    grid, x = sigmas("simple", SD, 5), start_at(14.6).float()
    context = Reporting(x, grid)
    result = sampler(name)(two_hills, x, grid, context)
    assert [i for i, _, _ in context.told] == [0, 1, 2, 3, 4]
    assert torch.equal(context.told[-1][1], result)
    assert all(float(denoised.abs().max()) < 3 for _, _, denoised in context.told)
    cancelled = Reporting(x, grid, cancel_before=3)
    with pytest.raises(CancelledError):
        sampler(name)(two_hills, x, grid, cancelled)
    assert len(cancelled.told) == 3


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_leaves_its_start_and_the_global_generator_alone(name: str) -> None:
    grid, x = sigmas("karras", SD, 4), start_at(14.6).float()
    kept, levels, state = x.clone(), grid.clone(), torch.get_rng_state()
    sampler(name)(two_hills, x, grid, SimpleContext(1, x, grid))
    assert torch.equal(x, kept)
    assert torch.equal(grid, levels)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["euler", "heun", "dpm_2"])
@pytest.mark.parametrize("sampling", [SD, FLOW], ids=["sd", "flow"])
def test_churn_keeps_the_distribution(name: str, sampling: ModelSampling) -> None:
    grid = karras(80, 0.005, 20.0) if not sampling.is_flow else torch.cat([power_grid(1.0, 1e-3, 80).float(), torch.zeros(1)])
    x = float(grid[0]) * torch.randn(1, 4, 40, 40, generator=torch.Generator().manual_seed(3))
    denoiser = one_hill_flow if sampling.is_flow else one_hill
    result = sampler(name)(denoiser, x, grid, SimpleContext(8, x, grid, sampling), s_churn=8.0)
    assert float(result.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(result.std()) == pytest.approx(SPREAD, rel=0.08 if name == "euler" else 0.03)


def test_the_options_of_a_sampler_are_its_keyword_parameters() -> None:
    assert dict(sampler("dpmpp_sde").options) == {"eta": 1.0, "s_noise": 1.0, "r": 0.5}
    assert dict(sampler("plms").options) == {}
    assert {spec.name for spec in SAMPLERS.values()} == set(SAMPLERS)


def test_an_unknown_option_or_sampler_says_what_there_is() -> None:
    x = start_at(1.0)
    with pytest.raises(BadValueError, match="no option 'etta'") as caught:
        sampler("euler_ancestral")(two_hills, x, torch.tensor([1.0, 0.0]), SimpleContext(1, x, x), etta=1)
    assert "eta, s_noise" in caught.value.remedy
    with pytest.raises(BadValueError, match="'eulr'") as caught:
        sampler("eulr")
    assert "euler_ancestral" in caught.value.remedy


@pytest.mark.parametrize(("name", "option"), [("lms", "order"), ("deis", "max_order"), ("ipndm", "max_order")])
def test_an_order_out_of_range_is_refused(name: str, option: str) -> None:
    x, grid = start_at(1.0), torch.tensor([1.0, 0.5, 0.0])
    for value in (0, 9):
        with pytest.raises(BadValueError, match="order"):
            sampler(name)(two_hills, x, grid, SimpleContext(1, x, grid), **{option: value})
