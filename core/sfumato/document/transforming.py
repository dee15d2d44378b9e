"""Layers scaled, turned and sheared: every pixel of the result is looked up where it came from, between four neighbours."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sfumato.document.planes import ONE, Planes
from sfumato.document.tiles import TILE, Tiles, bounds_of_key, shrunk
from sfumato.geometry import Affine, Bounds


def transformed(tiles: Tiles, by: Affine, *, smooth: bool = True) -> Tiles:
    """The picture of `tiles` under a map of their plane, new tiles. Raises BadValueError for a map that flattens it.

    `smooth` interpolates linearly between premultiplied values, and reads a halved picture where it makes things smaller, so that
    thin lines do not break; without it the nearest pixel is taken, for pixel art and for masks with hard rims.
    """
    result, back = Tiles(tiles.channels, tiles.background), by.inverse()
    content = tiles.content_bounds()
    level = max(0, math.floor(-math.log2(math.sqrt(abs(by.determinant))))) if smooth else 0
    for key in by.bounds(content).grown(1 if content else 0).cells(TILE):
        target = bounds_of_key(key)
        source = back.bounds(target).grown(2 << level) & content.grown(2 << level)
        if source:
            result.put(key, shrunk(_sampled(tiles, back, target, source.scaled_down(level), level, smooth)))
    return result


def _sampled(tiles: Tiles, back: Affine, target: Bounds, source: Bounds, level: int, smooth: bool) -> Planes:
    """One tile: `source`, in pixels of the level, holds all that it may need but background."""
    x, y = np.arange(target.left, target.right) + 0.5, (np.arange(target.top, target.bottom) + 0.5)[:, None]
    step = 1 << level
    there_x = (back.xx * x + back.xy * y + back.dx) / step - source.left - 0.5
    there_y = (back.yx * x + back.yy * y + back.dy) / step - source.top - 0.5
    # A rim of background on every side catches all that lies outside.
    padded = np.full((tiles.channels, source.height + 2, source.width + 2), tiles.background, np.uint16)
    padded[:, 1:-1, 1:-1] = tiles.read(source, level)
    there_x, there_y = np.clip(there_x + 1, 0, source.width + 1), np.clip(there_y + 1, 0, source.height + 1)
    if not smooth:
        return padded[:, _whole(there_y + 0.5, source.height + 1), _whole(there_x + 0.5, source.width + 1)]
    left, top = _whole(there_x, source.width), _whole(there_y, source.height)
    across, down = (there_x - left).astype(np.float32), (there_y - top).astype(np.float32)
    upper = padded[:, top, left] * (1 - across) + padded[:, top, left + 1] * across
    lower = padded[:, top + 1, left] * (1 - across) + padded[:, top + 1, left + 1] * across
    planes: Planes = np.clip(upper * (1 - down) + lower * down + 0.5, 0, ONE).astype(np.uint16)
    return planes


def _whole(values: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    whole: NDArray[np.intp] = np.minimum(np.floor(values), most).astype(np.intp)
    return whole
