"""Which part of a document is seen, how large and how turned: pan, zoom to a point, rotate, fit. No Qt."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from sfumato.geometry import Affine, Bounds, Size

SMALLEST_ZOOM, LARGEST_ZOOM = 1 / 64, 64.0


@dataclass(frozen=True)
class Viewport:
    """`size` of the widget in device pixels; `zoom` device pixels for each document pixel; `degrees` clockwise; `centre` is the
    document point in the middle of the widget."""

    size: Size
    zoom: float = 1.0
    degrees: float = 0.0
    centre: tuple[float, float] = (0.0, 0.0)

    @property
    def to_screen(self) -> Affine:
        """Document pixels to device pixels."""
        to_middle = Affine.shift(self.size.width / 2, self.size.height / 2)
        from_centre = Affine.shift(-self.centre[0], -self.centre[1])
        return to_middle @ Affine.turn(self.degrees) @ Affine.scale(self.zoom, self.zoom) @ from_centre

    @property
    def to_document(self) -> Affine:
        """Device pixels to document pixels."""
        return self.to_screen.inverse()

    @property
    def level(self) -> int:
        """The mip level to draw from: the smallest that has at least one of its pixels for each device pixel."""
        return max(0, math.floor(-math.log2(self.zoom) + 1e-9))

    def seen(self) -> Bounds:
        """The document pixels that may be seen: a rectangle around the widget's corners."""
        return self.to_document.bounds(Bounds(0, 0, self.size.width, self.size.height))

    def resized(self, size: Size) -> Viewport:
        """Another size of widget; what is in the middle stays there."""
        return replace(self, size=size)

    def panned(self, dx: float, dy: float) -> Viewport:
        """The document follows the hand by (dx, dy) device pixels."""
        x, y = self.to_document(self.size.width / 2 - dx, self.size.height / 2 - dy)
        return replace(self, centre=(x, y))

    def zoomed(self, factor: float, x: float, y: float) -> Viewport:
        """Larger by `factor`, around the device pixel (x, y): what is under it stays under it."""
        return self._around(x, y, zoom=min(max(self.zoom * factor, SMALLEST_ZOOM), LARGEST_ZOOM))

    def turned(self, degrees: float, x: float, y: float) -> Viewport:
        """Turned clockwise by `degrees` around the device pixel (x, y)."""
        return self._around(x, y, degrees=(self.degrees + degrees) % 360)

    def fitted(self, what: Bounds, margin: int = 24) -> Viewport:
        """All of `what` is seen, upright, as large as it goes (at most 1:1 for what is smaller than the widget)."""
        room = max(1, self.size.width - 2 * margin), max(1, self.size.height - 2 * margin)
        zoom = min(room[0] / max(1, what.width), room[1] / max(1, what.height))
        centre = ((what.left + what.right) / 2, (what.top + what.bottom) / 2)
        return Viewport(self.size, min(max(zoom, SMALLEST_ZOOM), LARGEST_ZOOM), 0.0, centre)

    def _around(self, x: float, y: float, **changes: float) -> Viewport:
        held = self.to_document(x, y)
        changed = replace(self, **changes)  # type: ignore[arg-type]
        now = changed.to_document(x, y)
        return replace(changed, centre=(changed.centre[0] + held[0] - now[0], changed.centre[1] + held[1] - now[1]))
