"""The schedules: their definitions, against values worked out by hand and against other people's code."""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sfumato.engine import schedules
from sfumato.engine.model_sampling import Discrete, Flow, ModelSampling
from sfumato.engine.schedules import SCHEDULES, for_denoise, sigmas
from sfumato.errors import BadValueError

SD = Discrete.scaled_linear()
SD_ZERO_SNR = Discrete.scaled_linear("v", zero_terminal_snr=True)
FLOW = Flow(3.0)
MODELS: dict[str, ModelSampling] = {"sd": SD, "zero snr": SD_ZERO_SNR, "flow": FLOW, "flux": Flow(3.16, multiplier=1, steps=10_000)}


def expected_count(name: str, model: ModelSampling, steps: int) -> int:
    """How many levels a schedule gives."""
    if name == "ddim_uniform":
        return len(range(1, len(model.sigmas), max(len(model.sigmas) // steps, 1))) + 1
    return steps + 1


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(sorted(SCHEDULES)), st.sampled_from(sorted(MODELS)), st.integers(1, 200))
def test_every_schedule_descends_to_zero(name: str, model: str, steps: int) -> None:
    levels = sigmas(name, MODELS[model], steps)
    assert levels.dtype == torch.float32
    assert levels.ndim == 1
    assert levels.isfinite().all()
    assert (levels.diff() < 0).all()
    assert levels[-1] == 0
    count = expected_count(name, MODELS[model], steps)
    assert len(levels) <= count if name == "beta" else len(levels) == count


@pytest.mark.parametrize("name", [name for name in SCHEDULES if not name.startswith("ays") and name != "ddim_uniform"])
@pytest.mark.parametrize("model", sorted(MODELS))
def test_a_schedule_starts_at_the_highest_level_of_its_model(name: str, model: str) -> None:
    assert float(sigmas(name, MODELS[model], 20)[0]) == pytest.approx(float(MODELS[model].sigma_max), rel=1e-4)


def euler_levels(**options: object) -> torch.Tensor:
    """diffusers' levels for 20 steps of Stable Diffusion."""
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", **options)
    scheduler.set_timesteps(20)
    levels: torch.Tensor = scheduler.sigmas
    return levels


@pytest.mark.parametrize(("name", "options"), [
    ("normal", {"timestep_spacing": "linspace"}),
    ("karras", {"timestep_spacing": "linspace", "use_karras_sigmas": True}),
    ("exponential", {"timestep_spacing": "linspace", "use_exponential_sigmas": True}),
    ("simple", {"timestep_spacing": "trailing"}),
    ("ddim_uniform", {"timestep_spacing": "leading", "steps_offset": 1}),
])  # fmt: skip
def test_a_schedule_of_stable_diffusion_is_diffusers(name: str, options: dict[str, object]) -> None:
    assert torch.allclose(sigmas(name, SD, 20), euler_levels(**options), rtol=3e-5, atol=0)


def test_the_schedules_of_a_flow_are_diffusers() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(20)
    assert torch.allclose(sigmas("normal", FLOW, 20), scheduler.sigmas, rtol=1e-6)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 20, 20).tolist())
    assert torch.allclose(sigmas("simple", FLOW, 20), scheduler.sigmas, rtol=1e-6)


def test_the_formulas_with_limits_are_k_diffusions() -> None:
    found = importlib.util.find_spec("k_diffusion")
    assert found is not None
    assert found.submodule_search_locations is not None
    package = ModuleType("k_diffusion_levels")  # the package's own __init__ imports its training code, which warns
    package.__path__ = list(found.submodule_search_locations)
    sys.modules["k_diffusion_levels"] = package
    kd = importlib.import_module("k_diffusion_levels.sampling")
    assert torch.equal(schedules.karras(9, 0.03, 14.6, 5.0), kd.get_sigmas_karras(9, 0.03, 14.6, 5.0))
    assert torch.equal(schedules.exponential(9, 0.03, 14.6), kd.get_sigmas_exponential(9, 0.03, 14.6))
    assert torch.equal(schedules.polyexponential(9, 0.03, 14.6, 1.7), kd.get_sigmas_polyexponential(9, 0.03, 14.6, 1.7))
    assert torch.allclose(schedules.vp(9), kd.get_sigmas_vp(9), rtol=1e-3)  # theirs subtracts 1 from 1.0001


def test_normal_is_even_in_time_and_sgm_uniform_leaves_its_last_level_out() -> None:
    times = torch.tensor([999.0, 666.0, 333.0, 0.0])
    assert torch.allclose(sigmas("normal", SD, 4)[:-1], SD.sigma(times))
    assert torch.allclose(sigmas("sgm_uniform", SD, 3)[:-1], SD.sigma(times[:-1]))
    assert torch.equal(sigmas("normal", SD, 1), torch.tensor([float(SD.sigma(999)), 0]))


def test_normal_counts_a_table_entry_of_zero_as_the_end() -> None:
    shallow = Flow(1.0, steps=200_000)
    assert float(shallow.sigma_min) < 1e-5
    assert torch.allclose(sigmas("normal", shallow, 4), torch.tensor([1, 0.75, 0.5, 0.25, 0]), atol=1e-5)
    assert sigmas("ddim_uniform", Flow(1.0, steps=300_000), 4)[-1] == 0


