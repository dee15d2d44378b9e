"""The functions of inpainting against published values, closed forms and plain evaluations; properties over random selections."""

from __future__ import annotations

import tracemalloc
from io import StringIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sfumato.errors import BadValueError
from sfumato.geometry import Bounds, Size
from sfumato.images import to_8_bits
from sfumato_inpaint import compositing, cropping, laplace, matching, patchmatch, seam, selection
from sfumato_inpaint.colour import delta_e2000, lab_of, rgb_of

# --- Colour ----------------------------------------------------------------------------------------------------------

# Sharma, Wu, Dalal 2005, table 1: L1 a1 b1 L2 a2 b2 DeltaE00.
SHARMA = np.loadtxt(
    StringIO("""
50 2.6772 -79.7751 50 0 -82.7485 2.0425
50 3.1571 -77.2803 50 0 -82.7485 2.8615
50 2.8361 -74.0200 50 0 -82.7485 3.4412
50 -1.3802 -84.2814 50 0 -82.7485 1.0000
50 -1.1848 -84.8006 50 0 -82.7485 1.0000
50 -0.9009 -85.5211 50 0 -82.7485 1.0000
50 0 0 50 -1 2 2.3669
50 -1 2 50 0 0 2.3669
50 2.4900 -0.0010 50 -2.4900 0.0009 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0010 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0011 7.2195
50 2.4900 -0.0010 50 -2.4900 0.0012 7.2195
50 -0.0010 2.4900 50 0.0009 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0010 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0011 -2.4900 4.7461
50 2.5 0 50 0 -2.5 4.3065
50 2.5 0 73 25 -18 27.1492
50 2.5 0 61 -5 29 22.8977
50 2.5 0 56 -27 -3 31.9030
50 2.5 0 58 24 15 19.4535
50 2.5 0 50 3.1736 0.5854 1.0000
50 2.5 0 50 3.2972 0 1.0000
50 2.5 0 50 1.8634 0.5757 1.0000
50 2.5 0 50 3.2592 0.3350 1.0000
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644
63.0109 -31.0961 -5.8663 62.8187 -29.7946 -4.0864 1.2630
61.2901 3.7196 -5.3901 61.4292 2.2480 -4.9620 1.8731
35.0831 -44.1164 3.7933 35.0232 -40.0716 1.5901 1.8645
22.7233 20.0904 -46.6940 23.0331 14.9730 -42.5619 2.0373
36.4612 47.8580 18.3852 36.2715 50.5065 21.2231 1.4146
90.8027 -2.0831 1.4410 91.1528 -1.6435 0.0447 1.4441
90.9257 -0.5406 -0.9208 88.6381 -0.8985 -0.7239 1.5381
6.7747 -0.2908 -2.4247 5.8714 -0.0985 -2.2286 0.6377
2.0776 0.0795 -1.1350 0.9033 -0.0636 -0.5514 0.9082
""")
)


def test_the_colour_difference_is_that_of_the_published_pairs() -> None:
    found = delta_e2000(SHARMA[:, :3], SHARMA[:, 3:6])
    np.testing.assert_allclose(found, SHARMA[:, 6], atol=6e-5)
    np.testing.assert_allclose(delta_e2000(SHARMA[:, 3:6], SHARMA[:, :3]), SHARMA[:, 6], atol=6e-5)


def test_known_colours_have_their_lab_values_and_come_back() -> None:
    colours = np.array([[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1], [0.5, 0.5, 0.5]], np.float32)
    known = np.array([[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86], [53.39, 0, 0]])
    np.testing.assert_allclose(lab_of(colours), known, atol=0.02)
    everything = np.random.default_rng(0).random((500, 3), np.float32)
    np.testing.assert_allclose(rgb_of(lab_of(everything)), everything, atol=2e-5)


# --- Selections ------------------------------------------------------------------------------------------------------


def disc(side: int, x: float, y: float, radius: float) -> NDArray[np.float32]:
    rows, columns = np.mgrid[:side, :side]
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 <= radius**2, np.float32)


