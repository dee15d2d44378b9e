"""Small layered templates of every kind of thing: for each part of it, the share of every pixel that the part covers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato_resources.world.drawing import grown, union
from sfumato_resources.world.shapes import Canvas, layers_of

INK: Final = "ink"
PARTS: Final = ("main", "dark", "darker", "brown", INK)
"""What a sprite tells apart; eyes and outlines are both ink."""
_OVERSAMPLING = 4


@dataclass(frozen=True, slots=True)
class Sprite:
    """A template on a grid where the picture's side is ``side`` pixels.

    ``cover`` is [len(PARTS), m, m] float32 in 0..1; the thing's middle lies at (m / 2 + dx, m / 2 + dy) pixels.
    ``parts`` are the indices of the parts that it has.
    """

    kind: str
    radius: float
    outlined: bool
    cover: NDArray[np.float32]
    parts: tuple[int, ...]


def sprite(kind: str, radius: float, side: int, outlined: bool, dx: float = 0.0, dy: float = 0.0) -> Sprite:
    """A template of one kind.

    :param radius: half extent, as a fraction of the picture's side
    :param side: the side of the picture that the template is laid over, pixels
    :param dx: shift of the middle to the right, pixels (a fraction, for sub-pixel alignment); ``dy`` downwards
    """
    half = math.ceil(radius * side * 1.16) + 2
    k = _OVERSAMPLING
    canvas = Canvas(2 * half * k, (half + dx) * k, (half + dy) * k, radius * side * k)
    layers = layers_of(kind, canvas)
    owner = np.full((canvas.side, canvas.side), -1, np.int8)
    if outlined:
        owner[np.asarray(grown(union(layers), side * k)) > 127] = PARTS.index(INK)
    for layer in layers:
        part = INK if layer.part == "eye" else layer.part
        owner[np.asarray(layer.mask) > 127] = PARTS.index(part)
    shares = [_shrunk(owner == index, 2 * half) for index in range(len(PARTS))]
    present = tuple(index for index, share in enumerate(shares) if share.any())
    return Sprite(kind, radius, outlined, np.stack(shares), present)


def _shrunk(mask: NDArray[np.bool_], side: int) -> NDArray[np.float32]:
    image = Image.fromarray(mask.astype(np.float32))
    return np.asarray(image.resize((side, side), Image.Resampling.BOX), np.float32)
