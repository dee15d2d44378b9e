"""What a picture of the world shows, as frozen data, and how scenes are sampled from a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

Rgb = tuple[int, int, int]
Relation = Literal["left-right", "top-bottom"]

COLOURS: Final[dict[str, Rgb]] = {
    "red": (222, 38, 42),
    "orange": (245, 136, 24),
    "yellow": (250, 218, 40),
    "green": (38, 158, 60),
    "blue": (36, 84, 214),
    "purple": (128, 46, 168),
    "pink": (248, 142, 190),
    "white": (250, 250, 250),
}
KINDS: Final = ("circle", "square", "triangle", "star", "heart", "ring", "house", "tree", "moon", "fish")
PLAIN_GROUNDS: Final[dict[str, Rgb]] = {
    "white": (244, 244, 240),
    "black": (24, 24, 28),
    "gray": (140, 142, 146),
    "blue": (150, 196, 240),
    "green": (160, 216, 150),
    "yellow": (250, 238, 164),
    "pink": (250, 206, 216),
    "purple": (190, 164, 224),
}
SCENIC_GROUNDS: Final = ("sky", "sea", "grass", "night", "sunset")
GROUNDS: Final = (*PLAIN_GROUNDS, *SCENIC_GROUNDS)
STYLES: Final = ("flat", "outlined", "striped")
"""The styles that the base model knows."""
LORA_STYLES: Final = ("dotted", "neon")
"""The styles that were kept back: the base model has never seen them, each is taught by a LoRA."""
STYLE_WEIGHTS: Final = (0.6, 0.2, 0.2)
COLUMNS: Final = {"left": 0.27, "center": 0.5, "right": 0.73}
ROWS: Final = {"top": 0.27, "center": 0.5, "bottom": 0.73}
SIZES: Final = {"small": 0.13, "medium": 0.19, "large": 0.27}
INVISIBLE: Final = frozenset({("white", "white"), ("yellow", "yellow"), ("pink", "pink")})
"""Pairs (colour, ground) that are never drawn, because the thing would hardly be seen."""
PAIR_RADIUS: Final = 0.185


@dataclass(frozen=True, slots=True)
class Thing:
    """One object. ``x``, ``y`` (its middle) and ``radius`` (half its extent) are fractions of the picture's side, y downwards.

    ``column`` and ``row`` name its place when it stands alone; in a pair they are None, because the relation places it.
    """

    kind: str
    colour: str
    x: float
    y: float
    radius: float
    size: str = "medium"
    column: str | None = None
    row: str | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """A ground, a painting style and one or two things. In a pair the first is the left one, or the upper one."""

    ground: str
    style: str
    things: tuple[Thing, ...]
    relation: Relation | None = None


def sample_scene(rng: random.Random, styles: Sequence[str] = STYLES, pair_share: float = 0.5) -> Scene:
    """A random scene; the same state of ``rng`` gives the same scene.

    :param styles: styles to draw from; the base styles are weighted 3:1:1, any other choice evenly
    :param pair_share: probability of two things
    """
    ground = rng.choice(tuple(PLAIN_GROUNDS)) if rng.random() < 0.6 else rng.choice(SCENIC_GROUNDS)
    weights = STYLE_WEIGHTS if tuple(styles) == STYLES else None
    style = rng.choices(tuple(styles), weights)[0]
    if rng.random() < pair_share:
        relation: Relation = "left-right" if rng.random() < 2 / 3 else "top-bottom"
        return Scene(ground, style, _pair(rng, ground, relation), relation)
    return Scene(ground, style, (_single(rng, ground),))


def _single(rng: random.Random, ground: str) -> Thing:
    size = rng.choice(tuple(SIZES))
    column, row = ("center", "center") if rng.random() < 0.3 else (rng.choice(tuple(COLUMNS)), rng.choice(tuple(ROWS)))
    x, y = place_of(column, row, size)
    jitter = rng.uniform(-0.025, 0.025), rng.uniform(-0.025, 0.025)
    radius = SIZES[size] * rng.uniform(0.94, 1.06)
    return Thing(rng.choice(KINDS), _colour(rng, ground), x + jitter[0], y + jitter[1], radius, size, column, row)


def place_of(column: str, row: str, size: str = "medium") -> tuple[float, float]:
    """The nominal middle (x, y) of a thing at a named place; large things stand a little further in, to stay inside."""
    inwards = 0.8 if size == "large" else 1.0
    return 0.5 + (COLUMNS[column] - 0.5) * inwards, 0.5 + (ROWS[row] - 0.5) * inwards


def _pair(rng: random.Random, ground: str, relation: Relation) -> tuple[Thing, Thing]:
    along = rng.uniform(0.26, 0.3), rng.uniform(0.7, 0.74)
    across = rng.uniform(0.44, 0.56), rng.uniform(0.44, 0.56)
    looks = [(rng.choice(KINDS), _colour(rng, ground))]
    while len(looks) < 2:
        look = rng.choice(KINDS), _colour(rng, ground)
        if look != looks[0]:
            looks.append(look)
    things = []
    for (kind, colour), a, b in zip(looks, along, across, strict=True):
        x, y = (a, b) if relation == "left-right" else (b, a)
        things.append(Thing(kind, colour, x, y, PAIR_RADIUS * rng.uniform(0.92, 1.06)))
    return things[0], things[1]


def _colour(rng: random.Random, ground: str) -> str:
    return rng.choice([colour for colour in COLOURS if (colour, ground) not in INVISIBLE])
