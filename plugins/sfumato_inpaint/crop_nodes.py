"""Nodes between a document and what a model sees of it: crop, the same crop of other pictures, the second pass, and stitch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from sfumato.lazy import lazy_module
from sfumato.nodes import NodeContext, Result, node
from sfumato.sockets import MAX_SIZE, Choice, Conditioning, Image, Mask, Model, Range, Seed, SocketType, Strength, Vae
from sfumato_inpaint.nodes import EdgeName, Pixels, flat

if TYPE_CHECKING:
    import numpy as np
    import torch

    from sfumato import geometry
    from sfumato.engine import codec, sampling, schedules
    from sfumato.models import defaults
    from sfumato_inpaint import cropping
else:
    np = lazy_module("numpy")
    torch = lazy_module("torch")
    codec = lazy_module("sfumato.engine.codec")
    sampling = lazy_module("sfumato.engine.sampling")
    schedules = lazy_module("sfumato.engine.schedules")
    geometry = lazy_module("sfumato.geometry")
    defaults = lazy_module("sfumato.models.defaults")
    cropping = lazy_module("sfumato_inpaint.cropping")

Stitch = Annotated[Any, SocketType("STITCH")]
Share = Annotated[float, Range(0.0, 4.0, 0.05)]

_USUAL = 512
_LARGEST_REFINED = 4
"""The second pass works on up to this many times the model's own side."""


@dataclass(frozen=True)
class StitchInfo:
    """STITCH: the whole `original` IMAGE [B,H,W,C] (not copied), where the crop lies, and the model's own side (0: not known)."""

    original: torch.Tensor
    crop: cropping.Crop
    resolution: int


@node(
    "InpaintCrop",
    category="image/inpaint",
    display="Crop for Inpainting",
    outputs=("IMAGE", "MASK", "stitch"),
    optional=("resolution", "context", "least"),
)
def inpaint_crop(
    ctx: NodeContext,
    image: Image,
    mask: Mask,
    model: Model | None = None,
    resolution: Annotated[int, Range(0, MAX_SIZE, 8)] = 0,
    context: Share = 0.25,
    least: Annotated[int, Range(0, 4096, 8)] = 16,
) -> tuple[Image, Mask, Stitch] | Result:
    """The selection with its surroundings, at the size that the model works at.

    `resolution`: the model's own side in pixels; 0 asks `model`, and without one nothing is scaled. `context`: surroundings on every
    side as a share of the selection's longer side, at least `least` pixels.
    """
    side = resolution or (_side_of(ctx, model) if model is not None else 0)
    hole = flat(mask)
    whole = (hole[0] if len(hole) == 1 else hole.amax(0)).numpy()
    crop = cropping.crop(image[0].numpy(), whole, side, context, least)
    parts = _cut(image, crop)
    info = StitchInfo(image, crop, side)
    return Result((parts, torch.from_numpy(crop.mask)[None], info), shown={"text": [crop.plan.told()]})


def _side_of(ctx: NodeContext, model: Any) -> int:
    """The side of the pictures that a model was trained on."""
    return _USUAL if model.file is None else int(defaults.defaults_for(model.file, ctx.services.recognise(model.file)).width)


def _cut(image: torch.Tensor, crop: cropping.Crop) -> torch.Tensor:
    box, size = crop.plan.context, crop.plan.work
    part = image[:, box.top : box.bottom, box.left : box.right, :3].numpy()
    return torch.from_numpy(np.stack([cropping.resampled(pixels, size) for pixels in part]))


@node("InpaintCropAlike", category="image/inpaint", display="Crop Alike", outputs=("IMAGE",))
def inpaint_crop_alike(image: Image, stitch: Stitch) -> tuple[Image]:
    """The same crop of another picture of the document's size (a control picture); one of another size is brought to it first."""
    height, width = stitch.original.shape[1:3]
    return (_cut(_sized(image, geometry.Size(width, height)), stitch.crop),)


