"""The plain and the scenic grounds that things stand on."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sfumato_resources.world.scenes import PLAIN_GROUNDS, Rgb


def paint_ground(ground: str, side: int, rng: random.Random) -> Image.Image:
    """A ground of ``side`` x ``side`` pixels, RGB; clouds, waves, blades and stars are placed by ``rng``.

    :raises KeyError: the world has no such ground
    """
    if ground in PLAIN_GROUNDS:
        red, green, blue = (min(255, max(0, channel + rng.randint(-5, 5))) for channel in PLAIN_GROUNDS[ground])
        return Image.new("RGB", (side, side), (red, green, blue))
    return _SCENIC[ground](side, rng)


def _gradient(side: int, rows: int, top: Rgb, bottom: Rgb) -> NDArray[np.uint8]:
    share = np.linspace(0, 1, rows)[:, None, None]
    colours: NDArray[np.uint8] = ((1 - share) * np.array(top) + share * np.array(bottom)).repeat(side, 1).astype(np.uint8)
    return colours


def _two_gradients(side: int, horizon: int, colours: tuple[Rgb, Rgb, Rgb, Rgb]) -> Image.Image:
    above = _gradient(side, horizon, colours[0], colours[1])
    below = _gradient(side, side - horizon, colours[2], colours[3])
    return Image.fromarray(np.concatenate([above, below]))


def _sky(side: int, rng: random.Random) -> Image.Image:
    image = Image.fromarray(_gradient(side, side, (92, 168, 240), (206, 232, 252)))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(2, 3)):
        x, y, r = rng.uniform(0, side), rng.uniform(0.08, 0.92) * side, rng.uniform(0.05, 0.075) * side
        for dx, dy, size in ((-1.1, 0.2, 0.8), (0.0, -0.15, 1.1), (1.1, 0.2, 0.8)):
            cx, cy, rx, ry = x + dx * r, y + dy * r, size * r, size * r * 0.8
            draw.ellipse((cx - rx, cy - ry, cx + rx, cy + ry), fill=(247, 250, 254))
    return image


def _sea(side: int, rng: random.Random) -> Image.Image:
    horizon = int(side * rng.uniform(0.36, 0.44))
    image = _two_gradients(side, horizon, ((176, 218, 246), (228, 242, 250), (44, 146, 190), (16, 84, 140)))
    draw = ImageDraw.Draw(image)
    phase = rng.uniform(0, 6)
    for wave in range(3):
        y = horizon + (wave + 0.6) * (side - horizon) / 3.2
        swell = [math.sin(x / side * 2 * math.pi * 3 + phase + wave * 1.7) for x in range(0, side + 1, 6)]
        crest = [(6.0 * i, y + height * side * 0.012) for i, height in enumerate(swell)]
        draw.line(crest, fill=(112, 190, 220), width=max(1, round(side / 96)))
    return image


def _grass(side: int, rng: random.Random) -> Image.Image:
    horizon = int(side * rng.uniform(0.5, 0.58))
    image = _two_gradients(side, horizon, ((150, 208, 246), (214, 236, 250), (118, 196, 78), (70, 150, 54)))
    draw = ImageDraw.Draw(image)
    height, lean = side * 14 / 384, side * 5 / 384
    for _ in range(9):
        x, y = rng.uniform(0, side), rng.uniform(horizon + height, side)
        for dx in (-lean, 0.0, lean):
            draw.line([(x, y), (x + dx, y - height)], fill=(52, 124, 44), width=max(1, round(side / 128)))
    return image


def _night(side: int, rng: random.Random) -> Image.Image:
    image = Image.fromarray(_gradient(side, side, (10, 12, 40), (44, 42, 92)))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(10, 14)):
        x, y, r = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(3, 5) * side / 384
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(250, 246, 204))
    return image


def _sunset(side: int, rng: random.Random) -> Image.Image:
    del rng  # a sunset has nothing that is placed by chance
    return _two_gradients(side, side // 2, ((104, 60, 140), (240, 120, 92), (240, 120, 92), (252, 206, 110)))


_SCENIC: Final[dict[str, Callable[[int, random.Random], Image.Image]]] = {
    "sky": _sky,
    "sea": _sea,
    "grass": _grass,
    "night": _night,
    "sunset": _sunset,
}
