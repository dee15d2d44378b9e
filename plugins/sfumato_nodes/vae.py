"""Nodes between pictures and latents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from sfumato.lazy import lazy_module
from sfumato.nodes import NodeContext, node
from sfumato.sockets import Conditioning, Image, Latent, Mask, Range, Vae
from sfumato_nodes.conditioning import changed

if TYPE_CHECKING:
    import torch
    from torch.nn import functional

    from sfumato.engine import codec
else:
    torch = lazy_module("torch")
    functional = lazy_module("torch.nn.functional")
    codec = lazy_module("sfumato.engine.codec")

Tile = Annotated[int, Range(64, 4096, 32)]
Overlap = Annotated[int, Range(0, 4096, 32)]


@node("VAEDecode", category="latent", display="VAE Decode", outputs=("IMAGE",))
def vae_decode(ctx: NodeContext, samples: Latent, vae: Vae) -> tuple[Image]:
    """A latent as a picture."""
    return (codec.decode(ctx.services, vae, samples["samples"], ctx.progress),)


@node("VAEEncode", category="latent", display="VAE Encode", outputs=("LATENT",))
def vae_encode(ctx: NodeContext, pixels: Image, vae: Vae) -> tuple[Latent]:
    """A picture as a latent."""
    return ({"samples": codec.encode(ctx.services, vae, pixels, ctx.progress)},)


@node("VAEDecodeTiled", category="experimental", display="VAE Decode (Tiled)", outputs=("IMAGE",))
def vae_decode_tiled(
    ctx: NodeContext,
    samples: Latent,
    vae: Vae,
    tile_size: Tile = 512,
    overlap: Overlap = 64,
    temporal_size: Annotated[int, Range(8, 4096, 4)] = 64,
    temporal_overlap: Annotated[int, Range(4, 4096, 4)] = 8,
) -> tuple[Image]:
    """A latent as a picture, a tile at a time: less memory, nearly the same picture. The temporal sizes are for video only."""
    return (codec.decode_tiled(ctx.services, vae, samples["samples"], tile_size, min(overlap, tile_size // 4), ctx.progress),)


@node("VAEEncodeTiled", category="experimental", display="VAE Encode (Tiled)", outputs=("LATENT",))
def vae_encode_tiled(
    ctx: NodeContext,
    pixels: Image,
    vae: Vae,
    tile_size: Tile = 512,
    overlap: Overlap = 64,
    temporal_size: Annotated[int, Range(8, 4096, 4)] = 64,
    temporal_overlap: Annotated[int, Range(4, 4096, 4)] = 8,
) -> tuple[Latent]:
    """A picture as a latent, a tile at a time. The temporal sizes are for video only."""
    return ({"samples": codec.encode_tiled(ctx.services, vae, pixels, tile_size, min(overlap, tile_size // 4), ctx.progress)},)


@node("VAEEncodeForInpaint", category="latent/inpaint", display="VAE Encode (for Inpainting)", outputs=("LATENT",))
def vae_encode_for_inpaint(
    ctx: NodeContext, pixels: Image, vae: Vae, mask: Mask, grow_mask_by: Annotated[int, Range(0, 64)] = 6
) -> tuple[Latent]:
    """A picture as a latent with neutral grey where the mask is 1, to be painted anew from full noise."""
    pixels, mask = _same_size(pixels, mask, vae.codec.downscale)
    hole = mask.round()
    grey = (pixels[..., :3] - 0.5) * (1.0 - hole.squeeze(1))[..., None] + 0.5
    grown = hole
    if grow_mask_by > 0:
        kernel = torch.ones(1, 1, grow_mask_by, grow_mask_by)
        grown = functional.conv2d(hole, kernel, padding=-(-(grow_mask_by - 1) // 2)).clamp(0, 1)
    grown = grown[:, :, : pixels.shape[1], : pixels.shape[2]].round()
    return ({"samples": codec.encode(ctx.services, vae, grey, ctx.progress), "noise_mask": grown},)


@node(
    "InpaintModelConditioning",
    category="conditioning/inpaint",
    outputs=("positive", "negative", "latent"),
)
def inpaint_model_conditioning(
    ctx: NodeContext,
    positive: Conditioning,
    negative: Conditioning,
    vae: Vae,
    pixels: Image,
    mask: Mask,
    noise_mask: bool = True,
) -> tuple[Conditioning, Conditioning, Latent]:
    """For inpainting models: the masked picture and the mask go into the network itself."""
    pixels, mask = _same_size(pixels, mask, vae.codec.downscale)
    hole = mask.round().squeeze(1)[..., None]
    masked = (pixels[..., :3] - 0.5) * (1.0 - hole) + 0.5
    concat = codec.encode(ctx.services, vae, masked, ctx.progress)
    latent = {"samples": codec.encode(ctx.services, vae, pixels, ctx.progress)}
    if noise_mask:
        latent["noise_mask"] = mask
    more = {"concat_latent_image": concat, "concat_mask": mask}
    return changed(positive, **more), changed(negative, **more), latent


def _same_size(pixels: torch.Tensor, mask: torch.Tensor, multiple: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The picture cropped around the middle to a multiple, and the mask [B,1,H,W] at the picture's size, cropped with it."""
    mask = functional.interpolate(mask.reshape(-1, 1, *mask.shape[-2:]), size=tuple(pixels.shape[1:3]), mode="bilinear")
    height, width = (side // multiple * multiple for side in pixels.shape[1:3])
    top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
    return pixels[:, top : top + height, left : left + width], mask[:, :, top : top + height, left : left + width]
