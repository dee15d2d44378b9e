"""Which folder holds which kind of model: Sfumato's own layout (ComfyUI's names), and those of ComfyUI and A1111 installations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

FOLDER_NAMES: Mapping[str, tuple[str, ...]] = {
    "checkpoints": ("checkpoints",),
    "diffusion_models": ("diffusion_models", "unet"),
    "vae": ("vae",),
    "text_encoders": ("text_encoders", "clip"),
    "clip_vision": ("clip_vision",),
    "controlnet": ("controlnet", "t2i_adapter"),
    "loras": ("loras",),
    "embeddings": ("embeddings",),
    "upscale_models": ("upscale_models",),
}
"""Kind -> the folders of it below a models folder, the one that new files go to first."""

_ALIASES = {"unet": "diffusion_models", "clip": "text_encoders"}

_A1111_NAMES: Mapping[str, tuple[str, ...]] = {
    "checkpoints": ("models/Stable-diffusion",),
    "vae": ("models/VAE", "models/Stable-diffusion"),
    "text_encoders": ("models/text_encoder",),
    "controlnet": ("models/ControlNet", "extensions/sd-webui-controlnet/models"),
    "loras": ("models/Lora", "models/LyCORIS"),
    "embeddings": ("embeddings",),
    "upscale_models": ("models/ESRGAN", "models/RealESRGAN", "models/SwinIR"),
}


def kind_of(name: str) -> str:
    """The kind that `name` means: itself, or the new name of an old one (`unet`, `clip`)."""
    return _ALIASES.get(name, name)


def comfyui_folders(models: Path) -> dict[str, list[Path]]:
    """Kind -> folders below a models folder that uses ComfyUI's names, existing or not."""
    return {kind: [models / name for name in names] for kind, names in FOLDER_NAMES.items()}


def a1111_folders(root: Path) -> dict[str, list[Path]]:
    """Kind -> folders below an A1111 (or Forge) installation, existing or not."""
    return {kind: [root / name for name in names] for kind, names in _A1111_NAMES.items()}


def folders_of_installation(root: Path) -> dict[str, list[Path]]:
    """Kind -> folders of whatever `root` is: an A1111 or ComfyUI installation, or a models folder with ComfyUI's names."""
    if (root / "models" / "Stable-diffusion").is_dir():
        return a1111_folders(root)
    if (root / "models" / "checkpoints").is_dir():
        return comfyui_folders(root / "models")
    return comfyui_folders(root)
