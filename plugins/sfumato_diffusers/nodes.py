"""The node that runs a whole pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from sfumato.lazy import lazy_module
from sfumato.nodes import NodeContext, node
from sfumato.sockets import Choice, Image, Range, Seed, Size, Text

if TYPE_CHECKING:
    from sfumato_diffusers import pipeline
else:
    pipeline = lazy_module("sfumato_diffusers.pipeline")


@node(
    "DiffusersPipeline",
    category="advanced/diffusers",
    display="Diffusers Pipeline",
    outputs=("IMAGE",),
    optional=("negative", "steps", "guidance"),
)
def diffusers_pipeline(
    ctx: NodeContext,
    model: Annotated[str, Choice("models:checkpoints")],
    prompt: Annotated[str, Text(multiline=True, dynamic_prompts=True)],
    width: Size = 512,
    height: Size = 512,
    seed: Seed = 0,
    batch_size: Annotated[int, Range(1, 64)] = 1,
    negative: Annotated[str, Text(multiline=True)] = "",
    steps: Annotated[int, Range(0, 1000)] = 0,
    guidance: Annotated[float, Range(-1.0, 100.0, 0.1)] = -1.0,
) -> tuple[Image]:
    """Text to picture by the pipeline that a model's own folder names. Steps 0 and guidance -1 leave these to the pipeline."""
    settings = pipeline.Settings(prompt, negative, width, height, seed, batch_size, steps, guidance)
    return (pipeline.run(ctx.services, ctx.services.library.find("checkpoints", model), settings, ctx.progress),)