def _sized(image: torch.Tensor, size: geometry.Size) -> torch.Tensor:
    if tuple(image.shape[1:3]) == (size.height, size.width):
        return image
    return torch.from_numpy(np.stack([cropping.resampled(pixels[..., :3].numpy(), size) for pixels in image]))


@node("InpaintSecondPass", category="image/inpaint", display="Refine Large Selection", outputs=("IMAGE", "crop", "MASK", "stitch"))
def inpaint_second_pass(
    ctx: NodeContext,
    stitch: Stitch,
    image: Image,
    model: Model,
    vae: Vae,
    positive: Conditioning,
    negative: Conditioning,
    seed: Seed = 0,
    steps: Annotated[int, Range(1, 10000)] = 20,
    cfg: Annotated[float, Range(0.0, 100.0, 0.1)] = 8.0,
    sampler_name: Annotated[str, Choice("samplers")] = "euler",
    scheduler: Annotated[str, Choice("schedules")] = "simple",
    denoise: Strength = 0.4,
) -> tuple[Image, Image, Mask, Stitch]:
    """Where the selection is larger than what the model works on: the painted crop is enlarged and refined.

    The outputs are the painted picture, the original's crop and its mask at the same size, and what stitches them; where one pass is
    enough, those of the first.
    """
    crop = _refined_crop(stitch)
    original, hole = _cut(stitch.original, crop), torch.from_numpy(crop.mask)[None]
    info = replace(stitch, crop=crop)
    painted = _sized(image, crop.plan.work)
    if crop.plan.work == stitch.crop.plan.work:
        return painted, original, hole, info
    behind = original[torch.arange(len(painted)) % len(original)]
    start = torch.where(hole[..., None] > 0, painted, behind)
    latent = {"samples": codec.encode(ctx.services, vae, start, ctx.progress), "noise_mask": hole[:, None]}
    discard = schedules.discard_penultimate(sampler_name)
    levels = schedules.for_denoise(ctx.services.schedule(scheduler), model.sampling, steps, denoise, discard_penultimate=discard)
    guider = sampling.GuiderChoice(model, positive, negative, cfg)
    sampler = ctx.services.sampler(sampler_name)
    done = sampling.sample(ctx.services, guider, sampling.RandomNoise(seed), sampler, levels, latent, ctx.progress)
    return codec.decode(ctx.services, vae, done.samples, ctx.progress), original, hole, info


def _refined_crop(stitch: StitchInfo) -> cropping.Crop:
    """The crop at the document's own size, or as near to it as the second pass may go."""
    first, box = stitch.crop, stitch.crop.plan.context
    if first.plan.passes == 1:
        return first
    scale = min(1.0, _LARGEST_REFINED * stitch.resolution / max(box.width, box.height))
    size = cropping.whole_latents(box.width * scale, box.height * scale)
    part = stitch.original[0, box.top : box.bottom, box.left : box.right, :3].numpy()
    mask = cropping.resampled_mask(first.selection, size)
    return cropping.Crop(cropping.resampled(part, size), mask, first.selection, replace(first.plan, work=size))


@node("InpaintStitch", category="image/inpaint", display="Stitch", outputs=("IMAGE",))
def inpaint_stitch(stitch: Stitch, image: Image, feather: Pixels = 0.0, edge: EdgeName = "inward", protect: bool = True) -> tuple[Image]:
    """A painted crop back in its place. With `protect` not one byte outside the selection changes, however soft the edge."""
    length = max(len(image), len(stitch.original))
    height, width = stitch.original.shape[1:3]
    result = torch.empty(length, height, width, 3)
    box = stitch.crop.plan.context
    for place in range(length):
        behind = stitch.original[place % len(stitch.original)]
        result[place] = behind[..., :3]
        laid = cropping.patch(behind.numpy(), image[place % len(image)].numpy(), stitch.crop, feather, edge, protect)
        result[place, box.top : box.bottom, box.left : box.right] = torch.from_numpy(laid)
    return (result,)