def test_a_point_grows_to_a_disc_and_shrinks_back_by_exact_distances() -> None:
    point = np.zeros((41, 41), np.float32)
    point[20, 20] = 1
    grown = selection.grow(point, 9)
    np.testing.assert_array_equal(grown, disc(41, 20, 20, 9))
    shrunk = selection.grow(disc(41, 20, 20, 9), -4)
    rows, columns = np.mgrid[:41, :41]
    outside = np.argwhere(grown == 0)
    nearest = np.sqrt(((np.stack([rows, columns], -1)[:, :, None] - outside) ** 2).sum(-1)).min(-1)
    np.testing.assert_array_equal(shrunk, (nearest > 4).astype(np.float32))


def test_a_soft_edge_lies_where_it_is_asked_to() -> None:
    half = np.zeros((20, 60), np.float32)
    half[:, 30:] = 1
    edges = {edge: selection.feather(half, 8, edge)[10] for edge in ("inward", "centred", "outward")}
    assert not edges["inward"][:30].any() and (edges["inward"][38:] == 1).all()
    assert (edges["outward"][30:] == 1).all() and not edges["outward"][:22].any()
    assert edges["centred"][29] + edges["centred"][30] == pytest.approx(1)
    for line in edges.values():
        assert (np.diff(line) >= 0).all() and ((line > 0) & (line < 1)).sum() == 8


def test_holes_are_filled_and_bounds_found() -> None:
    ring = disc(40, 20, 20, 12) - disc(40, 20, 20, 6)
    np.testing.assert_array_equal(selection.fill_holes(ring), disc(40, 20, 20, 12))
    assert selection.bounds_of(ring) == Bounds(8, 8, 33, 33)
    with pytest.raises(BadValueError, match="selection is empty"):
        selection.bounds_of(np.zeros((8, 8), np.float32))


KINDS = ("rectangle", "disc", "ring", "pixel", "border", "speckles", "whole")


@st.composite
def selections(draw: st.DrawFn) -> NDArray[np.float32]:
    """Selections of every kind, at least one pixel, hard and soft."""
    height, width = draw(st.integers(3, 40)), draw(st.integers(3, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(KINDS))
    mask = np.zeros((height, width), np.float32)
    y, x = int(rng.integers(height)), int(rng.integers(width))
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows - y, columns - x)
    if kind == "rectangle":
        mask[y : y + int(rng.integers(1, height + 1)), x : x + int(rng.integers(1, width + 1))] = 1
    elif kind in ("disc", "ring"):
        radius = float(rng.uniform(0, 15))
        mask[(distance <= radius) & (distance >= (radius * 0.5 if kind == "ring" else 0))] = 1
    elif kind == "border":
        mask[:, 0] = mask[-1] = 1
    elif kind == "speckles":
        mask[rng.random(mask.shape) < 0.2] = 1
    elif kind == "whole":
        mask[:] = 1
    mask[y, x] = 1
    return np.asarray(mask * rng.uniform(0.1, 1, mask.shape) if draw(st.booleans()) else mask, np.float32)


@settings(max_examples=150, deadline=None)
@given(
    mask=selections(),
    soft=st.sampled_from([0, 0.5, 4, 30]),
    edge=st.sampled_from(["inward", "centred", "outward"]),
    resolution=st.sampled_from([0, 16, 64]),
)
def test_not_one_byte_outside_the_selection_changes(mask: Any, soft: float, edge: Any, resolution: int) -> None:
    rng = np.random.default_rng(1)
    original = rng.random((*mask.shape, 3), np.float32)
    crop = cropping.crop(original, mask, resolution)
    painted = rng.random(crop.image.shape, np.float32)
    after = cropping.stitched(original, painted, crop, soft, edge)
    outside = mask == 0
    assert to_8_bits(after)[outside].tobytes() == to_8_bits(original)[outside].tobytes()
    assert compositing.changed_outside(original, after, mask) == 0
    if resolution == 0 and soft == 0 and (mask == 1).any() and crop.plan.scale == 1 and crop.image.shape[:2] == crop.selection.shape:
        assert (after != original)[mask == 1].any()


def test_without_protection_a_soft_edge_reaches_outside() -> None:
    mask = disc(40, 20, 20, 8)
    original, painted = np.zeros((40, 40, 3), np.float32), np.ones((40, 40, 3), np.float32)
    after = compositing.composite(original, painted, compositing.alpha_of(mask, 6, "outward", protect=False))
    assert compositing.changed_outside(original, after, mask) > 50


