"""The sizes of a training run, under a name: how many pictures, how large the networks, how many steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Plan:
    """One training.

    ``batch`` counts samples per process and step. ``rate`` is AdamW's highest learning rate: it rises over ``warmup`` steps and
    falls along a cosine to a fiftieth. ``ema`` is the decay of the averaged weights, which are what is kept; 0 keeps the last ones.
    """

    steps: int
    batch: int
    rate: float
    warmup: int = 100
    ema: float = 0.0
    weight_decay: float = 0.0
    checkpoint_every: int = 200


@dataclass(frozen=True, slots=True)
class Preset:
    """Everything that one run of the recipe fixes beforehand. Widths are channels per level, from fine to coarse."""

    name: str
    side: int
    chunks: int
    vae_widths: tuple[int, ...]
    unet_widths: tuple[int, ...]
    text_width: int
    text_layers: int
    vae: Plan
    decoder: Plan
    text: Plan
    unet: Plan
    upscaler: Plan
    controlnet: Plan
    lora: Plan
    embedding: Plan
    held_out: int = 200


CPU128: Final = Preset(
    name="cpu128",
    side=128,
    chunks=30,
    vae_widths=(16, 32, 64, 64),
    unet_widths=(48, 96, 160),
    text_width=128,
    text_layers=3,
    vae=Plan(2500, 5, 1.5e-3, warmup=60, ema=0.995, weight_decay=1e-4),
    decoder=Plan(1500, 8, 8e-4, warmup=50, ema=0.99),
    text=Plan(4500, 192, 2e-3, warmup=80, weight_decay=0.01),
    unet=Plan(10_000, 28, 1e-3, ema=0.9985, weight_decay=0.01),
    upscaler=Plan(2400, 8, 2e-3, ema=0.99),
    controlnet=Plan(1600, 16, 5e-4, warmup=30, ema=0.99),
    lora=Plan(400, 16, 2e-3, warmup=20),
    embedding=Plan(300, 8, 2e-2, warmup=20),
)
"""What the shipped model is: 128 x 128 pixels, 8.8 M parameters, some three hours on two CPU cores."""

SMOKE: Final = Preset(
    name="smoke",
    side=128,
    chunks=1,
    vae_widths=(16, 32, 32, 32),
    unet_widths=(16, 32, 32),
    text_width=32,
    text_layers=1,
    vae=Plan(2, 1, 1e-3),
    decoder=Plan(2, 1, 1e-3),
    text=Plan(2, 4, 1e-3),
    unet=Plan(2, 2, 1e-3),
    upscaler=Plan(2, 1, 1e-3),
    controlnet=Plan(2, 2, 1e-3),
    lora=Plan(2, 2, 1e-3),
    embedding=Plan(2, 2, 1e-3),
    held_out=2,
)
"""Two steps of everything with networks too small to learn: shows that the recipe runs from end to end."""

GPU256: Final = Preset(
    name="gpu256",
    side=256,
    chunks=100,
    vae_widths=(32, 64, 128, 128),
    unet_widths=(64, 112, 192),
    text_width=128,
    text_layers=3,
    vae=Plan(12_000, 64, 1e-3, warmup=200, ema=0.998, weight_decay=1e-4),
    decoder=Plan(6000, 64, 6e-4, warmup=100, ema=0.998),
    text=Plan(8000, 512, 2e-3, warmup=80, weight_decay=0.01),
    unet=Plan(40_000, 512, 8e-4, warmup=500, ema=0.9995, weight_decay=0.01),
    upscaler=Plan(8000, 64, 1e-3, ema=0.998),
    controlnet=Plan(6000, 128, 3e-4, warmup=100, ema=0.998),
    lora=Plan(800, 64, 1e-3, warmup=20),
    embedding=Plan(800, 32, 1e-2, warmup=20),
)
"""A larger model for one GPU, 256 x 256 pixels. **This preset has not been run**: its sizes and rates are extrapolated."""

PRESETS: Final = {preset.name: preset for preset in (CPU128, SMOKE, GPU256)}
