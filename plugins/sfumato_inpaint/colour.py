"""Colours as an eye sees them: sRGB to CIELAB and back, and the colour difference CIEDE2000.

CIELAB, not OKLab, throughout: Delta E 2000, by which seams are measured, is defined on it, so that a correction and its figure speak
of the same units.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]

_XYZ_OF_RGB = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
_WHITE = _XYZ_OF_RGB.sum(1)
_RGB_OF_XYZ = np.linalg.inv(_XYZ_OF_RGB)
_EPSILON, _KAPPA = 216 / 24389, 24389 / 27


def lab_of(rgb: NDArray[Any]) -> Floats:
    """sRGB [..., 3] in 0..1 -> CIELAB [..., 3] float32, D65: L in 0..100. (IEC 61966-2-1, CIE 15:2004)"""
    value = np.asarray(rgb, np.float32)
    linear = np.where(value > 0.04045, ((np.maximum(value, 0) + 0.055) / 1.055) ** 2.4, value / 12.92)
    xyz = linear @ (_XYZ_OF_RGB / _WHITE[:, None]).T.astype(np.float32)
    f = np.where(xyz > _EPSILON, np.cbrt(xyz), (_KAPPA * xyz + 16) / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1).astype(np.float32)


def rgb_of(lab: NDArray[Any]) -> Floats:
    """CIELAB [..., 3] -> sRGB [..., 3] float32, clipped to 0..1; the inverse of `lab_of` where the colour can be shown."""
    lab = np.asarray(lab, np.float32)
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], -1)
    xyz = np.where(f**3 > _EPSILON, f**3, (116 * f - 16) / _KAPPA)
    linear = xyz @ (_RGB_OF_XYZ * _WHITE).T.astype(np.float32)
    value = np.where(linear > 0.0031308, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055, 12.92 * linear)
    return np.asarray(np.clip(value, 0, 1), np.float32)


def delta_e2000(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """CIEDE2000 of CIELAB colours [..., 3], with k_L = k_C = k_H = 1.

    Sharma, Wu, Dalal 2005, "The CIEDE2000 color-difference formula: implementation notes", whose equation numbers are meant below.
    """
    light1, a1, b1 = np.moveaxis(np.asarray(first, np.float64), -1, 0)
    light2, a2, b2 = np.moveaxis(np.asarray(second, np.float64), -1, 0)
    chroma7 = ((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2) ** 7
    stretch = 1.5 - 0.5 * np.sqrt(chroma7 / (chroma7 + 25.0**7))  # (4), (5)
    chroma1, hue1 = _polar(a1 * stretch, b1)
    chroma2, hue2 = _polar(a2 * stretch, b2)
    is_grey = chroma1 * chroma2 == 0
    turn = np.where(is_grey, 0.0, (hue2 - hue1 + 180) % 360 - 180)  # (10)
    d_hue = 2 * np.sqrt(chroma1 * chroma2) * np.sin(np.radians(turn) / 2)  # (11)
    mean_light, mean_chroma = (light1 + light2) / 2, (chroma1 + chroma2) / 2
    weights = _weights(mean_light, mean_chroma, _mean_hue(hue1, hue2, is_grey))
    parts = [(light2 - light1) / weights[0], (chroma2 - chroma1) / weights[1], d_hue / weights[2]]
    squared = parts[0] ** 2 + parts[1] ** 2 + parts[2] ** 2 + weights[3] * parts[1] * parts[2]
    return np.asarray(np.sqrt(np.maximum(squared, 0)), np.float64)  # (22)


def _polar(a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(chroma, hue in degrees 0..360)."""
    return np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360


def _mean_hue(hue1: NDArray[Any], hue2: NDArray[Any], is_grey: NDArray[Any]) -> NDArray[Any]:
    """(14): the middle of the shorter arc; the hue of the other where one has none."""
    total, apart = hue1 + hue2, np.abs(hue1 - hue2)
    around = np.where(total < 360, (total + 360) / 2, (total - 360) / 2)
    return np.asarray(np.where(is_grey, total, np.where(apart <= 180, total / 2, around)))


def _weights(light: NDArray[Any], chroma: NDArray[Any], hue: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """(S_L, S_C, S_H, R_T) of (15) to (21)."""
    rad = np.radians
    tint = (
        1 - 0.17 * np.cos(rad(hue - 30)) + 0.24 * np.cos(rad(2 * hue)) + 0.32 * np.cos(rad(3 * hue + 6)) - 0.20 * np.cos(rad(4 * hue - 63))
    )
    off = (light - 50) ** 2
    turned = 30 * np.exp(-(((hue - 275) / 25) ** 2))
    rotation = -2 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7)) * np.sin(rad(2 * turned))
    return 1 + 0.015 * off / np.sqrt(20 + off), 1 + 0.045 * chroma, 1 + 0.015 * chroma * tint, rotation
