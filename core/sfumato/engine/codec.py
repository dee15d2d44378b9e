"""Pictures to latents and back: what VAE nodes call. Whole or in tiles, with cancel before every block and every tile.

Where memory does not suffice for the whole, tiles of falling size are tried (the rung "tiled VAE" of the ladder).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from sfumato.engine.cancel import cancellable
from sfumato.engine.handles import VaeHandle
from sfumato.engine.ladder import FULL, TILED_VAE, climb
from sfumato.engine.tiling import tiled
from sfumato.errors import BadValueError

if TYPE_CHECKING:
    from sfumato.engine.services import Services
    from sfumato.progress import Progress

LADDER_TILES = (512, 256, 128)
"""Sides of the tiles, in picture pixels, that are tried one after the other when memory runs out."""
LADDER_OVERLAP = 64

Convert = Callable[[torch.Tensor], torch.Tensor]


def decode(services: Services, vae: VaeHandle, samples: torch.Tensor, progress: Progress) -> torch.Tensor:
    """LATENT samples [B,c,h,w] (unscaled) -> IMAGE float32 [B,H,W,3] in 0..1 on the CPU."""
    _check(samples, vae)
    whole = partial(_decode_whole, services, vae, samples, progress)
    side = max(samples.shape[-2:]) * vae.codec.downscale
    attempts = _attempts(services, whole, lambda tile: _decode_in_tiles(services, vae, samples, tile, LADDER_OVERLAP, progress), side)
    return climb(services, attempts, f"to decode {side} pixels, even in tiles", _REMEDY)


def encode(services: Services, vae: VaeHandle, pixels: torch.Tensor, progress: Progress) -> torch.Tensor:
    """IMAGE [B,H,W,C] in 0..1 -> LATENT samples float32 [B,c,h,w] (unscaled) on the CPU. Odd edges are cropped evenly."""
    prepared = _pixels(pixels, vae.codec.downscale)
    whole = partial(_encode_whole, services, vae, prepared, progress)
    side = max(prepared.shape[-2:])
    attempts = _attempts(services, whole, lambda tile: _encode_in_tiles(services, vae, prepared, tile, LADDER_OVERLAP, progress), side)
    return climb(services, attempts, f"to encode {side} pixels, even in tiles", _REMEDY)


def decode_tiled(services: Services, vae: VaeHandle, samples: torch.Tensor, tile: int, overlap: int, progress: Progress) -> torch.Tensor:
    """As `decode`, in tiles of `tile` picture pixels that share `overlap`."""
    _check(samples, vae)
    work = partial(_decode_in_tiles, services, vae, samples, tile, overlap, progress)
    return climb(services, [(FULL, work)], f"to decode in tiles of {tile}", _REMEDY)


def encode_tiled(services: Services, vae: VaeHandle, pixels: torch.Tensor, tile: int, overlap: int, progress: Progress) -> torch.Tensor:
    """As `encode`, in tiles of `tile` picture pixels that share `overlap`. Tiles lie on the latent's grid."""
    work = partial(_encode_in_tiles, services, vae, _pixels(pixels, vae.codec.downscale), tile, overlap, progress)
    return climb(services, [(FULL, work)], f"to encode in tiles of {tile}", _REMEDY)


_REMEDY = "Make the picture smaller, use smaller tiles, or close other programs."


def _attempts(
    services: Services, whole: Callable[[], torch.Tensor], in_tiles: Callable[[int], torch.Tensor], side: int
) -> Iterator[tuple[str, Callable[[], torch.Tensor]]]:
    if not services.tiled_vae or side <= LADDER_TILES[-1]:
        yield FULL, whole
    for tile in LADDER_TILES:
        if tile < side:
            yield TILED_VAE, partial(in_tiles, tile)


def _decode_whole(services: Services, vae: VaeHandle, samples: torch.Tensor, progress: Progress) -> torch.Tensor:
    with _decoder(services, vae, progress) as work:
        return _one_by_one(samples, lambda one: _picture(work(one)), "decoding", progress)


def _encode_whole(services: Services, vae: VaeHandle, prepared: torch.Tensor, progress: Progress) -> torch.Tensor:
    with _encoder(services, vae, progress) as work:
        return _one_by_one(prepared, lambda one: work(one).float().cpu(), "encoding", progress)


