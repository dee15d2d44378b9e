"""Crop and stitch: the part of the document that a generation sees, at the size the model works at, and the way back.

Nothing here makes a temporary of the document's size; only the final paste copies the picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from sfumato.errors import BadValueError
from sfumato.geometry import Bounds, Size
from sfumato_inpaint.colour import Floats
from sfumato_inpaint.compositing import alpha_of, composite
from sfumato_inpaint.selection import Edge, bounds_of, check_size

MULTIPLE = 8
"""Pixels in a latent pixel: sides of what a model sees are multiples of it."""
_KEEP_SCALE = 1.2
"""A context that is nearly the model's size is grown to it rather than enlarged: nothing is resampled then."""
_MOST_ENLARGED = 2.0
_MOST_AREA = 1.5
"""A model works well up to this multiple of the area it was trained on."""
_SLIMMEST = 2 / 3


@dataclass(frozen=True)
class Plan:
    """What a generation sees: `context` in document pixels, `work` the size it is brought to, and in how many `passes`."""

    context: Bounds
    work: Size
    passes: int = 1

    @property
    def scale(self) -> float:
        """Working pixels for a document pixel, along a side."""
        return math.sqrt(self.work.area / self.context.area)

    def told(self) -> str:
        """One line for people."""
        box, work = self.context, self.work
        seen = f"context {box.width}x{box.height} at {box.left},{box.top}"
        words = "one pass" if self.passes == 1 else "two passes"
        return f"{seen}; worked on as {work.width}x{work.height} ({self.scale:.2f}x), {words}"


def plan_for(selection: Bounds, document: Size, resolution: int, share: float = 0.25, least: int = 16) -> Plan:
    """The context of a selection's bounds in a document, for a model whose own side is `resolution` pixels (0: no scaling).

    The context is the selection grown on every side by `share` of its longer side, at least by `least` pixels, kept squarish and inside
    the document; its sides are multiples of 8 wherever the document allows it.
    """
    if selection.left < 0 or selection.top < 0 or selection.right > document.width or selection.bottom > document.height:
        raise BadValueError("the selection is outside of the document", "selection", "Select within the picture.")
    room = max(least, round(share * max(selection.width, selection.height)))
    width, height = selection.width + 2 * room, selection.height + 2 * room
    longest = max(width, height)
    floor = 0
    if resolution:
        floor = resolution if longest * _KEEP_SCALE >= resolution else math.ceil(resolution / _MOST_ENLARGED)
    width, height = max(width, round(longest * _SLIMMEST), floor), max(height, round(longest * _SLIMMEST), floor)
    across = _span(selection.left, selection.right, width, document.width)
    down = _span(selection.top, selection.bottom, height, document.height)
    context = Bounds(across[0], down[0], across[1], down[1])
    return Plan(context, *_working_size(context, resolution))


def _span(start: int, end: int, wanted: int, limit: int) -> tuple[int, int]:
    """`wanted` pixels around start..end, moved inside 0..limit, rounded up to a multiple of 8 if there is room."""
    length = min(-(-wanted // MULTIPLE) * MULTIPLE, limit)
    if length == limit and length % MULTIPLE and end - start <= length - length % MULTIPLE:
        length -= length % MULTIPLE
    first = min(max((start + end - length) // 2, 0), limit - length)
    return first, first + length


def _working_size(context: Bounds, resolution: int) -> tuple[Size, int]:
    """(size, passes)."""
    area = context.width * context.height
    if not resolution:
        scale = 1.0
    elif area < resolution * resolution / _KEEP_SCALE**2 or area > _MOST_AREA * resolution * resolution:
        scale = resolution / math.sqrt(area)
    else:
        scale = 1.0
    return whole_latents(context.width * scale, context.height * scale), 1 if scale >= 1 else 2


def whole_latents(width: float, height: float) -> Size:
    """The nearest size in multiples of 8, at least 8."""
    return Size(*(max(MULTIPLE, round(side / MULTIPLE) * MULTIPLE) for side in (width, height)))


@dataclass(frozen=True)
class Crop:
    """Part of a document at the model's size, and what stitching needs: `image` [h,w,3] and `mask` [h,w] of the plan's working size,
    `selection` [H,W] of the context in document pixels."""

    image: Floats
    mask: Floats
    selection: Floats
    plan: Plan


def crop(image: Floats, mask: NDArray[Any], resolution: int = 0, share: float = 0.25, least: int = 16) -> Crop:
    """The context of `mask` [H,W] in `image` [H,W,C]; see `plan_for`. Raises BadValueError for an empty mask or one of another size."""
    check_size(mask, image)
    plan = plan_for(bounds_of(mask), Size(image.shape[1], image.shape[0]), resolution, share, least)
    window = plan.context.top, plan.context.bottom, plan.context.left, plan.context.right
    part = image[window[0] : window[1], window[2] : window[3], :3]
    selection = np.array(mask[window[0] : window[1], window[2] : window[3]], np.float32)
    return Crop(resampled(part, plan.work), resampled_mask(selection, plan.work), selection, plan)


def resampled_mask(mask: Floats, size: Size) -> Floats:
    """[H,W] -> [height,width], without the overshoot that a picture's sharpness costs."""
    return np.asarray(resampled(mask[..., None], size, PillowImage.Resampling.BILINEAR)[..., 0], np.float32)


def resampled(pixels: Floats, size: Size, method: PillowImage.Resampling = PillowImage.Resampling.LANCZOS) -> Floats:
    """[H,W,C] float32 -> [height,width,C], clipped to 0..1; the same numbers if the size is the same."""
    if (pixels.shape[1], pixels.shape[0]) == (size.width, size.height):
        return np.array(pixels, np.float32)
    planes = [
        np.asarray(PillowImage.fromarray(np.ascontiguousarray(plane, np.float32)).resize((size.width, size.height), method))
        for plane in np.moveaxis(pixels, -1, 0)
    ]
    return np.asarray(np.clip(np.stack(planes, -1), 0, 1), np.float32)


def patch(original: Floats, generated: Floats, crop_: Crop, soft: float = 0.0, edge: Edge = "inward", protect: bool = True) -> Floats:
    """The context of `original` [H,W,C] with `generated` [h,w,3] scaled back and laid in; protected outside the selection."""
    box = crop_.plan.context
    behind = np.asarray(original[box.top : box.bottom, box.left : box.right, :3], np.float32)
    whole = resampled(generated[..., :3], Size(box.width, box.height))
    return composite(behind, whole, alpha_of(crop_.selection, soft, edge, protect))


def stitched(original: Floats, generated: Floats, crop_: Crop, soft: float = 0.0, edge: Edge = "inward", protect: bool = True) -> Floats:
    """All of `original` [H,W,C] with the patch in its place. With `protect` not one pixel outside the selection changes."""
    box = crop_.plan.context
    result = np.array(original, np.float32)
    result[box.top : box.bottom, box.left : box.right, :3] = patch(original, generated, crop_, soft, edge, protect)
    return result
