"""The depth map of a scene: bright is near, as depth ControlNets expect it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato_resources.world.drawing import SIDE, SUPERSAMPLING, union
from sfumato_resources.world.scenes import Scene
from sfumato_resources.world.shapes import Canvas, layers_of

_HORIZONS = {"sea": 0.4, "grass": 0.54, "sunset": 0.5}
_FAR, _GROUND_NEAR, _NEAREST, _FARTHEST = 10, 120, 240, 160


def depth_map(scene: Scene, side: int = SIDE) -> NDArray[np.uint8]:
    """The depth of a scene, [side, side] uint8: 255 is nearest.

    Skies and plain grounds are far; sea, grass and the sunset's plain come nearer towards the lower edge; things stand in front
    of their ground, large ones nearer than small ones.
    """
    fine = side * SUPERSAMPLING
    image = Image.fromarray(_ground(scene.ground, fine))
    for thing in sorted(scene.things, key=lambda thing: thing.radius):
        canvas = Canvas(fine, thing.x * fine, thing.y * fine, thing.radius * fine)
        near = _FARTHEST + (_NEAREST - _FARTHEST) * min(1.0, thing.radius / 0.28)
        image.paste(round(near), (0, 0), union(layers_of(thing.kind, canvas)))
    return np.asarray(image.resize((side, side), Image.Resampling.BOX))


def _ground(ground: str, fine: int) -> NDArray[np.uint8]:
    rows = np.full(fine, _FAR, np.uint8)
    if ground in _HORIZONS:
        horizon = int(fine * _HORIZONS[ground])
        rows[horizon:] = np.linspace(_FAR, _GROUND_NEAR, fine - horizon)
    return np.repeat(rows[:, None], fine, 1)
