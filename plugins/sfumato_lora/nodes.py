"""Nodes that put a LoRA file on a model and its text encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from sfumato.lazy import lazy_module
from sfumato.nodes import NodeContext, node
from sfumato.sockets import Choice, Clip, Model, Range

if TYPE_CHECKING:
    from sfumato_lora import loading
else:
    loading = lazy_module("sfumato_lora.loading")

LoraName = Annotated[str, Choice("models:loras")]
LoraStrength = Annotated[float, Range(-100.0, 100.0, 0.01)]


@node("LoraLoader", category="loaders", display="Load LoRA", outputs=("MODEL", "CLIP"))
def lora_loader(
    ctx: NodeContext,
    model: Model,
    clip: Clip,
    lora_name: LoraName,
    strength_model: LoraStrength = 1.0,
    strength_clip: LoraStrength = 1.0,
) -> tuple[Model, Clip]:
    """A LoRA on top of a model and its text encoder. Several in a row add up; 0 leaves that side as it was."""
    file = ctx.services.library.find("loras", lora_name)
    patched: tuple[Model, Clip] = loading.with_lora(ctx.services, file, model, clip, strength_model, strength_clip, ctx.progress)
    return patched


@node("LoraLoaderModelOnly", category="loaders", display="Load LoRA (Model only)", outputs=("MODEL",))
def lora_loader_model_only(ctx: NodeContext, model: Model, lora_name: LoraName, strength_model: LoraStrength = 1.0) -> tuple[Model]:
    """A LoRA on top of a model; what it holds for a text encoder is left out."""
    file = ctx.services.library.find("loras", lora_name)
    return (loading.with_lora(ctx.services, file, model, None, strength_model, 0.0, ctx.progress)[0],)
