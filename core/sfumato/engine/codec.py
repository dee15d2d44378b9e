"""Pictures to latents and back: what VAE nodes call. Whole or in tiles, with cancel before every block and every tile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from sfumato.engine.cancel import cancellable
from sfumato.engine.handles import VaeHandle
from sfumato.engine.tiling import tiled
from sfumato.errors import BadValueError

if TYPE_CHECKING:
    from sfumato.engine.services import Services
    from sfumato.progress import Progress


def decode(services: Services, vae: VaeHandle, samples: torch.Tensor, progress: Progress) -> torch.Tensor:
    """LATENT samples [B,c,h,w] (unscaled) -> IMAGE float32 [B,H,W,3] in 0..1 on the CPU."""
    if samples.dim() != 4 or samples.shape[1] != vae.codec.channels:
        raise BadValueError(
            f"a latent of shape {list(samples.shape)} does not fit the VAE {vae.name!r}, which has {vae.codec.channels} channels",
            "samples",
            "Use the VAE that belongs to the model that made the latent.",
        )
    device = services.residency.device.device
    with services.residency.use(vae.weights, progress=progress) as (module,), cancellable(vae.codec.blocks(module), progress):
        with torch.inference_mode():
            parts = []
            for number, one in enumerate(samples):
                progress.step("decoding", number, len(samples))
                parts.append(_picture(vae.codec.decode(module, one[None].to(device, vae.dtype))))
            progress.step("decoding", len(samples), len(samples))
    return torch.cat(parts).clone()


def encode(services: Services, vae: VaeHandle, pixels: torch.Tensor, progress: Progress) -> torch.Tensor:
    """IMAGE [B,H,W,3+] in 0..1 -> LATENT samples float32 [B,c,h,w] (unscaled) on the CPU. Odd edges are cropped evenly."""
    device = services.residency.device.device
    prepared = _pixels(pixels, vae.codec.downscale)
    with services.residency.use(vae.weights, progress=progress) as (module,), cancellable(vae.codec.blocks(module), progress):
        with torch.inference_mode():
            parts = []
            for number, one in enumerate(prepared):
                progress.step("encoding", number, len(prepared))
                parts.append(vae.codec.encode(module, one[None].to(device, vae.dtype)).float().cpu())
    return torch.cat(parts).clone()


def decode_tiled(services: Services, vae: VaeHandle, samples: torch.Tensor, tile: int, overlap: int, progress: Progress) -> torch.Tensor:
    """As `decode`, in tiles of `tile` picture pixels that share `overlap`."""
    device, down = services.residency.device.device, vae.codec.downscale
    size, shared = max(8, tile // down), max(1, overlap // down)
    with services.residency.use(vae.weights, progress=progress) as (module,), cancellable(vae.codec.blocks(module), progress):

        def work(part: torch.Tensor) -> torch.Tensor:
            return vae.codec.decode(module, part.to(device, vae.dtype))

        with torch.inference_mode():
            parts = [
                tiled(work, one[None], size, shared, down, lambda n, total: progress.step("decoding tiles", n, total)) for one in samples
            ]
    return torch.cat([_picture(part) for part in parts]).clone()


def encode_tiled(services: Services, vae: VaeHandle, pixels: torch.Tensor, tile: int, overlap: int, progress: Progress) -> torch.Tensor:
    """As `encode`, in tiles of `tile` picture pixels that share `overlap`. Tiles lie on the latent's grid."""
    device, down = services.residency.device.device, vae.codec.downscale
    prepared = _pixels(pixels, down)
    size, shared = max(64, tile // down * down), overlap // down * down
    with services.residency.use(vae.weights, progress=progress) as (module,), cancellable(vae.codec.blocks(module), progress):

        def work(part: torch.Tensor) -> torch.Tensor:
            return vae.codec.encode(module, functional.pixel_shuffle(part, down).to(device, vae.dtype))

        with torch.inference_mode():
            # Folded so that one place of the grid is one latent pixel: tiles then cannot fall between latents.
            parts = [
                tiled(
                    work,
                    functional.pixel_unshuffle(one[None], down),
                    size // down,
                    shared // down,
                    1,
                    lambda n, total: progress.step("encoding tiles", n, total),
                )
                for one in prepared
            ]
    return torch.cat(parts).clone()


def _picture(pixels: torch.Tensor) -> torch.Tensor:
    """[B,3,H,W] about -1..1 -> IMAGE [B,H,W,3] in 0..1."""
    return (pixels.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu()


def _pixels(image: torch.Tensor, multiple: int) -> torch.Tensor:
    """IMAGE -> [B,3,H,W] in -1..1, cropped around the middle to a multiple of `multiple`."""
    height, width = (side // multiple * multiple for side in image.shape[1:3])
    if height == 0 or width == 0:
        raise BadValueError(
            f"a picture of {image.shape[2]}x{image.shape[1]} is smaller than {multiple}x{multiple}", "pixels", "Enlarge it first."
        )
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    cropped = image[:, top : top + height, left : left + width, :3]
    return cropped.float().permute(0, 3, 1, 2) * 2 - 1