def test_simple_and_ddim_uniform_pick_entries_of_the_table() -> None:
    table = SD.sigmas
    assert torch.equal(sigmas("simple", SD, 3)[:-1], table[[-1, -334, -667]])
    assert torch.equal(sigmas("ddim_uniform", SD, 4)[:-1], table[[751, 501, 251, 1]])
    assert len(sigmas("ddim_uniform", SD, 30)) == 32  # a stride of 33 entries


def test_beta_picks_entries_at_quantiles_and_none_twice() -> None:
    ranks = np.rint(stats.beta.ppf(1 - np.linspace(0, 1, 20, endpoint=False), 0.6, 0.6) * 999).astype(int)
    assert torch.equal(sigmas("beta", SD, 20)[:-1], SD.sigmas[ranks.tolist()])
    many = sigmas("beta", SD, 900)
    assert len(many) < 901
    assert (many.diff() < 0).all()


def test_linear_quadratic_is_a_line_and_then_a_parabola() -> None:
    top = float(SD.sigma_max)
    assert torch.allclose(sigmas("linear_quadratic", SD, 1), torch.tensor([top, 0]))
    assert torch.allclose(sigmas("linear_quadratic", SD, 2), torch.tensor([top, top * 0.975, 0]))
    # 4 steps: 0.0125 a step for two, then 0.025 + 0.0125 i + a i^2 with 0.025 + 0.0125 * 2 + a * 4 = 1
    assert torch.allclose(sigmas("linear_quadratic", SD, 4), torch.tensor([1, 0.9875, 0.975, 0.725, 0]) * top)


def test_kl_optimal_is_even_in_the_arc_tangent() -> None:
    low, high = math.atan(float(SD.sigma_min)), math.atan(float(SD.sigma_max))
    assert sigmas("kl_optimal", SD, 3)[1] == pytest.approx(math.tan((low + high) / 2), rel=1e-4)
    assert torch.allclose(sigmas("kl_optimal", SD, 1), torch.tensor([float(SD.sigma_max), 0]))


def test_laplace_is_the_quantile_of_its_distribution() -> None:
    levels = schedules.laplace(5, 0.03, 14.6)
    expected = np.exp(stats.laplace.ppf(np.array([0.75, 0.5, 0.25]), 0, 0.5))
    assert levels[1:4].tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    assert levels[[0, 4, 5]].tolist() == pytest.approx([14.6, 0.03, 0])


def test_align_your_steps_is_its_table_and_interpolates_in_log_sigma() -> None:
    table = schedules.AYS_LEVELS["SD1"]
    assert schedules.align_your_steps("SD1", 10).tolist() == pytest.approx([*table[:-1], 0])
    twenty = schedules.align_your_steps("SD1", 20)
    assert float(twenty[1]) == pytest.approx(math.sqrt(table[0] * table[1]))
    assert float(twenty[2]) == pytest.approx(table[1])
    assert torch.equal(schedules.align_your_steps("SDXL", 10, 0.3), schedules.align_your_steps("SDXL", 10)[-4:])
    assert len(schedules.align_your_steps("SVD", 10, 0)) == 0
    with pytest.raises(BadValueError, match="SD9"):
        schedules.align_your_steps("SD9", 10)


def test_turbo_takes_the_times_it_was_distilled_on() -> None:
    assert torch.equal(schedules.sd_turbo(SD, 1), torch.tensor([float(SD.sigma(999)), 0]))
    assert torch.equal(schedules.sd_turbo(SD, 2, 0.5)[:-1], SD.sigma(torch.tensor([499, 399])))
    assert len(schedules.sd_turbo(SD, 40)) == 11


def test_denoise_takes_the_end_of_a_longer_schedule() -> None:
    assert torch.equal(for_denoise("karras", SD, 20, 0.5), sigmas("karras", SD, 40)[-21:])
    assert torch.equal(for_denoise("karras", SD, 20, 0.6), sigmas("karras", SD, 33)[-21:])
    assert torch.equal(for_denoise("karras", SD, 20), sigmas("karras", SD, 20))
    assert torch.equal(for_denoise("karras", SD, 20, 0.99995), sigmas("karras", SD, 20))
    assert len(for_denoise("karras", SD, 20, 0)) == len(for_denoise("karras", SD, 20, -1)) == 0


def test_some_samplers_lose_the_level_before_the_last() -> None:
    assert [name for name in ("dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2", "euler") if schedules.discard_penultimate(name)] == [
        "dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2",
    ]  # fmt: skip
    longer = sigmas("normal", SD, 21)
    assert torch.equal(for_denoise("normal", SD, 20, discard_penultimate=True), torch.cat([longer[:20], longer[-1:]]))
    longer = sigmas("normal", SD, 41)
    assert torch.equal(for_denoise("normal", SD, 20, 0.5, discard_penultimate=True), torch.cat([longer[20:40], longer[-1:]]))


@pytest.mark.parametrize("steps", [0, -3, 10_001, 2.5, True])
def test_a_number_of_steps_that_cannot_be_made_is_refused(steps: int) -> None:
    with pytest.raises(BadValueError, match="steps cannot be made") as caught:
        sigmas("karras", SD, steps)
    assert "10000" in caught.value.remedy


@pytest.mark.parametrize("denoise", [1e-9, float("nan")])
def test_a_denoise_strength_without_a_schedule_is_refused(denoise: float) -> None:
    with pytest.raises(BadValueError, match="denoise"):
        for_denoise("karras", SD, 20, denoise)


def test_an_unknown_schedule_says_its_name_and_those_there_are() -> None:
    with pytest.raises(BadValueError, match="'krras'") as caught:
        sigmas("krras", SD, 20)
    assert "karras" in caught.value.remedy
