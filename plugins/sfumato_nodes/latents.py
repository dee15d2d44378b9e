"""Nodes that make and change LATENT values. Sizes are in picture pixels; a latent pixel is 8 of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from sfumato.lazy import lazy_module
from sfumato.nodes import node
from sfumato.sockets import MAX_SIZE, Latent, Mask, Range, Size

if TYPE_CHECKING:
    import torch

    from sfumato.engine import resize
else:
    torch = lazy_module("torch")
    resize = lazy_module("sfumato.engine.resize")

Method = Literal["nearest-exact", "bilinear", "area", "bicubic", "bislerp"]
Crop = Literal["disabled", "center"]
Batch = Annotated[int, Range(1, 4096)]
Place = Annotated[int, Range(0, MAX_SIZE, 8)]


@node("EmptyLatentImage", category="latent", display="Empty Latent Image", outputs=("LATENT",))
def empty_latent_image(width: Size = 512, height: Size = 512, batch_size: Batch = 1) -> tuple[Latent]:
    """A blank to start from."""
    return ({"samples": torch.zeros(batch_size, 4, height // 8, width // 8)},)


@node("LatentUpscale", category="latent", display="Upscale Latent", outputs=("LATENT",))
def latent_upscale(
    samples: Latent,
    upscale_method: Method = "nearest-exact",
    width: Annotated[int, Range(0, MAX_SIZE, 8)] = 512,
    height: Annotated[int, Range(0, MAX_SIZE, 8)] = 512,
    crop: Crop = "disabled",
) -> tuple[Latent]:
    """To a size in pixels; 0 for one side keeps the proportion, 0 for both keeps the size."""
    x = samples["samples"]
    if width == 0 and height == 0:
        return (samples,)
    width = width or max(64, round(x.shape[3] * 8 * height / (x.shape[2] * 8)))
    height = height or max(64, round(x.shape[2] * 8 * width / (x.shape[3] * 8)))
    return ({**samples, "samples": resize.resized(x, width // 8, height // 8, upscale_method, crop)},)


@node("LatentUpscaleBy", category="latent", display="Upscale Latent By", outputs=("LATENT",))
def latent_upscale_by(
    samples: Latent, upscale_method: Method = "nearest-exact", scale_by: Annotated[float, Range(0.01, 8.0, 0.01)] = 1.5
) -> tuple[Latent]:
    """By a factor."""
    x = samples["samples"]
    width, height = round(x.shape[3] * scale_by), round(x.shape[2] * scale_by)
    return ({**samples, "samples": resize.resized(x, max(1, width), max(1, height), upscale_method, "disabled")},)


@node("SetLatentNoiseMask", category="latent/inpaint", display="Set Latent Noise Mask", outputs=("LATENT",))
def set_latent_noise_mask(samples: Latent, mask: Mask) -> tuple[Latent]:
    """Only where the mask is 1 will be painted; the rest stays exactly as it is."""
    return ({**samples, "noise_mask": mask.reshape(-1, 1, *mask.shape[-2:])},)


@node("RepeatLatentBatch", category="latent/batch", display="Repeat Latent Batch", outputs=("LATENT",))
def repeat_latent_batch(samples: Latent, amount: Annotated[int, Range(1, 64)] = 1) -> tuple[Latent]:
    """The same latents several times."""
    result = {**samples, "samples": samples["samples"].repeat(amount, 1, 1, 1)}
    if samples.get("noise_mask") is not None and samples["noise_mask"].shape[0] > 1:
        result["noise_mask"] = samples["noise_mask"].repeat(amount, 1, 1, 1)
    if "batch_index" in samples:
        step = max(samples["batch_index"]) - min(samples["batch_index"]) + 1
        result["batch_index"] = [index + turn * step for turn in range(amount) for index in samples["batch_index"]]
    return (result,)


@node("LatentFromBatch", category="latent/batch", display="Latent From Batch", outputs=("LATENT",))
def latent_from_batch(
    samples: Latent, batch_index: Annotated[int, Range(0, 63)] = 0, length: Annotated[int, Range(1, 64)] = 1
) -> tuple[Latent]:
    """A few latents of a batch; they keep their place, so that the same seed gives them the same noise."""
    x = samples["samples"]
    first = min(x.shape[0] - 1, batch_index)
    last = min(x.shape[0], first + length)
    places = samples.get("batch_index") or list(range(x.shape[0]))
    result = {**samples, "samples": x[first:last].clone(), "batch_index": places[first:last]}
    mask = samples.get("noise_mask")
    if mask is not None and mask.shape[0] > 1:
        result["noise_mask"] = mask[first:last].clone()
    return (result,)


@node("LatentComposite", category="latent", display="Latent Composite", outputs=("LATENT",))
def latent_composite(samples_to: Latent, samples_from: Latent, x: Place = 0, y: Place = 0, feather: Place = 0) -> tuple[Latent]:
    """One latent laid onto another, its edges fading over `feather` pixels where the other goes on behind them."""
    target, source = samples_to["samples"].clone(), samples_from["samples"]
    left, top, ramp = x // 8, y // 8, feather // 8
    source = source[:, :, : max(0, target.shape[2] - top), : max(0, target.shape[3] - left)]
    height, width = source.shape[2:]
    weight = torch.ones(1, 1, height, width)
    for depth in range(min(ramp, height, width)):
        share = (depth + 1) / ramp
        if top > 0:
            weight[:, :, depth, :] *= share
        if top + height < target.shape[2]:
            weight[:, :, height - 1 - depth, :] *= share
        if left > 0:
            weight[:, :, :, depth] *= share
        if left + width < target.shape[3]:
            weight[:, :, :, width - 1 - depth] *= share
    behind = target[:, :, top : top + height, left : left + width]
    target[:, :, top : top + height, left : left + width] = source * weight + behind * (1.0 - weight)
    return ({**samples_to, "samples": target},)
