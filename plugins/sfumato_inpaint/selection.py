"""Selections: arrays float32 [H,W] in 0..1, 1 = may change; grown, feathered and measured in document pixels.

Distances are exact Euclidean ones, between pixel centres, so that a circle grows to a circle.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sfumato.errors import BadValueError
from sfumato.geometry import Bounds

Selection: TypeAlias = NDArray[np.float32]
Edge: TypeAlias = Literal["inward", "centred", "outward"]


def threshold(mask: NDArray[Any], value: float = 0.5) -> Selection:
    """1 where `mask` is above `value`, 0 elsewhere."""
    return (np.asarray(mask) > value).astype(np.float32)


def grow(mask: NDArray[Any], pixels: float) -> Selection:
    """Larger by `pixels` on every side, or smaller if it is negative; soft tones travel with the nearest pixel's.

    Beyond the document's border there is neither selection nor its opposite: a selection that touches the border keeps touching it.
    """
    mask = np.asarray(mask, np.float32)
    if pixels == 0:
        return mask.copy()
    if pixels < 0:
        return 1 - grow(1 - mask, -pixels)
    solid = mask >= 1
    if not (mask > 0).any():
        return mask.copy()
    source = solid if solid.any() else mask > 0
    distance, nearest = ndimage.distance_transform_edt(~source, return_indices=True)
    spread = np.where(distance <= pixels, mask[tuple(nearest)], 0)
    return np.asarray(np.maximum(mask, spread), np.float32)


def feather(mask: NDArray[Any], pixels: float, edge: Edge = "inward") -> Selection:
    """A soft edge `pixels` wide around where `mask` crosses 0.5.

    `inward`: 1 falls to 0 wholly within the selection, nothing outside is touched. `centred`: half of the edge lies on either side.
    `outward`: all of the selection stays 1. Cubic (smoothstep), so that neither end shows a crease.
    """
    hard = np.asarray(mask) > 0.5
    if pixels <= 0 or hard.all() or not hard.any():
        return hard.astype(np.float32)
    signed = ndimage.distance_transform_edt(hard) - ndimage.distance_transform_edt(~hard)
    signed += np.where(hard, -0.5, 0.5)  # the edge itself lies half-way between two pixels
    shift = {"inward": 0.0, "centred": 0.5, "outward": 1.0}[edge]
    share = np.clip(signed / pixels + shift, 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)


def fill_holes(mask: NDArray[Any]) -> Selection:
    """Holes (places that cannot be reached from the border) selected as well."""
    mask = np.asarray(mask, np.float32)
    inside = ndimage.binary_fill_holes(mask > 0.5) & ~(mask > 0.5)
    return np.where(inside, 1, mask).astype(np.float32)


def bounds_of(mask: NDArray[Any]) -> Bounds:
    """The smallest rectangle with all that is above 0; makes no temporary of the mask's size. Raises BadValueError if there is nothing."""
    rows = np.flatnonzero(mask.max(axis=1) > 0)
    if not len(rows):
        raise BadValueError("the selection is empty", "mask", "Select what is to change.")
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[top:bottom].max(axis=0) > 0)
    return Bounds(int(columns[0]), top, int(columns[-1]) + 1, bottom)


def check_size(mask: NDArray[Any], image: NDArray[Any]) -> None:
    """Raises BadValueError if a mask [H,W] is not as large as the picture [H,W,C]."""
    if mask.shape[:2] != image.shape[:2]:
        what = f"the mask is {mask.shape[1]}x{mask.shape[0]}, the picture {image.shape[1]}x{image.shape[0]}"
        raise BadValueError(what, "mask", "Make the mask as large as the picture.")
