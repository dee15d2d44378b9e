"""How pixels are held in a document: planes of 16 bits, premultiplied; and the way to and from the pixels of files.

Why 16 bits: a brush of 1 % flow adds less than half a step of 8 bits once 80 % are covered, so it would stop there, and colours at
the rim of a soft brush (alpha 3 of 255) would have four levels. With 16 bits it goes on to 99.9 %, and an 8-bit file with alpha
comes back byte for byte, although its colours were premultiplied (where alpha is 0 there is no colour). float16 has the same
size, but only 11 bits of precision near 1. The price, 8 bytes a pixel, is paid only for tiles that are painted on.

Why planes [C,H,W] instead of pixels [H,W,C]: arithmetic with one alpha for three colours runs along contiguous rows, about four
times as fast in NumPy, and planes compress better.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import BadValueError

Planes: TypeAlias = NDArray[np.uint16]
"""uint16 [C,H,W], 0..65535. Four planes are red, green, blue (premultiplied, sRGB) and alpha; one plane is coverage."""

Light: TypeAlias = NDArray[np.float32]
"""float32 [C,H,W], 0..1: planes while they are worked with."""

ONE = 65535

_TO_8 = ((np.arange(ONE + 1, dtype=np.uint32) * 255 + ONE // 2) // ONE).astype(np.uint8)


def to_light(planes: Planes, factor: float = 1.0) -> Light:
    """Planes as float32 0..1, times `factor`."""
    return np.multiply(planes, np.float32(factor / ONE), dtype=np.float32)


def to_planes(light: Light) -> Planes:
    """float32 0..1 [C,H,W] rounded to planes; values outside are clipped."""
    scaled = light * np.float32(ONE)
    scaled += np.float32(0.5)
    np.clip(scaled, 0, ONE, out=scaled)
    return scaled.astype(np.uint16)


def from_pixels(pixels: NDArray[Any]) -> Planes:
    """Planes of straight (not premultiplied) pixels: uint8, uint16 or float 0..1; [H,W] grey, [H,W,3], or [H,W,4] with alpha.

    Raises BadValueError for another shape or type.
    """
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise BadValueError(f"an array of the shape {list(pixels.shape)} is no picture", "pixels", "Use [H,W], [H,W,3] or [H,W,4].")
    planes = np.full((4, *pixels.shape[:2]), ONE, np.uint16)
    planes[: pixels.shape[2]] = _16_bits(pixels).transpose(2, 0, 1)
    if pixels.shape[2] == 4 and planes[3].min(initial=ONE) < ONE:
        for colour in planes[:3]:
            colour[...] = (colour.astype(np.uint32) * planes[3] + ONE // 2) // ONE
    return planes


def from_coverage(values: NDArray[Any]) -> Planes:
    """One plane [1,H,W] of a mask [H,W]: uint8, uint16, bool or float 0..1."""
    if values.ndim != 2:
        raise BadValueError(f"an array of the shape {list(values.shape)} is no mask", "mask", "It has to be [H,W].")
    return _16_bits(values)[None].copy()


def _16_bits(values: NDArray[Any]) -> Planes:
    if values.dtype == np.uint16:
        return values
    if values.dtype == np.uint8:
        return values.astype(np.uint16) * np.uint16(257)
    if values.dtype == np.bool_:
        return values.astype(np.uint16) * np.uint16(ONE)
    if values.dtype.kind == "f":
        return to_planes(np.nan_to_num(values.astype(np.float32), nan=0.0))
    raise BadValueError(f"samples of the type {values.dtype} are not known", "pixels", "Use uint8, uint16 or float.")


def to_8_bit_pixels(planes: Planes) -> NDArray[np.uint8]:
    """uint8 [H,W,4] straight RGBA of four planes, or uint8 [H,W] of one. Transparent pixels are all zero."""
    if len(planes) == 1:
        grey: NDArray[np.uint8] = _TO_8[planes[0]]
        return grey
    pixels = np.empty((*planes.shape[1:], 4), np.uint8)
    alpha = planes[3]
    if alpha.min(initial=ONE) == ONE:
        np.take(_TO_8, planes.transpose(1, 2, 0), out=pixels)
        return pixels
    factor = np.float32(255) / np.maximum(alpha, 1, dtype=np.float32)
    for channel in range(3):
        pixels[..., channel] = planes[channel] * factor + np.float32(0.5)
    pixels[..., 3] = _TO_8[alpha]
    return pixels


def to_float_pixels(planes: Planes) -> NDArray[np.float32]:
    """float32 [H,W,4] straight RGBA, 0..1, of four planes; [H,W] of one. Transparent pixels are all zero."""
    light = to_light(planes)
    if len(planes) == 1:
        return np.array(light[0])
    light[:3] /= np.where(light[3] > 0, light[3], 1)
    return np.ascontiguousarray(light.transpose(1, 2, 0))
