"""Tile arithmetic: where tiles lie, and how their overlaps are mixed. Pure; it knows no network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Tile:
    """Rows y..y+h, columns x..x+w."""

    y: int
    x: int
    h: int
    w: int


def tiles(height: int, width: int, size: int, overlap: int) -> list[Tile]:
    """Tiles of `size` that cover `height` x `width` and share at least `overlap`. All have the same size; the last one of a
    row is moved back inside rather than cut to a sliver, because a network sees too little in a sliver."""
    return [Tile(y, x, min(size, height), min(size, width)) for y in _starts(height, size, overlap) for x in _starts(width, size, overlap)]


def _starts(length: int, size: int, overlap: int) -> list[int]:
    if length <= size:
        return [0]
    stride = max(1, size - overlap)
    count = -(-(length - size) // stride) + 1
    return [round(place * (length - size) / (count - 1)) for place in range(count)]


def tiled(
    work: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    size: int,
    overlap: int,
    scale: float,
    done: Callable[[int, int], None],
) -> torch.Tensor:
    """`work` on tiles of `x` [B,C,H,W], blended: [B,c,H*scale,W*scale] float32 on the CPU.

    `scale` is what `work` does to the size (8 to decode, 1/8 to encode). `done(n, total)` is called before each tile and
    after the last, and may raise. Weights fall linearly over the overlap, so that they add up to a constant.
    """
    places = tiles(x.shape[-2], x.shape[-1], size, overlap)
    total: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    for number, tile in enumerate(places):
        done(number, len(places))
        part = work(x[..., tile.y : tile.y + tile.h, tile.x : tile.x + tile.w]).float().cpu()
        if total is None or weights is None:
            height, width = round(x.shape[-2] * scale), round(x.shape[-1] * scale)
            total = torch.zeros(*part.shape[:2], height, width)
            weights = torch.zeros(1, 1, height, width)
        top, left = round(tile.y * scale), round(tile.x * scale)
        window = _window(part.shape[-2], part.shape[-1], max(1, round(overlap * scale)))
        total[..., top : top + part.shape[-2], left : left + part.shape[-1]] += part * window
        weights[..., top : top + part.shape[-2], left : left + part.shape[-1]] += window
    done(len(places), len(places))
    assert total is not None and weights is not None
    return total / weights


def _window(height: int, width: int, ramp: int) -> torch.Tensor:
    """Weights [height, width]: 1 in the middle, falling towards all four edges, never 0."""

    def fall(length: int) -> torch.Tensor:
        places = torch.arange(length, dtype=torch.float32)
        return torch.minimum(places + 1, length - places).div(ramp + 1).clamp(max=1.0)

    return fall(height)[:, None] * fall(width)[None, :]
