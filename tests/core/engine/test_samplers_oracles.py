"""The samplers against other people's: k-diffusion's published functions and diffusers' schedulers, on the same levels and noise."""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
from collections.abc import Callable
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from scipy.integrate import quad
from torch import Tensor

from sfumato.engine.model_sampling import Discrete, Flow, Prediction
from sfumato.engine.samplers import SimpleContext, sampler
from sfumato.engine.samplers.adams import weights
from sfumato.engine.samplers.deis import vp_time
from sfumato.engine.schedules import karras, sigmas, simple

STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
SEED = 11


def two_hills(x: Tensor, sigma: Tensor | float) -> Tensor:
    """The exact denoiser of an even mixture of two normal distributions at -1 and 1, of standard deviation 0.3."""
    level = sigma.reshape(-1, *[1] * (x.ndim - 1)) if isinstance(sigma, Tensor) and sigma.ndim else sigma
    variance = 0.09 + level**2
    return (0.09 * x + level**2 * torch.tanh(x / variance)) / variance


def start(dtype: torch.dtype = torch.float64, scale: float = 14.6) -> Tensor:
    """A noisy latent [2, 4, 8, 8]."""
    return (torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5)) * scale).to(dtype)


def levels(steps: int = 15, dtype: torch.dtype = torch.float64) -> Tensor:
    """Karras levels of Stable Diffusion."""
    return karras(steps, 0.0291671582, 14.6146412293).to(dtype)


def ours(name: str, x: Tensor, grid: Tensor, **options: Any) -> Tensor:
    """The result of one of our samplers."""
    return sampler(name)(two_hills, x, grid, SimpleContext(SEED, x, grid), **options)


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference."""
    return float((one - other).abs().max())


@pytest.fixture(scope="module")
def kd() -> ModuleType:
    """k-diffusion's sampling module alone: the package's own __init__ imports its training code, which warns."""
    found = importlib.util.find_spec("k_diffusion")
    assert found is not None
    assert found.submodule_search_locations is not None
    package = ModuleType("k_diffusion_oracle")
    package.__path__ = list(found.submodule_search_locations)
    sys.modules["k_diffusion_oracle"] = package
    return importlib.import_module("k_diffusion_oracle.sampling")


def theirs(kd: ModuleType, name: str, x: Tensor, grid: Tensor, **options: Any) -> Tensor:
    """The result of k-diffusion's sampler of that name."""
    result: Tensor = getattr(kd, f"sample_{name}")(two_hills, x, grid, disable=True, **options)
    return result


@pytest.mark.parametrize("name", ["euler", "heun", "dpm_2", "dpmpp_2m"])
def test_a_deterministic_sampler_is_k_diffusions(kd: ModuleType, name: str) -> None:
    assert apart(ours(name, start(), levels()), theirs(kd, name, start(), levels())) < 1e-11


def test_lms_is_k_diffusions_until_the_step_to_zero(kd: ModuleType) -> None:
    grid = levels()[:-1]
    assert apart(ours("lms", start(), grid), theirs(kd, "lms", start(), grid)) < 1e-11
    assert torch.equal(ours("lms", start(), levels()), two_hills(ours("lms", start(), grid), float(grid[-1])))


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("name", ["euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral"])
def test_an_ancestral_sampler_is_k_diffusions_with_the_same_noise(kd: ModuleType, name: str, eta: float) -> None:
    white = SimpleContext(SEED, start(), levels()).white_noise
    expected = theirs(kd, name, start(), levels(), eta=eta, noise_sampler=lambda *_: white(start()))
    assert apart(ours(name, start(), levels(), eta=eta), expected) < 1e-11