# --- Context ---------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(data=st.data(), width=st.integers(8, 5000), height=st.integers(8, 5000), resolution=st.sampled_from([0, 128, 512, 1024]))
def test_the_context_holds_the_selection_within_the_document(data: Any, width: int, height: int, resolution: int) -> None:
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    bounds = Bounds(left, top, data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height)))
    plan = cropping.plan_for(bounds, Size(width, height), resolution)
    box = plan.context
    assert 0 <= box.left <= left and bounds.right <= box.right <= width and 0 <= box.top <= top and bounds.bottom <= box.bottom <= height
    assert plan.work.width % 8 == 0 == plan.work.height % 8
    if bounds.width <= width - width % 8:
        assert box.width % 8 == 0
    if resolution:
        assert plan.work.area <= 1.7 * resolution**2 + 16 * max(plan.work.width, plan.work.height)


def test_a_small_selection_is_enlarged_and_a_large_one_gets_two_passes() -> None:
    document = Size(2048, 2048)
    small = cropping.plan_for(Bounds.at(900, 900, 128, 128), document, 512)
    middle = cropping.plan_for(Bounds.at(900, 900, 320, 320), document, 512)
    large = cropping.plan_for(Bounds.at(300, 300, 1200, 1200), document, 512)
    assert (small.scale, small.passes, small.work) == (2.0, 1, Size(512, 512))
    assert (middle.scale, middle.passes) == (1.0, 1) and middle.context.width == 512
    assert large.passes == 2 and large.work.area <= 520**2 and "two passes" in large.told()


def test_a_selection_outside_or_of_another_size_is_told() -> None:
    with pytest.raises(BadValueError, match="outside of the document"):
        cropping.plan_for(Bounds(10, 10, 90, 20), Size(64, 64), 0)
    with pytest.raises(BadValueError, match="mask is 5x5, the picture 8x8"):
        cropping.crop(np.zeros((8, 8, 3), np.float32), np.ones((5, 5), np.float32))


def test_a_large_document_costs_no_more_memory_than_a_small_one() -> None:
    def peak(side: int) -> int:
        # Broadcast views: the documents themselves take no memory, so that what is measured is what the functions take.
        image = np.broadcast_to(np.float32(0.5), (side, side, 3))
        mask = np.zeros((side, side), np.float32)
        mask[300:428, 300:428] = 1
        tracemalloc.start()
        crop = cropping.crop(image, mask, 512)
        cropping.patch(image, crop.image, crop, 4)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(4096) <= 1.3 * peak(1024)


def test_a_crop_stitched_without_a_change_is_the_picture() -> None:
    image = np.random.default_rng(2).random((96, 120, 3), np.float32)
    crop = cropping.crop(image, disc(96, 40, 40, 20)[:, :96].repeat(2, 1)[:, :120])
    np.testing.assert_allclose(cropping.stitched(image, crop.image, crop, 5), image, atol=1e-6)


# --- Continuation ----------------------------------------------------------------------------------------------------


def test_a_harmonic_function_is_continued_exactly() -> None:
    y, x = np.mgrid[:150, :150] / 150
    # On the grid itself x^2 - y^2, xy and linear functions satisfy the five-point equation exactly.
    truth = np.stack([x * x - y * y, x * y, 0.3 * x + 0.2 * y], -1).astype(np.float32)
    hole = (disc(150, 70, 80, 60) > 0) & ~(disc(150, 60, 60, 12) > 0)
    found = laplace.continued(np.where(hole[..., None], 9, truth), hole)
    assert hole.sum() > 9000
    np.testing.assert_allclose(found, truth, atol=2e-4)
    np.testing.assert_array_equal(found[~hole], truth[~hole])


def test_a_continuation_keeps_within_what_is_around_it_and_goes_on_to_the_border() -> None:
    image = np.random.default_rng(3).random((60, 80, 1)).astype(np.float32)
    hole = np.zeros((60, 80), bool)
    hole[:, 40:] = True
    found = laplace.continued(image, hole)
    assert image[:, 39].min() - 1e-4 <= found[hole].min() and found[hole].max() <= image[:, 39].max() + 1e-4
    with pytest.raises(BadValueError, match="no pixel is kept"):
        laplace.continued(image, np.ones_like(hole))


