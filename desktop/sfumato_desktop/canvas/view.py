"""The canvas widget: draws the pieces that are seen, repaints only what changed, and hands the pen to the tool."""

from __future__ import annotations

import math
from typing import Protocol

from PySide6.QtCore import QEvent, QPointF, QRect, QRectF, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QResizeEvent,
    QTabletEvent,
    QTransform,
    QWheelEvent,
)
from PySide6.QtWidgets import QWidget

from sfumato.document.document import Document
from sfumato.document.events import DocumentEvent, FrameChanged, LayerChanged, LayerRemoved, LayersReordered, PixelsChanged, SizeChanged
from sfumato.document.tiles import TILE
from sfumato.geometry import Bounds, Size
from sfumato_desktop.canvas.brush import StrokePoint
from sfumato_desktop.canvas.screen_cache import ScreenCache
from sfumato_desktop.canvas.viewport import Viewport

CHECKER = 8
PIXEL_GRID_FROM = 8.0
"""Zoom from which document pixels are outlined."""


class Tool(Protocol):
    """What the pen does. Points are in document pixels: Qt ends at the view."""

    def press(self, document: Document, point: StrokePoint) -> None: ...

    def move(self, document: Document, point: StrokePoint) -> None: ...

    def release(self, document: Document, point: StrokePoint) -> None: ...


