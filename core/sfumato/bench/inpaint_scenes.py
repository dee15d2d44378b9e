"""What the benchmark of inpainting works on: selections, gradients, and scenes of the embedded model's world with a hole to fill."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.images import to_8_bits

Pixels = NDArray[np.float32]
SIDE = 128
WORLD = {"sea": "sea background", "grass": "grass background", "sunset": "sunset background"}
"""Grounds that have a horizon or bands, and what is asked for where they are expanded."""


def random_selection(rng: np.random.Generator, number: int) -> Pixels:
    """[H,W]: rectangles, discs, rings, borders, single pixels, speckles, the whole picture; every other one soft."""
    height, width = (int(rng.integers(8, 97)) for _ in range(2))
    rows, columns = np.mgrid[:height, :width]
    y, x = int(rng.integers(height)), int(rng.integers(width))
    distance, radius = np.hypot(rows - y, columns - x), float(rng.uniform(1, 40))
    chosen = (
        (rows >= y) & (columns >= x),
        distance <= radius,
        (distance <= radius) & (distance >= radius / 2),
        (rows == 0) | (columns == width - 1),
        distance == 0,
        rng.random((height, width)) < 0.1,
        distance >= 0,
    )[number % 7] | (distance == 0)
    tones = rng.uniform(0.05, 1, chosen.shape) if number % 2 else 1.0
    return np.asarray(chosen * tones, np.float32)


def gradient(seed: int) -> Pixels:
    """[128,128,3]: smooth colours near grey with some structure and grain, well inside of what sRGB can show."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    turn = rng.uniform(0, 6, 6)
    light = 55 + 12 * np.sin(3 * x + turn[0]) * np.cos(2 * y + turn[1])
    lab = np.stack([light, 8 * np.cos(2 * x + turn[2]) + 3 * np.sin(y * 5 + turn[3]), 8 * np.sin(2 * y + 2 * x + turn[4])], -1)
    return _rgb(lab + rng.normal(0, 0.3, lab.shape))


def moved(picture: Pixels, shift: Sequence[float], ramp: float = 0.0) -> Pixels:
    """A picture with `shift` added in CIELAB, and its light falling by `ramp` from left to right."""
    import cv2

    lab = np.asarray(cv2.cvtColor(np.ascontiguousarray(picture, np.float32), cv2.COLOR_RGB2LAB), np.float32)
    fall = np.zeros_like(lab)
    fall[..., 0] = ramp * (0.5 - np.linspace(0, 1, picture.shape[1]))
    return _rgb(lab + np.array(shift, np.float32) + fall)


def _rgb(lab: Any) -> Pixels:
    import cv2

    return np.asarray(np.clip(cv2.cvtColor(np.asarray(lab, np.float32), cv2.COLOR_LAB2RGB), 0, 1), np.float32)


@cache
def _checker() -> Any:
    from sfumato_resources.world.checker import Checker

    return Checker()


class Case:
    """A scene with two things, of which one is left out: the hole is where it would be."""

    def __init__(self, rng: random.Random, ground: str | None = None) -> None:
        from sfumato_resources.world.scenes import sample_scene

        scene = sample_scene(rng, ("flat",), 1.0)
        self._scene = replace(scene, ground=ground) if ground else scene
        self._kept, self._wanted = scene.things

    @property
    def words(self) -> str:
        """What is asked for."""
        return f"a {self._wanted.colour} {self._wanted.kind}"

    def picture(self, seed: int) -> Pixels:
        """The scene without the thing that is asked for."""
        from sfumato_resources.world.drawing import draw

        return np.asarray(draw(replace(self._scene, things=(self._kept,)), seed), np.float32) / np.float32(255)

    def mask(self) -> Pixels:
        """[128,128]: a rectangle around the thing's place."""
        mask = np.zeros((SIDE, SIDE), np.float32)
        left, top, right, bottom = (round(side * SIDE) for side in self._box())
        mask[top:bottom, left:right] = 1
        return mask

    def _box(self) -> tuple[float, float, float, float]:
        x, y, reach = self._wanted.x, self._wanted.y, self._wanted.radius * 1.35
        return max(0.0, x - reach), max(0.0, y - reach), min(1.0, x + reach), min(1.0, y + reach)

    def is_found(self, picture: Pixels) -> bool:
        """Whether the judge sees the thing in the hole."""
        from sfumato_resources.world.questions import find_object

        return find_object(_image(picture), self._wanted.kind, self._wanted.colour, self._box(), _checker()) is not None

    @staticmethod
    def ground_at_the_end(picture: Pixels) -> str:
        """The ground of the last 128 columns."""
        return str(_checker().ground_of(_image(picture[:, -SIDE:])))


def put_cases(count: int) -> list[Case]:
    """The same cases every time."""
    rng = random.Random(1)
    return [Case(rng) for _ in range(count)]


def _image(picture: Pixels) -> Any:
    from PIL import Image

    return Image.fromarray(to_8_bits(picture))
