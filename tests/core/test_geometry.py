"""Rectangles and maps of the plane, held to what sets of pixels and plain arithmetic say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.errors import BadValueError
from sfumato.geometry import Affine, Bounds, Point, Size

coordinate = st.integers(-12, 12)
bounds = st.builds(Bounds, coordinate, coordinate, coordinate, coordinate)


def pixels(of: Bounds) -> set[tuple[int, int]]:
    return {(x, y) for x in range(of.left, of.right) for y in range(of.top, of.bottom)}


@given(bounds, bounds)
def test_the_intersection_holds_the_pixels_of_both(a: Bounds, b: Bounds) -> None:
    assert pixels(a & b) == pixels(a) & pixels(b)
    assert (b in a) == (pixels(b) <= pixels(a))


@given(bounds, bounds)
def test_the_union_is_the_smallest_rectangle_around_both(a: Bounds, b: Bounds) -> None:
    both = pixels(a) | pixels(b)
    assert both <= pixels(a | b)
    if both:
        xs, ys = zip(*both, strict=True)
        assert a | b == Bounds(min(xs), min(ys), max(xs) + 1, max(ys) + 1)
    else:
        assert a | b == Bounds()


@given(bounds, st.integers(1, 9))
def test_snapping_finds_the_cells_that_are_touched(a: Bounds, step: int) -> None:
    touched = {(x // step, y // step) for x, y in pixels(a)}
    assert set(a.cells(step)) == touched
    snapped = a.snapped(step)
    assert {(x // step, y // step) for x, y in pixels(snapped)} == touched and snapped.area == len(touched) * step * step


@given(bounds, st.integers(0, 3))
def test_scaling_down_touches_the_same_places(a: Bounds, level: int) -> None:
    assert pixels(a.scaled_down(level)) == {(x >> level, y >> level) for x, y in pixels(a)}


@given(bounds, st.builds(Point, coordinate, coordinate), st.integers(0, 4))
def test_moving_and_growing_have_a_way_back(a: Bounds, by: Point, more: int) -> None:
    assert a.moved(by).moved(-by) == a == a.grown(more).grown(-more)
    assert a.clipped(Size(5, 7)) in Bounds.of(Size(5, 7))


numbers = st.floats(-20, 20)
maps = st.builds(Affine, numbers, numbers, numbers, numbers, numbers, numbers)


@given(maps, maps, numbers, numbers)
def test_a_product_of_maps_does_one_after_the_other(a: Affine, b: Affine, x: float, y: float) -> None:
    assert (a @ b)(x, y) == pytest.approx(a(*b(x, y)), abs=1e-6)


@given(maps.filter(lambda each: abs(each.determinant) > 1e-3), numbers, numbers)
def test_the_inverse_leads_back(a: Affine, x: float, y: float) -> None:
    assert a.inverse()(*a(x, y)) == pytest.approx((x, y), abs=1e-2)


def test_a_quarter_turn_maps_whole_pixels_to_whole_pixels() -> None:
    assert Affine.turn(90).bounds(Bounds(0, 0, 4, 2)) == Bounds(-2, 0, 0, 4)


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(BadValueError, match="flattens"):
        Affine.scale(0, 1).inverse()
    with pytest.raises(BadValueError, match="cannot be"):
        Size(-1, 3)