class CanvasView(QWidget):
    """Shows one document. Middle button or Space drags, the wheel zooms to the pointer, Shift+wheel turns, 0 fits, 1 is 1:1."""

    viewport_changed = Signal(object)

    def __init__(self, document: Document, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setAttribute(Qt.WidgetAttribute.WA_TabletTracking)
        self.setAccessibleName(self.tr("Canvas"))
        self.setMinimumSize(64, 64)
        self.tool: Tool | None = None
        self._document = document
        self._cache = ScreenCache()
        self._viewport = Viewport(Size(1, 1))
        self._fit_once = True
        self._dragged_from: QPointF | None = None
        self._space = self._pen_down = False
        self._checker = _checker()
        self._stop = document.listen(self._hear)

    @property
    def viewport(self) -> Viewport:
        return self._viewport

    def show_document(self, document: Document) -> None:
        """Show another document, all of it."""
        self._stop()
        self._document = document
        self._stop = document.listen(self._hear)
        self._cache.clear()
        self.fit()

    def fit(self) -> None:
        """Show the whole document."""
        self._look(self._viewport.fitted(Bounds.of(self._document.structure.size)))

    def set_zoom(self, zoom: float) -> None:
        """Zoom around the middle."""
        middle = self._viewport.size
        self._look(self._viewport.zoomed(zoom / self._viewport.zoom, middle.width / 2, middle.height / 2))

    def _look(self, viewport: Viewport) -> None:
        self._viewport = viewport
        self.update()
        self.viewport_changed.emit(viewport)

    def _hear(self, event: DocumentEvent) -> None:
        if isinstance(event, PixelsChanged | LayerChanged):
            self._repaint(event.bounds)
        elif isinstance(event, SizeChanged | LayerRemoved | LayersReordered):
            self._cache.clear()
            self.update()
        elif isinstance(event, FrameChanged):
            self.update()

    def _repaint(self, bounds: Bounds) -> None:
        """Only the part of the widget that shows `bounds`."""
        if not bounds:
            return
        self._cache.changed(bounds)
        shown = self._viewport.to_screen.bounds(bounds.grown(1))
        ratio = self.devicePixelRatioF()
        corner = math.floor(shown.left / ratio) - 1, math.floor(shown.top / ratio) - 1
        self.update(QRect(*corner, math.ceil(shown.width / ratio) + 3, math.ceil(shown.height / ratio) + 3))

    # --- Drawing -------------------------------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.fillRect(event.rect(), self.palette().color(self.backgroundRole()).darker(115))
        ratio = self.devicePixelRatioF()
        painter.scale(1 / ratio, 1 / ratio)
        self._draw_document(painter, event.rect(), ratio)
        self._draw_frame(painter)

    def _draw_document(self, painter: QPainter, rect: QRect, ratio: float) -> None:
        affine = self._viewport.to_screen
        to_screen = _qtransform(self._viewport)
        page = Bounds.of(self._document.structure.size)
        dirty = Bounds.at(
            round(rect.x() * ratio), round(rect.y() * ratio), math.ceil(rect.width() * ratio), math.ceil(rect.height() * ratio)
        )
        seen = self._viewport.to_document.bounds(dirty).grown(1) & page
        painter.save()
        painter.setTransform(to_screen, False)
        painter.setClipRect(QRectF(seen.left, seen.top, seen.width, seen.height))
        self._draw_checker(painter, seen)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, affine.determinant < PIXEL_GRID_FROM)
        level = self._viewport.level
        side = TILE << level
        for column, row in seen.cells(side):
            piece = self._cache.piece(self._document, (level, column, row))
            if piece is not None:
                image = QImage(piece.data, TILE, TILE, TILE * 4, QImage.Format.Format_ARGB32_Premultiplied)
                painter.drawImage(QRectF(column * side, row * side, side, side), image)
        if self._viewport.zoom >= PIXEL_GRID_FROM:
            _draw_grid(painter, seen)
        painter.restore()

    def _draw_checker(self, painter: QPainter, seen: Bounds) -> None:
        """Squares of a constant size on the screen, fixed to the document."""
        painter.save()
        step = 1 / self._viewport.zoom
        painter.scale(step, step)
        zoom = self._viewport.zoom
        area = QRectF(seen.left * zoom, seen.top * zoom, seen.width * zoom, seen.height * zoom)
        painter.drawTiledPixmap(area, self._checker, QPointF(area.x() % (2 * CHECKER), area.y() % (2 * CHECKER)))
        painter.restore()

    def _draw_frame(self, painter: QPainter) -> None:
        """Where the next generation works, as a dashed rectangle."""
        frame = self._document.structure.frame
        painter.setTransform(_qtransform(self._viewport), False)
        for colour, style in ((QColor(0, 0, 0, 160), Qt.PenStyle.SolidLine), (QColor(255, 255, 255, 220), Qt.PenStyle.DashLine)):
            pen = QPen(colour, 1, style)
            pen.setCosmetic(True)
            painter.setPen(pen)
            painter.drawRect(QRectF(frame.left, frame.top, frame.width, frame.height))

    # --- The pen -------------------------------------------------------------------------------------------------------

    def _point(self, position: QPointF, pressure: float = 1.0) -> StrokePoint:
        ratio = self.devicePixelRatioF()
        x, y = self._viewport.to_document(position.x() * ratio, position.y() * ratio)
        return StrokePoint(x, y, pressure)

    def tabletEvent(self, event: QTabletEvent) -> None:
        point = self._point(event.position(), event.pressure())
        kind = event.type()
        if self.tool is None or self._space:
            event.ignore()
            return
        if kind == QEvent.Type.TabletPress and event.button() == Qt.MouseButton.LeftButton:
            self._pen_down = True
            self.tool.press(self._document, point)
        elif kind == QEvent.Type.TabletMove and self._pen_down:
            self.tool.move(self._document, point)
        elif kind == QEvent.Type.TabletRelease and self._pen_down:
            self._pen_down = False
            self.tool.release(self._document, point)
        event.accept()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.MiddleButton or (self._space and event.button() == Qt.MouseButton.LeftButton):
            self._dragged_from = event.position()
            self.setCursor(Qt.CursorShape.ClosedHandCursor)
        elif event.button() == Qt.MouseButton.LeftButton and self.tool is not None:
            self._pen_down = True
            self.tool.press(self._document, self._point(event.position()))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._dragged_from is not None:
            moved = event.position() - self._dragged_from
            self._dragged_from = event.position()
            ratio = self.devicePixelRatioF()
            self._look(self._viewport.panned(moved.x() * ratio, moved.y() * ratio))
        elif self._pen_down and self.tool is not None:
            self.tool.move(self._document, self._point(event.position()))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if self._dragged_from is not None:
            self._dragged_from = None
            self.unsetCursor()
        elif self._pen_down and self.tool is not None:
            self._pen_down = False
            self.tool.release(self._document, self._point(event.position()))

    def wheelEvent(self, event: QWheelEvent) -> None:
        ratio = self.devicePixelRatioF()
        x, y = event.position().x() * ratio, event.position().y() * ratio
        turns = (event.angleDelta().y() or event.angleDelta().x()) / 120
        if event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            self._look(self._viewport.turned(turns * 7.5, x, y))
        else:
            self._look(self._viewport.zoomed(1.25**turns, x, y))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Space and not event.isAutoRepeat():
            self._space = True
            self.setCursor(Qt.CursorShape.OpenHandCursor)
        elif event.key() == Qt.Key.Key_0:
            self.fit()
        elif event.key() == Qt.Key.Key_1:
            self.set_zoom(1.0)
        else:
            super().keyPressEvent(event)

    def keyReleaseEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Space and not event.isAutoRepeat():
            self._space = False
            self.unsetCursor()
        else:
            super().keyReleaseEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        ratio = self.devicePixelRatioF()
        size = Size(max(1, round(self.width() * ratio)), max(1, round(self.height() * ratio)))
        self._viewport = self._viewport.resized(size)
        if self._fit_once:
            self._fit_once = False
            self.fit()


def _qtransform(viewport: Viewport) -> QTransform:
    a = viewport.to_screen
    (x0, y0), (x1, y1), (x2, y2) = a(0, 0), a(1, 0), a(0, 1)
    return QTransform(x1 - x0, y1 - y0, x2 - x0, y2 - y0, x0, y0)


def _checker() -> QPixmap:
    pixmap = QPixmap(2 * CHECKER, 2 * CHECKER)
    pixmap.fill(QColor(204, 204, 204))
    painter = QPainter(pixmap)
    for x, y in ((0, 0), (CHECKER, CHECKER)):
        painter.fillRect(x, y, CHECKER, CHECKER, QColor(238, 238, 238))
    painter.end()
    return pixmap


def _draw_grid(painter: QPainter, seen: Bounds) -> None:
    pen = QPen(QColor(128, 128, 128, 70), 1)
    pen.setCosmetic(True)
    painter.setPen(pen)
    for x in range(seen.left, seen.right + 1):
        painter.drawLine(QPointF(x, seen.top), QPointF(x, seen.bottom))
    for y in range(seen.top, seen.bottom + 1):
        painter.drawLine(QPointF(seen.left, y), QPointF(seen.right, y))
