"""Noise: the same for the same seed, on the CPU, and never from the global generator."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.engine.noise import BrownianNoise, WhiteNoise, initial_noise, varied_noise
from sfumato.errors import BadValueError

SHAPE = (3, 4, 8, 8)


def test_a_seed_means_what_torch_manual_seed_means() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(77)
        expected = torch.randn(SHAPE)
    assert torch.equal(initial_noise(SHAPE, 77), expected)


def test_a_seed_is_the_same_noise_in_every_dtype() -> None:
    assert torch.equal(initial_noise(SHAPE, 5, torch.float64).float(), initial_noise(SHAPE, 5))
    assert torch.equal(initial_noise(SHAPE, 5, torch.bfloat16), initial_noise(SHAPE, 5).bfloat16())


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    x = initial_noise(SHAPE, 1)
    initial_noise(SHAPE, 1, batch_index=[2, 0, 2])
    varied_noise(x, 2, 0.3)
    WhiteNoise(1)(x)
    BrownianNoise(x, 0.03, 14.6, 1)(14.6, 3.0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_place_of_a_batch_can_be_made_alone() -> None:
    whole = initial_noise(SHAPE, 9)
    for place in range(3):
        assert torch.equal(initial_noise((1, 4, 8, 8), 9, batch_index=[place])[0], whole[place])


@settings(deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=6))
def test_equal_places_get_equal_noise(places: list[int]) -> None:
    noise = initial_noise((len(places), 4, 4, 4), 3, batch_index=places)
    every = initial_noise((13, 4, 4, 4), 3)
    assert torch.equal(noise, every[places])


@pytest.mark.parametrize("places", [[0], [0, 1, 2, 3], [0, -1, 2], []])
def test_a_batch_index_that_does_not_fit_is_refused(places: list[int]) -> None:
    with pytest.raises(BadValueError, match="batch_index"):
        initial_noise(SHAPE, 1, batch_index=places)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(BadValueError, match="seed"):
        initial_noise(SHAPE, seed)
    with pytest.raises(BadValueError, match="seed"):
        BrownianNoise(torch.zeros(SHAPE), 0.1, 1.0, seed)


def test_the_largest_seed_works_everywhere() -> None:
    x = initial_noise(SHAPE, 2**64 - 1)
    assert WhiteNoise(2**64 - 1)(x).isfinite().all()
    assert BrownianNoise(x, 0.1, 1.0, 2**64 - 1)(1.0, 0.5).isfinite().all()


def test_the_noise_of_the_steps_is_not_that_of_the_start() -> None:
    start, white = initial_noise(SHAPE, 4), WhiteNoise(4)
    draws = [white(start) for _ in range(3)]
    assert all(not torch.equal(start, draw) for draw in draws)
    assert torch.equal(draws[0], initial_noise(SHAPE, 5))
    assert not torch.equal(draws[0], draws[1])


def test_brownian_increments_are_normal_and_independent() -> None:
    path = BrownianNoise(torch.zeros(1, 4, 64, 64), 0.03, 14.6, 6)
    first, second = path(14.6, 5.0), path(5.0, 1.0)
    for increment in (first, second):
        assert abs(float(increment.mean())) < 0.03
        assert float(increment.std()) == pytest.approx(1, abs=0.02)
    assert abs(float((first * second).mean())) < 0.03


def test_brownian_increments_add_up_to_one_path() -> None:
    path = BrownianNoise(torch.zeros(SHAPE, dtype=torch.float64), 0.03, 14.6, 6)
    parts = path(9.0, 5.0) * math.sqrt(4) + path(5.0, 2.0) * math.sqrt(3)
    assert torch.allclose(parts, path(9.0, 2.0) * math.sqrt(7), atol=1e-5)
    assert torch.equal(path(2.0, 9.0), -path(9.0, 2.0))
    again = BrownianNoise(torch.zeros(SHAPE, dtype=torch.float64), 0.03, 14.6, 6)
    assert torch.allclose(again(9.0, 2.0), path(9.0, 2.0), atol=1e-5)


def test_a_brownian_path_answers_at_its_own_ends_without_a_warning() -> None:
    low, high = float(torch.tensor(0.0291671582)), float(torch.tensor(14.6146412293))
    assert BrownianNoise(torch.zeros(SHAPE), low, high, 0)(high, low).isfinite().all()


def test_a_variation_turns_the_noise_and_keeps_its_length() -> None:
    noise = initial_noise(SHAPE, 1)
    assert torch.allclose(varied_noise(noise, 2, 0.0), noise)
    assert torch.allclose(varied_noise(noise, 2, 1.0), initial_noise(SHAPE, 2), atol=1e-6)
    half = varied_noise(noise, 2, 0.5)
    assert float(half.std()) == pytest.approx(float(noise.std()), rel=0.02)
    assert torch.allclose(varied_noise(noise, 1, 0.5), noise)
