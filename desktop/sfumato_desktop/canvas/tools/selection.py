"""The rectangle selection: drag to choose what may change; a click without a drag selects nothing."""

from __future__ import annotations

import numpy as np

from sfumato.document.document import Document
from sfumato.document.layers import SELECTION
from sfumato.document.planes import ONE
from sfumato.geometry import Bounds
from sfumato_desktop.canvas.brush import StrokePoint


class RectangleSelection:
    """Replaces the selection by a rectangle."""

    def __init__(self) -> None:
        self._start: StrokePoint | None = None

    def press(self, document: Document, point: StrokePoint) -> None:
        self._start = point

    def move(self, document: Document, point: StrokePoint) -> None:
        """The rectangle is taken when the pen is lifted."""

    def release(self, document: Document, point: StrokePoint) -> None:
        if self._start is None:
            return
        bounds = rectangle(self._start, point).clipped(document.structure.size)
        self._start = None
        with document.edit("Select") as edit:
            edit.clear(SELECTION)
            if bounds.width < 2 or bounds.height < 2:
                edit.select(active=False)
            else:
                edit.write(SELECTION, bounds, np.full((1, bounds.height, bounds.width), ONE, np.uint16))
                edit.select()


class FrameTool:
    """Moves the frame: where the next generation works. Its sides snap to multiples of 8."""

    def __init__(self) -> None:
        self._start: StrokePoint | None = None

    def press(self, document: Document, point: StrokePoint) -> None:
        self._start = point

    def move(self, document: Document, point: StrokePoint) -> None:
        """The frame is set when the pen is lifted."""

    def release(self, document: Document, point: StrokePoint) -> None:
        if self._start is None:
            return
        bounds = rectangle(self._start, point).snapped(8).clipped(document.structure.size)
        self._start = None
        if bounds.width >= 64 and bounds.height >= 64:
            with document.edit("Move frame") as edit:
                edit.set_frame(bounds)


def rectangle(a: StrokePoint, b: StrokePoint) -> Bounds:
    """The whole pixels between two points."""
    return Bounds(round(min(a.x, b.x)), round(min(a.y, b.y)), round(max(a.x, b.x)), round(max(a.y, b.y)))
