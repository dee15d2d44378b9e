"""The 2x upscaler: a compact Real-ESRGAN network (SRVGGNetCompact) trained on the world's pictures; spandrel reads its file.

Wang and others, Real-ESRGAN, 2021.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from safetensors.torch import save_file
from spandrel.architectures.Compact import Compact
from torch import Tensor

from sfumato_resources.recipe.lanes import Lane
from sfumato_resources.recipe.presets import Preset
from sfumato_resources.recipe.training import Step, train
from sfumato_resources.world.drawing import draw_array
from sfumato_resources.world.scenes import LORA_STYLES, STYLES, sample_scene

NAME: Final = "compact-2x"
_PICTURES: Final = 120
_FITTED_CROPS: Final = 160
_CROP: Final = 96
_FEATURES, _LAYERS = 64, 0


def train_upscaler(lane: Lane, preset: Preset, folder: Path) -> None:
    """Train and write ``compact-2x.safetensors`` into ``folder``."""
    rng = random.Random(f"upscaler {lane.rank}")
    scenes = [sample_scene(rng, (*STYLES, *LORA_STYLES)) for _ in range(_PICTURES // lane.count)]
    pictures = [draw_array(scene, index, 2 * preset.side) for index, scene in enumerate(scenes)]
    torch.manual_seed(4)
    network = Compact(num_in_ch=3, num_out_ch=3, num_feat=_FEATURES, num_conv=_LAYERS, upscale=2)
    fit_last_layer(network, pictures, random.Random("upscaler start"))
    network = network.to(lane.device, memory_format=torch.channels_last)

    def loss_of(step: Step) -> Tensor:
        crops = [_crop(pictures[step.rng.randrange(len(pictures))], step.rng) for _ in range(step.batch)]
        small = _tensor([degraded(crop, step.rng) for crop in crops]).to(lane.device)
        large = _tensor(crops).to(lane.device)
        with lane.autocast():
            error = network(small).float() - large
        loss: Tensor = error.abs().mean() + 2 * (error**2).mean()
        return loss

    train(lane, "upscaler", preset.upscaler, [(list(network.parameters()), 1.0)], loss_of, folder)
    if lane.first:
        tensors = {name: tensor.detach().half().cpu().contiguous() for name, tensor in network.state_dict().items()}
        save_file(tensors, folder / f"{NAME}.safetensors", metadata={"format": "pt"})
    lane.wait()


@torch.no_grad()
def fit_last_layer(network: Any, pictures: list[NDArray[np.uint8]], rng: random.Random) -> None:
    """Set the last convolution to the least-squares solution on what the layers before it (orthogonal, random) see.

    That alone beats bicubic interpolation, in seconds; training goes on from there.
    """
    torch.nn.init.orthogonal_(network.body[0].weight)
    products, wanted = torch.zeros(()), torch.zeros(())
    for _ in range(_FITTED_CROPS // 16):
        crops = [_busy_crop(pictures, rng) for _ in range(16)]
        small = _tensor([degraded(crop, rng) for crop in crops])
        features = small
        for layer in network.body[:-1]:
            features = layer(features)
        seen = torch.nn.functional.unfold(features, 3, padding=1).transpose(1, 2).flatten(0, 1)
        seen = torch.cat([seen, torch.ones(len(seen), 1)], 1)
        missing = _tensor(crops) - torch.nn.functional.interpolate(small, scale_factor=2, mode="nearest")
        targets = torch.nn.functional.pixel_unshuffle(missing, 2).permute(0, 2, 3, 1).reshape(-1, 12)
        products = products + (seen.T @ seen).double()
        wanted = wanted + (seen.T @ targets).double()
    ridge = 1e-5 * products.diagonal().mean() * torch.eye(len(products), dtype=torch.float64)
    solution = torch.linalg.solve(products + ridge, wanted).float()
    network.body[-1].weight.copy_(solution[:-1].T.reshape(network.body[-1].weight.shape))
    network.body[-1].bias.copy_(solution[-1])


def _busy_crop(pictures: list[NDArray[np.uint8]], rng: random.Random) -> NDArray[np.uint8]:
    """The busiest of four crops: plain grounds teach nothing."""
    return max((_crop(rng.choice(pictures), rng) for _ in range(4)), key=lambda crop: float(crop.std()))


def _crop(picture: NDArray[np.uint8], rng: random.Random) -> NDArray[np.uint8]:
    top, left = rng.randint(0, picture.shape[0] - _CROP), rng.randint(0, picture.shape[1] - _CROP)
    return picture[top : top + _CROP, left : left + _CROP]


def degraded(crop: NDArray[np.uint8], rng: random.Random) -> NDArray[np.uint8]:
    """Half the size, in one of the usual ways; sometimes a little blurred or noisy, as generated pictures are."""
    image = Image.fromarray(crop)
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0)))
    way = rng.choice((Image.Resampling.BOX, Image.Resampling.BOX, Image.Resampling.BICUBIC, Image.Resampling.BILINEAR))
    small = np.asarray(image.resize((crop.shape[1] // 2, crop.shape[0] // 2), way), np.float32)
    if rng.random() < 0.3:
        noise = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(1, 5), small.shape)
        small = np.clip(small + noise, 0, 255)
    return small.astype(np.uint8)


def _tensor(pictures: list[NDArray[Any]]) -> Tensor:
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    return batch.contiguous(memory_format=torch.channels_last)
