"""Prefills: something plausible in a hole before it is painted. Each is `(image [B,H,W,3], mask [B,H,W]) -> image`, pictures as tensors.

Where the mask is 0 the picture keeps its very numbers; a soft mask mixes.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from scipy import ndimage

from sfumato_inpaint import patchmatch
from sfumato_inpaint.colour import Floats
from sfumato_inpaint.compositing import composite
from sfumato_inpaint.laplace import continued
from sfumato_inpaint.selection import check_size

_RADIUS = 5
"""Pixels around each pixel that OpenCV's methods look at."""


def original(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What is there."""
    return image


def neutral(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Middle grey, the latent mean of most models."""
    return _each(image, mask, lambda pixels, hole: np.full_like(pixels, 0.5))


def blur(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Weighted means of what is kept, as wide as the hole is deep there."""
    return _each(image, mask, blurred)


def harmonic(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The smoothest continuation (Laplace's equation)."""
    return _each(image, mask, lambda pixels, hole: continued(pixels, hole > 0))


def patches(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Textures and edges continued with patches of the rest."""
    return _each(image, mask, patchmatch.completed)


def telea(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Fast marching (Telea 2004), by OpenCV; it works in 8 bits."""
    return _each(image, mask, lambda pixels, hole: _opencv(pixels, hole, cv2.INPAINT_TELEA))


def navier_stokes(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Isophotes continued (Bertalmio et al. 2001), by OpenCV; it works in 8 bits."""
    return _each(image, mask, lambda pixels, hole: _opencv(pixels, hole, cv2.INPAINT_NS))


def blurred(pixels: Floats, hole: Floats) -> Floats:
    """[H,W,C]: normalised Gaussian means of the kept pixels, ever wider where narrower ones see none."""
    weight = (hole <= 0).astype(np.float32)
    result, done = np.full_like(pixels, 0.5), np.zeros(hole.shape, bool)
    for sigma in (2.0 * 2**step for step in range(10)):
        seen = ndimage.gaussian_filter(weight, sigma, truncate=3)
        now = (seen > 0.02) & ~done
        for channel in range(pixels.shape[-1]) if now.any() else ():
            mean = ndimage.gaussian_filter(pixels[..., channel] * weight, sigma, truncate=3)
            result[now, channel] = mean[now] / seen[now]
        done |= now
        if done.all():
            break
    return result


def _opencv(pixels: Floats, hole: Floats, method: int) -> Floats:
    eight = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    done = cv2.inpaint(eight, (hole > 0).astype(np.uint8), _RADIUS, method)
    return np.asarray(done / 255, np.float32)


def _each(image: torch.Tensor, mask: torch.Tensor, fill: Callable[[Floats, Floats], Floats]) -> torch.Tensor:
    """`fill` for every picture of the batch, laid in where its mask is above 0."""
    holes = mask.reshape(-1, *mask.shape[-2:]).numpy()
    filled = []
    for place, pixels in enumerate(image[..., :3].numpy()):
        hole = holes[place % len(holes)]
        check_size(hole, pixels)
        filled.append(composite(pixels, fill(np.ascontiguousarray(pixels), hole), hole))
    return torch.from_numpy(np.stack(filled))
