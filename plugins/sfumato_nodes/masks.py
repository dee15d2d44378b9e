"""Nodes that make and change masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from sfumato.lazy import lazy_module
from sfumato.nodes import node
from sfumato.sockets import MAX_SIZE, Image, Mask, Range

if TYPE_CHECKING:
    import torch
    from torch.nn import functional
else:
    torch = lazy_module("torch")
    functional = lazy_module("torch.nn.functional")

Pixels = Annotated[int, Range(0, MAX_SIZE, 1)]
Side = Annotated[int, Range(1, MAX_SIZE, 1)]
Tone = Annotated[float, Range(0.0, 1.0, 0.01)]


def _flat(mask: torch.Tensor) -> torch.Tensor:
    """[B,H,W]."""
    return mask.reshape(-1, *mask.shape[-2:])


@node("SolidMask", category="mask", outputs=("MASK",))
def solid_mask(value: Tone = 1.0, width: Side = 512, height: Side = 512) -> tuple[Mask]:
    """One tone everywhere."""
    return (torch.full((1, height, width), value),)


@node("InvertMask", category="mask", outputs=("MASK",))
def invert_mask(mask: Mask) -> tuple[Mask]:
    """What was kept is painted, and the other way round."""
    return (1.0 - mask,)


@node("MaskToImage", category="mask", display="Convert Mask to Image", outputs=("IMAGE",))
def mask_to_image(mask: Mask) -> tuple[Image]:
    """A mask as a grey picture."""
    return (_flat(mask)[..., None].repeat(1, 1, 1, 3),)


@node("ImageToMask", category="mask", display="Convert Image to Mask", outputs=("MASK",))
def image_to_mask(image: Image, channel: Literal["red", "green", "blue", "alpha"] = "red") -> tuple[Mask]:
    """One channel of a picture as a mask; a picture without alpha counts as opaque."""
    place = ("red", "green", "blue", "alpha").index(channel)
    return (image[..., place].clone() if place < image.shape[-1] else torch.ones(image.shape[:3]),)


@node("GrowMask", category="mask", outputs=("MASK",))
def grow_mask(mask: Mask, expand: Annotated[int, Range(-MAX_SIZE, MAX_SIZE, 1)] = 0, tapered_corners: bool = True) -> tuple[Mask]:
    """Larger by `expand` pixels, or smaller if it is negative. Tapered corners grow to diamonds, others to squares."""
    x = _flat(mask)[:, None]
    if expand < 0:
        x = 1.0 - x
    for _ in range(abs(expand)):
        if tapered_corners:
            across = functional.max_pool2d(functional.pad(x, (1, 1, 0, 0)), (1, 3), stride=1)
            along = functional.max_pool2d(functional.pad(x, (0, 0, 1, 1)), (3, 1), stride=1)
            x = torch.maximum(across, along)
        else:
            x = functional.max_pool2d(x, 3, stride=1, padding=1)
    return ((1.0 - x if expand < 0 else x)[:, 0],)


@node("FeatherMask", category="mask", outputs=("MASK",))
def feather_mask(mask: Mask, left: Pixels = 0, top: Pixels = 0, right: Pixels = 0, bottom: Pixels = 0) -> tuple[Mask]:
    """Falls off linearly towards the borders of the picture."""
    result = _flat(mask).clone()
    height, width = result.shape[1:]
    for column in range(min(left, width)):
        result[:, :, column] *= (column + 1) / left
    for column in range(min(right, width)):
        result[:, :, -column - 1] *= (column + 1) / right
    for row in range(min(top, height)):
        result[:, row] *= (row + 1) / top
    for row in range(min(bottom, height)):
        result[:, -row - 1] *= (row + 1) / bottom
    return (result,)


@node("ThresholdMask", category="mask", outputs=("MASK",))
def threshold_mask(mask: Mask, value: Tone = 0.5) -> tuple[Mask]:
    """1 where the mask is above `value`, 0 elsewhere."""
    return ((mask > value).float(),)


@node("CropMask", category="mask", outputs=("MASK",))
def crop_mask(mask: Mask, x: Pixels = 0, y: Pixels = 0, width: Side = 512, height: Side = 512) -> tuple[Mask]:
    """A rectangle of a mask."""
    return (_flat(mask)[:, y : y + height, x : x + width],)


@node("MaskComposite", category="mask", outputs=("MASK",))
def mask_composite(
    destination: Mask,
    source: Mask,
    x: Pixels = 0,
    y: Pixels = 0,
    operation: Literal["multiply", "add", "subtract", "and", "or", "xor"] = "multiply",
) -> tuple[Mask]:
    """Two masks made one."""
    result, other = _flat(destination).clone(), _flat(source)
    height, width = min(other.shape[1], result.shape[1] - y), min(other.shape[2], result.shape[2] - x)
    if height <= 0 or width <= 0:
        return (result,)
    a, b = result[:, y : y + height, x : x + width], other[:, :height, :width]
    if operation == "multiply":
        mixed = a * b
    elif operation == "add":
        mixed = a + b
    elif operation == "subtract":
        mixed = a - b
    else:
        yes_a, yes_b = a.round().bool(), b.round().bool()
        mixed = {"and": yes_a & yes_b, "or": yes_a | yes_b, "xor": yes_a ^ yes_b}[operation].float()
    result[:, y : y + height, x : x + width] = mixed
    return (result.clamp(0, 1),)
