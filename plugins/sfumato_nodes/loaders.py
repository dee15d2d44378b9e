"""Nodes that open model files. Each looks whether its file was replaced since it was last opened."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from sfumato.nodes import NodeContext, node
from sfumato.sockets import Choice, Clip, Model, Vae

CheckpointName = Annotated[str, Choice("models:checkpoints")]
UnetName = Annotated[str, Choice("models:diffusion_models")]
VaeName = Annotated[str, Choice("models:vae")]
ClipName = Annotated[str, Choice("models:clip")]


def state_of(ctx: NodeContext, kind: str, name: Any) -> Any:
    """The files of a model as they are now: changes when one of them is replaced. None for a name that is worked out later."""
    if not isinstance(name, str):
        return None
    path = ctx.services.library.find(kind, name).path
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    stats = [(file, file.stat()) for file in files if file.is_file()]
    return tuple((str(file), stat.st_mtime_ns, stat.st_size) for file, stat in stats)


@node("CheckpointLoaderSimple", category="loaders", display="Load Checkpoint", outputs=("MODEL", "CLIP", "VAE"))
class CheckpointLoaderSimple:
    """A whole model from one file or folder: what denoises, what reads the prompt, what makes pictures of latents."""

    def run(self, ctx: NodeContext, ckpt_name: CheckpointName) -> tuple[Model, Clip, Vae]:
        file = ctx.services.library.find("checkpoints", ckpt_name)
        handles: tuple[Model, Clip, Vae] = ctx.services.family_of(file).load_checkpoint(file, ctx.services, ctx.progress)
        return handles

    def fingerprint(self, ctx: NodeContext, ckpt_name: Any) -> Any:
        """The file as it is now."""
        return state_of(ctx, "checkpoints", ckpt_name)


@node("UNETLoader", category="advanced/loaders", display="Load Diffusion Model", outputs=("MODEL",))
class UNETLoader:
    """A denoising network from a file of its own. Formats other than `default` are a wish: weights are kept as the device likes them."""

    def run(
        self,
        ctx: NodeContext,
        unet_name: UnetName,
        weight_dtype: Literal["default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"] = "default",
    ) -> tuple[Model]:
        file = ctx.services.library.find("diffusion_models", unet_name)
        return (ctx.services.family_of(file).load_unet(file, ctx.services, ctx.progress),)

    def fingerprint(self, ctx: NodeContext, unet_name: Any) -> Any:
        """The file as it is now."""
        return state_of(ctx, "diffusion_models", unet_name)


@node("VAELoader", category="loaders", display="Load VAE", outputs=("VAE",))
class VAELoader:
    """An autoencoder from a file of its own."""

    def run(self, ctx: NodeContext, vae_name: VaeName) -> tuple[Vae]:
        file = ctx.services.library.find("vae", vae_name)
        return (ctx.services.family_of(file).load_vae(file, ctx.services, ctx.progress),)

    def fingerprint(self, ctx: NodeContext, vae_name: Any) -> Any:
        """The file as it is now."""
        return state_of(ctx, "vae", vae_name)


@node("CLIPLoader", category="advanced/loaders", display="Load CLIP", outputs=("CLIP",), optional=("device",))
class CLIPLoader:
    """A text encoder from a file of its own."""

    def run(
        self,
        ctx: NodeContext,
        clip_name: ClipName,
        type: Literal["stable_diffusion"] = "stable_diffusion",
        device: Literal["default", "cpu"] = "default",
    ) -> tuple[Clip]:
        file = ctx.services.library.find("clip", clip_name)
        return (ctx.services.family_of(file).load_clip(file, ctx.services, ctx.progress),)

    def fingerprint(self, ctx: NodeContext, clip_name: Any) -> Any:
        """The file as it is now."""
        return state_of(ctx, "clip", clip_name)
