"""Pictures, masks and latents in other sizes, by the methods that workflows name."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image as PillowImage
from torch.nn import functional

from sfumato.errors import BadValueError

METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos", "bislerp")


def resized(x: torch.Tensor, width: int, height: int, method: str, crop: str = "disabled") -> torch.Tensor:
    """[B,C,H,W] float32 -> [B,C,height,width]. `crop` "center" first cuts to the new proportion."""
    if crop == "center":
        x = _cut_to_proportion(x, width, height)
    if tuple(x.shape[-2:]) == (height, width):
        return x
    if method == "lanczos":
        return _lanczos(x, width, height)
    if method == "bislerp":
        return bislerp(x, width, height)
    if method not in METHODS:
        raise BadValueError(f"unknown method {method!r}", "upscale_method", f"Use one of {', '.join(METHODS)}.")
    return functional.interpolate(x, size=(height, width), mode=method)


def _cut_to_proportion(x: torch.Tensor, width: int, height: int) -> torch.Tensor:
    have_h, have_w = x.shape[-2:]
    if have_w / have_h > width / height:
        cut = min(round((have_w - have_h * width / height) / 2), (have_w - 1) // 2)
        return x[..., :, cut : have_w - cut]
    cut = min(round((have_h - have_w * height / width) / 2), (have_h - 1) // 2)
    return x[..., cut : have_h - cut, :]


def _lanczos(x: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Pillow's Lanczos in 32-bit floats, a channel at a time: no rounding to 8 bits in between."""
    size = (width, height)
    planes = x.detach().cpu().float().numpy().reshape(-1, *x.shape[-2:])
    done = [np.asarray(PillowImage.fromarray(plane, "F").resize(size, PillowImage.Resampling.LANCZOS)) for plane in planes]
    return torch.from_numpy(np.stack(done)).reshape(*x.shape[:-2], height, width).to(x).clamp(0, 1)


def bislerp(x: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Spherical interpolation between neighbouring latent vectors, first along rows, then along columns.

    Linear interpolation would shorten vectors between two directions, and short latents decode grey.
    """
    along = _slerp_last(x.float(), width)
    return _slerp_last(along.transpose(-1, -2), height).transpose(-1, -2).to(x.dtype)


def _slerp_last(x: torch.Tensor, length: int) -> torch.Tensor:
    """[B,C,H,W] -> [B,C,H,length]: each new vector (over C) lies between its two nearest old ones."""
    places = ((torch.arange(length, device=x.device) + 0.5) * x.shape[-1] / length - 0.5).clamp(0, x.shape[-1] - 1)
    low = places.floor().long()
    high = (low + 1).clamp(max=x.shape[-1] - 1)
    return _slerp(x[..., low], x[..., high], (places - low).to(x))


def _slerp(a: torch.Tensor, b: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    length_a, length_b = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    unit_a, unit_b = a / length_a.clamp(min=1e-12), b / length_b.clamp(min=1e-12)
    cosine = (unit_a * unit_b).sum(1, keepdim=True).clamp(-1, 1)
    angle = torch.acos(cosine)
    sine = torch.sin(angle)
    turned = (torch.sin((1 - share) * angle) * unit_a + torch.sin(share * angle) * unit_b) / sine.clamp(min=1e-6)
    straight = a * (1 - share) + b * share
    result = turned * (length_a * (1 - share) + length_b * share)
    return torch.where(cosine.abs() > 1 - 1e-5, straight, result)