@pytest.mark.parametrize(("name", "options"), [
    ("dpmpp_sde", {}),
    ("dpmpp_sde", {"eta": 0.4, "s_noise": 0.9, "r": 0.4}),
    ("dpmpp_2m_sde", {}),
    ("dpmpp_2m_sde", {"eta": 0.4, "s_noise": 0.9}),
    ("dpmpp_2m_sde", {"solver_type": "heun"}),
    ("dpmpp_3m_sde", {}),
    ("dpmpp_3m_sde", {"eta": 0.4}),
    ("dpmpp_3m_sde", {"eta": 0.0}),
])  # fmt: skip
def test_an_sde_sampler_is_k_diffusions_on_the_same_brownian_path(kd: ModuleType, name: str, options: dict[str, Any]) -> None:
    path = SimpleContext(SEED, start(), levels()).brownian

    def noise(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        return path(round(float(sigma), 12), round(float(sigma_next), 12))

    expected = theirs(kd, name, start(), levels(), noise_sampler=noise, **options)
    assert apart(ours(name, start(), levels(), **options), expected) < 1e-9


def test_the_brownian_path_is_k_diffusions(kd: ModuleType) -> None:
    grid, x = torch.tensor([14.5, 9.25, 4.0, 1.5, 0.75, 0.25, 0.125]), start(torch.float32)  # exact in 6 places, as the tree is
    tree = kd.BrownianTreeNoiseSampler(x, grid[-1], grid[0], SEED)
    context = SimpleContext(SEED, x, grid)
    for sigma, sigma_next in pairwise(grid):
        assert apart(context.brownian(float(sigma), float(sigma_next)), tree(sigma, sigma_next)) < 1e-6


def test_churn_is_k_diffusions(kd: ModuleType) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED + 1)
        expected = theirs(kd, "heun", start(torch.float32), levels(dtype=torch.float32), s_churn=4.0, s_noise=1.003)
    assert apart(ours("heun", start(torch.float32), levels(dtype=torch.float32), s_churn=4.0, s_noise=1.003), expected) < 2e-5


def network(x: Tensor, time: Tensor | float) -> Tensor:
    """Any function of a scaled latent and a time."""
    return torch.tanh(x * 1.7 + 0.3) * (1 + float(time) / 1000)


@pytest.mark.parametrize("prediction", ["eps", "v"])
@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
def test_euler_gives_the_bits_of_diffusers(prediction: Prediction, spacing: str) -> None:
    kind = "epsilon" if prediction == "eps" else "v_prediction"
    scheduler = EulerDiscreteScheduler(**STABLE_DIFFUSION, timestep_spacing=spacing, prediction_type=kind, steps_offset=1)
    scheduler.set_timesteps(12)
    x = expected = start(torch.float32)
    times = dict(zip(scheduler.sigmas.tolist(), scheduler.timesteps.tolist(), strict=False))
    for time in scheduler.timesteps:
        output = network(scheduler.scale_model_input(expected, time), time)
        expected = scheduler.step(output, time, expected, return_dict=False)[0]
    sampling = Discrete.scaled_linear(prediction)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return sampling.denoised(x, sigma, network(sampling.scale_input(x, sigma), times[float(sigma)]))

    assert torch.equal(sampler("euler")(denoise, x, scheduler.sigmas, SimpleContext(SEED, x, scheduler.sigmas)), expected)


def test_euler_on_a_flow_is_diffusers() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(12)
    x = expected = start(torch.float32, 1.0)
    for time, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        expected = scheduler.step((expected - two_hills(expected, sigma)) / sigma, time, expected, return_dict=False)[0]
    assert apart(sampler("euler")(two_hills, x, scheduler.sigmas, SimpleContext(SEED, x, scheduler.sigmas, Flow(3.0))), expected) < 1e-6


def test_euler_ancestral_is_diffusers_with_the_same_noise() -> None:
    scheduler = EulerAncestralDiscreteScheduler(**STABLE_DIFFUSION, timestep_spacing="leading", steps_offset=1)
    scheduler.set_timesteps(12)
    x = expected = start(torch.float32)
    source = torch.Generator().manual_seed(SEED + 1)
    for time, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        scheduler.scale_model_input(expected, time)
        output = (expected - two_hills(expected, sigma)) / sigma
        expected = scheduler.step(output, time, expected, generator=source, return_dict=False)[0]
    assert apart(ours("euler_ancestral", x, scheduler.sigmas), expected) < 1e-5


def no_noise(i: int) -> dict[str, Any]:
    """Nothing for a scheduler's step."""
    return {}


def preserving(scheduler: Any, grid: Tensor, x: Tensor, noise: Callable[[int], dict[str, Any]] = no_noise, flow: bool = False) -> Tensor:
    """A run of a diffusers scheduler that works in x / sqrt(1 + sigma^2) (a flow: in x itself), on the levels of `grid`."""
    scheduler.set_timesteps(len(grid) - 1)
    scheduler.sigmas = grid
    scale = torch.ones_like(grid) if flow else (1 + grid**2) ** 0.5
    for i, time in enumerate(scheduler.timesteps):
        full = x if i else x / scale[0]
        noisy = full * scale[i]
        x = scheduler.step((noisy - two_hills(noisy, grid[i])) / grid[i], time, full, return_dict=False, **noise(i))[0]
    return x * scale[-1]


