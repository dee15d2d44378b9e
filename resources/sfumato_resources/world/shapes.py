"""The outlines of the kinds of things, each as a stack of masks that are painted one over the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from PIL import Image, ImageDraw

Part = Literal["main", "dark", "darker", "brown", "eye"]
"""How a layer is coloured: the thing's own colour, two darker shades of it, wood, or a black eye."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One mask (mode L, 0 or 255) and the part of the thing that it shows."""

    part: Part
    mask: Image.Image


@dataclass(frozen=True, slots=True)
class Canvas:
    """Where a shape is drawn: the side of the square canvas, the shape's middle and its half extent, all in pixels."""

    side: int
    x: float
    y: float
    radius: float

    def box(self, left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        """A rectangle given in units of the radius from the middle, in pixels."""
        r = self.radius
        return self.x + left * r, self.y + top * r, self.x + right * r, self.y + bottom * r

    def points(self, *unit: tuple[float, float]) -> list[tuple[float, float]]:
        """Points given in units of the radius from the middle, in pixels."""
        return [(self.x + x * self.radius, self.y + y * self.radius) for x, y in unit]

    def layer(self, part: Part, paint: Callable[[ImageDraw.ImageDraw], None]) -> Layer:
        """A layer whose mask ``paint`` draws."""
        mask = Image.new("L", (self.side, self.side), 0)
        paint(ImageDraw.Draw(mask))
        return Layer(part, mask)


def layers_of(kind: str, canvas: Canvas) -> list[Layer]:
    """The layers of one kind of thing, the lowest first.

    :raises KeyError: the world has no such kind
    """
    return _SHAPES[kind](canvas)


def _circle(canvas: Canvas) -> list[Layer]:
    return [canvas.layer("main", lambda draw: draw.ellipse(canvas.box(-1, -1, 1, 1), fill=255))]


def _square(canvas: Canvas) -> list[Layer]:
    return [canvas.layer("main", lambda draw: draw.rectangle(canvas.box(-0.9, -0.9, 0.9, 0.9), fill=255))]


def _triangle(canvas: Canvas) -> list[Layer]:
    corners = canvas.points((0, -1), (1.05, 0.85), (-1.05, 0.85))
    return [canvas.layer("main", lambda draw: draw.polygon(corners, fill=255))]


def _star(canvas: Canvas) -> list[Layer]:
    tips = [(-math.pi / 2 + i * math.pi / 5, 1.12 if i % 2 == 0 else 0.48) for i in range(10)]
    corners = canvas.points(*((reach * math.cos(angle), reach * math.sin(angle)) for angle, reach in tips))
    return [canvas.layer("main", lambda draw: draw.polygon(corners, fill=255))]


def _heart(canvas: Canvas) -> list[Layer]:
    turns = [i / 72 * 2 * math.pi for i in range(72)]
    curve = [
        (
            16 * math.sin(t) ** 3 / 16.2,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 15.2,
        )
        for t in turns
    ]
    corners = canvas.points(*curve)
    return [canvas.layer("main", lambda draw: draw.polygon(corners, fill=255))]


def _ring(canvas: Canvas) -> list[Layer]:
    def paint(draw: ImageDraw.ImageDraw) -> None:
        draw.ellipse(canvas.box(-1, -1, 1, 1), fill=255)
        draw.ellipse(canvas.box(-0.55, -0.55, 0.55, 0.55), fill=0)

    return [canvas.layer("main", paint)]


def _moon(canvas: Canvas) -> list[Layer]:
    def paint(draw: ImageDraw.ImageDraw) -> None:
        draw.ellipse(canvas.box(-1, -1, 1, 1), fill=255)
        draw.ellipse(canvas.box(-0.34, -0.96, 1.38, 0.76), fill=0)

    return [canvas.layer("main", paint)]


def _house(canvas: Canvas) -> list[Layer]:
    def openings(draw: ImageDraw.ImageDraw) -> None:
        draw.rectangle(canvas.box(-0.2, 0.36, 0.2, 1), fill=255)
        draw.rectangle(canvas.box(0.36, 0.1, 0.62, 0.36), fill=255)
        draw.rectangle(canvas.box(-0.62, 0.1, -0.36, 0.36), fill=255)

    roof = canvas.points((0, -1), (1.05, -0.08), (-1.05, -0.08))
    return [
        canvas.layer("main", lambda draw: draw.rectangle(canvas.box(-0.78, -0.1, 0.78, 1), fill=255)),
        canvas.layer("dark", lambda draw: draw.polygon(roof, fill=255)),
        canvas.layer("darker", openings),
    ]


def _tree(canvas: Canvas) -> list[Layer]:
    def crown(draw: ImageDraw.ImageDraw) -> None:
        for x, y, size in ((0, -0.42, 0.56), (-0.42, 0.02, 0.46), (0.42, 0.02, 0.46)):
            draw.ellipse(canvas.box(x - size, y - size, x + size, y + size), fill=255)

    trunk = canvas.box(-0.16, 0.2, 0.16, 1)
    return [canvas.layer("brown", lambda draw: draw.rectangle(trunk, fill=255)), canvas.layer("main", crown)]


def _fish(canvas: Canvas) -> list[Layer]:
    def body(draw: ImageDraw.ImageDraw) -> None:
        draw.ellipse(canvas.box(-1, -0.62, 0.55, 0.62), fill=255)
        draw.polygon(canvas.points((0.32, 0), (1.05, -0.62), (1.05, 0.62)), fill=255)

    eye = canvas.box(-0.66, -0.28, -0.42, -0.04)
    return [canvas.layer("main", body), canvas.layer("eye", lambda draw: draw.ellipse(eye, fill=255))]


_SHAPES: Final[dict[str, Callable[[Canvas], list[Layer]]]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "ring": _ring,
    "house": _house,
    "tree": _tree,
    "moon": _moon,
    "fish": _fish,
}
