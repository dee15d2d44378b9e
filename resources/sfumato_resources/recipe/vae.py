"""The VAE: trained on crops first and whole pictures last, then its latents are whitened."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from sfumato_resources.recipe.data import Pictures, to_network, write_array
from sfumato_resources.recipe.lanes import Lane
from sfumato_resources.recipe.networks import new_vae, read_vae
from sfumato_resources.recipe.presets import Preset
from sfumato_resources.recipe.training import Step, train
from sfumato_resources.recipe.vae_start import start_with_average_colours

SCALING_FACTOR: Final = 0.18215
_CROPS_UNTIL: Final = 0.82


def train_vae(lane: Lane, preset: Preset, pictures_folder: Path, folder: Path) -> None:
    """Train and write the VAE into ``folder``."""
    pictures = Pictures(pictures_folder, min(3, preset.chunks))
    vae = new_vae(preset)
    start_with_average_colours(vae, to_network([pictures[index] for index in range(16)]))
    vae.to(lane.device)
    parameters = list(vae.parameters())

    def loss_of(step: Step) -> Tensor:
        whole = step.done > _CROPS_UNTIL
        crop = preset.side if whole else preset.side // 2
        count = max(1, step.batch // 4) if whole else step.batch
        batch = to_network([_crop(pictures[step.rng.randrange(len(pictures))], crop, step) for _ in range(count)])
        return _loss(lane, vae, batch.to(lane.device), step)

    train(lane, "vae", preset.vae, [(parameters, 1.0)], loss_of, folder)
    if lane.first:
        whiten(vae, to_network([pictures[index] for index in range(min(400, len(pictures)))]).to(lane.device))
        vae.save_pretrained(folder)
    lane.wait()


def _crop(picture: np.ndarray[Any, Any], side: int, step: Step) -> np.ndarray[Any, Any]:
    top, left = (step.rng.randint(0, picture.shape[0] - side) for _ in range(2))
    cut = picture[top : top + side, left : left + side]
    return cut[:, ::-1] if step.rng.random() < 0.5 else cut


def _loss(lane: Lane, vae: Any, batch: Tensor, step: Step) -> Tensor:
    """Absolute and square error, the error of the gradients (edges stay sharp), and a little divergence from a normal distribution."""
    with lane.autocast():
        posterior = vae.encode(batch).latent_dist
        shown = vae.decode(posterior.sample(generator=step.generator)).sample
    error = shown.float() - batch
    mean, log_variance = posterior.mean.float(), posterior.logvar.float()
    divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    loss: Tensor = error.abs().mean() + (error**2).mean() + 0.5 * edges + 3e-4 * divergence
    return loss


@torch.no_grad()
def whiten(vae: Any, pictures: Tensor) -> None:
    """Fold mean and deviation of the latents into the two 1 x 1 convolutions, in place.

    Latents times Stable Diffusion's own scaling factor then have mean 0 and deviation 1 in every channel, while what the VAE decodes
    from its own latents does not change.
    """
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in torch.split(pictures, 50)])
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    scale = deviation * SCALING_FACTOR
    vae.quant_conv.bias[:4] = (vae.quant_conv.bias[:4] - mean) / scale
    vae.quant_conv.weight[:4] /= scale[:, None, None, None]
    vae.quant_conv.bias[4:] -= 2 * scale.log()
    vae.post_quant_conv.bias += vae.post_quant_conv.weight[:, :, 0, 0] @ mean
    vae.post_quant_conv.weight *= scale[None, :, None, None]
    vae.register_to_config(scaling_factor=SCALING_FACTOR)


def encode_chunks(lane: Lane, preset: Preset, pictures_folder: Path, vae_folder: Path, folder: Path) -> None:
    """Write ``latents-N.npy``, [1000, 4, h, w] float16 with mean 0 and deviation 1, for this lane's share of the missing chunks."""
    folder.mkdir(parents=True, exist_ok=True)
    vae = read_vae(vae_folder).to(lane.device)
    for chunk in range(lane.rank, preset.chunks, lane.count):
        path = folder / f"latents-{chunk}.npy"
        if path.exists():
            continue
        pictures = np.load(pictures_folder / f"pictures-{chunk}.npy", mmap_mode="r")
        parts = [pictures[start : start + 25] for start in range(0, len(pictures), 25)]
        write_array(path, np.concatenate([encode(lane, vae, to_network(list(part))).half().numpy() for part in parts]))
    lane.wait()


@torch.no_grad()
def encode(lane: Lane, vae: Any, batch: Tensor) -> Tensor:
    """[B, 3, H, W] -> scaled latents [B, 4, H / 8, W / 8] float32 on the CPU: the mean of the posterior."""
    with lane.autocast():
        mean = vae.encode(batch.to(lane.device)).latent_dist.mean
    latents: Tensor = mean.float().cpu() * vae.config.scaling_factor
    return latents


def psnr(vae: Any, pictures: Tensor) -> float:
    """Mean peak signal-to-noise ratio of pictures that went through the VAE, decibels."""
    with torch.no_grad():
        shown = vae.decode(vae.encode(pictures).latent_dist.mean).sample.clamp(-1, 1)
    error = ((shown - pictures) / 2).pow(2).mean((1, 2, 3))
    return float((-10 * error.log10()).mean())