def _one_by_one(batch: torch.Tensor, work: Convert, what: str, progress: Progress) -> torch.Tensor:
    """`work` on each item of a batch: no more memory than one takes."""
    parts = []
    for number, one in enumerate(batch):
        progress.step(what, number, len(batch))
        parts.append(work(one[None]))
    progress.step(what, len(batch), len(batch))
    return torch.cat(parts)


def _decode_in_tiles(
    services: Services, vae: VaeHandle, samples: torch.Tensor, tile: int, overlap: int, progress: Progress
) -> torch.Tensor:
    down = vae.codec.downscale
    size, shared = max(8, tile // down), max(1, overlap // down)

    def done(number: int, total: int) -> None:
        progress.step("decoding tiles", number, total)

    with _decoder(services, vae, progress) as work:
        return torch.cat([_picture(tiled(work, one[None], size, shared, down, done)) for one in samples])


def _encode_in_tiles(
    services: Services, vae: VaeHandle, prepared: torch.Tensor, tile: int, overlap: int, progress: Progress
) -> torch.Tensor:
    down = vae.codec.downscale
    size, shared = max(8, tile // down), max(1, overlap // down)

    def done(number: int, total: int) -> None:
        progress.step("encoding tiles", number, total)

    with _encoder(services, vae, progress) as encoded:
        # Folded so that one place of the grid is one latent pixel: tiles then cannot fall between latents.
        def work(part: torch.Tensor) -> torch.Tensor:
            return encoded(functional.pixel_shuffle(part, down))

        return torch.cat([tiled(work, functional.pixel_unshuffle(one[None], down), size, shared, 1, done) for one in prepared])


@contextmanager
def _decoder(services: Services, vae: VaeHandle, progress: Progress) -> Iterator[Convert]:
    """The network that decodes, in use: latents [1,c,h,w] anywhere -> pixels [1,3,H,W]."""
    device = services.residency.device.device
    with _in_use(services, vae, progress) as module:
        yield _ordinary(lambda latents: vae.codec.decode(module, latents.to(device, vae.dtype).contiguous()))


@contextmanager
def _encoder(services: Services, vae: VaeHandle, progress: Progress) -> Iterator[Convert]:
    """The network that encodes, in use: pixels [1,3,H,W] anywhere -> latents [1,c,h,w]."""
    device = services.residency.device.device
    with _in_use(services, vae, progress) as module:
        yield _ordinary(lambda pixels: vae.codec.encode(module, pixels.to(device, vae.dtype)))


@contextmanager
def _in_use(services: Services, vae: VaeHandle, progress: Progress) -> Iterator[torch.nn.Module]:
    with services.residency.use(vae.weights, progress=progress) as (module,), cancellable(vae.codec.blocks(module), progress):
        yield module


def _ordinary(work: Convert) -> Convert:
    """`work` in inference mode, which is quickest; what leaves it is a tensor that strangers' nodes may do anything with."""

    def outside(given: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            found = work(given)
        return found.clone()

    return outside


def _check(samples: torch.Tensor, vae: VaeHandle) -> None:
    if samples.dim() != 4 or samples.shape[1] != vae.codec.channels:
        raise BadValueError(
            f"a latent of shape {list(samples.shape)} does not fit the VAE {vae.name!r}, which has {vae.codec.channels} channels",
            "samples",
            "Use the VAE that belongs to the model that made the latent.",
        )


def _picture(pixels: torch.Tensor) -> torch.Tensor:
    """[B,3,H,W] about -1..1 -> IMAGE [B,H,W,3] in 0..1."""
    return (pixels.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).contiguous().cpu()


def _pixels(image: torch.Tensor, multiple: int) -> torch.Tensor:
    """IMAGE -> [B,3,H,W] in -1..1, cropped around the middle to a multiple of `multiple`; grey becomes colour, alpha is left out."""
    height, width = (side // multiple * multiple for side in image.shape[1:3])
    if height == 0 or width == 0:
        raise BadValueError(
            f"a picture of {image.shape[2]}x{image.shape[1]} is smaller than {multiple}x{multiple}", "pixels", "Enlarge it first."
        )
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    cropped = image[:, top : top + height, left : left + width, :3]
    coloured = cropped if cropped.shape[-1] == 3 else cropped[..., :1].expand(-1, -1, -1, 3)
    # In one order in memory, whatever order the picture came in: convolutions add up differently in another.
    return (coloured.float() * 2 - 1).permute(0, 3, 1, 2).contiguous()
