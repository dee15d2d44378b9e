"""Edges of pictures: Canny's detector (A Computational Approach to Edge Detection, 1986) as OpenCV has it, on float pictures."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch

from sfumato.errors import BadValueError

_UNITS = 4096.0
"""Gradients are handed to OpenCV as 16-bit integers; 4 (the most a picture in 0..1 can have) times this fits into them."""


def canny(image: torch.Tensor, *, low_threshold: float = 0.4, high_threshold: float = 0.8) -> torch.Tensor:
    """IMAGE [B,H,W,3+] -> IMAGE [B,H,W,3], 1 on edges and 0 elsewhere.

    Thresholds are lengths of the gradient: Sobel sums (1,2,1; not divided) after a blur of one pixel, of a picture in 0..1, so
    that a sharp step of height h has about 2 h. At every pixel the colour with the steepest gradient counts.
    Raises BadValueError if the low threshold is above the high one.
    """
    if low_threshold > high_threshold:
        raise BadValueError(
            f"the low threshold {low_threshold} is above the high one {high_threshold}", "low_threshold", "Swap them, or lower it."
        )
    found = [_edges(one[..., :3].float().cpu().numpy(), low_threshold, high_threshold) for one in image]
    return torch.from_numpy(np.stack(found))[..., None].expand(-1, -1, -1, 3).float().contiguous()


def _edges(pixels: Any, low: float, high: float) -> Any:
    """[H,W,C] float32 in 0..1 -> [H,W] bool."""
    smooth = cv2.GaussianBlur(np.clip(pixels, 0.0, 1.0), (5, 5), 1.0)
    across, down = (_whole(cv2.Sobel(smooth, cv2.CV_32F, *direction, ksize=3)) for direction in ((1, 0), (0, 1)))
    return cv2.Canny(across, down, low * _UNITS, high * _UNITS, L2gradient=True) > 0


def _whole(gradient: Any) -> Any:
    return np.rint(gradient * _UNITS).astype(np.int16)
