"""How far two pictures are apart: bit by bit, in 8-bit samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Difference:
    """`differing` of `pixels` are not the same; the largest and mean difference of samples are on the scale 0..255.

    Pictures of two sizes differ everywhere.
    """

    pixels: int
    differing: int
    largest: int
    mean: float
    sizes: tuple[str, str]

    @property
    def is_identical(self) -> bool:
        """Whether all bits are the same."""
        return self.differing == 0

    def __str__(self) -> str:
        if self.is_identical:
            return f"identical: all {self.pixels:,} pixels are the same, bit for bit"
        if self.sizes[0] != self.sizes[1]:
            return f"not identical: the picture is {self.sizes[0]}, the new one {self.sizes[1]}"
        share = f"{self.differing:,} of {self.pixels:,} pixels differ"
        return f"not identical: {share}, by at most {self.largest} of 255, {self.mean:.3g} on average"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "identical": self.is_identical,
            "pixels": self.pixels,
            "differing_pixels": self.differing,
            "largest_difference": self.largest,
            "mean_difference": self.mean,
        }


def difference(old: NDArray[np.uint8], new: NDArray[np.uint8]) -> Difference:
    """Compare [H,W,3] or [H,W,4] with the same."""
    sizes = (_size(old), _size(new))
    pixels = old.shape[0] * old.shape[1]
    if old.shape != new.shape:
        return Difference(pixels, pixels, 255, 255.0, sizes)
    apart = np.abs(old.astype(np.int16) - new.astype(np.int16))
    return Difference(pixels, int(apart.any(axis=-1).sum()), int(apart.max()), float(apart.mean()), sizes)


def _size(picture: NDArray[np.uint8]) -> str:
    height, width, channels = picture.shape
    return f"{width}x{height}" + (" with transparency" if channels == 4 else "")
