"""A brush stroke as arithmetic: points with pressure become dabs at even spacing, dabs become coverage on tiles. No Qt.

A stroke is built up in one coverage plane and laid on the layer as it was before the stroke, so that `opacity` bounds the
whole stroke while `flow` builds up within it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sfumato.document.blending import BlendMode
from sfumato.document.editing import Edit
from sfumato.document.layers import SurfaceId
from sfumato.document.tiles import TILE, TileKey
from sfumato.geometry import Bounds


@dataclass(frozen=True)
class Brush:
    """`size` is the diameter in document pixels; the others are shares of 1. `spacing` is a share of the diameter."""

    size: float = 32.0
    hardness: float = 0.6
    opacity: float = 1.0
    flow: float = 1.0
    spacing: float = 0.12
    smoothing: float = 0.3
    pressure_size: bool = True
    pressure_flow: bool = False
    colour: tuple[float, float, float] = (0.0, 0.0, 0.0)
    eraser: bool = False


@dataclass(frozen=True)
class StrokePoint:
    """Where the pen is, in document pixels, and how hard it presses (0..1)."""

    x: float
    y: float
    pressure: float = 1.0


@dataclass
class Stroke:
    """One stroke, from pen down to pen up, on `surface` within `edit`."""

    brush: Brush
    edit: Edit
    surface: SurfaceId
    _last: StrokePoint | None = None
    _to_next: float = 0.0
    _coverage: dict[TileKey, NDArray[np.float32]] = field(default_factory=dict)

    def extend(self, point: StrokePoint) -> Bounds:
        """The pen has moved to `point`; returns the document pixels that changed."""
        smoothed = self._smoothed(point)
        touched: dict[TileKey, Bounds] = {}
        for dab in self._dabs(smoothed):
            for key, part in self._cover(dab):
                touched[key] = touched.get(key, Bounds()) | part
        self._last = smoothed
        for key, part in touched.items():
            self._lay(key, part)
        return Bounds.around(touched.values())

    def _smoothed(self, point: StrokePoint) -> StrokePoint:
        """Drawn towards where the pen was: a share of the way, which takes the tremble out of a line."""
        if self._last is None:
            return point
        keep = min(max(self.brush.smoothing, 0.0), 0.95)
        x = self._last.x * keep + point.x * (1 - keep)
        y = self._last.y * keep + point.y * (1 - keep)
        return StrokePoint(x, y, self._last.pressure * keep + point.pressure * (1 - keep))

    def _dabs(self, end: StrokePoint) -> Iterator[StrokePoint]:
        """Places at even distances along the line from the last point; what is left over counts for the next line."""
        start = self._last
        if start is None:
            self._to_next = self._step(end.pressure)
            yield end
            return
        length = math.hypot(end.x - start.x, end.y - start.y)
        at = self._to_next
        while at <= length and length > 0:
            share = at / length
            pressure = start.pressure + (end.pressure - start.pressure) * share
            yield StrokePoint(start.x + (end.x - start.x) * share, start.y + (end.y - start.y) * share, pressure)
            at += self._step(pressure)
        self._to_next = at - length

    def _step(self, pressure: float) -> float:
        return max(0.5, self._diameter(pressure) * self.brush.spacing)

    def _diameter(self, pressure: float) -> float:
        return max(1.0, self.brush.size * (pressure if self.brush.pressure_size else 1.0))

    def _cover(self, dab: StrokePoint) -> Iterator[tuple[TileKey, Bounds]]:
        """Add a dab to the stroke's coverage: c + (1 - c) * flow * shape, on each tile it touches."""
        shape, left, top = _stamp(self._diameter(dab.pressure), self.brush.hardness, dab.x, dab.y)
        flow = np.float32(self.brush.flow * (dab.pressure if self.brush.pressure_flow else 1.0))
        box = Bounds.at(left, top, shape.shape[1], shape.shape[0])
        for key in box.cells(TILE):
            part = box & Bounds.at(key[0] * TILE, key[1] * TILE, TILE, TILE)
            inside = shape[part.top - top : part.bottom - top, part.left - left : part.right - left]
            plane = self._coverage.setdefault(key, np.zeros((TILE, TILE), np.float32))
            y, x = part.top - key[1] * TILE, part.left - key[0] * TILE
            view = plane[y : y + part.height, x : x + part.width]
            view += (1 - view) * (inside * flow)
            yield key, part

    def _lay(self, key: TileKey, part: Bounds) -> None:
        """The stroke so far over what was there before it."""
        y, x = part.top - key[1] * TILE, part.left - key[0] * TILE
        alpha = self._coverage[key][y : y + part.height, x : x + part.width] * np.float32(self.brush.opacity)
        light = np.empty((4, *alpha.shape), np.float32)
        for channel, value in enumerate(self.brush.colour):
            np.multiply(alpha, np.float32(value), out=light[channel])
        light[3] = alpha
        mode = BlendMode.DST_OUT if self.brush.eraser else BlendMode.NORMAL
        self.edit.paint(self.surface, part, light, mode, over_original=True)


def _stamp(diameter: float, hardness: float, x: float, y: float) -> tuple[NDArray[np.float32], int, int]:
    """(coverage [h,w], left, top) of one dab at (x, y), placed to a quarter of a pixel."""
    step = 4
    qx, qy = math.floor(x * step + 0.5), math.floor(y * step + 0.5)
    shape, reach = _shape(round(diameter * 4), round(hardness * 64), qx % step, qy % step)
    return shape, qx // step - reach, qy // step - reach


@lru_cache(maxsize=512)
def _shape(quarters: int, hard: int, qx: int, qy: int) -> tuple[NDArray[np.float32], int]:
    """A round dab: 1 up to `hardness` of the radius, then a smooth fall to 0; its rim is one pixel soft at full hardness."""
    radius, hardness = quarters / 8, hard / 64
    reach = math.ceil(radius) + 1
    places = np.arange(-reach, reach + 1, dtype=np.float32) + np.float32(0.5)
    distance = np.hypot(places[None, :] - np.float32(qx / 4), places[:, None] - np.float32(qy / 4))
    width = max(1.0, radius * (1 - hardness))
    fall = np.clip((np.float32(radius + 0.5) - distance) / np.float32(width), 0, 1)
    shape = (fall * fall * (3 - 2 * fall)).astype(np.float32) if hardness < 1 else fall.astype(np.float32)
    shape.flags.writeable = False
    return shape, reach
