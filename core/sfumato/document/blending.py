"""How a layer is laid on what is below it: the formulas of W3C "Compositing and Blending Level 1", on premultiplied planes.

Notation of the recommendation: cs, cb are premultiplied source and backdrop, as, ab their alphas, Cs = cs / as and Cb = cb / ab the
colours. A blend mode B(Cb, Cs) is composited source-over (section 5.1): co = cs (1 - ab) + cb (1 - as) + as ab B(Cb, Cs). For most
modes as ab B is written with premultiplied values alone, which saves the division. Every function here takes float32 planes
[4,H,W] in 0..1 and returns as ab B for the three colours [3,H,W].
"""

# mypy: disable-error-code=no-any-return
# NumPy types the operators of arrays as Any.

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeAlias

import numpy as np

from sfumato.document.planes import Light


class BlendMode(StrEnum):
    """The modes by the names of OpenRaster; `EXCLUSION` is not in OpenRaster but in the W3C's recommendation."""

    NORMAL = "svg:src-over"
    MULTIPLY = "svg:multiply"
    SCREEN = "svg:screen"
    OVERLAY = "svg:overlay"
    DARKEN = "svg:darken"
    LIGHTEN = "svg:lighten"
    COLOR_DODGE = "svg:color-dodge"
    COLOR_BURN = "svg:color-burn"
    HARD_LIGHT = "svg:hard-light"
    SOFT_LIGHT = "svg:soft-light"
    DIFFERENCE = "svg:difference"
    EXCLUSION = "svg:exclusion"
    COLOR = "svg:color"
    LUMINOSITY = "svg:luminosity"
    HUE = "svg:hue"
    SATURATION = "svg:saturation"
    PLUS = "svg:plus"
    DST_IN = "svg:dst-in"
    DST_OUT = "svg:dst-out"
    SRC_ATOP = "svg:src-atop"
    DST_ATOP = "svg:dst-atop"


CLEARING = frozenset({BlendMode.DST_IN, BlendMode.DST_ATOP})
"""Modes that change the backdrop where the source is transparent."""

Blend: TypeAlias = Callable[[Light, Light], Light]


def blend(mode: BlendMode, backdrop: Light, source: Light) -> Light:
    """`source` on `backdrop`, both float32 [4,H,W] premultiplied 0..1; the result may be `backdrop` itself, written over."""
    if mode is BlendMode.NORMAL:
        backdrop *= 1 - source[3]
        backdrop += source
        return backdrop
    if mode in _COVERINGS:
        return _COVERINGS[mode](backdrop, source)
    product = _BLENDS[mode](backdrop, source)
    source_alpha, backdrop_alpha = source[3], backdrop[3].copy()
    backdrop *= 1 - source_alpha
    backdrop += source
    backdrop[:3] -= source[:3] * backdrop_alpha
    backdrop[:3] += product
    np.clip(backdrop, 0, 1, out=backdrop)
    return backdrop


def _plus(b: Light, s: Light) -> Light:
    """9.1.13, lighter."""
    b += s
    return np.minimum(b, 1, out=b)


def _dst_in(b: Light, s: Light) -> Light:
    b *= s[3]
    return b


def _dst_out(b: Light, s: Light) -> Light:
    b *= 1 - s[3]
    return b


def _src_atop(b: Light, s: Light) -> Light:
    alpha = b[3].copy()
    b *= 1 - s[3]
    b += s * alpha
    b[3] = alpha
    return b


def _dst_atop(b: Light, s: Light) -> Light:
    rest = s * (1 - b[3])
    b *= s[3]
    b += rest
    return b


def _screen(b: Light, s: Light) -> Light:
    return s[:3] * b[3] + b[:3] * s[3] - s[:3] * b[:3]


def _darken(b: Light, s: Light) -> Light:
    return np.minimum(s[:3] * b[3], b[:3] * s[3])


def _lighten(b: Light, s: Light) -> Light:
    return np.maximum(s[:3] * b[3], b[:3] * s[3])


def _hard_light(b: Light, s: Light) -> Light:
    dark = 2 * s[:3] * b[:3]
    light = s[3] * b[3] - 2 * (b[3] - b[:3]) * (s[3] - s[:3])
    return np.where(2 * s[:3] <= s[3], dark, light)


def _overlay(b: Light, s: Light) -> Light:
    return _hard_light(s, b)


def _difference(b: Light, s: Light) -> Light:
    return np.abs(s[:3] * b[3] - b[:3] * s[3])


def _exclusion(b: Light, s: Light) -> Light:
    return s[:3] * b[3] + b[:3] * s[3] - 2 * s[:3] * b[:3]


