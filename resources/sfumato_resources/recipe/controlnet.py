"""ControlNets on the finished UNet: one that follows edges, one that follows depth.

Zhang, Rao, Agrawala, Adding Conditional Control to Text-to-Image Diffusion Models, 2023.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato_resources.recipe.data import Latents, Pictures, training_caption
from sfumato_resources.recipe.diffusion import noised
from sfumato_resources.recipe.lanes import Lane
from sfumato_resources.recipe.networks import new_controlnet, read_unet
from sfumato_resources.recipe.presets import Preset
from sfumato_resources.recipe.training import Step, train
from sfumato_resources.recipe.unet import Conditioner
from sfumato_resources.world.depth import depth_map
from sfumato_resources.world.edges import canny
from sfumato_resources.world.scenes import Scene

ControlKind = Literal["canny", "depth"]
_EMPTY_CAPTIONS = 0.3


def control_picture(kind: ControlKind, picture: NDArray[np.uint8], scene: Scene, rng: random.Random) -> NDArray[np.float32]:
    """[side, side] in 0..1: the edges of a picture (thresholds vary, as users' do) or the depth of its scene."""
    if kind == "depth":
        return np.asarray(depth_map(scene, picture.shape[0]) / 255, np.float32)
    low = rng.uniform(10, 24)
    return canny(picture, low, 2 * low).astype(np.float32)


def train_controlnet(lane: Lane, preset: Preset, workdir: Path, folder: Path, kind: ControlKind) -> None:
    """Train and write a ControlNet into ``folder``."""
    latents = Latents(workdir / "latents", preset.chunks)
    pictures = Pictures(workdir / "pictures", preset.chunks)
    condition = Conditioner(lane, workdir / "tokenizer", workdir / "text_encoder")
    unet = read_unet(workdir / "unet").to(lane.device)
    controlnet = new_controlnet(unet).to(lane.device)

    def loss_of(step: Step) -> Tensor:
        indices = [step.rng.randrange(len(latents)) for _ in range(step.batch)]
        scenes = [latents.scenes[index] for index in indices]
        hidden = condition([training_caption(scene, step.rng, _EMPTY_CAPTIONS) for scene in scenes], 40)
        noise = noised(latents.values[indices].float(), step.generator, low=400, high=1000)
        pairs = zip(indices, scenes, strict=True)
        controls = [control_picture(kind, pictures[index], scene, step.rng) for index, scene in pairs]
        control = torch.from_numpy(np.stack(controls))[:, None].repeat(1, 3, 1, 1).to(lane.device)
        return noise.loss(_controlled(lane, unet, controlnet, noise, hidden, control).cpu())

    train(lane, f"control {kind}", preset.controlnet, _groups(controlnet), loss_of, folder)
    if lane.first:
        controlnet.save_pretrained(folder)
    lane.wait()


def _controlled(lane: Lane, unet: Any, controlnet: Any, noise: Any, hidden: Tensor, control: Tensor) -> Tensor:
    latents, timesteps = noise.latents.to(lane.device), noise.timesteps.to(lane.device)
    control = control.contiguous(memory_format=torch.channels_last)
    with lane.autocast():
        down, middle = controlnet(latents, timesteps, encoder_hidden_states=hidden, controlnet_cond=control, return_dict=False)
        prediction: Tensor = unet(
            latents, timesteps, hidden, down_block_additional_residuals=down, mid_block_additional_residual=middle
        ).sample
    return prediction


def _groups(controlnet: Any) -> list[tuple[list[torch.nn.Parameter], float]]:
    """What starts empty (the picture embedding and the zero convolutions) learns four times as fast as what is copied."""
    parts = controlnet.controlnet_cond_embedding, controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block
    new = [parameter for part in parts for parameter in part.parameters()]
    known = {id(parameter) for parameter in new}
    copied = [parameter for parameter in controlnet.parameters() if id(parameter) not in known]
    return [(new, 4.0), (copied, 1.0)]
