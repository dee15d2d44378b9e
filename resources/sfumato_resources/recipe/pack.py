"""Puts what was trained into one folder, in the layout that ships: diffusers' for the networks, float16, and a card with the figures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import ControlNetModel, DPMSolverMultistepScheduler, StableDiffusionPipeline

from sfumato_resources.recipe.embedding import NAME as EMBEDDING
from sfumato_resources.recipe.lora import STYLES
from sfumato_resources.recipe.networks import read_text_encoder, read_tokenizer, read_unet, read_vae
from sfumato_resources.recipe.upscaler import NAME as UPSCALER

BYTES_ALLOWED: Final = 32 * 10**6


class PackTooLargeError(Exception):
    """The packed folder is over the 32 MB that the wheel has room for."""


def pack(workdir: Path, out: Path) -> None:
    """Write the model and whatever extras are finished to ``out``; what is there already is replaced part by part.

    :raises PackTooLargeError: the folder would be over 32 MB
    """
    out.mkdir(parents=True, exist_ok=True)
    pipeline(workdir).to(dtype=torch.float16).save_pretrained(out, safe_serialization=True)
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(workdir / "tokenizer" / name, out / "tokenizer" / name)
    for kind in ("canny", "depth"):
        folder = workdir / f"controlnet-{kind}"
        if (folder / "config.json").exists():
            ControlNetModel.from_pretrained(folder).half().save_pretrained(out / folder.name)
    for style in STYLES:
        _copy(workdir / f"lora-{style.name}" / f"{style.name}.safetensors", out / "loras")
    _copy(workdir / "embedding" / f"{EMBEDDING}.safetensors", out / "embeddings")
    _copy(workdir / "upscaler" / f"{UPSCALER}.safetensors", out / "upscale")
    _forget_folders(out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    if size > BYTES_ALLOWED:
        raise PackTooLargeError(f"{out}: {size / 1e6:.1f} MB; at most {BYTES_ALLOWED / 1e6:.0f} MB may ship")


def pipeline(workdir: Path) -> Any:
    """The trained parts as one text-to-picture pipeline, float32."""
    scheduler = DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        prediction_type="v_prediction",
        use_karras_sigmas=True,
        algorithm_type="dpmsolver++",
        solver_order=2,
        steps_offset=1,
    )
    return StableDiffusionPipeline(
        vae=read_vae(workdir / ("decoder" if (workdir / "decoder" / "config.json").exists() else "vae")),
        text_encoder=read_text_encoder(workdir / "text_encoder"),
        tokenizer=read_tokenizer(workdir / "tokenizer"),
        unet=read_unet(workdir / "unet"),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _copy(source: Path, folder: Path) -> None:
    if source.exists():
        folder.mkdir(exist_ok=True)
        shutil.copyfile(source, folder / source.name)


def _forget_folders(out: Path) -> None:
    """Networks remember the folder that they were read from; what ships must not."""
    for path in out.rglob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def unpack(model: Path, workdir: Path) -> None:
    """The reverse for the base model: its tokenizer, VAE, text encoder and UNet become finished stages of ``workdir``, float32."""
    workdir.mkdir(parents=True, exist_ok=True)
    shutil.copytree(model / "tokenizer", workdir / "tokenizer", dirs_exist_ok=True)
    read_vae(model / "vae").save_pretrained(workdir / "vae")
    read_text_encoder(model / "text_encoder").save_pretrained(workdir / "text_encoder")
    read_unet(model / "unet").save_pretrained(workdir / "unet")
