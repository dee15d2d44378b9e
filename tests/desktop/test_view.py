"""The canvas widget, offscreen: what it shows is the document, and a stroke with the mouse is paint."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PySide6.QtCore import QEvent, QObject, QPoint, QRect, Qt
from PySide6.QtGui import QColor, QImage, QPaintEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from sfumato.document.document import Document
from sfumato.document.layers import SurfaceId
from sfumato.document.planes import from_pixels
from sfumato.geometry import Bounds
from sfumato_desktop.canvas.brush import Brush
from sfumato_desktop.canvas.tools.brush import BrushTool
from sfumato_desktop.canvas.view import CanvasView


@pytest.fixture(scope="module")
def application() -> QApplication:
    found = QApplication.instance()
    return found if isinstance(found, QApplication) else QApplication([])


@pytest.fixture
def view(application: QApplication) -> Iterator[CanvasView]:
    widget = CanvasView(Document.new(300, 200))
    widget.resize(400, 300)
    widget.show()
    QTest.qWait(10)
    yield widget
    widget.close()
    widget.deleteLater()


def _shown(view: CanvasView) -> QImage:
    return view.grab().toImage()


def _fill(document: Document, bounds: Bounds, colour: tuple[float, float, float]) -> None:
    pixels = np.broadcast_to(np.array(colour, np.float32), (bounds.height, bounds.width, 3))
    with document.edit("fill") as edit:
        edit.write(SurfaceId(document.structure.layers[0].id), bounds, from_pixels(np.ascontiguousarray(pixels)))


def test_an_empty_document_is_a_checkerboard(view: CanvasView) -> None:
    image = _shown(view)
    tones = {image.pixelColor(x, 150).lightness() for x in range(150, 250)}
    assert tones == {QColor(204, 204, 204).lightness(), QColor(238, 238, 238).lightness()}


@pytest.mark.parametrize("degrees", [0.0, 90.0, 37.0])
@pytest.mark.parametrize("zoom", [0.4, 1.0, 3.0, 12.0])
def test_what_is_shown_is_what_the_document_holds(view: CanvasView, zoom: float, degrees: float) -> None:
    _fill(view._document, Bounds.at(0, 0, 150, 200), (1.0, 0.0, 0.0))
    _fill(view._document, Bounds.at(150, 0, 150, 200), (0.0, 0.0, 1.0))
    view.fit()
    view.set_zoom(zoom)
    view._look(view.viewport.turned(degrees, 200, 150))
    image = _shown(view)
    for x, y in ((140, 95), (160, 105)):
        sx, sy = (round(v) for v in view.viewport.to_screen(x + 0.5, y + 0.5))
        if 2 < sx < 397 and 2 < sy < 297:
            colour = image.pixelColor(sx, sy)
            assert (colour.red() > 200, colour.blue() > 200) == ((True, False) if x < 150 else (False, True))


def test_a_drag_with_the_mouse_paints_a_line(view: CanvasView) -> None:
    document = view._document
    brush = Brush(size=12, hardness=1, colour=(0.0, 0.6, 0.0), smoothing=0)
    view.tool = BrushTool(lambda: brush, lambda: document.structure.layers[0].id)
    view.fit()
    QTest.mousePress(view, Qt.MouseButton.LeftButton, pos=QPoint(120, 150))
    for x in range(125, 281, 5):
        QTest.mouseMove(view, QPoint(x, 150))
    QTest.mouseRelease(view, Qt.MouseButton.LeftButton, pos=QPoint(280, 150))
    colour = _shown(view).pixelColor(200, 150)
    assert (colour.red(), colour.blue()) == (0, 0)
    assert 145 < colour.green() < 160
    assert document.undo() == "Brush stroke"
    assert _shown(view).pixelColor(200, 150).red() > 190


class _PaintWatch(QObject):
    """Remembers the rectangles that a widget is asked to paint."""

    def __init__(self) -> None:
        super().__init__()
        self.rects: list[QRect] = []

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if isinstance(event, QPaintEvent):
            self.rects.append(event.rect())
        return False


def test_only_what_changed_is_repainted(view: CanvasView) -> None:
    QTest.qWait(20)
    watch = _PaintWatch()
    view.installEventFilter(watch)
    _fill(view._document, Bounds.at(10, 10, 20, 20), (0.0, 1.0, 0.0))
    QTest.qWait(30)
    most = 20 * view.viewport.zoom + 12
    assert watch.rects
    assert all(r.width() <= most and r.height() <= most for r in watch.rects)


def test_the_keys_fit_and_show_one_to_one(view: CanvasView) -> None:
    QTest.keyClick(view, Qt.Key.Key_1)
    assert view.viewport.zoom == pytest.approx(1.0)
    view.set_zoom(7.0)
    QTest.keyClick(view, Qt.Key.Key_0)
    assert view.viewport.zoom == pytest.approx(352 / 300, rel=0.01)
