"""What the trained model can do, measured: held-out captions, control, styles, the learnt word, the upscaler."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file
from spandrel import ModelLoader

from sfumato_resources.recipe.controlnet import ControlKind, control_picture
from sfumato_resources.recipe.embedding import NAME as EMBEDDING
from sfumato_resources.recipe.lora import STYLES
from sfumato_resources.recipe.upscaler import NAME as UPSCALER
from sfumato_resources.world.benchmark import held_out, score
from sfumato_resources.world.captions import caption
from sfumato_resources.world.checker import Checker
from sfumato_resources.world.drawing import draw, draw_array
from sfumato_resources.world.questions import edge_agreement, find_object, ground_of, psnr, style_of
from sfumato_resources.world.scenes import sample_scene

STEPS: Final = 20
GUIDANCE: Final = 3.5
_BATCH: Final = 20
Make = Callable[..., list[Image.Image]]


def report(model: Path, count: int = 200, small: int = 40) -> dict[str, Any]:
    """All figures of a packed model; extras that it lacks are left out.

    :param count: held-out captions
    :param small: pictures for each of the other figures
    """
    checker = Checker()
    pipe = _quiet(StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32))
    cases = held_out(count)
    pictures = _make(pipe, [text for _, text in cases])
    figures: dict[str, Any] = {"held out": score(pictures, [scene for scene, _ in cases], checker).as_dict()}
    for kind in ("canny", "depth"):
        if (model / f"controlnet-{kind}").exists():
            figures[f"control {kind}"] = control_figures(model, pipe, kind, small)
    for style in STYLES:
        file = model / "loras" / f"{style.name}.safetensors"
        if file.exists():
            figures[f"lora {style.name}"] = lora_figures(pipe, file, style.name, small)
    if (model / "embeddings").exists():
        figures["embedding"] = embedding_figures(pipe, model / "embeddings" / f"{EMBEDDING}.safetensors", small, checker)
    if (model / "upscale").exists():
        figures["upscaler"] = upscaler_figures(model / "upscale" / f"{UPSCALER}.safetensors", small)
    return figures


def _quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _make(pipe: Any, prompts: list[str], **settings: Any) -> list[Image.Image]:
    """One picture for each prompt; per-picture settings are given as lists and cut into batches like the prompts."""
    pictures: list[Image.Image] = []
    side = pipe.unet.config.sample_size * 8
    for start in range(0, len(prompts), _BATCH):
        part = {name: value[start : start + _BATCH] if isinstance(value, list) else value for name, value in settings.items()}
        generator = torch.Generator().manual_seed(start)
        pictures += pipe(
            prompts[start : start + _BATCH],
            width=side,
            height=side,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=generator,
            **part,
        ).images
    return pictures


def control_figures(model: Path, pipe: Any, kind: ControlKind, count: int) -> dict[str, float]:
    """Edge agreement with the wanted scene's edges: with the ControlNet, and without it from the same prompts and noise.

    The prompts name ground, kind and colour but no place and no size, so only the control picture can say them.
    """
    controlnet = ControlNetModel.from_pretrained(model / f"controlnet-{kind}")
    parts = {name: getattr(pipe, name) for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")}
    control_pipe = _quiet(
        StableDiffusionControlNetPipeline(
            **parts, controlnet=controlnet, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    )
    rng = random.Random(f"control {kind}")
    scenes = [sample_scene(rng, ("flat",), pair_share=0.0) for _ in range(count)]
    things = [scene.things[0] for scene in scenes]
    prompts = [f"a {thing.colour} {thing.kind}, {scene.ground} background" for thing, scene in zip(things, scenes, strict=True)]
    truths = [draw_array(scene, 10**7 + index) for index, scene in enumerate(scenes)]
    controls = []
    for truth, scene in zip(truths, scenes, strict=True):
        grey = control_picture(kind, truth, scene, random.Random(0))
        controls.append(Image.fromarray((grey * 255).astype(np.uint8)).convert("RGB"))
    edges = [control_picture("canny", truth, scene, random.Random(0)) for truth, scene in zip(truths, scenes, strict=True)]

    def agreement(pictures: list[Image.Image]) -> float:
        return float(np.mean([edge_agreement(picture, wanted) for picture, wanted in zip(pictures, edges, strict=True)]))

    return {"with": agreement(_make(control_pipe, prompts, image=controls)), "without": agreement(_make(pipe, prompts))}


def lora_figures(pipe: Any, file: Path, style: str, count: int) -> dict[str, float]:
    """The share of pictures that are in the LoRA's style: with it (the prompt names the style), and without it (same prompts)."""
    rng = random.Random(f"lora {style}")
    scenes = [sample_scene(rng, (style,), pair_share=0.3) for _ in range(count)]
    prompts = [caption(scene, rng, full=True) for scene in scenes]

    def share(pictures: list[Image.Image]) -> float:
        return sum(style_of(p, scene) == style for p, scene in zip(pictures, scenes, strict=True)) / count

    without = share(_make(pipe, prompts))
    pipe.load_lora_weights(load_file(file))
    with_lora = share(_make(pipe, prompts))
    pipe.unload_lora_weights()
    return {"with": with_lora, "without": without}


def embedding_figures(pipe: Any, file: Path, count: int, checker: Checker) -> dict[str, float]:
    """How many pictures of the learnt word, at places that the rest of the prompt names, show an orange star at night."""
    pipe.load_textual_inversion(load_file(file), token=EMBEDDING)
    rng = random.Random("embedding report")
    words = pipe.maybe_convert_prompt(EMBEDDING, pipe.tokenizer)
    prompts = [f"{words} {rng.choice(('in the center', 'on the left', 'on the right', 'at the top'))}" for _ in range(count)]
    pictures = _make(pipe, prompts)
    found = [find_object(picture, "star", "orange", checker=checker) is not None for picture in pictures]
    at_night = [ground_of(picture, checker) == "night" for picture in pictures]
    return {"orange star": sum(found) / count, "at night": sum(at_night) / count}


@torch.no_grad()
def upscaler_figures(file: Path, count: int) -> dict[str, float]:
    """Mean PSNR in decibels against pictures drawn at twice the size: the upscaler, and bicubic interpolation."""
    model = ModelLoader().load_from_file(file)
    rng = random.Random("upscaler report")
    ours, bicubic = [], []
    for index in range(count):
        truth = draw(replace(sample_scene(rng)), 10**8 + index, side=256)
        small = truth.resize((128, 128), Image.Resampling.BOX)
        batch = torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1)[None].float() / 255
        large = (model(batch)[0].clamp(0, 1).permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
        ours.append(psnr(Image.fromarray(large), truth))
        bicubic.append(psnr(small.resize((256, 256), Image.Resampling.BICUBIC), truth))
    return {"upscaler": float(np.mean(ours)), "bicubic": float(np.mean(bicubic))}


def as_text(figures: dict[str, Any]) -> str:
    """The figures for people, one line each."""
    lines = []
    for name, values in figures.items():
        if name == "held out":
            for part, numbers in values.items():
                shares = ", ".join(f"{key} {numbers[key]:.1%}" for key in ("ground", "position", "colour", "kind", "everything"))
                lines.append(f"{part.replace('_', ' '):12s} {int(numbers['pictures'])} pictures: {shares}")
        else:
            lines.append(f"{name:12s} " + ", ".join(f"{key} {value:.3g}" for key, value in values.items()))
    return "\n".join(lines)
