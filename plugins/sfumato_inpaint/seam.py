"""Seams: how visible one is, and the correction that closes it from its two banks.

The correction is the membrane of Poisson image editing (Perez, Gangnet, Blake 2003; the harmonic form as in Farbman et al. 2009):
the colour difference along the ring, spread harmonically over the inside and added there. Gradients inside are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sfumato.errors import BadValueError
from sfumato_inpaint.colour import Floats, delta_e2000, lab_of
from sfumato_inpaint.laplace import continued
from sfumato_inpaint.selection import check_size

_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))


def fitted(generated: Floats, original: Floats, mask: NDArray[Any], strength: float = 1.0, width: float = 3.0) -> Floats:
    """`generated` [H,W,C] with a smooth correction that makes it meet `original` along the border of `mask` [H,W].

    `width`: over how many pixels of the ring the difference is averaged, so that texture does not streak into the inside. Where the
    mask is 0 the result is `original`. A mask over the whole picture has no ring: nothing is corrected.
    """
    check_size(mask, generated)
    check_size(mask, original)
    inside = np.asarray(mask) > 0
    if strength == 0 or not inside.any() or inside.all():
        return np.where(inside[..., None], generated, original).astype(np.float32)
    ring = ndimage.binary_dilation(inside, iterations=max(1, round(width))) & ~inside
    difference = _along_ring((original - generated).astype(np.float32), ring, width)
    membrane = continued(difference, inside)
    corrected = np.clip(generated + np.float32(strength) * membrane, 0, 1)
    return np.where(inside[..., None], corrected, original).astype(np.float32)


def _along_ring(difference: Floats, ring: NDArray[np.bool_], width: float) -> Floats:
    """`difference` [H,W,C] averaged over ring pixels only, with Gaussian weights; outliers (edges that moved) are cut down first."""
    weight = ring.astype(np.float32)
    total = ndimage.gaussian_filter(weight, width, mode="constant")
    planes = []
    for plane in np.moveaxis(difference, -1, 0):
        middle = float(np.median(plane[ring]))
        reach = 3 * 1.4826 * float(np.median(np.abs(plane[ring] - middle))) + 0.02
        tame = np.clip(plane, middle - reach, middle + reach)
        planes.append(ndimage.gaussian_filter(tame * weight, width, mode="constant") / np.maximum(total, 1e-6))
    return np.stack(planes, -1)


@dataclass(frozen=True)
class Seam:
    """What is seen across a seam: `places` [n,2] (row, column; the inner pixel), Delta E 2000 `differences` [n], and two figures."""

    places: NDArray[np.intp]
    differences: NDArray[np.float64]

    @property
    def mean(self) -> float:
        return float(self.differences.mean())

    @property
    def p95(self) -> float:
        """95 % of the seam is at most this visible."""
        return float(np.percentile(self.differences, 95))


def seam_of(image: Floats, mask: NDArray[Any]) -> Seam:
    """The colour differences between neighbours on either side of the border of `mask` [H,W] (> 0) in `image` [H,W,3], sRGB in 0..1.

    A pixel with several neighbours outside counts with their mean. Raises BadValueError if the mask has no border.
    """
    check_size(mask, image)
    inside = np.asarray(mask) > 0
    height, width = inside.shape
    lab = lab_of(image[..., :3])
    total, count = np.zeros(inside.shape), np.zeros(inside.shape)
    for dy, dx in _STEPS:
        here = (slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx)))
        there = (slice(max(0, dy), height + min(0, dy)), slice(max(0, dx), width + min(0, dx)))
        across = inside[here] & ~inside[there]
        total[here][across] += delta_e2000(lab[here][across], lab[there][across])
        count[here][across] += 1
    if not count.any():
        raise BadValueError("the selection has no border, so there is no seam", "mask", "Select a part of the picture.")
    return Seam(np.argwhere(count > 0), total[count > 0] / count[count > 0])


def heat_line(image: Floats, seam: Seam, full: float = 10.0, thickness: int = 1) -> Floats:
    """`image` [H,W,3] darkened, with the seam drawn over it from blue (0) over green and yellow to red (Delta E `full` and more)."""
    stops = np.array([[0.1, 0.3, 1.0], [0.1, 0.8, 0.4], [1.0, 0.9, 0.1], [1.0, 0.1, 0.1]], np.float32)
    place = np.clip(seam.differences / full, 0, 1) * (len(stops) - 1)
    tones = np.stack([np.interp(place, range(len(stops)), stops[:, channel]) for channel in range(3)], -1)
    drawn = (image[..., :3] * 0.5).astype(np.float32)
    for dy in range(-thickness, thickness + 1):
        for dx in range(-thickness, thickness + 1):
            rows = (seam.places[:, 0] + dy).clip(0, image.shape[0] - 1)
            columns = (seam.places[:, 1] + dx).clip(0, image.shape[1] - 1)
            drawn[rows, columns] = tones
    return drawn
