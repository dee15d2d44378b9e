"""Tiles, held to a plain array that does the same."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from sfumato.document.packing import pack, unpack
from sfumato.document.planes import ONE, from_coverage, from_pixels, to_8_bit_pixels, to_float_pixels
from sfumato.document.tiles import TILE, Tiles
from sfumato.errors import BadValueError, DocumentFileError
from sfumato.geometry import Bounds

AREA = Bounds(-300, -280, 420, 400)
inside = st.tuples(st.integers(-300, 400), st.integers(-280, 380), st.integers(1, 300), st.integers(1, 300)).map(
    lambda each: Bounds.at(*each) & AREA
)


def part(model: NDArray[np.uint16], of: Bounds) -> NDArray[np.uint16]:
    return model[:, of.top - AREA.top : of.bottom - AREA.top, of.left - AREA.left : of.right - AREA.left]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(inside, st.integers(0, ONE), st.booleans()), max_size=6), inside)
def test_tiles_hold_what_a_plain_array_would(writes: list[tuple[Bounds, int, bool]], look: Bounds) -> None:
    tiles, model = Tiles(1, 7), np.full((1, AREA.height, AREA.width), 7, np.uint16)
    for where, value, is_plain in writes:
        planes = np.full((1, where.height, where.width), value, np.uint16)
        if not is_plain:
            planes[:, ::2] = 7
        before = tiles.snapshot()
        old = np.array(before.read(AREA))
        tiles.write(where, planes)
        part(model, where)[...] = planes
        assert (before.read(AREA) == old).all()
    assert (tiles.read(look) == part(model, look)).all()
    ys, xs = (model[0] != 7).nonzero()
    filled = Bounds(int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1).moved(AREA.corner) if len(xs) else Bounds()
    assert tiles.content_bounds() == filled
    assert filled in tiles.bounds()


@settings(max_examples=15, deadline=None)
@given(st.lists(inside, min_size=1, max_size=3), inside)
def test_a_halved_picture_is_the_mean_of_four_pixels_after_every_change(writes: list[Bounds], look: Bounds) -> None:
    tiles = Tiles(1)
    for count, where in enumerate(writes):
        tiles.write(where, np.random.default_rng(count).integers(0, ONE, (1, where.height, where.width), np.uint16))
        small = look.scaled_down(1)
        whole = tiles.read(Bounds(2 * small.left, 2 * small.top, 2 * small.right, 2 * small.bottom)).astype(np.float64)
        means = whole.reshape(1, small.height, 2, small.width, 2).mean(axis=(2, 4))
        assert np.abs(tiles.read(small, 1) - means).max() <= 0.5


def test_an_empty_giant_costs_nothing_and_a_filled_one_little() -> None:
    tiles, everything = Tiles(), Bounds(0, 0, 16384, 16384)
    assert tiles.memory == 0 and not tiles.bounds()
    tiles.fill(everything, (ONE, 0, 0, ONE))
    assert len(tiles) == 64 * 64 and tiles.memory < 64 * 64 * 16
    assert (tiles.read(Bounds(9000, 100, 9001, 101))[:, 0, 0] == (ONE, 0, 0, ONE)).all()


def test_a_snapshot_shares_all_tiles_and_a_write_copies_one() -> None:
    tiles = Tiles()
    tiles.write(Bounds(0, 0, 512, 512), np.random.default_rng(0).integers(0, ONE, (4, 512, 512), np.uint16))
    old = tiles.snapshot()
    tiles.write(Bounds(1, 1, 2, 2), np.zeros((4, 1, 1), np.uint16))
    assert [tiles.tile(key) is old.tile(key) for key in sorted(tiles.keys())] == [False, True, True, True]


def test_what_is_read_cannot_be_written_to() -> None:
    tiles = Tiles()
    tiles.write(Bounds(0, 0, TILE, TILE), np.random.default_rng(0).integers(0, ONE, (4, TILE, TILE), np.uint16))
    with pytest.raises(ValueError, match="read-only"):
        tiles.read(Bounds(0, 0, 9, 9))[0, 0, 0] = 1


def test_recording_keeps_what_was_there_and_drops_what_became_empty() -> None:
    tiles = Tiles()
    tiles.fill(Bounds(0, 0, 10, 10), (1, 2, 3, 4))
    tiles.start_recording()
    tiles.fill(Bounds(0, 0, 10, 10), (0, 0, 0, 0))
    assert tiles.read_recorded(Bounds(0, 0, 12, 12))[3].sum() == 400
    before = tiles.stop_recording()
    assert list(before) == [(0, 0)] and before[0, 0][3].sum() == 400 and len(tiles) == 0


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.uint16, st.tuples(st.sampled_from([1, 4]), st.integers(1, 20), st.integers(1, 20))))
def test_packed_tiles_come_back_the_same(planes: NDArray[np.uint16]) -> None:
    assert (unpack(pack(planes)) == planes).all()
    assert (unpack(pack(np.broadcast_to(planes[:, :1, :1], planes.shape))) == planes[:, :1, :1]).all()


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 400))
def test_a_damaged_pack_is_refused_or_read(noise: bytes, cut: int) -> None:
    good = pack(np.random.default_rng(1).integers(0, ONE, (4, 9, 9), np.uint16))
    for data in (noise, good[:cut], good[:6] + noise):
        with suppress(DocumentFileError):
            assert unpack(data).size <= 4 * 256 * 256


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.uint8, (3, 5, 4)))
def test_8_bit_pixels_come_back_wherever_they_can_be_seen(pixels: NDArray[np.uint8]) -> None:
    back = to_8_bit_pixels(from_pixels(pixels))
    assert (back[..., 3] == pixels[..., 3]).all()
    assert (back[pixels[..., 3] > 0] == pixels[pixels[..., 3] > 0]).all() and not back[pixels[..., 3] == 0].any()


@given(hnp.arrays(np.uint8, (3, 4)))
def test_masks_come_back(values: NDArray[np.uint8]) -> None:
    assert (to_8_bit_pixels(from_coverage(values)) == values).all()


def test_float_pixels_come_back_to_16_bits() -> None:
    pixels = np.random.default_rng(0).random((7, 5, 4)).astype(np.float32)
    pixels[..., 3] = pixels[..., 3] / 2 + 0.5
    assert np.abs(to_float_pixels(from_pixels(pixels)) - pixels).max() < 4 / ONE


def test_a_soft_brush_does_not_stop_before_the_colour_is_reached() -> None:
    """What 8 bits would do: at 1 % flow a step is less than half a value from 80 % on."""
    tiles = Tiles(1)
    for _ in range(1000):
        old = tiles.read(Bounds(0, 0, 1, 1)).astype(np.float64)
        tiles.write(Bounds(0, 0, 1, 1), np.rint(old + (ONE - old) * 0.01).astype(np.uint16))
    assert tiles.read(Bounds(0, 0, 1, 1))[0, 0, 0] > 0.999 * ONE


def test_shapes_that_are_no_pictures_are_refused() -> None:
    with pytest.raises(BadValueError, match="no picture"):
        from_pixels(np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(BadValueError, match="no mask"):
        from_coverage(np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(BadValueError, match="not known"):
        from_pixels(np.zeros((2, 2, 3), np.int64))
