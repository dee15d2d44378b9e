"""The levels of models: tables, times, scaling, and the picture that an output means."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sfumato.engine.model_sampling import Discrete, Flow, ModelSampling
from sfumato.errors import BadValueError

DISCRETE = Discrete.scaled_linear()


def latent(seed: int = 0, batch: int = 3) -> Tensor:
    """A random tensor [B, 4, 5, 6]."""
    return torch.randn(batch, 4, 5, 6, generator=torch.Generator().manual_seed(seed))


def test_the_table_of_stable_diffusion_is_the_one_everybody_uses() -> None:
    assert DISCRETE.sigmas.dtype == torch.float32
    assert len(DISCRETE.sigmas) == 1000
    assert float(DISCRETE.sigma_min) == pytest.approx(0.0291671582, rel=1e-6)
    assert float(DISCRETE.sigma_max) == pytest.approx(14.6146412293, rel=1e-6)
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    theirs = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod) ** 0.5
    assert torch.allclose(DISCRETE.sigmas, theirs, rtol=2e-5)  # theirs is a product of 1000 float32 numbers


def test_a_table_of_zero_terminal_snr_keeps_its_start_and_ends_in_noise() -> None:
    rescaled = Discrete.scaled_linear("v", zero_terminal_snr=True)
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", rescale_betas_zero_snr=True)
    theirs = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod) ** 0.5
    assert torch.allclose(rescaled.sigmas[:-1], theirs[:-1], rtol=1e-3)
    assert float(rescaled.sigma_min) == pytest.approx(float(DISCRETE.sigma_min), rel=1e-5)
    assert float(rescaled.sigma_max) == pytest.approx(4518.7, rel=1e-4)


@pytest.mark.parametrize("sampling", [DISCRETE, Flow(), Flow(3.0), Flow(math.exp(1.15), multiplier=1, steps=10_000)])
def test_a_table_ascends_and_its_ends_are_the_limits(sampling: ModelSampling) -> None:
    assert (sampling.sigmas.diff() > 0).all()
    assert sampling.sigma_min == sampling.sigmas[0]
    assert sampling.sigma_max == sampling.sigmas[-1]
    assert sampling.is_flow == (float(sampling.sigma_max) == 1)


def test_the_time_of_a_level_is_the_nearest_entry_in_log_sigma() -> None:
    assert DISCRETE.timestep(DISCRETE.sigmas).tolist() == list(range(1000))
    low, high = DISCRETE.sigmas[600:602].tolist()
    middle = math.sqrt(low * high)
    assert DISCRETE.timestep(torch.tensor([middle * 0.9999, middle * 1.0001])).tolist() == [600, 601]
    assert DISCRETE.timestep(torch.tensor(1e9)).item() == 999
    assert DISCRETE.timestep(torch.tensor(0.0)).item() == 0
    assert DISCRETE.timestep(torch.tensor(1.0)).shape == ()


def test_the_level_of_a_time_is_linear_in_log_sigma_between_entries() -> None:
    assert torch.allclose(DISCRETE.sigma(torch.arange(1000)), DISCRETE.sigmas, rtol=1e-6)
    low, high = DISCRETE.sigmas[600:602].tolist()
    assert float(DISCRETE.sigma(600.25)) == pytest.approx(low**0.75 * high**0.25, rel=1e-6)
    assert DISCRETE.sigma(5000.0) == DISCRETE.sigma(999)
    assert DISCRETE.sigma(torch.tensor([[1.0, 2.0]])).shape == (1, 2)


def test_a_share_of_the_way_becomes_a_level() -> None:
    assert DISCRETE.percent_to_sigma(-1) == DISCRETE.percent_to_sigma(0) == 999999999.9
    assert DISCRETE.percent_to_sigma(1) == DISCRETE.percent_to_sigma(1.5) == 0
    assert DISCRETE.percent_to_sigma(0.25) == pytest.approx(float(DISCRETE.sigma(0.75 * 999)))
    flow = Flow(3.0)
    assert [flow.percent_to_sigma(p) for p in (-1, 0, 0.5, 1, 2)] == [1, 1, 0.75, 0, 0]


def test_a_flow_is_shifted_towards_noise() -> None:
    assert Flow(3.0).sigmas[499] == pytest.approx(0.75)
    assert torch.equal(Flow().sigmas, torch.arange(1, 1001) / 1000)
    assert float(Flow(3.0).timestep(torch.tensor(0.25))) == 250
    assert float(Flow(3.0, multiplier=1).timestep(0.25)) == 0.25
    mu = 1.15  # Flux states its shift as exp(mu) / (exp(mu) + 1 / t - 1)
    assert Flow(math.exp(mu), multiplier=1).sigmas[199] == pytest.approx(math.exp(mu) / (math.exp(mu) + 1 / 0.2 - 1))


@pytest.mark.parametrize("sampling", [Discrete.scaled_linear(p) for p in ("eps", "v", "x0")] + [Flow()], ids=["eps", "v", "x0", "flow"])
@pytest.mark.parametrize("sigma", [0.05, 0.7, 0.999])
def test_a_perfect_network_gives_the_picture_back(sampling: ModelSampling, sigma: float) -> None:
    picture, noise = latent(1).double(), latent(2).double()
    x = sampling.add_noise(sigma, noise, picture, False)
    share = 1 / math.sqrt(sigma**2 + 1)
    perfect = {"eps": noise, "v": share * noise - sigma * share * picture, "x0": picture}
    output = noise - picture if sampling.is_flow else perfect[sampling.prediction]
    assert torch.allclose(sampling.denoised(x, torch.tensor(sigma, dtype=torch.float64), output), picture)


@pytest.mark.parametrize("sampling", [Discrete.scaled_linear("eps"), Discrete.scaled_linear("v"), Flow()], ids=["eps", "v", "flow"])
def test_a_level_for_each_item_gives_the_bits_of_a_level_for_all(sampling: ModelSampling) -> None:
    x, output, sigma = latent(1), latent(2), torch.tensor(0.83)
    for one, each in ((sigma, sigma.repeat(3)),):
        assert torch.equal(sampling.scale_input(x, one), sampling.scale_input(x, each))
        assert torch.equal(sampling.denoised(x, one, output), sampling.denoised(x, each, output))
        assert torch.equal(sampling.add_noise(one, x, output, True), sampling.add_noise(each, x, output, True))
    mixed = sampling.denoised(x, torch.tensor([0.2, 0.83, 0.5]), output)
    assert torch.equal(mixed[1], sampling.denoised(x, sigma, output)[1])


def test_the_first_level_gets_the_noise_that_the_network_was_trained_on() -> None:
    noise, picture = latent(1), latent(2)
    assert torch.allclose(DISCRETE.add_noise(14.6, noise, torch.zeros_like(noise), True), noise * math.sqrt(1 + 14.6**2))
    assert torch.allclose(DISCRETE.add_noise(14.6, noise, picture, False), noise * 14.6 + picture)
    assert torch.equal(Flow().add_noise(1.0, noise, picture, True), noise)


def test_a_run_that_stops_early_can_be_taken_up_again() -> None:
    x, nothing = latent(1), torch.zeros(3, 4, 5, 6)
    for sampling in (DISCRETE, Flow()):
        assert torch.allclose(sampling.add_noise(0.4, nothing, sampling.finish(torch.tensor(0.4), x), False), x)
    assert torch.equal(Flow().finish(1.0, x), x)


@given(st.floats(0.001, 0.999))
def test_lambda_and_its_inverse_agree(sigma: float) -> None:
    for sampling in (DISCRETE, Flow()):
        assert sampling.sigma_at(sampling.half_log_snr(sigma)) == pytest.approx(sigma)
        assert sampling.half_log_snr(sigma) == pytest.approx(math.log(sampling.alpha(sigma) / sigma), abs=1e-9)


@pytest.mark.parametrize("table", [[0.5], [0.5, 0.6], [1.0, 0.5], [0.5, float("nan")], [[0.5, 0.4]]])
def test_a_table_that_no_network_can_have_been_trained_on_is_refused(table: list[float]) -> None:
    with pytest.raises(BadValueError, match="alphas_cumprod"):
        Discrete(torch.tensor(table))


@pytest.mark.parametrize("shift", [0.0, -1.0, float("inf"), float("nan")])
def test_a_shift_that_is_no_positive_number_is_refused(shift: float) -> None:
    with pytest.raises(BadValueError, match="flow"):
        Flow(shift)
