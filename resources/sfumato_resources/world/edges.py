"""An edge map of any picture: Canny's detector (A Computational Approach to Edge Detection, 1986), for colour pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BINOMIAL = np.array([1, 4, 6, 4, 1], np.float32) / 16
_NEIGHBOURS = ((0, 1), (1, 1), (1, 0), (1, -1))


def canny(image: NDArray[Any], low: float = 16.0, high: float = 32.0) -> NDArray[np.bool_]:
    """The edges of a picture.

    :param image: [H, W, 3] uint8 (or numbers in 0..255)
    :param low: gradient magnitude (central difference over two pixels, in levels of 0..255) above which a ridge may continue an edge
    :param high: magnitude above which a ridge starts one
    :returns: [H, W] bool. At every pixel the channel with the steepest gradient counts.
    """
    gx, gy, magnitude = _gradient(_smooth(np.asarray(image, np.float32)))
    ridge = _ridges(gx, gy, magnitude)
    return _hysteresis(ridge & (magnitude > low), ridge & (magnitude > high))


def _smooth(image: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = image.shape[:2]
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), "edge")
    rows = np.add.reduce([_BINOMIAL[i] * padded[i : i + height] for i in range(5)])
    smooth: NDArray[np.float32] = np.add.reduce([_BINOMIAL[i] * rows[:, i : i + width] for i in range(5)])
    return smooth


def _gradient(image: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), "edge")
    gx, gy = padded[1:-1, 2:] - padded[1:-1, :-2], padded[2:, 1:-1] - padded[:-2, 1:-1]
    magnitude = np.hypot(gx, gy)
    steepest = magnitude.argmax(-1)[..., None]
    return (
        np.take_along_axis(gx, steepest, -1)[..., 0],
        np.take_along_axis(gy, steepest, -1)[..., 0],
        magnitude.max(-1),
    )


def _ridges(gx: NDArray[Any], gy: NDArray[Any], magnitude: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels that are steepest along their own gradient's direction (four directions)."""
    height, width = magnitude.shape
    direction = np.round(np.arctan2(gy, gx) / (np.pi / 4)).astype(int) % 4
    padded = np.pad(magnitude, 1)
    keep = np.zeros((height, width), bool)
    for index, (dy, dx) in enumerate(_NEIGHBOURS):
        ahead = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        behind = padded[1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width]
        keep |= (direction == index) & (magnitude >= ahead) & (magnitude > behind)
    return keep


def _hysteresis(weak: NDArray[np.bool_], strong: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Weak ridges that hang together with strong ones."""
    height, width = weak.shape
    while True:
        padded = np.pad(strong, 1)
        near = np.zeros_like(weak)
        for y in range(3):
            for x in range(3):
                near |= padded[y : y + height, x : x + width]
        grown = strong | (weak & near)
        if np.array_equal(grown, strong):
            return strong
        strong = grown
