"""Colour arithmetic of the world: mixing, darkening, and CIELAB, in which distances resemble what an eye sees."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato_resources.world.scenes import Rgb

_XYZ_FROM_RGB = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], np.float32)
_WHITE_D65 = np.array([0.9505, 1.0, 1.089], np.float32)


def mix(start: Rgb, end: Rgb, share: float) -> Rgb:
    """The colour ``share`` of the way from ``start`` to ``end``."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(start, end, strict=True))
    return red, green, blue


def darker(colour: Rgb, factor: float) -> Rgb:
    """The colour with every channel multiplied by ``factor``."""
    red, green, blue = (int(channel * factor) for channel in colour)
    return red, green, blue


def cielab(rgb: NDArray[Any]) -> NDArray[np.float32]:
    """sRGB [..., 3] in 0..255 -> CIELAB [..., 3] float32 (D65): L in 0..100. The standard is IEC 61966-2-1 and CIE 15."""
    value = np.asarray(rgb, np.float32) / 255.0
    linear = np.where(value > 0.04045, ((np.maximum(value, 0.04045) + 0.055) / 1.055) ** 2.4, value / 12.92)
    xyz = linear @ _XYZ_FROM_RGB.T / _WHITE_D65
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab = np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)
    return lab.astype(np.float32)
