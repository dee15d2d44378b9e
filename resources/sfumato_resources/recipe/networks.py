"""The networks in Stable Diffusion 1.x layout, small; built from a fixed seed or read from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sfumato_resources.recipe.presets import Preset
from sfumato_resources.recipe.tokenizer import POSITIONS


def new_vae(preset: Preset) -> Any:
    """AutoencoderKL, eight pixels to one latent. One group a norm: with groups of two channels colours were lost."""
    torch.manual_seed(0)
    levels = len(preset.vae_widths)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=preset.vae_widths,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=1,
        sample_size=preset.side,
        force_upcast=False,
    ).to(memory_format=torch.channels_last)


def new_text_encoder(preset: Preset, tokenizer: Any) -> Any:
    """CLIPTextModel for the world's vocabulary."""
    torch.manual_seed(0)
    end = tokenizer.eos_token_id
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=preset.text_width,
        intermediate_size=4 * preset.text_width,
        num_hidden_layers=preset.text_layers,
        num_attention_heads=4,
        max_position_embeddings=POSITIONS,
        projection_dim=preset.text_width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=end,
        pad_token_id=end,
    )
    return CLIPTextModel(config)


def new_unet(preset: Preset) -> Any:
    """UNet2DConditionModel with cross-attention on the two coarser levels; its last convolution starts at zero."""
    torch.manual_seed(1)
    unet = UNet2DConditionModel(
        sample_size=preset.side // 8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=preset.unet_widths,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=preset.text_width,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    torch.nn.init.zeros_(unet.conv_out.weight)
    torch.nn.init.zeros_(unet.conv_out.bias)
    return for_training(unet)


def for_training(unet: Any) -> Any:
    """Channels last, and plain attention: the backward pass of the fused CPU kernel takes ten times as long as its forward pass."""
    unet.set_attn_processor(AttnProcessor())
    return unet.to(memory_format=torch.channels_last)


def read_vae(folder: Path) -> Any:
    """The VAE in a folder, float32, frozen."""
    return AutoencoderKL.from_pretrained(folder).float().eval().requires_grad_(False).to(memory_format=torch.channels_last)


def read_unet(folder: Path) -> Any:
    """The UNet in a folder, float32, frozen."""
    return for_training(UNet2DConditionModel.from_pretrained(folder).float().eval().requires_grad_(False))


def read_text_encoder(folder: Path) -> Any:
    """The text encoder in a folder, float32, frozen."""
    return CLIPTextModel.from_pretrained(folder).float().eval().requires_grad_(False)


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder."""
    return CLIPTokenizer.from_pretrained(folder)


def new_controlnet(unet: Any) -> Any:
    """A ControlNet that starts as a copy of the UNet's encoder (Zhang and others, 2023).

    The last convolution of its picture embedding gets small random weights instead of zeros: a short training needs the head start,
    and the zero convolutions behind it still keep the first output equal to that of the bare UNet.
    """
    torch.manual_seed(2)
    controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 32, 64))
    torch.nn.init.normal_(controlnet.controlnet_cond_embedding.conv_out.weight, std=0.05)
    return for_training(controlnet).requires_grad_(True)
