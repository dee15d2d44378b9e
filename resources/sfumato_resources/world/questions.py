"""Simple questions about a picture, for tests: is there a red circle in this box? which style is it? does it follow these edges?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato_resources.world.benchmark import MINIMUM_FIT
from sfumato_resources.world.checker import Checker, Found
from sfumato_resources.world.colours import cielab
from sfumato_resources.world.drawing import draw
from sfumato_resources.world.edges import canny
from sfumato_resources.world.scenes import LORA_STYLES, STYLES, Scene

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) as fractions of the picture's sides."""

_STYLE_SIDE: Final = 64


def find_object(
    image: Image.Image,
    kind: str | None = None,
    colour: str | None = None,
    box: Box = (0.0, 0.0, 1.0, 1.0),
    checker: Checker | None = None,
) -> Found | None:
    """The most conspicuous thing whose middle lies in ``box`` and which is of the kind and colour asked for; None if there is none.

    Up to three things are looked at. The picture is taken as one whole picture of the world (square, or it is squeezed).
    """
    left, top, right, bottom = box
    for found in (checker or Checker()).read(image, count=3).things:
        inside = left <= found.x <= right and top <= found.y <= bottom
        if inside and found.fit >= MINIMUM_FIT and kind in (None, found.kind) and colour in (None, found.colour):
            return found
    return None


def ground_of(image: Image.Image, checker: Checker | None = None) -> str:
    """The name of the picture's ground."""
    return (checker or Checker()).ground_of(image)


def style_of(image: Image.Image, scene: Scene) -> str:
    """In which style a picture shows a scene: the base styles and those of the LoRAs, each drawn and compared."""
    distances = style_distances(image, scene)
    return min(distances, key=distances.__getitem__)


def style_distances(image: Image.Image, scene: Scene) -> dict[str, float]:
    """For every style, how far (mean CIELAB distance around the things) the picture is from the scene drawn in that style.

    Sizes within 12 % and shifts within 3 pixels of 64 are tried, because a caption does not fix them.
    """
    lab = _small_lab(image)
    return {style: _distance(lab, replace(scene, style=style)) for style in (*STYLES, *LORA_STYLES)}


def _distance(lab: NDArray[np.float32], scene: Scene) -> float:
    total = 0.0
    for index, thing in enumerate(scene.things):
        candidates = []
        for scale in (0.88, 0.94, 1.0, 1.06, 1.12):
            things = [replace(t, radius=t.radius * scale) if i == index else t for i, t in enumerate(scene.things)]
            drawing = _small_lab(draw(replace(scene, things=tuple(things)), seed=5, side=_STYLE_SIDE))
            reach = thing.radius * 1.3
            window = _window(thing.x, reach), _window(thing.y, reach)
            candidates.append(_best_shift(lab, drawing, window))
        total += min(candidates)
    return total / len(scene.things)


def _window(middle: float, reach: float) -> tuple[int, int]:
    start, end = int((middle - reach) * _STYLE_SIDE), int((middle + reach) * _STYLE_SIDE) + 1
    return max(3, start), min(_STYLE_SIDE - 3, end)


def _best_shift(lab: NDArray[np.float32], drawing: NDArray[np.float32], window: tuple[tuple[int, int], tuple[int, int]]) -> float:
    (left, right), (top, bottom) = window
    wanted = drawing[top:bottom, left:right]
    best = np.inf
    for dy in range(-3, 4):
        for dx in range(-3, 4):
            seen = lab[top + dy : bottom + dy, left + dx : right + dx]
            best = min(best, float(np.minimum(np.sqrt(((seen - wanted) ** 2).sum(-1)), 50).mean()))
    return best


def edge_agreement(image: Image.Image, edges: NDArray[Any], reach: int = 2) -> float:
    """How well a picture follows a control picture of edges: the harmonic mean of both directions, 0..1.

    An edge agrees when the other side has one within ``reach`` pixels.

    :param edges: [H, W], true or nonzero where an edge is wanted; the picture is resized to it
    """
    wanted = np.asarray(edges) > 0
    seen = canny(np.asarray(image.convert("RGB").resize((wanted.shape[1], wanted.shape[0]), Image.Resampling.BICUBIC)))
    if not wanted.any() or not seen.any():
        return float(wanted.any() == seen.any())
    found = float((wanted & _near(seen, reach)).sum() / wanted.sum())
    justified = float((seen & _near(wanted, reach)).sum() / seen.sum())
    return 2 * found * justified / max(found + justified, 1e-9)


def _near(edges: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    height, width = edges.shape
    padded = np.pad(edges, reach)
    size = 2 * reach + 1
    views = [padded[y : y + height, x : x + width] for y in range(size) for x in range(size)]
    return np.asarray(np.logical_or.reduce(views), bool)


def psnr(image: Image.Image, truth: Image.Image) -> float:
    """Peak signal-to-noise ratio of two RGB pictures of one size, decibels; infinite for equal ones."""
    first, second = (np.asarray(picture.convert("RGB"), np.float64) for picture in (image, truth))
    error = float(((first - second) ** 2).mean())
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def _small_lab(image: Image.Image) -> NDArray[np.float32]:
    return cielab(np.asarray(image.convert("RGB").resize((_STYLE_SIDE, _STYLE_SIDE), Image.Resampling.BOX)))