@pytest.mark.parametrize(("name", "kind"), [("uni_pc", "bh1"), ("uni_pc_bh2", "bh2")])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 20])
def test_uni_pc_is_diffusers_of_order_3(name: str, kind: str, steps: int) -> None:
    scheduler = UniPCMultistepScheduler(**STABLE_DIFFUSION, solver_order=3, solver_type=kind)
    grid = levels(steps)
    ended = torch.cat([grid[:-1], grid.new_tensor([0.001])])
    assert apart(ours(name, start(), grid), preserving(scheduler, ended, start())) < 2e-5


@pytest.mark.parametrize(("name", "kind"), [("dpmpp_2m_sde", "midpoint"), ("dpmpp_2m_sde_heun", "heun")])
def test_dpmpp_2m_sde_is_diffusers_with_the_same_noise(name: str, kind: str) -> None:
    scheduler = DPMSolverMultistepScheduler(
        **STABLE_DIFFUSION,
        algorithm_type="sde-dpmsolver++",
        solver_order=2,
        solver_type=kind,
        lower_order_final=False,
        final_sigmas_type="sigma_min",
    )
    grid = levels(dtype=torch.float32)[:-1]
    path = SimpleContext(SEED, start(torch.float32), grid).brownian

    def noise(i: int) -> dict[str, Any]:
        return {"variance_noise": path(float(grid[i]), float(grid[i + 1]))}

    assert apart(ours(name, start(torch.float32), grid), preserving(scheduler, grid, start(torch.float32), noise)) < 5e-5


FLOW_GRID = torch.linspace(0.98, 0.04, 16, dtype=torch.float64)


def on_flow(name: str, **options: Any) -> Tensor:
    """The result of one of our samplers on a flow."""
    x = start(scale=1.0)
    return sampler(name)(two_hills, x, FLOW_GRID, SimpleContext(SEED, x, FLOW_GRID, Flow()), **options)


def flow_solver(**options: Any) -> DPMSolverMultistepScheduler:
    """diffusers' multistep solver for flows."""
    return DPMSolverMultistepScheduler(
        solver_order=2,
        use_flow_sigmas=True,
        prediction_type="flow_prediction",
        lower_order_final=False,
        final_sigmas_type="sigma_min",
        **options,
    )


def test_dpmpp_2m_over_half_log_snr_is_diffusers_on_a_flow() -> None:
    expected = preserving(flow_solver(), FLOW_GRID, start(scale=1.0), flow=True)
    assert apart(on_flow("dpmpp_2m", time="half_log_snr"), expected) < 1e-6
    assert apart(on_flow("dpmpp_2m"), expected) > 1e-4  # as ComfyUI has it


def test_dpmpp_2m_sde_is_diffusers_on_a_flow() -> None:
    path = SimpleContext(SEED, start(), FLOW_GRID).brownian

    def noise(i: int) -> dict[str, Any]:
        return {"variance_noise": path(float(FLOW_GRID[i]), float(FLOW_GRID[i + 1]))}

    expected = preserving(flow_solver(algorithm_type="sde-dpmsolver++"), FLOW_GRID, start(scale=1.0), noise, flow=True)
    assert apart(on_flow("dpmpp_2m_sde"), expected) < 1e-5


def stepped(scheduler: Any, x: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """A run of a diffusers scheduler over its own table in x / sqrt(1 + sigma^2), and the levels of its times."""
    table = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod) ** 0.5
    full = x / (1 + table[scheduler.timesteps[0]] ** 2) ** 0.5
    for time in scheduler.timesteps:
        noisy = full * (1 + table[time] ** 2) ** 0.5
        full = scheduler.step((noisy - two_hills(noisy, table[time])) / table[time], time, full, return_dict=False, **options)[0]
    return full, table[scheduler.timesteps]


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_is_diffusers(eta: float) -> None:
    scheduler = DDIMScheduler(**STABLE_DIFFUSION, clip_sample=False, set_alpha_to_one=True, timestep_spacing="leading")
    scheduler.set_timesteps(20)
    expected, grid = stepped(scheduler, start(torch.float32), eta=eta, generator=torch.Generator().manual_seed(SEED + 1))
    assert apart(ours("ddim", start(torch.float32), torch.cat([grid, torch.zeros(1)]), eta=eta), expected) < 2e-5


