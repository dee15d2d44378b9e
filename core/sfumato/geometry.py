"""Whole-pixel geometry: sizes, points, half-open rectangles, and affine maps of the plane."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sfumato.errors import BadValueError


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in pixels, not negative."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 0 or self.height < 0:
            raise BadValueError(f"a size of {self.width} x {self.height} cannot be", "size")

    @property
    def area(self) -> int:
        """Pixels."""
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class Point:
    """A pixel's corner: x to the right, y down."""

    x: int = 0
    y: int = 0

    def __add__(self, other: Point) -> Point:
        return Point(self.x + other.x, self.y + other.y)

    def __neg__(self) -> Point:
        return Point(-self.x, -self.y)


@dataclass(frozen=True, slots=True)
class Bounds:
    """A rectangle of pixels, `left <= x < right` and `top <= y < bottom`. All that hold no pixel are equal to `Bounds()`."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def __post_init__(self) -> None:
        if self.right <= self.left or self.bottom <= self.top:
            for name in ("left", "top", "right", "bottom"):
                object.__setattr__(self, name, 0)

    @classmethod
    def at(cls, x: int, y: int, width: int, height: int) -> Bounds:
        """The rectangle of a corner and a size."""
        return cls(x, y, x + width, y + height)

    @classmethod
    def of(cls, size: Size) -> Bounds:
        """The whole of a picture."""
        return cls(0, 0, size.width, size.height)

    @classmethod
    def around(cls, several: Iterable[Bounds]) -> Bounds:
        """The smallest rectangle that holds them all; empty for none."""
        result = cls()
        for each in several:
            result |= each
        return result

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def size(self) -> Size:
        return Size(self.width, self.height)

    @property
    def area(self) -> int:
        return self.width * self.height

    @property
    def corner(self) -> Point:
        """Left and top."""
        return Point(self.left, self.top)

    def __bool__(self) -> bool:
        return self.right > self.left

    def __or__(self, other: Bounds) -> Bounds:
        """The smallest rectangle that holds both."""
        if not (self and other):
            return self or other
        return Bounds(min(self.left, other.left), min(self.top, other.top), max(self.right, other.right), max(self.bottom, other.bottom))

    def __and__(self, other: Bounds) -> Bounds:
        """The pixels of both."""
        return Bounds(max(self.left, other.left), max(self.top, other.top), min(self.right, other.right), min(self.bottom, other.bottom))

    def __contains__(self, other: Bounds | Point) -> bool:
        if isinstance(other, Point):
            return self.left <= other.x < self.right and self.top <= other.y < self.bottom
        return self & other == other

    def grown(self, by: int) -> Bounds:
        """Larger by so many pixels on every side (smaller, if negative); an empty one stays empty."""
        return Bounds(self.left - by, self.top - by, self.right + by, self.bottom + by) if self else self

    def moved(self, by: Point) -> Bounds:
        """The same rectangle elsewhere; an empty one stays empty."""
        return Bounds(self.left + by.x, self.top + by.y, self.right + by.x, self.bottom + by.y) if self else self

    def clipped(self, size: Size) -> Bounds:
        """What lies in a picture of this size."""
        return self & Bounds.of(size)

    def snapped(self, step: int) -> Bounds:
        """The smallest rectangle around this one whose sides are multiples of `step`."""
        down = [-(-side // step) * step for side in (self.right, self.bottom)]
        return Bounds(self.left // step * step, self.top // step * step, *down)

    def scaled_down(self, level: int) -> Bounds:
        """The pixels of a picture halved `level` times that this rectangle touches."""
        step = 1 << level
        outer = self.snapped(step)
        return Bounds(outer.left // step, outer.top // step, outer.right // step, outer.bottom // step)

    def cells(self, step: int) -> Iterator[tuple[int, int]]:
        """(column, row) of every cell of a grid of `step` pixels that this rectangle touches, row by row."""
        for row in range(self.top // step, -(-self.bottom // step)):
            for column in range(self.left // step, -(-self.right // step)):
                yield column, row


ORIGIN = Point()
NOWHERE = Bounds()


@dataclass(frozen=True, slots=True)
class Affine:
    """(x, y) -> (xx x + xy y + dx, yx x + yy y + dy), in pixels; y points down."""

    xx: float = 1.0
    xy: float = 0.0
    dx: float = 0.0
    yx: float = 0.0
    yy: float = 1.0
    dy: float = 0.0

    @classmethod
    def shift(cls, dx: float, dy: float) -> Affine:
        return cls(dx=dx, dy=dy)

    @classmethod
    def scale(cls, x: float, y: float) -> Affine:
        return cls(xx=x, yy=y)

    @classmethod
    def turn(cls, degrees: float) -> Affine:
        """Clockwise on the screen, around (0, 0)."""
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        return cls(c, -s, 0.0, s, c, 0.0)

    def __call__(self, x: float, y: float) -> tuple[float, float]:
        return self.xx * x + self.xy * y + self.dx, self.yx * x + self.yy * y + self.dy

    def __matmul__(self, first: Affine) -> Affine:
        """The map that does `first`, then this one."""
        dx, dy = self(first.dx, first.dy)
        return Affine(
            self.xx * first.xx + self.xy * first.yx,
            self.xx * first.xy + self.xy * first.yy,
            dx,
            self.yx * first.xx + self.yy * first.yx,
            self.yx * first.xy + self.yy * first.yy,
            dy,
        )

    @property
    def determinant(self) -> float:
        """How much it enlarges areas; negative if it mirrors."""
        return self.xx * self.yy - self.xy * self.yx

    def inverse(self) -> Affine:
        """The way back. Raises BadValueError for a map that flattens the plane."""
        d = self.determinant
        if abs(d) < 1e-12:
            raise BadValueError("this transformation flattens the picture: there is no way back", "transform", "Use another scale.")
        turned = Affine(self.yy / d, -self.xy / d, 0.0, -self.yx / d, self.xx / d, 0.0)
        dx, dy = turned(-self.dx, -self.dy)
        return Affine(turned.xx, turned.xy, dx, turned.yx, turned.yy, dy)

    def bounds(self, of: Bounds) -> Bounds:
        """The smallest whole-pixel rectangle around the image of a rectangle."""
        if not of:
            return of
        corners = [self(x, y) for x in (of.left, of.right) for y in (of.top, of.bottom)]
        xs, ys = zip(*corners, strict=True)
        slack = 1e-6  # a turn by 90 degrees must not grow by a pixel because cos(90°) is not quite zero
        return Bounds(math.floor(min(xs) + slack), math.floor(min(ys) + slack), math.ceil(max(xs) - slack), math.ceil(max(ys) - slack))
