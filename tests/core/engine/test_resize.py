"""Other sizes: each method against another implementation or its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from sfumato.engine.resize import METHODS, bislerp, resized
from sfumato.errors import BadValueError


def picture(height: int = 12, width: int = 20, channels: int = 3) -> Tensor:
    return torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("width", "height"), [(31, 17), (7, 24), (1, 1), (20, 12)])
def test_every_method_gives_the_size_asked_for(method: str, width: int, height: int) -> None:
    found = resized(picture(), width, height, method)
    assert found.shape == (1, 3, height, width)
    assert found.dtype == torch.float32
    assert bool(found.isfinite().all())


@pytest.mark.parametrize("method", METHODS)
def test_one_colour_stays_that_colour(method: str) -> None:
    colour = torch.tensor([0.2, 0.5, 0.9])[None, :, None, None].expand(1, 3, 9, 9)
    assert torch.allclose(resized(colour, 14, 5, method), colour[..., :1, :1].expand(1, 3, 5, 14), atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_size_is_the_same_picture(method: str) -> None:
    assert torch.equal(resized(picture(), 20, 12, method), picture())


def test_an_unknown_method_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadValueError, match="lanczos"):
        resized(picture(), 5, 5, "magic")


def test_lanczos_is_pillows_in_floats() -> None:
    found = resized(picture(), 9, 31, "lanczos")
    for channel in range(3):
        plane = Image.fromarray(picture()[0, channel].numpy())
        wanted = np.asarray(plane.resize((9, 31), Image.Resampling.LANCZOS)).clip(0, 1)
        assert np.abs(found[0, channel].numpy() - wanted).max() == 0


def test_nearest_takes_the_pixel_under_the_middle_of_the_new_one() -> None:
    row = torch.arange(4.0).reshape(1, 1, 1, 4)
    assert resized(row, 6, 1, "nearest-exact").flatten().tolist() == [0, 1, 1, 2, 3, 3]
    assert resized(row, 2, 1, "nearest-exact").flatten().tolist() == [1, 3]


def test_area_is_the_mean_of_what_is_covered() -> None:
    assert torch.allclose(resized(picture(), 5, 4, "area"), functional.avg_pool2d(picture(), (3, 4)))


@pytest.mark.parametrize(("size", "left", "top"), [((10, 10), 4, 0), ((20, 5), 0, 4)])
def test_a_crop_takes_the_middle_at_the_new_proportion(size: tuple[int, int], left: int, top: int) -> None:
    cut = picture()[..., top : 12 - top or None, left : 20 - left or None]
    assert torch.equal(resized(picture(), *size, "bilinear", "center"), resized(cut, *size, "bilinear"))


def test_a_crop_to_an_extreme_proportion_leaves_something() -> None:
    assert resized(picture(), 1, 200, "bilinear", "center").shape == (1, 3, 200, 1)
    assert resized(picture(), 200, 1, "bilinear", "center").shape == (1, 3, 1, 200)


# --- Spherical -----------------------------------------------------------------------------------------------------------


def test_between_two_vectors_of_one_length_every_vector_has_that_length() -> None:
    angles = torch.tensor([0.0, 2.0])
    x = torch.stack([angles.cos(), angles.sin()])[None, :, None, :] * 3.0  # [1,2,1,2]
    found = bislerp(x, 40, 1)[0, :, 0]
    assert torch.allclose(found.norm(dim=0), torch.full((40,), 3.0), atol=1e-4)
    turned = torch.atan2(found[1], found[0])
    inside = turned[10:-10].diff()
    assert torch.allclose(inside, inside[:1].expand_as(inside), atol=1e-4)  # at an even pace
    assert math.isclose(float(turned[0]), 0.0, abs_tol=1e-5)
    assert math.isclose(float(turned[-1]), 2.0, abs_tol=1e-5)


def test_lengths_go_over_evenly() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 5.0]])[None, :, None, :]
    found = bislerp(x, 4, 1)[0, :, 0]
    assert torch.allclose(found.norm(dim=0), torch.tensor([1.0, 2.0, 4.0, 5.0]), atol=1e-5)


@pytest.mark.parametrize("pair", [[[1.0, 1.0], [2.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]], [[1.0, -1.0], [1.0, -1.0]], [[0.0, 1.0], [0.0, 0.0]]])
def test_equal_opposite_and_empty_vectors_give_numbers(pair: list[list[float]]) -> None:
    found = bislerp(torch.tensor(pair)[None, :, None, :], 5, 3)
    assert bool(found.isfinite().all())
    assert found.abs().max() <= 3


def test_noise_keeps_its_strength_which_linear_mixing_takes_away() -> None:
    noise = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(2))
    before = noise.norm(dim=1).mean()
    assert bislerp(noise, 48, 48).norm(dim=1).mean() > 0.97 * before
    assert resized(noise, 48, 48, "bilinear").norm(dim=1).mean() < 0.8 * before
