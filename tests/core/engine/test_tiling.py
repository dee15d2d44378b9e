"""Tile arithmetic: tiles cover everything, none is a sliver, and mixing them leaves no trace where they agree."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from sfumato.engine.tiling import Tile, tiled, tiles


def nothing(number: int, total: int) -> None:
    """Listens to nobody."""


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 80), st.integers(0, 60))
def test_tiles_cover_every_place_inside_and_share_what_was_asked(height: int, width: int, size: int, overlap: int) -> None:
    found = tiles(height, width, size, overlap)
    assert {(tile.h, tile.w) for tile in found} == {(min(size, height), min(size, width))}
    for length, starts, side in ((height, {t.y for t in found}, found[0].h), (width, {t.x for t in found}, found[0].w)):
        places = sorted(starts)
        assert places[0] == 0
        assert places[-1] + side == length
        stride = max(1, size - overlap)
        assert all(b - a <= stride for a, b in pairwise(places))
    assert len(found) == len(set(found)) == len({t.y for t in found}) * len({t.x for t in found})


def test_a_picture_smaller_than_a_tile_is_one_tile() -> None:
    assert tiles(30, 40, 64, 16) == [Tile(0, 0, 30, 40)]


def test_tiles_are_spread_evenly_instead_of_ending_in_a_sliver() -> None:
    assert [t.x for t in tiles(64, 100, 64, 16)] == [0, 36]
    assert [t.x for t in tiles(64, 129, 64, 16)] == [0, 32, 65]


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 20), st.integers(0, 25))
def test_work_that_changes_nothing_gives_the_picture_back(height: int, width: int, size: int, overlap: int) -> None:
    picture = torch.rand(1, 2, height, width, generator=torch.Generator().manual_seed(height * 51 + width))
    assert torch.allclose(tiled(lambda part: part, picture, size, overlap, 1, nothing), picture, atol=1e-6)


@pytest.mark.parametrize("scale", [8, 0.125])
def test_results_of_another_size_land_in_their_places(scale: float) -> None:
    picture = torch.rand(2, 3, 32, 48)

    def work(part: Tensor) -> Tensor:
        return functional.interpolate(part, scale_factor=scale, mode="nearest")

    found = tiled(work, picture, 16, 8, scale, nothing)
    assert found.shape == (2, 3, round(32 * scale), round(48 * scale))
    assert torch.allclose(found, work(picture), atol=1e-6)


def test_the_overlap_goes_over_from_one_tile_to_the_next_without_a_jump() -> None:
    left_to_right = iter([0.0, 1.0])

    def work(part: Tensor) -> Tensor:
        return torch.full_like(part, next(left_to_right))

    row = tiled(work, torch.zeros(1, 1, 4, 28), 16, 4, 1, nothing)[0, 0, 2]
    assert row[:12].abs().max() == 0.0
    assert row[16:].min() == 1.0
    steps = row[11:17].diff()
    assert bool((steps > 0).all())
    assert steps.max() < 0.35


def test_every_tile_is_told_before_it_is_worked_on_and_the_end_at_last() -> None:
    told: list[tuple[int, int]] = []
    tiled(lambda part: part, torch.zeros(1, 1, 8, 20), 8, 2, 1, lambda number, total: told.append((number, total)))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_a_listener_that_raises_ends_the_work() -> None:
    worked: list[int] = []

    def done(number: int, total: int) -> None:
        if number == 1:
            raise KeyError("stop")

    with pytest.raises(KeyError):
        tiled(lambda part: worked.append(1) or part, torch.zeros(1, 1, 8, 20), 8, 2, 1, done)  # type: ignore[func-returns-value]
    assert worked == [1]
