"""Enlarging pictures with an upscaler: a tile at a time, with smaller tiles when memory runs out."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch.nn import functional

from sfumato.engine.devices import main_memory
from sfumato.engine.ladder import FULL, SMALLER_TILES, UNLOADED_OTHERS, climb
from sfumato.engine.protocols import Upscaler
from sfumato.engine.services import Services
from sfumato.engine.tiling import tiled
from sfumato.errors import MemoryExhaustedError
from sfumato.progress import Progress

TILE = 512
"""Side of a tile, in pixels of the small picture."""
OVERLAP = 32
"""Pixels that neighbouring tiles share."""
LEAST_TILE = 64


def enlarged(services: Services, upscaler: Upscaler, image: torch.Tensor, progress: Progress, tile: int = TILE) -> torch.Tensor:
    """IMAGE [B,H,W,C] -> IMAGE [B,H*scale,W*scale,C], float32 in 0..1 on the CPU.

    The network sees red, green and blue; an alpha channel is enlarged by bicubic interpolation. When memory runs out, the whole
    batch is begun again with tiles of half the size, at last with all other weights unloaded. Raises MemoryExhaustedError if the
    result cannot fit or none of this suffices, CancelledError before any tile.
    """
    _refuse_too_large(image, upscaler.scale)

    def work(size: int) -> torch.Tensor:
        return _batch(services, upscaler, image, progress, size)

    def work_alone(size: int) -> torch.Tensor:
        services.residency.unload()
        return work(size)

    sizes = _tile_sizes(max(image.shape[1:3]), tile, upscaler.cuts_itself)
    attempts = [(SMALLER_TILES if number else FULL, partial(work, size)) for number, size in enumerate(sizes)]
    attempts.append((UNLOADED_OTHERS, partial(work_alone, sizes[-1])))
    remedy = "Close other programs that use this device, use a smaller upscaler, or run on the CPU."
    return climb(services, attempts, f"to enlarge a picture in tiles of {sizes[-1]} pixels", remedy)


def _tile_sizes(side: int, tile: int, whole_only: bool) -> list[int]:
    """The sizes of tiles to try: halved until LEAST_TILE; only one that holds the picture's longer `side` if `whole_only`."""
    if whole_only:
        return [side]
    sizes = [min(side, tile)]
    while sizes[-1] > LEAST_TILE:
        sizes.append(max(LEAST_TILE, sizes[-1] // 2))
    return sizes


def _batch(services: Services, upscaler: Upscaler, image: torch.Tensor, progress: Progress, tile: int) -> torch.Tensor:
    with services.residency.use(upscaler.weights, progress=progress) as (module,), torch.inference_mode():

        def work(pixels: torch.Tensor) -> torch.Tensor:
            return upscaler(module, pixels.to(services.device))

        def picture(number: int, pixels: torch.Tensor) -> torch.Tensor:
            def report(done: int, total: int) -> None:
                progress.step("upscaling", number * total + done, len(image) * total)

            return tiled(work, pixels, tile, OVERLAP, upscaler.scale, report)

        colours = [picture(number, one[..., :3].float().movedim(-1, 0)[None]) for number, one in enumerate(image)]
    whole = torch.cat(colours).clamp(0.0, 1.0).movedim(1, -1)
    if image.shape[-1] > 3:
        whole = torch.cat([whole, _alpha(image[..., 3:], upscaler.scale)], dim=-1)
    return whole.clone()  # outside inference mode: an ordinary tensor


def _alpha(alpha: torch.Tensor, scale: int) -> torch.Tensor:
    """[B,H,W,c] -> [B,H*scale,W*scale,c]"""
    channels = alpha.float().movedim(-1, 1)
    return functional.interpolate(channels, scale_factor=scale, mode="bicubic", align_corners=False).clamp(0.0, 1.0).movedim(1, -1)


def _refuse_too_large(image: torch.Tensor, scale: int) -> None:
    """The result and the sum it is blended from must fit into main memory: said before the work, not after minutes of it."""
    wanted = 2 * math.prod(image.shape) * scale**2 * 4
    if wanted > main_memory():
        height, width = image.shape[1] * scale, image.shape[2] * scale
        raise MemoryExhaustedError(
            f"{len(image)} pictures of {width}x{height} need {wanted / 2**30:.0f} GB of main memory",
            "upscaling",
            "Use a smaller factor, smaller pictures, or fewer at once.",
        )
