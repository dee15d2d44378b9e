"""Turned, scaled and moved layers, held to NumPy's own rot90, to means, and to the way there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sfumato.document.document import Document
from sfumato.document.layers import SurfaceId
from sfumato.document.planes import ONE, Planes
from sfumato.document.tiles import Tiles
from sfumato.document.transforming import transformed
from sfumato.errors import BadValueError
from sfumato.geometry import Affine, Bounds, Point


def filled(pixels: Planes, x: int = 0, y: int = 0, background: int = 0) -> Tiles:
    tiles = Tiles(len(pixels), background)
    tiles.write(Bounds.at(x, y, pixels.shape[2], pixels.shape[1]), pixels)
    return tiles


def noise(height: int, width: int, channels: int = 1) -> Planes:
    return np.random.default_rng(height).integers(1, ONE, (channels, height, width), np.uint16)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([0, 1, 2, 3]), st.integers(-300, 300), st.integers(-300, 300), st.booleans())
def test_quarter_turns_lose_nothing(turns: int, x: int, y: int, smooth: bool) -> None:
    pixels = noise(50, 300, 4)
    turned = transformed(filled(pixels, x, y), Affine.turn(90 * turns), smooth=smooth)
    expected: NDArray[np.uint16] = np.rot90(pixels, -turns, axes=(1, 2))
    where = Affine.turn(90 * turns).bounds(Bounds.at(x, y, 300, 50))
    assert np.abs(turned.read(where).astype(int) - expected).max() <= 1
    assert turned.content_bounds() == where


def test_doubling_by_the_nearest_pixel_repeats_it() -> None:
    pixels = noise(40, 60)
    doubled = transformed(filled(pixels), Affine.scale(2, 2), smooth=False)
    assert (doubled.read(Bounds(0, 0, 120, 80)) == pixels.repeat(2, 1).repeat(2, 2)).all()


def test_halving_takes_means_so_that_thin_lines_stay() -> None:
    lines = np.zeros((1, 64, 512), np.uint16)
    lines[:, :, ::4] = ONE
    small = transformed(filled(lines), Affine.scale(0.25, 0.25))
    assert np.abs(small.read(Bounds(1, 1, 127, 15)) / ONE - 0.25).max() < 0.01


def test_a_small_turn_and_back_is_nearly_the_same() -> None:
    x, y = np.meshgrid(np.arange(300), np.arange(200))
    soft = (ONE * np.exp(-((x - 150) ** 2 + (y - 100) ** 2) / 2000))[None].astype(np.uint16)
    there = transformed(filled(soft), Affine.shift(150.5, 90) @ Affine.turn(17) @ Affine.shift(-150, -100))
    back = transformed(there, (Affine.shift(150.5, 90) @ Affine.turn(17) @ Affine.shift(-150, -100)).inverse())
    assert np.abs(back.read(Bounds(0, 0, 300, 200)).astype(int) - soft).max() < 0.01 * ONE


def test_what_lies_outside_a_mask_stays_revealed() -> None:
    turned = transformed(filled(np.zeros((1, 20, 20), np.uint16), background=ONE), Affine.turn(45))
    assert (turned.read(Bounds(100, 100, 110, 110)) == ONE).all() and turned.read(Bounds(-1, 12, 1, 15)).max() == 0


def test_a_map_that_flattens_is_refused() -> None:
    with pytest.raises(BadValueError, match="flattens"):
        transformed(filled(noise(4, 4)), Affine.scale(1, 0))


def test_moving_a_layer_by_whole_pixels_only_changes_its_offset() -> None:
    document = Document.new(100, 100)
    layer = SurfaceId(document.structure.layers[0].id)
    with document.edit("Paint") as edit:
        edit.write(layer, Bounds.at(10, 10, 20, 20), noise(20, 20, 4))
    before = document.surface(layer).tile((0, 0))
    with document.edit("Move") as edit:
        edit.transform(layer.owner, Affine.shift(5, -7))
    assert document.structure.layer(layer.owner).offset == Point(5, -7) and document.surface(layer).tile((0, 0)) is before
    with document.edit("Turn") as edit:
        edit.transform(layer.owner, Affine.turn(180))
    turned = document.surface(layer).content_bounds().moved(Point(5, -7))
    assert turned == Bounds.at(-35, -23, 20, 20)
    document.undo()
    assert document.surface(layer).content_bounds() == Bounds.at(10, 10, 20, 20)
