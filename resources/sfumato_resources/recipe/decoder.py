"""The VAE's decoder, trained once more on latents that are a little wrong, as those of a diffusion model always are.

The encoder stays as it is, so the latents keep their meaning. What the decoder learns is to paint a plain ground plain although its
latents are mottled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from sfumato_resources.recipe.data import Latents, Pictures, to_network
from sfumato_resources.recipe.lanes import Lane
from sfumato_resources.recipe.networks import read_vae
from sfumato_resources.recipe.presets import Preset
from sfumato_resources.recipe.training import Step, train

_CROP: Final = 10
_MOST_NOISE: Final = 0.3
_CLEAN_SHARE: Final = 0.2


def train_decoder(lane: Lane, preset: Preset, workdir: Path, folder: Path) -> None:
    """Train the decoder of ``workdir/vae`` and write the whole VAE into ``folder``."""
    latents = Latents(workdir / "latents", preset.chunks)
    pictures = Pictures(workdir / "pictures", preset.chunks)
    vae = read_vae(workdir / "vae").to(lane.device)
    parameters = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(True)

    def loss_of(step: Step) -> Tensor:
        parts, wanted = [], []
        for _ in range(step.batch):
            index = step.rng.randrange(len(latents))
            top, left = (step.rng.randint(0, latents.values.shape[-1] - _CROP) for _ in range(2))
            parts.append(latents.values[index, :, top : top + _CROP, left : left + _CROP].float())
            wanted.append(pictures[index][8 * top : 8 * (top + _CROP), 8 * left : 8 * (left + _CROP)])
        return _loss(lane, vae, mottled(torch.stack(parts), step.generator), to_network(wanted))

    train(lane, "decoder", preset.decoder, [(parameters, 1.0)], loss_of, folder)
    if lane.first:
        vae.save_pretrained(folder)
    lane.wait()


def mottled(latents: Tensor, generator: torch.Generator) -> Tensor:
    """Latents [B, 4, h, w] with noise of random strength up to 0.3, half of it smooth; a fifth of them stays clean."""
    count, _, height, width = latents.shape
    fine = torch.randn(latents.shape, generator=generator)
    coarse = torch.randn(count, 4, (height + 1) // 2, (width + 1) // 2, generator=generator)
    coarse = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    strength = _MOST_NOISE * torch.rand(count, 1, 1, 1, generator=generator)
    strength = torch.where(torch.rand(count, 1, 1, 1, generator=generator) < _CLEAN_SHARE, torch.zeros(()), strength)
    return latents + strength * (0.7 * fine + 0.9 * coarse)


def _loss(lane: Lane, vae: Any, latents: Tensor, wanted: Tensor) -> Tensor:
    inputs = (latents / vae.config.scaling_factor).contiguous(memory_format=torch.channels_last).to(lane.device)
    with lane.autocast():
        shown = vae.decode(inputs).sample
    error = shown.float() - wanted.to(lane.device)
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    loss: Tensor = error.abs().mean() + (error**2).mean() + 0.5 * edges
    return loss