def test_ddpm_is_diffusers_and_the_ancestral_sampler() -> None:
    scheduler = DDPMScheduler(**STABLE_DIFFUSION, clip_sample=False, timestep_spacing="leading")
    scheduler.set_timesteps(20)
    expected, grid = stepped(scheduler, start(torch.float32), generator=torch.Generator().manual_seed(SEED + 1))
    grid = torch.cat([grid, torch.zeros(1)])
    assert apart(ours("ddpm", start(torch.float32), grid), expected) < 2e-5
    assert apart(ours("ddpm", start(), grid.double()), ours("euler_ancestral", start(), grid.double())) < 1e-11


def test_plms_is_diffusers() -> None:
    scheduler = PNDMScheduler(**STABLE_DIFFUSION, skip_prk_steps=True, timestep_spacing="leading", steps_offset=1)
    scheduler.set_timesteps(20)
    expected, times = stepped(scheduler, start(torch.float32))
    last = ((1 - scheduler.alphas_cumprod[0]) / scheduler.alphas_cumprod[0]) ** 0.5  # it ends at the table's first level
    grid = torch.cat([times[:1], times[2:], last.reshape(1)])  # it lists the second time twice
    assert apart(ours("plms", start(torch.float32), grid) / (1 + last**2) ** 0.5, expected) < 2e-5


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_ipndm_is_lms_on_even_levels(order: int) -> None:
    grid = torch.linspace(10, 0.5, 20, dtype=torch.float64)
    assert apart(ours("ipndm", start(), grid, max_order=order), ours("lms", start(), grid, order=order)) < 1e-11


def test_the_weights_of_deis_are_the_integral_of_its_paper() -> None:
    high, low = math.log1p(80.0**2), math.log1p(0.002**2)
    beta_d = (high - low / 1e-3) * 2 / (1 - 1e-3)
    beta_min = high - beta_d / 2

    def alpha(time: float) -> float:
        return math.exp(-(beta_d * time**2 / 2 + beta_min * time))

    def integrand(time: float, known: list[float], j: int) -> float:
        """With alpha the cumulative product: -1/2 (log alpha)' / sqrt(alpha (1 - alpha)) times Lagrange's polynomial."""
        rate = (beta_d * time + beta_min) / 2 / math.sqrt(alpha(time) * (1 - alpha(time)))
        return rate * math.prod((time - other) / (known[j] - other) for k, other in enumerate(known) if k != j)

    past = [1.2, 1.9, 3.1]
    times = [vp_time(level) for level in past]
    assert [math.sqrt(1 / alpha(time) - 1) for time in times] == pytest.approx(past)
    expected = [quad(integrand, times[0], vp_time(0.7), args=(times, j))[0] for j in range(3)]
    assert weights(past, 1.2, 0.7, vp_time) == pytest.approx(expected, rel=1e-9)


def test_res_multistep_is_the_exact_second_order_multistep() -> None:
    assert apart(ours("res_multistep", start(), levels()), ours("dpmpp_2m_sde_heun", start(), levels(), eta=0.0)) < 1e-11


def test_eta_zero_of_the_sde_samplers_is_the_ode_sampler() -> None:
    assert apart(ours("dpmpp_2m_sde", start(), levels(), eta=0.0), ours("dpmpp_2m", start(), levels())) < 1e-11
    assert torch.equal(ours("euler_ancestral", start(), levels(), eta=0.0), ours("euler", start(), levels()))
    assert apart(ours("dpmpp_sde", start(), levels(), eta=0.0), ours("dpmpp_2s_ancestral", start(), levels(), eta=0.0)) < 1e-11


def test_lcm_noises_the_denoised_picture_again() -> None:
    sampling = Discrete.scaled_linear()
    grid, x = simple(sampling, 2), start(torch.float32)
    noise = SimpleContext(SEED, x, grid).white_noise(x)
    between = two_hills(x, grid[0]) + grid[1] * noise
    assert torch.equal(ours("lcm", x, grid), two_hills(between, grid[1]))


def test_the_pipelines_levels_are_ours() -> None:
    scheduler = EulerDiscreteScheduler(**STABLE_DIFFUSION, timestep_spacing="leading", steps_offset=1)
    scheduler.set_timesteps(20)
    grid = sigmas("ddim_uniform", Discrete.scaled_linear(), 20)
    assert torch.allclose(grid, scheduler.sigmas, rtol=1e-5)
    assert Discrete.scaled_linear().timestep(scheduler.sigmas[:-1]).tolist() == scheduler.timesteps.tolist()
