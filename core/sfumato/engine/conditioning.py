"""CONDITIONING made ready for a run: each entry on its device, its range as sigmas, its area and mask as a weight map.

The keys of an entry are ComfyUI's: `strength`, `area` (h, w, y, x in latent pixels, or ("percentage", ...) in parts of the
whole), `mask` with `mask_strength` and `set_area_to_bounds`, `start_percent`/`end_percent`, `control` with
`control_apply_to_uncond`, `pooled_output`, `concat_latent_image`/`concat_mask` (inpainting networks). Unknown keys are handed
to the family as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from sfumato.engine.handles import Control, LatentFormat
from sfumato.engine.model_sampling import ModelSampling

AREA_RAMP = 8
"""Width, in latent pixels, over which an area without a mask fades at edges that are not the picture's own."""


def steered_alike(positive: list[Any], negative: list[Any]) -> list[Any]:
    """`negative`, with the control nets of `positive` wherever those ask for it (`control_apply_to_uncond`) and it has none."""
    asked = [o["control"] for _, o in positive if o.get("control") is not None and o.get("control_apply_to_uncond")]
    if not asked:
        return negative
    return [[tensor, options if options.get("control") is not None else {**options, "control": asked[0]}] for tensor, options in negative]


@dataclass(frozen=True)
class Area:
    """A rectangle of the latent: rows y..y+h, columns x..x+w."""

    h: int
    w: int
    y: int
    x: int

    def cut(self, tensor: torch.Tensor) -> torch.Tensor:
        """The rectangle of [..., H, W]."""
        return tensor[..., self.y : self.y + self.h, self.x : self.x + self.w]


@dataclass(frozen=True)
class Entry:
    """One conditioning entry, ready. `context` [1,T,D]; active while `end_sigma <= sigma <= start_sigma`."""

    context: torch.Tensor
    start_sigma: float
    end_sigma: float
    area: Area | None
    weight: torch.Tensor | float
    """Its say at each place: a number, or [1 or B,1,h,w] (cut to the area)."""
    control: Control | None
    concat: torch.Tensor | None
    """[1 or B,c,h,w]: extra channels of an inpainting network (cut to the area)."""
    extra: Mapping[str, Any]

    def active(self, sigma: float) -> bool:
        return self.end_sigma <= sigma <= self.start_sigma


def prepare(
    conditioning: list[Any],
    sampling: ModelSampling,
    latent: torch.Tensor,
    latent_format: LatentFormat,
    in_channels: int,
    dtype: torch.dtype,
) -> list[Entry]:
    """The entries of a CONDITIONING for a run on `latent` [B,C,h,w] (scaled, on the run's device)."""
    return [_entry(tensor, options, sampling, latent, latent_format, in_channels, dtype) for tensor, options in conditioning]


def _entry(
    tensor: torch.Tensor,
    options: Mapping[str, Any],
    sampling: ModelSampling,
    latent: torch.Tensor,
    latent_format: LatentFormat,
    in_channels: int,
    dtype: torch.dtype,
) -> Entry:
    mask = _mask(options, latent)
    area = _area(options, mask, latent)
    concat = _concat(options, latent, latent_format, in_channels, dtype)
    return Entry(
        context=tensor.to(latent.device, dtype),
        start_sigma=sampling.percent_to_sigma(float(options.get("start_percent", 0.0))),
        end_sigma=sampling.percent_to_sigma(float(options.get("end_percent", 1.0))),
        area=area,
        weight=_weight(options, area, mask, latent),
        control=options.get("control"),
        concat=concat if concat is None or area is None else area.cut(concat),
        extra=options,
    )


def _mask(options: Mapping[str, Any], latent: torch.Tensor) -> torch.Tensor | None:
    """The entry's mask at the latent's size, [1 or B,1,h,w], or None."""
    mask = options.get("mask")
    if mask is None:
        return None
    flat = mask.to(latent.device, torch.float32).reshape(-1, 1, *mask.shape[-2:])
    return functional.interpolate(flat, size=tuple(latent.shape[-2:]), mode="bilinear", align_corners=False)


def _area(options: Mapping[str, Any], mask: torch.Tensor | None, latent: torch.Tensor) -> Area | None:
    height, width = latent.shape[-2:]
    area = options.get("area")
    if area is not None and area[0] == "percentage":
        h, w, y, x = area[1:]
        area = (max(1, round(h * height)), max(1, round(w * width)), round(y * height), round(x * width))
    if area is None and mask is not None and options.get("set_area_to_bounds"):
        area = _bounds(mask)
    if area is None:
        return None
    h, w, y, x = (int(part) for part in area)
    y, x = min(y, height - 1), min(x, width - 1)
    return Area(min(h, height - y), min(w, width - x), y, x)


def _bounds(mask: torch.Tensor) -> tuple[int, int, int, int] | None:
    rows, columns = (mask.amax(dim=(0, 1)) > 0).nonzero(as_tuple=True)
    if len(rows) == 0:
        return None
    y, x = int(rows.min()), int(columns.min())
    return max(8, int(rows.max()) - y + 1), max(8, int(columns.max()) - x + 1), y, x


def _weight(options: Mapping[str, Any], area: Area | None, mask: torch.Tensor | None, latent: torch.Tensor) -> torch.Tensor | float:
    strength = float(options.get("strength", 1.0))
    if mask is not None:
        weight = mask * (float(options.get("mask_strength", 1.0)) * strength)
        return area.cut(weight) if area else weight
    if area is None:
        return strength
    return _ramped(area, latent) * strength


def _ramped(area: Area, latent: torch.Tensor) -> torch.Tensor:
    """1 inside, falling linearly over AREA_RAMP pixels towards edges that have a neighbour to blend with."""
    height, width = latent.shape[-2:]
    weight = torch.ones(1, 1, area.h, area.w, device=latent.device)
    for depth in range(min(AREA_RAMP, area.h, area.w)):
        share = (depth + 1) / AREA_RAMP
        if area.y > 0:
            weight[..., depth, :] *= share
        if area.y + area.h < height:
            weight[..., area.h - 1 - depth, :] *= share
        if area.x > 0:
            weight[..., :, depth] *= share
        if area.x + area.w < width:
            weight[..., :, area.w - 1 - depth] *= share
    return weight


def _concat(
    options: Mapping[str, Any], latent: torch.Tensor, latent_format: LatentFormat, in_channels: int, dtype: torch.dtype
) -> torch.Tensor | None:
    """The extra channels of an inpainting network: mask (1 = paint here), then the masked picture's latent.

    Without a masked picture the whole is to be painted: mask 1, picture 0.
    """
    if in_channels <= latent.shape[1]:
        return None
    height, width = latent.shape[-2:]
    image = options.get("concat_latent_image")
    if image is None:
        empty = torch.zeros(1, in_channels - latent.shape[1], height, width, device=latent.device, dtype=dtype)
        if in_channels - latent.shape[1] == latent_format.channels + 1:
            empty[:, 0] = 1.0
        return empty
    picture = latent_format.into_model(image.to(latent.device, torch.float32))
    picture = functional.interpolate(picture, size=(height, width), mode="bilinear", align_corners=False)
    if in_channels - latent.shape[1] == latent_format.channels:
        return picture.to(dtype)
    mask = options["concat_mask"].to(latent.device, torch.float32)
    mask = functional.interpolate(mask.reshape(-1, 1, *mask.shape[-2:]), size=(height, width), mode="nearest")
    return torch.cat([mask.expand(picture.shape[0], -1, -1, -1), picture], dim=1).to(dtype)
