"""Nodes that enlarge pictures with a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from sfumato.lazy import lazy_module
from sfumato.nodes import NodeContext, node
from sfumato.sockets import Choice, Image, UpscaleModel

if TYPE_CHECKING:
    from sfumato_upscale import enlarging
else:
    enlarging = lazy_module("sfumato_upscale.enlarging")


@node("UpscaleModelLoader", category="loaders", display="Load Upscale Model", outputs=("UPSCALE_MODEL",))
def upscale_model_loader(ctx: NodeContext, model_name: Annotated[str, Choice("models:upscale_models")]) -> tuple[UpscaleModel]:
    """An upscaler from a file."""
    return (ctx.services.upscaler(ctx.services.library.find("upscale_models", model_name), ctx.progress),)


@node("ImageUpscaleWithModel", category="image/upscaling", display="Upscale Image (using Model)", outputs=("IMAGE",))
def image_upscale_with_model(ctx: NodeContext, upscale_model: UpscaleModel, image: Image) -> tuple[Image]:
    """The pictures, larger by the factor of the model. Large ones are worked on in tiles; an alpha channel comes along."""
    return (enlarging.enlarged(ctx.services, upscale_model, image, ctx.progress),)