def test_patches_continue_a_texture_better_than_the_smoothest_continuation() -> None:
    _, columns = np.mgrid[:72, :96]
    stripes = np.repeat((0.5 + 0.4 * np.sin(columns * 2 * np.pi / 8))[..., None], 3, -1).astype(np.float32)
    hole = np.zeros((72, 96), bool)
    hole[24:48, 36:60] = True
    found = patchmatch.completed(np.where(hole[..., None], 0, stripes), hole)
    smooth = laplace.continued(stripes, hole)
    error, plain = (np.abs(each - stripes)[hole].mean() for each in (found, smooth))
    assert error < 0.03 and error < plain / 4
    np.testing.assert_array_equal(found[~hole], stripes[~hole])
    np.testing.assert_array_equal(found, patchmatch.completed(np.where(hole[..., None], 0, stripes), hole))


# --- Colours and seams -----------------------------------------------------------------------------------------------


def soft_colours(side: int = 96) -> NDArray[np.float32]:
    """A near-grey picture with structure, well inside the gamut: CIELAB [side,side,3]."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:side, :side] / side
    light = 50 + 15 * np.sin(5 * x + 3 * y) + rng.normal(0, 2, (side, side))
    return np.stack([light, 4 * np.cos(7 * x) + rng.normal(0, 1, (side, side)), 4 * np.sin(6 * y)], -1).astype(np.float32)


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("shift", [(0, 5, 0), (0, -5, 0), (0, 0, 5), (0, 0, -5), (3, 5, -5)])
def test_a_known_shift_is_taken_back(kept: float, shift: tuple[float, ...]) -> None:
    lab = soft_colours()
    mask = np.zeros(lab.shape[:2], np.float32)
    mask[: round(96 * (1 - kept))] = 1
    reference = rgb_of(lab)
    reference[mask > 0] = 0  # what is to be painted anew may be anything
    found = lab_of(matching.matched(rgb_of(lab + np.array(shift, np.float32)), reference, mask))
    residual = np.abs((found - lab).reshape(-1, 3).mean(0))
    contrast = found[..., 1:].reshape(-1, 2).std(0) / lab[..., 1:].reshape(-1, 2).std(0)
    assert residual.max() < 0.3
    assert (contrast > 0.98).all() and (contrast < 1.02).all()


def test_some_wrong_pairs_do_not_move_the_match_and_too_few_are_told() -> None:
    lab = soft_colours()
    mask = np.zeros(lab.shape[:2], np.float32)
    mask[:40] = 1
    generated = rgb_of(lab + np.array([0, 5, 0], np.float32))
    generated[70:75] = 1.0
    found = lab_of(matching.matched(generated, rgb_of(lab), mask))
    assert abs(float((found - lab)[:40, :, 1].mean())) < 0.3
    with pytest.raises(BadValueError, match="only 0 pixels are kept"):
        matching.match_of(generated, generated, np.ones_like(mask))


def test_a_smooth_offset_is_closed_from_the_ring() -> None:
    picture = rgb_of(soft_colours())
    mask = disc(96, 48, 48, 28)
    _, x = np.mgrid[:96, :96] / 96
    tinted = np.clip(picture + (0.05 + 0.05 * x)[..., None].astype(np.float32), 0, 1)
    found = seam.fitted(tinted, picture, mask)
    before, after = np.abs(tinted - picture)[mask > 0].mean(), np.abs(found - picture)[mask > 0].mean()
    assert after < before / 10
    np.testing.assert_array_equal(found[mask == 0], picture[mask == 0])
    half = seam.fitted(tinted, picture, mask, strength=0.5)
    np.testing.assert_allclose(half[mask > 0], ((tinted + found) / 2)[mask > 0], atol=1e-5)


def test_the_seam_figure_is_the_difference_of_two_flat_banks() -> None:
    image = np.full((32, 32, 3), 0.5, np.float32)
    mask = np.zeros((32, 32), np.float32)
    mask[8:24, 8:24] = 1
    assert seam.seam_of(image, mask).mean == 0
    image[mask > 0] = 0.6
    expected = delta_e2000(lab_of(image[0, 0]), lab_of(image[16, 16]))
    found = seam.seam_of(image, mask)
    assert found.mean == pytest.approx(float(expected)) == found.p95 and len(found.places) == 60
    line = seam.heat_line(image, found, full=float(expected), thickness=0)
    np.testing.assert_allclose(line[8, 8], [1.0, 0.1, 0.1], atol=1e-6)
    np.testing.assert_allclose(line[0, 0], 0.25)
    with pytest.raises(BadValueError, match="has no border"):
        seam.seam_of(image, np.ones_like(mask))
