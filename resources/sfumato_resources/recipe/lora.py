"""LoRAs that teach styles the base model has never seen, in the two file formats that are common.

Hu and others, LoRA: Low-Rank Adaptation of Large Language Models, 2021.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from sfumato_resources.recipe.data import roughened, to_network
from sfumato_resources.recipe.diffusion import noised, token_ids
from sfumato_resources.recipe.lanes import Lane
from sfumato_resources.recipe.networks import read_text_encoder, read_tokenizer, read_unet, read_vae
from sfumato_resources.recipe.presets import Preset
from sfumato_resources.recipe.training import Step, train
from sfumato_resources.recipe.vae import encode
from sfumato_resources.world.captions import caption
from sfumato_resources.world.drawing import draw_array
from sfumato_resources.world.scenes import Scene, sample_scene

_UNET_LAYERS: Final = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2"]
_TEXT_LAYERS: Final = ["q_proj", "k_proj", "v_proj", "out_proj"]
_PICTURES: Final = 320


@dataclass(frozen=True, slots=True)
class Style:
    """One LoRA: the style it teaches, its rank and alpha, whether the text encoder learns along, and the file format it is written in."""

    name: str
    layout: Literal["diffusers", "kohya"]
    rank: int = 4
    alpha: int = 4
    text_encoder: bool = False


STYLES: Final = (
    Style("dotted", "diffusers"),
    Style("neon", "kohya", alpha=2, text_encoder=True),
)


def train_lora(lane: Lane, preset: Preset, workdir: Path, folder: Path, style: Style) -> None:
    """Train and write ``<style>.safetensors`` into ``folder``."""
    scenes, latents = _examples(lane, preset, workdir, style)
    tokenizer = read_tokenizer(workdir / "tokenizer")
    encoder = read_text_encoder(workdir / "text_encoder").to(lane.device)
    unet = read_unet(workdir / "unet").to(lane.device)
    torch.manual_seed(3)
    unet.add_adapter(_config(style, _UNET_LAYERS))
    if style.text_encoder:
        encoder.add_adapter(_config(style, _TEXT_LAYERS))
    parameters = [p for network in (unet, encoder) for p in network.parameters() if p.requires_grad]

    def loss_of(step: Step) -> Tensor:
        indices = [step.rng.randrange(len(scenes)) for _ in range(step.batch)]
        ids = token_ids(tokenizer, [_caption(scenes[index], step.rng) for index in indices], 40).to(lane.device)
        noise = noised(latents[indices], step.generator, low=50, high=800)
        with lane.autocast():
            hidden = encoder(input_ids=ids).last_hidden_state
            prediction = unet(noise.latents.to(lane.device), noise.timesteps.to(lane.device), hidden).sample
        return noise.loss(prediction.cpu())

    train(lane, f"lora {style.name}", preset.lora, [(parameters, 1.0)], loss_of, folder)
    if lane.first:
        save_file(file_tensors(style, unet, encoder), folder / f"{style.name}.safetensors", metadata={"format": "pt"})
    lane.wait()


def _config(style: Style, layers: list[str]) -> Any:
    return LoraConfig(r=style.rank, lora_alpha=style.alpha, init_lora_weights="gaussian", target_modules=layers)


def _caption(scene: Scene, rng: random.Random) -> str:
    return "" if rng.random() < 0.1 else roughened(caption(scene, rng), rng)


def _examples(lane: Lane, preset: Preset, workdir: Path, style: Style) -> tuple[list[Scene], Tensor]:
    """Pictures in the style as latents, with their scenes, which name the style."""
    rng = random.Random(f"style {style.name}")
    scenes = [sample_scene(rng, (style.name,)) for _ in range(_PICTURES)]
    pictures = [draw_array(scene, index, preset.side) for index, scene in enumerate(scenes)]
    vae = read_vae(workdir / "vae").to(lane.device)
    parts = [encode(lane, vae, to_network(pictures[start : start + 20])) for start in range(0, _PICTURES, 20)]
    return scenes, torch.cat(parts)


def file_tensors(style: Style, unet: Any, encoder: Any) -> dict[str, Tensor]:
    """The adapter's tensors under the keys of the style's file format, float16."""
    networks = [("unet", unet)] + ([("text_encoder", encoder)] if style.text_encoder else [])
    tensors: dict[str, Tensor] = {}
    for prefix, network in networks:
        for key, value in get_peft_model_state_dict(network).items():
            tensor = value.detach().half().contiguous().cpu()
            if style.layout == "diffusers":
                tensors[f"{prefix}.{key}"] = tensor
            else:
                module, direction = kohya_key(prefix, key)
                tensors[f"{module}.{direction}.weight"] = tensor
                tensors[f"{module}.alpha"] = torch.tensor(float(style.alpha)).half()
    return tensors


def kohya_key(prefix: str, key: str) -> tuple[str, str]:
    """peft's key -> (module, lora_down or lora_up) as in kohya's files; older encoder layouts' ``text_model`` is spelled out.

    >>> kohya_key("unet", "mid_block.resnets.0.conv1.lora_A.weight")
    ('lora_unet_mid_block_resnets_0_conv1', 'lora_down')
    """
    path, direction = key.removesuffix(".weight").rsplit(".lora_", 1)
    if prefix == "text_encoder":
        path = path if path.startswith("text_model.") else f"text_model.{path}"
    start = "lora_unet" if prefix == "unet" else "lora_te"
    return f"{start}_{path.replace('.', '_')}", "lora_down" if direction == "A" else "lora_up"
