"""Scene -> picture, drawn three times too large and averaged down, in the base styles and those of the LoRAs."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from sfumato_resources.world.colours import darker, mix
from sfumato_resources.world.grounds import paint_ground
from sfumato_resources.world.scenes import COLOURS, Rgb, Scene, Thing
from sfumato_resources.world.shapes import Canvas, Layer, layers_of

SIDE = 128
"""The side of the world's pictures, pixels: the embedded model's own size."""
SUPERSAMPLING = 3
OUTLINE: Rgb = (20, 18, 24)
BROWN: Rgb = (110, 70, 40)
EYE: Rgb = (20, 20, 26)
_WHITE: Rgb = (255, 255, 255)


def draw(scene: Scene, seed: int = 0, side: int = SIDE) -> Image.Image:
    """The picture of a scene, RGB, ``side`` x ``side``. The seed places clouds, stars and waves and jitters colours a little."""
    rng = random.Random(seed)
    fine = side * SUPERSAMPLING
    image = paint_ground(scene.ground, fine, rng)
    for thing in scene.things:
        paint_thing(image, thing, scene.style, rng)
    return image.resize((side, side), Image.Resampling.BOX)


def draw_array(scene: Scene, seed: int = 0, side: int = SIDE) -> NDArray[np.uint8]:
    """:func:`draw` as an array [side, side, 3] uint8."""
    return np.asarray(draw(scene, seed, side))


def paint_thing(image: Image.Image, thing: Thing, style: str, rng: random.Random) -> None:
    """Paint one thing onto a square image, in place."""
    fine = image.width
    radius = thing.radius * fine
    reach = math.ceil(radius * 1.3 + fine / 19)
    left, top = int(thing.x * fine) - reach, int(thing.y * fine) - reach
    canvas = Canvas(2 * reach, thing.x * fine - left, thing.y * fine - top, radius)
    layers = layers_of(thing.kind, canvas)
    red, green, blue = (min(255, max(0, channel + rng.randint(-6, 6))) for channel in COLOURS[thing.colour])
    brush = _Brush(image, (left, top), canvas, thing.colour, (red, green, blue))
    if style == "neon":
        brush.neon(layers)
        return
    if style == "outlined":
        brush.stain(grown(union(layers), fine), OUTLINE)
    for layer in layers:
        brush.layer(layer, style)


def union(layers: list[Layer]) -> Image.Image:
    """One mask that covers all layers."""
    whole = layers[0].mask
    for layer in layers[1:]:
        whole = ImageChops.lighter(whole, layer.mask)
    return whole


def grown(mask: Image.Image, fine: int) -> Image.Image:
    """The mask, grown by the width of an outline: a sixty-fourth of the picture's side ``fine``."""
    size = 2 * max(1, round(fine / 128)) + 1
    return mask.filter(ImageFilter.MaxFilter(size)).filter(ImageFilter.MaxFilter(size))


def stripe_light(colour: str, paint: Rgb) -> Rgb:
    """The lighter of the two colours of a striped thing."""
    return (176, 182, 196) if colour == "white" else mix(paint, _WHITE, 0.62)


class _Brush:
    """Paints masks of one thing at its place on a picture."""

    def __init__(self, image: Image.Image, corner: tuple[int, int], canvas: Canvas, colour: str, paint: Rgb) -> None:
        self.image = image
        self.corner = corner
        self.canvas = canvas
        self.colour = colour
        self.paint = paint

    def stain(self, mask: Image.Image, colour: Rgb) -> None:
        self.image.paste(colour, self.corner, mask)

    def layer(self, layer: Layer, style: str) -> None:
        shades = {"dark": darker(self.paint, 0.68), "darker": darker(self.paint, 0.45), "brown": BROWN, "eye": EYE}
        self.stain(layer.mask, shades.get(layer.part, self.paint))
        if layer.part == "main" and style == "striped":
            self._pattern(layer, self._stripes(), stripe_light(self.colour, self.paint))
        if layer.part == "main" and style == "dotted":
            self._pattern(layer, self._dots(), (90, 100, 130) if self.colour == "white" else _WHITE)

    def _pattern(self, layer: Layer, pattern: NDArray[Any], colour: Rgb) -> None:
        cut = np.where(pattern, np.asarray(layer.mask), 0).astype(np.uint8)
        self.stain(Image.fromarray(cut), colour)

    def _stripes(self) -> NDArray[np.bool_]:
        """Diagonal stripes, a sixteenth of the picture wide; their phase hangs on the thing's place."""
        columns = np.arange(self.canvas.side) + self.corner[0]
        rows = np.arange(self.canvas.side) + self.corner[1]
        phase = int(self.canvas.x + self.corner[0] + self.canvas.y + self.corner[1])
        diagonal = columns[None] + rows[:, None] + phase
        return np.asarray((diagonal // int(self.image.width * 0.062)) % 2 == 1)

    def _dots(self) -> NDArray[np.bool_]:
        """Round dots on a square grid that is centred on the thing."""
        period = self.image.width * 0.15
        rows, columns = np.mgrid[0 : self.canvas.side, 0 : self.canvas.side]
        dx = (columns - self.canvas.x + period / 2) % period - period / 2
        dy = (rows - self.canvas.y + period / 2) % period - period / 2
        return np.asarray(dx**2 + dy**2 < (period * 0.32) ** 2)

    def neon(self, layers: list[Layer]) -> None:
        """A dark inside, a bright tube around it, and a glow of its colour on the ground."""
        whole, fine = union(layers), self.image.width
        halo = grown(whole, fine).filter(ImageFilter.GaussianBlur(fine / 48))
        self.stain(halo.point(lambda value: int(value * 0.7)), self.paint)
        tube = ImageChops.subtract(grown(whole, fine), whole)
        self.stain(whole, darker(self.paint, 0.3))
        for layer in layers:
            if layer.part not in ("main", "dark"):
                self.stain(layer.mask, darker(self.paint, 0.6))
        self.stain(tube, mix(self.paint, _WHITE, 0.45))
