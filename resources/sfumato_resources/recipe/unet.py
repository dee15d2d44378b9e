"""The UNet: predicts the velocity of noised latents from their caption."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from sfumato_resources.recipe.data import Latents, training_caption
from sfumato_resources.recipe.diffusion import noised, token_ids
from sfumato_resources.recipe.lanes import Lane
from sfumato_resources.recipe.networks import new_unet, read_text_encoder, read_tokenizer, read_unet
from sfumato_resources.recipe.presets import Preset
from sfumato_resources.recipe.training import Step, train
from sfumato_resources.world.scenes import Scene

_THING_WEIGHT: Final = 2.5
_THING_WEIGHT_UNTIL: Final = 0.75


class Conditioner:
    """Captions -> hidden states of the frozen text encoder [B, L, width]."""

    def __init__(self, lane: Lane, tokenizer_folder: Path, text_folder: Path) -> None:
        self._lane = lane
        self._tokenizer = read_tokenizer(tokenizer_folder)
        self._encoder = read_text_encoder(text_folder).to(lane.device)

    @torch.no_grad()
    def __call__(self, captions: list[str], length: int = 77) -> Tensor:
        ids = token_ids(self._tokenizer, captions, length).to(self._lane.device)
        with self._lane.autocast():
            hidden: Tensor = self._encoder(input_ids=ids).last_hidden_state
        return hidden


def train_unet(lane: Lane, preset: Preset, workdir: Path, folder: Path, start_from: Path | None = None) -> None:
    """Train and write the UNet into ``folder``; ``start_from`` is a UNet to go on from."""
    latents = Latents(workdir / "latents", preset.chunks)
    condition = Conditioner(lane, workdir / "tokenizer", workdir / "text_encoder")
    unet = (read_unet(start_from).requires_grad_(True) if start_from else new_unet(preset)).to(lane.device)

    def loss_of(step: Step) -> Tensor:
        indices = [step.rng.randrange(len(latents)) for _ in range(step.batch)]
        scenes = [latents.scenes[index] for index in indices]
        noise = noised(latents.values[indices].float(), step.generator)
        hidden = condition([training_caption(scene, step.rng) for scene in scenes], _length(step.rng))
        emphasis = _THING_WEIGHT * max(0.0, 1 - step.done / _THING_WEIGHT_UNTIL)
        masks = torch.from_numpy(np.stack([thing_mask(scene, noise.latents.shape[-1]) for scene in scenes]))
        with lane.autocast():
            prediction = unet(noise.latents.to(lane.device), noise.timesteps.to(lane.device), hidden).sample
        return noise.loss(prediction.cpu(), 1 + emphasis * masks[:, None]) / (1 + 0.3 * emphasis)

    train(lane, "unet", preset.unet, [(list(unet.parameters()), 1.0)], loss_of, folder)
    if lane.first:
        unet.save_pretrained(folder)
    lane.wait()


def _length(rng: random.Random) -> int:
    """Most captions are short; the full length costs more."""
    return 40 if rng.random() < 0.75 else 77


def thing_mask(scene: Scene, side: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Where the things are, [side, side] of 0 and 1: their shapes are weighted higher at first, because grounds are learnt anyway."""
    middle = (np.arange(side) + 0.5) / side
    mask = np.zeros((side, side), bool)
    for thing in scene.things:
        reach = 1.12 * thing.radius + 0.03
        mask |= (abs(middle[None] - thing.x) < reach) & (abs(middle[:, None] - thing.y) < reach)
    return mask.astype(np.float32)
