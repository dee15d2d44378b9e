"""Enlarging pictures with an upscaler: a tile at a time, with smaller tiles when memory runs out."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from sfumato.engine.devices import main_memory
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

    The network sees red, green and blue; an alpha channel is enlarged by bicubic interpolation. Raises MemoryExhaustedError if
    the result cannot fit or not even the smallest tile can be worked on, CancelledError before any tile.
    """
    _refuse_too_large(image, upscaler.scale)
    with services.residency.use(upscaler.weights, progress=progress) as (module,):
        work = _Work(services, upscaler, module, progress, len(image), max(image.shape[1:3]) if upscaler.cuts_itself else tile)
        with torch.inference_mode():
            colours = [work.picture(number, one[..., :3].float().movedim(-1, 0)[None]) for number, one in enumerate(image)]
    whole = torch.cat([*colours]).clamp(0.0, 1.0).movedim(1, -1)
    if image.shape[-1] > 3:
        whole = torch.cat([whole, _alpha(image[..., 3:], upscaler.scale)], dim=-1)
    return whole.clone()  # outside inference mode: an ordinary tensor


class _Work:
    """A batch being enlarged. The tile's size shrinks for good when memory runs out."""

    def __init__(self, services: Services, upscaler: Upscaler, module: nn.Module, progress: Progress, batch: int, tile: int) -> None:
        self._device, self._upscaler, self._module = services.device, upscaler, module
        self._progress, self._batch, self._tile = progress, batch, tile

    def picture(self, number: int, pixels: torch.Tensor) -> torch.Tensor:
        """[1,3,H,W] -> [1,3,H*scale,W*scale], the `number`th of the batch."""
        while True:
            try:
                return tiled(self._one_tile, pixels, self._tile, OVERLAP, self._upscaler.scale, self._reporter(number))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self._upscaler.cuts_itself or self._tile <= LEAST_TILE:
                    raise MemoryExhaustedError(
                        f"not even a tile of {self._tile} pixels fits into the memory of {self._device}",
                        self._upscaler.name,
                        "Close other programs that use this device, use a smaller upscaler, or run on the CPU.",
                    ) from error
            self._tile = max(LEAST_TILE, min(self._tile, max(pixels.shape[-2:])) // 2)
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _one_tile(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._upscaler(self._module, pixels.to(self._device))

    def _reporter(self, number: int) -> Callable[[int, int], None]:
        return lambda done, total: self._progress.step("upscaling", number * total + done, self._batch * total)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out: torch says so in a class on accelerators, but only in words on a CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in words or "can't allocate memory" in words or "not enough memory" in words
    )


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
