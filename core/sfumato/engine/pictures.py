"""Pictures from disk as IMAGE and MASK tensors, and room made around them."""

from __future__ import annotations

from typing import Any

import torch

from sfumato.images.reading import read_image


def load(folders: Any, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(IMAGE [1,H,W,3], MASK [1,H,W] that is 1 where the picture is transparent) of the picture called `name`."""
    pixels = torch.from_numpy(read_image(folders.picture(name), most_pixels=folders.how.most_megapixels * 1_000_000).copy())
    alpha = pixels[..., 3] if pixels.shape[-1] == 4 else torch.ones(pixels.shape[:2])
    return pixels[None, ..., :3].contiguous(), (1.0 - alpha)[None]


def load_channel(folders: Any, name: str, channel: str) -> torch.Tensor:
    """MASK [1,H,W]: one colour of a picture, or (`alpha`) where it is transparent."""
    image, transparent = load(folders, name)
    return transparent if channel == "alpha" else image[..., ("red", "green", "blue").index(channel)].contiguous()


def padded(image: torch.Tensor, left: int, top: int, right: int, bottom: int, feathering: int) -> tuple[torch.Tensor, torch.Tensor]:
    """IMAGE with a grey border and the MASK of it: 1 in the border, falling quadratically into the picture over `feathering`."""
    batch, height, width, channels = image.shape
    grown = torch.full((batch, height + top + bottom, width + left + right, channels), 0.5)
    grown[:, top : top + height, left : left + width] = image
    mask = torch.ones(1, grown.shape[1], grown.shape[2])
    mask[:, top : top + height, left : left + width] = _fade(height, width, (left, top, right, bottom), feathering)
    return grown, mask


def _fade(height: int, width: int, borders: tuple[int, int, int, int], feathering: int) -> torch.Tensor:
    """[height,width]: 1 at edges that have a border, 0 from `feathering` pixels on. Too small a picture has no room to fade."""
    if feathering <= 0 or feathering * 2 >= min(height, width):
        return torch.zeros(height, width)
    rows, columns = torch.arange(height, dtype=torch.float32)[:, None], torch.arange(width, dtype=torch.float32)[None, :]
    far = torch.full((height, width), float(max(height, width)))
    left, top, right, bottom = borders
    distances = [
        columns.expand(height, width) if left else far,
        rows.expand(height, width) if top else far,
        (width - columns).expand(height, width) if right else far,
        (height - rows).expand(height, width) if bottom else far,
    ]
    nearest = torch.stack(distances).amin(0)
    return ((feathering - nearest) / feathering).clamp(min=0) ** 2
