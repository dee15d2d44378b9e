"""Strokes as arithmetic: bounds of opacity, even spacing, borders of tiles, cost that does not grow with the document."""

from __future__ import annotations

import numpy as np
import pytest

from sfumato.document.compositing import composite
from sfumato.document.document import Document
from sfumato.document.layers import SurfaceId
from sfumato.geometry import Bounds
from sfumato_desktop.canvas.brush import Brush, Stroke, StrokePoint

LINE = [StrokePoint(20 + 4 * i, 40) for i in range(40)]


def _document(side: int = 512) -> tuple[Document, SurfaceId]:
    document = Document.new(side, side)
    return document, SurfaceId(document.structure.layers[0].id)


def _painted(brush: Brush, points: list[StrokePoint], side: int = 512) -> tuple[Document, np.ndarray, list[Bounds]]:
    document, surface = _document(side)
    edit = document.begin("stroke")
    stroke = Stroke(brush, edit, surface)
    changed = [stroke.extend(point) for point in points]
    edit.commit()
    return document, composite(document, Bounds.at(0, 0, 512, 512)), changed


@pytest.mark.parametrize("opacity", [0.25, 0.5, 1.0])
def test_a_stroke_never_covers_more_than_its_opacity(opacity: float) -> None:
    _, planes, _ = _painted(Brush(size=30, opacity=opacity, smoothing=0), LINE + LINE[::-1])
    assert planes[3].max() == pytest.approx(opacity * 65535, abs=2)


def test_flow_builds_up_within_a_stroke() -> None:
    _, once, _ = _painted(Brush(size=30, flow=0.2, spacing=1.0, smoothing=0), LINE)
    _, twice, _ = _painted(Brush(size=30, flow=0.2, spacing=0.1, smoothing=0), LINE)
    assert 0.1 * 65535 < once[3].max() < twice[3].max()


def test_the_line_is_even_however_often_the_pen_reports() -> None:
    _, fine, _ = _painted(Brush(size=24, hardness=1, smoothing=0), LINE)
    _, coarse, _ = _painted(Brush(size=24, hardness=1, smoothing=0), [LINE[0], LINE[-1]])
    assert np.abs(fine.astype(int) - coarse.astype(int)).max() < 0.02 * 65535


def test_no_seam_shows_where_tiles_meet() -> None:
    points = [StrokePoint(x, 256.0) for x in range(200, 320, 3)]
    _, planes, _ = _painted(Brush(size=60, hardness=1, smoothing=0), points)
    assert planes[3][250:262, 235:280].min() == 65535


def test_the_eraser_takes_away_what_was_there() -> None:
    document, surface = _document()
    for brush in (Brush(size=80, smoothing=0), Brush(size=40, hardness=1, eraser=True, smoothing=0)):
        with document.edit("stroke") as edit:
            Stroke(brush, edit, surface).extend(StrokePoint(100, 100))
    planes = composite(document, Bounds.at(0, 0, 200, 200))
    assert planes[3][100, 100] == 0
    assert planes[3][100, 70] > 0


def test_undo_takes_a_whole_stroke_back_and_redo_brings_it_again() -> None:
    document, planes, _ = _painted(Brush(size=30), LINE)
    assert document.undo() == "stroke"
    assert not composite(document, Bounds.at(0, 0, 512, 512)).any()
    document.redo()
    assert np.array_equal(composite(document, Bounds.at(0, 0, 512, 512)), planes)


def test_what_a_dab_touches_does_not_grow_with_the_document() -> None:
    brush = Brush(size=100, hardness=0.2, smoothing=0)
    small, _, changed_small = _painted(brush, LINE, 512)
    large, _, changed_large = _painted(brush, LINE, 16384)
    assert changed_small == changed_large
    surface = SurfaceId(small.structure.layers[0].id), SurfaceId(large.structure.layers[0].id)
    assert len(small.surface(surface[0])) == len(large.surface(surface[1]))


def test_the_changed_rectangle_holds_every_changed_pixel() -> None:
    document, surface = _document()
    edit = document.begin("stroke")
    stroke = Stroke(Brush(size=37, hardness=0.3), edit, surface)
    before = composite(document, Bounds.at(0, 0, 512, 512))
    for point in LINE:
        bounds = stroke.extend(point)
        after = composite(document, Bounds.at(0, 0, 512, 512))
        rows, columns = np.nonzero((before != after).any(0))
        if len(rows):
            assert bounds.left <= columns.min() and columns.max() < bounds.right
            assert bounds.top <= rows.min() and rows.max() < bounds.bottom
        before = after
    edit.commit()


def test_pressure_makes_the_line_thinner() -> None:
    _, light, _ = _painted(Brush(size=60, hardness=1, smoothing=0), [StrokePoint(p.x, p.y, 0.3) for p in LINE])
    _, heavy, _ = _painted(Brush(size=60, hardness=1, smoothing=0), LINE)
    assert (light[3] > 0).sum() < 0.5 * (heavy[3] > 0).sum()
