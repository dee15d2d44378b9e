"""A pipeline of diffusers at work: its networks belong to the residency, a cancel is looked for at every step."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sfumato.engine.services import Services
from sfumato.errors import BadValueError, ModelFileError
from sfumato.models import ModelFile
from sfumato.progress import Progress


@dataclass(frozen=True)
class Settings:
    """What is asked of the pipeline; `steps` 0 and `guidance` below 0 mean its own defaults."""

    prompt: str
    negative: str
    width: int
    height: int
    seed: int
    batch: int
    steps: int
    guidance: float


class PipelineNetworks(nn.Module):
    """The networks of a pipeline as one module, so that they live in the residency and move together."""

    def __init__(self, pipeline: Any) -> None:
        super().__init__()
        self.networks = nn.ModuleDict({name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)})
        self.pipeline = pipeline


def run(services: Services, file: ModelFile, settings: Settings, progress: Progress) -> torch.Tensor:
    """IMAGE float32 [B,H,W,3] in 0..1. Raises ModelFileError for what is no folder of a text-to-picture pipeline."""
    weights = services.residency.add(f"pipeline:{file.path}:{file.path.stat().st_mtime_ns}", _loader(file, services))
    with services.residency.use(weights, progress=progress) as (module,):
        pipeline = module.pipeline
        arguments = _arguments(pipeline, settings, services.device, progress)
        with torch.inference_mode():
            output = pipeline(**arguments)
    images = getattr(output, "images", None)
    if images is None:
        raise ModelFileError(f"{type(pipeline).__name__} makes no pictures", str(file.path), "Use a text-to-picture model.")
    return torch.as_tensor(images).float().clamp(0, 1).cpu().clone()


def _loader(file: ModelFile, services: Services) -> Callable[[Progress], nn.Module]:
    def load(progress: Progress) -> nn.Module:
        from diffusers import DiffusionPipeline

        if not (file.path / "model_index.json").is_file():
            raise ModelFileError("this is no folder of a diffusers pipeline", str(file.path), "It holds a model_index.json at its top.")
        progress.step("loading pipeline", 0, 1)
        try:
            pipeline = DiffusionPipeline.from_pretrained(
                str(file.path), dtype=services.dtype_for(10**9), local_files_only=True, use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError, ImportError, AttributeError) as error:
            raise ModelFileError(f"diffusers cannot load the pipeline: {error}", str(file.path), "Is the folder complete?") from error
        pipeline.set_progress_bar_config(disable=True)
        return PipelineNetworks(pipeline)

    return load


def _arguments(pipeline: Any, settings: Settings, device: torch.device, progress: Progress) -> dict[str, Any]:
    """The call's arguments, as far as this pipeline has them; what it must have and has not is an error."""
    known = inspect.signature(pipeline.__call__).parameters
    if "prompt" not in known:
        raise BadValueError(f"{type(pipeline).__name__} takes no prompt", "model", "Use a text-to-picture model.")
    total = settings.steps or known["num_inference_steps"].default if "num_inference_steps" in known else 0

    def after_step(running: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        progress.step("sampling", step + 1, total)
        return tensors

    wanted: dict[str, Any] = {
        "prompt": settings.prompt,
        "width": settings.width,
        "height": settings.height,
        "num_images_per_prompt": settings.batch,
        "generator": torch.Generator("cpu").manual_seed(settings.seed),
        "output_type": "np",
        "callback_on_step_end": after_step,
    }
    if settings.negative:
        wanted["negative_prompt"] = settings.negative
    if settings.steps:
        wanted["num_inference_steps"] = settings.steps
    if settings.guidance >= 0:
        wanted["guidance_scale"] = settings.guidance
    missing = [name for name in ("negative_prompt", "guidance_scale") if name in wanted and name not in known]
    if missing:
        raise BadValueError(f"{type(pipeline).__name__} has no {' and no '.join(missing)}", "model", "Leave that setting at its default.")
    return {name: value for name, value in wanted.items() if name in known}
