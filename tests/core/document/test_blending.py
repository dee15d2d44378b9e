"""Blend modes against the recommendation's formulas, one colour at a time; and stacks of layers against composing by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.document.blending import BlendMode, blend
from sfumato.document.compositing import composite
from sfumato.document.layers import GroupLayer, Layer, MaskLayer, RasterLayer, RegionLayer, SurfaceId
from sfumato.document.picture import Picture, Structure
from sfumato.document.planes import ONE, to_light
from sfumato.document.tiles import Tiles
from sfumato.geometry import Bounds, Point, Size

Colour = tuple[float, ...]


def luminosity(c: Colour) -> float:
    return 0.3 * c[0] + 0.59 * c[1] + 0.11 * c[2]


def clip_colour(c: Colour) -> Colour:
    lum, low, high = luminosity(c), min(c), max(c)
    if low < 0:
        c = tuple(lum + (each - lum) * lum / (lum - low) for each in c)
    if high > 1:
        c = tuple(lum + (each - lum) * (1 - lum) / (high - lum) for each in c)
    return c


def set_luminosity(c: Colour, lum: float) -> Colour:
    return clip_colour(tuple(each + lum - luminosity(c) for each in c))


def set_saturation(c: Colour, s: float) -> Colour:
    order = sorted(range(3), key=lambda i: c[i])
    result = [0.0, 0.0, 0.0]
    if c[order[2]] > c[order[0]]:
        result[order[1]] = (c[order[1]] - c[order[0]]) * s / (c[order[2]] - c[order[0]])
        result[order[2]] = s
    return tuple(result)


def saturation(c: Colour) -> float:
    return max(c) - min(c)


def hard_light(cb: float, cs: float) -> float:
    return cb * 2 * cs if cs <= 0.5 else cb + (2 * cs - 1) - cb * (2 * cs - 1)


def dodge(cb: float, cs: float) -> float:
    return 0 if cb == 0 else 1 if cs == 1 else min(1, cb / (1 - cs))


def burn(cb: float, cs: float) -> float:
    return 1 if cb == 1 else 0 if cs == 0 else 1 - min(1, (1 - cb) / cs)


def soft_light(cb: float, cs: float) -> float:
    if cs <= 0.5:
        return cb - (1 - 2 * cs) * cb * (1 - cb)
    d = ((16 * cb - 12) * cb + 4) * cb if cb <= 0.25 else math.sqrt(cb)
    return cb + (2 * cs - 1) * (d - cb)


SEPARABLE: dict[BlendMode, Callable[[float, float], float]] = {
    BlendMode.NORMAL: lambda cb, cs: cs,
    BlendMode.MULTIPLY: lambda cb, cs: cb * cs,
    BlendMode.SCREEN: lambda cb, cs: cb + cs - cb * cs,
    BlendMode.OVERLAY: lambda cb, cs: hard_light(cs, cb),
    BlendMode.DARKEN: min,
    BlendMode.LIGHTEN: max,
    BlendMode.COLOR_DODGE: dodge,
    BlendMode.COLOR_BURN: burn,
    BlendMode.HARD_LIGHT: hard_light,
    BlendMode.SOFT_LIGHT: soft_light,
    BlendMode.DIFFERENCE: lambda cb, cs: abs(cb - cs),
    BlendMode.EXCLUSION: lambda cb, cs: cb + cs - 2 * cb * cs,
}
WHOLE: dict[BlendMode, Callable[[Colour, Colour], Colour]] = {
    BlendMode.HUE: lambda cb, cs: set_luminosity(set_saturation(cs, saturation(cb)), luminosity(cb)),
    BlendMode.SATURATION: lambda cb, cs: set_luminosity(set_saturation(cb, saturation(cs)), luminosity(cb)),
    BlendMode.COLOR: lambda cb, cs: set_luminosity(cs, luminosity(cb)),
    BlendMode.LUMINOSITY: lambda cb, cs: set_luminosity(cb, luminosity(cs)),
}
PORTER_DUFF: dict[BlendMode, Callable[[float, float], tuple[float, float]]] = {
    BlendMode.PLUS: lambda a_s, a_b: (1, 1),
    BlendMode.DST_IN: lambda a_s, a_b: (0, a_s),
    BlendMode.DST_OUT: lambda a_s, a_b: (0, 1 - a_s),
    BlendMode.SRC_ATOP: lambda a_s, a_b: (a_b, 1 - a_s),
    BlendMode.DST_ATOP: lambda a_s, a_b: (1 - a_b, a_s),
}


def expected(mode: BlendMode, b: Colour, s: Colour) -> Colour:
    """Premultiplied result of straight colours with alpha: sections 5 to 10 of the recommendation, word for word."""
    a_b, a_s = b[3], s[3]
    if mode in PORTER_DUFF:
        f_s, f_b = PORTER_DUFF[mode](a_s, a_b)
        colours = [a_s * f_s * s[i] + a_b * f_b * b[i] for i in range(3)]
        return tuple(min(1, each) for each in [*colours, a_s * f_s + a_b * f_b])
    blended = WHOLE[mode](b[:3], s[:3]) if mode in WHOLE else tuple(SEPARABLE[mode](b[i], s[i]) for i in range(3))
    mixed = [(1 - a_b) * s[i] + a_b * blended[i] for i in range(3)]
    return (*[a_s * mixed[i] + a_b * b[i] * (1 - a_s) for i in range(3)], a_s + a_b * (1 - a_s))


EDGES = [0.0, 0.2, 0.25, 0.5, 0.8, 1.0]


@pytest.mark.parametrize("mode", list(BlendMode))
def test_every_mode_does_what_the_recommendation_says(mode: BlendMode) -> None:
    rng = np.random.default_rng(5)
    pairs = np.concatenate([rng.random((150, 8)), rng.choice(EDGES, (150, 8))])
    straight = np.moveaxis(pairs.reshape(-1, 2, 4), 0, -1)
    premultiplied = straight.copy()
    premultiplied[:, :3] *= straight[:, 3:]
    backdrop, source = premultiplied.astype(np.float32)[:, :, None, :]
    want = np.array([expected(mode, tuple(pair[:4]), tuple(pair[4:])) for pair in pairs]).T
    # Near a pole of dodge and burn float32 may fall on the other side; the edges themselves have to be right.
    assert np.abs(blend(mode, backdrop, source)[:, 0] - want).max() < 2e-5


def tiles(colour: Colour, where: Bounds) -> Tiles:
    result = Tiles(len(colour))
    result.fill(where, [round(each * ONE) for each in colour])
    return result


HERE = Bounds(0, 0, 2, 2)


def picture(*layers: Layer, **colours: Colour) -> Picture:
    surfaces = {SurfaceId(name): tiles(colour, HERE) for name, colour in colours.items()}
    return Picture(Structure(size=Size(300, 2), layers=layers), surfaces)


def colour_of(of: Picture, guides: bool = False) -> list[float]:
    return [round(float(each) / ONE, 3) for each in composite(of, HERE, guides=guides)[:, 0, 0]]


def test_layers_lie_on_each_other_from_below() -> None:
    low, high = RasterLayer(id="low"), RasterLayer(id="high", opacity=0.5)
    assert colour_of(picture(low, high, low=(1, 0, 0, 1), high=(0, 0, 1, 1))) == [0.5, 0, 0.5, 1]


def test_an_isolated_group_does_not_see_what_lies_below() -> None:
    low, top = RasterLayer(id="low"), RasterLayer(id="top", blend=BlendMode.MULTIPLY)
    colours = {"low": (0.5, 0.5, 0.5, 1.0), "top": (0.5, 0.5, 0.5, 1.0)}
    assert colour_of(picture(low, GroupLayer(children=(top,), isolated=True), **colours)) == [0.5, 0.5, 0.5, 1]
    assert colour_of(picture(low, GroupLayer(children=(top,), isolated=False), **colours)) == [0.25, 0.25, 0.25, 1]


def test_the_opacity_of_a_group_is_that_of_the_whole() -> None:
    a, b = RasterLayer(id="a"), RasterLayer(id="b")
    group = GroupLayer(children=(a, b), opacity=0.5)
    assert colour_of(picture(group, a=(1, 0, 0, 1), b=(0, 1, 0, 1))) == [0, 0.5, 0, 0.5]


def test_a_mask_layer_hides_what_is_below_it_in_its_group_only() -> None:
    low, inner, mask = RasterLayer(id="low"), RasterLayer(id="inner"), MaskLayer(id="mask")
    for isolated in (True, False):
        group = GroupLayer(children=(inner, mask), isolated=isolated)
        made = picture(low, group, low=(1, 0, 0, 1), inner=(0, 1, 0, 1))
        made._surfaces[SurfaceId("mask", "mask")] = tiles((0.25,), HERE)
        assert colour_of(made) == [0.75, 0.25, 0, 1]


def test_the_mask_of_a_layer_counts_when_it_is_on() -> None:
    for masked, alpha in ((True, 0.25), (False, 1.0)):
        made = picture(RasterLayer(id="a", masked=masked), a=(0, 1, 0, 1))
        made._surfaces[SurfaceId("a", "mask")] = tiles((0.25,), HERE)
        assert colour_of(made) == [0, alpha, 0, alpha]


def test_hidden_layers_are_not_there_and_guides_only_for_the_painter() -> None:
    made = picture(RasterLayer(id="a", visible=False), RegionLayer(id="r", colour=(255, 0, 0)), a=(0, 1, 0, 1))
    made._surfaces[SurfaceId("r", "area")] = tiles((0.5,), HERE)
    assert colour_of(made) == [0, 0, 0, 0]
    assert colour_of(made, guides=True) == [0.5, 0, 0, 0.5]


def test_a_layer_that_is_opaque_in_places_hides_only_there() -> None:
    made = picture(RasterLayer(id="low"), RasterLayer(id="high"), low=(1, 0, 0, 1), high=(0, 0, 0, 0))
    made.surface(SurfaceId("high")).fill(Bounds(1, 1, 2, 2), (0, 0, ONE, ONE))
    assert colour_of(made) == [1, 0, 0, 1] and list(composite(made, HERE)[:, 1, 1]) == [0, 0, ONE, ONE]


def test_an_empty_layer_that_keeps_only_what_it_covers_clears_all() -> None:
    assert colour_of(picture(RasterLayer(id="a"), RasterLayer(id="b", blend=BlendMode.DST_IN), a=(0, 1, 0, 1))) == [0, 0, 0, 0]


LAYERS = st.tuples(st.sampled_from(list(BlendMode)), st.floats(0, 1), st.booleans(), st.integers(0, 40))


@settings(max_examples=20, deadline=None)
@given(st.lists(LAYERS, min_size=1, max_size=5))
def test_shortcuts_change_nothing(settings_of: list[tuple[BlendMode, float, bool, int]]) -> None:
    """Tile by tile with shortcuts, as layer by layer without."""
    rng = np.random.default_rng(len(settings_of))
    area, layers, surfaces = Bounds(0, 0, 300, 40), [], {}
    want = np.zeros((4, 40, 300), np.float32)
    for index, (mode, opacity, is_opaque, shift) in enumerate(settings_of):
        alpha = rng.integers(0, ONE, (1, 40, 300)) if not is_opaque else np.full((1, 40, 300), ONE)
        pixels = (np.concatenate([rng.random((3, 40, 300)) * alpha, alpha])).astype(np.uint16)
        layer = RasterLayer(id=str(index), blend=mode, opacity=1.0 if is_opaque else opacity, offset=Point(-shift, shift // 2))
        surface = Tiles()
        surface.write(area, pixels)
        layers.append(layer)
        surfaces[SurfaceId(layer.id)] = surface
        source = to_light(surface.read(area.moved(-layer.offset)), layer.opacity)
        want = blend(mode, want, source)
    made = composite(Picture(Structure(size=area.size, layers=tuple(layers)), surfaces), area)
    assert np.abs(made / ONE - want).max() < 2e-5
