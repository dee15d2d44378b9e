"""Pan, zoom, rotate and fit, as properties."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from sfumato.geometry import Bounds, Size
from sfumato_desktop.canvas.viewport import LARGEST_ZOOM, SMALLEST_ZOOM, Viewport

coordinates = st.floats(-5000, 5000)
viewports = st.builds(
    Viewport,
    st.builds(Size, st.integers(1, 4000), st.integers(1, 4000)),
    st.floats(SMALLEST_ZOOM, LARGEST_ZOOM),
    st.floats(0, 360),
    st.tuples(coordinates, coordinates),
)


def _near(a: tuple[float, float], b: tuple[float, float], zoom: float) -> bool:
    return math.dist(a, b) < 1e-6 * (1 + max(map(abs, (*a, *b)))) + 1e-3 / zoom


@given(viewports, coordinates, coordinates)
def test_there_and_back_is_the_same_place(viewport: Viewport, x: float, y: float) -> None:
    assert _near(viewport.to_document(*viewport.to_screen(x, y)), (x, y), viewport.zoom)


@given(viewports, st.floats(0.1, 10), st.floats(0, 4000), st.floats(0, 4000))
def test_what_is_under_the_pointer_stays_there_when_zooming(viewport: Viewport, factor: float, x: float, y: float) -> None:
    zoomed = viewport.zoomed(factor, x, y)
    assert SMALLEST_ZOOM <= zoomed.zoom <= LARGEST_ZOOM
    assert _near(zoomed.to_document(x, y), viewport.to_document(x, y), min(viewport.zoom, zoomed.zoom))


@given(viewports, st.floats(-360, 360), st.floats(0, 4000), st.floats(0, 4000))
def test_what_is_under_the_pointer_stays_there_when_turning(viewport: Viewport, degrees: float, x: float, y: float) -> None:
    assert _near(viewport.turned(degrees, x, y).to_document(x, y), viewport.to_document(x, y), viewport.zoom)


@given(viewports, st.floats(-500, 500), st.floats(-500, 500))
def test_the_document_follows_the_hand(viewport: Viewport, dx: float, dy: float) -> None:
    held = viewport.to_document(0, 0)
    moved = viewport.panned(dx, dy).to_screen(*held)
    assert math.dist(moved, (dx, dy)) < 1e-3 * (1 + viewport.zoom)


@given(viewports, st.integers(1, 16384), st.integers(1, 16384))
def test_fit_shows_all_of_it(viewport: Viewport, width: int, height: int) -> None:
    fitted = viewport.fitted(Bounds.at(0, 0, width, height), margin=0)
    if SMALLEST_ZOOM < fitted.zoom < LARGEST_ZOOM:
        left, top = fitted.to_screen(0, 0)
        right, bottom = fitted.to_screen(width, height)
        assert left >= -0.5 and top >= -0.5
        assert right <= viewport.size.width + 0.5 and bottom <= viewport.size.height + 0.5


def test_the_mip_level_is_never_coarser_than_the_screen() -> None:
    for zoom, level in ((4.0, 0), (1.0, 0), (0.75, 0), (0.5, 1), (0.49, 1), (0.25, 2), (1 / 64, 6)):
        assert Viewport(Size(10, 10), zoom).level == level
