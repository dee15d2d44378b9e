"""The brush and the eraser: strokes on the layer that is worked on, each one command of the history."""

from __future__ import annotations

from collections.abc import Callable

from sfumato.document.document import Document
from sfumato.document.layers import SurfaceId
from sfumato_desktop.canvas.brush import Brush, Stroke, StrokePoint


class BrushTool:
    """Paints on the layer that `layer()` names, with the brush that `brush()` gives when the pen comes down."""

    def __init__(self, brush: Callable[[], Brush], layer: Callable[[], str | None]) -> None:
        self._brush, self._layer = brush, layer
        self._stroke: Stroke | None = None

    def press(self, document: Document, point: StrokePoint) -> None:
        layer = self._layer()
        if layer is None:
            return
        brush = self._brush()
        edit = document.begin("Erase" if brush.eraser else "Brush stroke")
        self._stroke = Stroke(brush, edit, SurfaceId(layer))
        self._stroke.extend(point)

    def move(self, document: Document, point: StrokePoint) -> None:
        if self._stroke is not None:
            self._stroke.extend(point)

    def release(self, document: Document, point: StrokePoint) -> None:
        if self._stroke is not None:
            self._stroke.extend(point)
            self._stroke.edit.commit()
            self._stroke = None
