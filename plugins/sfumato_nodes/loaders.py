"""Nodes that open model files."""

from __future__ import annotations

from typing import Annotated, Literal

from sfumato.nodes import NodeContext, node
from sfumato.sockets import Choice, Clip, Model, Vae


@node("CheckpointLoaderSimple", category="loaders", display="Load Checkpoint", outputs=("MODEL", "CLIP", "VAE"))
def checkpoint_loader_simple(ctx: NodeContext, ckpt_name: Annotated[str, Choice("models:checkpoints")]) -> tuple[Model, Clip, Vae]:
    """A whole model from one file or folder: what denoises, what reads the prompt, what makes pictures of latents."""
    file = ctx.services.library.find("checkpoints", ckpt_name)
    handles: tuple[Model, Clip, Vae] = ctx.services.family_of(file).load_checkpoint(file, ctx.services, ctx.progress)
    return handles


@node("UNETLoader", category="advanced/loaders", display="Load Diffusion Model", outputs=("MODEL",))
def unet_loader(
    ctx: NodeContext,
    unet_name: Annotated[str, Choice("models:diffusion_models")],
    weight_dtype: Literal["default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"] = "default",
) -> tuple[Model]:
    """A denoising network from a file of its own. Formats other than `default` are a wish: weights are kept as the device likes them."""
    file = ctx.services.library.find("diffusion_models", unet_name)
    return (ctx.services.family_of(file).load_unet(file, ctx.services, ctx.progress),)


@node("VAELoader", category="loaders", display="Load VAE", outputs=("VAE",))
def vae_loader(ctx: NodeContext, vae_name: Annotated[str, Choice("models:vae")]) -> tuple[Vae]:
    """An autoencoder from a file of its own."""
    file = ctx.services.library.find("vae", vae_name)
    return (ctx.services.family_of(file).load_vae(file, ctx.services, ctx.progress),)


@node("CLIPLoader", category="advanced/loaders", display="Load CLIP", outputs=("CLIP",), optional=("device",))
def clip_loader(
    ctx: NodeContext,
    clip_name: Annotated[str, Choice("models:clip")],
    type: Literal["stable_diffusion"] = "stable_diffusion",
    device: Literal["default", "cpu"] = "default",
) -> tuple[Clip]:
    """A text encoder from a file of its own."""
    file = ctx.services.library.find("clip", clip_name)
    return (ctx.services.family_of(file).load_clip(file, ctx.services, ctx.progress),)