def _color_dodge(b: Light, s: Light) -> Light:
    """B = 0 if Cb = 0, else min(1, Cb / (1 - Cs))."""
    rest = s[3] - s[:3]
    raised = np.divide(b[:3] * s[3], rest, out=np.full_like(rest, np.inf), where=rest > _TINY)
    return np.where(b[:3] > 0, s[3] * np.minimum(b[3], raised), np.float32(0))


def _color_burn(b: Light, s: Light) -> Light:
    """B = 1 if Cb = 1, else 1 - min(1, (1 - Cb) / Cs)."""
    dark = b[3] - b[:3]
    lowered = np.divide(dark * s[3], s[:3], out=np.full_like(dark, np.inf), where=s[:3] > _TINY)
    return np.where(dark > _TINY, s[3] * (b[3] - np.minimum(b[3], lowered)), s[3] * b[3])


def _soft_light(b: Light, s: Light) -> Light:
    cb, cs = _colour(b), _colour(s)
    lifted = np.where(cb <= 0.25, ((16 * cb - 12) * cb + 4) * cb, np.sqrt(cb))
    blended = np.where(cs <= 0.5, cb - (1 - 2 * cs) * cb * (1 - cb), cb + (2 * cs - 1) * (lifted - cb))
    return blended * (s[3] * b[3])


def _hue(b: Light, s: Light) -> Light:
    cb, cs = _colour(b), _colour(s)
    return _with_luminosity(_with_saturation(cs, _saturation(cb)), _luminosity(cb)) * (s[3] * b[3])


def _saturate(b: Light, s: Light) -> Light:
    cb, cs = _colour(b), _colour(s)
    return _with_luminosity(_with_saturation(cb, _saturation(cs)), _luminosity(cb)) * (s[3] * b[3])


def _color(b: Light, s: Light) -> Light:
    return _with_luminosity(_colour(s), _luminosity(_colour(b))) * (s[3] * b[3])


def _luminous(b: Light, s: Light) -> Light:
    return _with_luminosity(_colour(b), _luminosity(_colour(s))) * (s[3] * b[3])


_TINY = np.float32(1e-6)  # a thirtieth of a step of 16 bits: what float32 leaves of a difference that is zero


def _colour(light: Light) -> Light:
    return np.minimum(light[:3] / np.where(light[3] > 0, light[3], 1), 1)


def _luminosity(colour: Light) -> Light:
    lum: Light = np.float32(0.3) * colour[0] + np.float32(0.59) * colour[1] + np.float32(0.11) * colour[2]
    return lum


def _saturation(colour: Light) -> Light:
    spread: Light = colour.max(axis=0) - colour.min(axis=0)
    return spread


def _with_saturation(colour: Light, saturation: Light) -> Light:
    """SetSat of 10.2: the smallest channel becomes 0, the largest the saturation, the middle one keeps its place between them."""
    low, spread = colour.min(axis=0), _saturation(colour)
    return (colour - low) * np.where(spread > 0, saturation / np.where(spread > 0, spread, 1), 0)


def _with_luminosity(colour: Light, luminosity: Light) -> Light:
    """SetLum and ClipColor of 10.2."""
    colour = colour + (luminosity - _luminosity(colour))
    low, high = colour.min(axis=0), colour.max(axis=0)
    under, over = low < 0, high > 1
    colour = np.where(under, luminosity + (colour - luminosity) * luminosity / np.where(under, luminosity - low, 1), colour)
    over_factor = (1 - luminosity) / np.where(over, high - luminosity, 1)
    return np.where(over, luminosity + (colour - luminosity) * over_factor, colour)


_COVERINGS: Mapping[BlendMode, Blend] = {
    BlendMode.PLUS: _plus,
    BlendMode.DST_IN: _dst_in,
    BlendMode.DST_OUT: _dst_out,
    BlendMode.SRC_ATOP: _src_atop,
    BlendMode.DST_ATOP: _dst_atop,
}

_BLENDS: Mapping[BlendMode, Blend] = {
    BlendMode.MULTIPLY: lambda b, s: s[:3] * b[:3],
    BlendMode.SCREEN: _screen,
    BlendMode.OVERLAY: _overlay,
    BlendMode.DARKEN: _darken,
    BlendMode.LIGHTEN: _lighten,
    BlendMode.COLOR_DODGE: _color_dodge,
    BlendMode.COLOR_BURN: _color_burn,
    BlendMode.HARD_LIGHT: _hard_light,
    BlendMode.SOFT_LIGHT: _soft_light,
    BlendMode.DIFFERENCE: _difference,
    BlendMode.EXCLUSION: _exclusion,
    BlendMode.HUE: _hue,
    BlendMode.SATURATION: _saturate,
    BlendMode.COLOR: _color,
    BlendMode.LUMINOSITY: _luminous,
}
