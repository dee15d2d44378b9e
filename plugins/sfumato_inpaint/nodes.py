"""Nodes for what is done to a picture around a selection: prefill, mask edges, colour match, seam fit and seam figure, composite."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from sfumato.errors import BadValueError
from sfumato.lazy import lazy_module
from sfumato.nodes import NodeContext, Result, node
from sfumato.sockets import MAX_SIZE, Choice, Image, Mask, Range, Strength

if TYPE_CHECKING:
    import numpy as np
    import torch

    from sfumato.engine import pictures
    from sfumato_inpaint import compositing, matching, seam, selection
else:
    np = lazy_module("numpy")
    torch = lazy_module("torch")
    pictures = lazy_module("sfumato.engine.pictures")
    compositing = lazy_module("sfumato_inpaint.compositing")
    matching = lazy_module("sfumato_inpaint.matching")
    seam = lazy_module("sfumato_inpaint.seam")
    selection = lazy_module("sfumato_inpaint.selection")

EdgeName = Literal["inward", "centred", "outward"]
Pixels = Annotated[float, Range(0.0, 1024.0, 0.5)]
Border = Annotated[int, Range(0, MAX_SIZE, 8)]
FillName = Annotated[str, Choice("fills")]


def each(work: Callable[..., Any], *batches: torch.Tensor) -> torch.Tensor:
    """`work` for every picture; shorter batches begin again from their first. All tensors of one batch of arrays."""
    length = max(len(batch) for batch in batches)
    done = [work(*(batch[place % len(batch)].numpy() for batch in batches)) for place in range(length)]
    return torch.from_numpy(np.stack(done))


def flat(mask: torch.Tensor) -> torch.Tensor:
    """[B,H,W]."""
    return mask.reshape(-1, *mask.shape[-2:])


def _filled(ctx: NodeContext, image: torch.Tensor, mask: torch.Tensor, fill: str) -> torch.Tensor:
    offers = ctx.services.registered.fills
    if fill not in offers:
        raise BadValueError(f"unknown fill {fill!r}", "fill", f"There are: {', '.join(offers)}.")
    result: torch.Tensor = offers[fill].load()(image, mask)
    return result


@node("InpaintFill", category="image/inpaint", display="Fill Masked", outputs=("IMAGE",))
def inpaint_fill(ctx: NodeContext, image: Image, mask: Mask, fill: FillName = "harmonic") -> tuple[Image]:
    """Something plausible where the mask is 1, before it is painted; the rest keeps its very pixels."""
    return (_filled(ctx, image, mask, fill),)


@node("OutpaintPrefill", category="image/inpaint", display="Pad and Fill for Outpainting", outputs=("IMAGE", "MASK"))
def outpaint_prefill(
    ctx: NodeContext, image: Image, left: Border = 0, top: Border = 0, right: Border = 0, bottom: Border = 0, fill: FillName = "harmonic"
) -> tuple[Image, Mask]:
    """Room around a picture, into which the picture is continued, and a mask of it."""
    grown, mask = pictures.padded(image, left, top, right, bottom, 0)
    if not bool((mask > 0).any()):
        return grown, mask
    return _filled(ctx, grown, mask, fill), mask


@node("MaskEdge", category="mask", display="Grow and Feather Mask", outputs=("MASK",))
def mask_edge(
    mask: Mask,
    grow: Annotated[float, Range(-1024.0, 1024.0, 0.5)] = 0.0,
    feather: Pixels = 0.0,
    edge: EdgeName = "inward",
    fill_holes: bool = False,
) -> tuple[Mask]:
    """Holes filled, then grown (or shrunk), then feathered; exact distances in pixels. Without a feather soft tones stay."""

    def edged(one: Any) -> Any:
        changed = selection.grow(selection.fill_holes(one) if fill_holes else one, grow)
        return selection.feather(changed, feather, edge) if feather else changed

    return (each(edged, flat(mask)),)


@node("ColorMatchMasked", category="image/inpaint", display="Color Match (kept pixels)", outputs=("IMAGE",))
def color_match_masked(image: Image, reference: Image, mask: Mask, strength: Strength = 1.0) -> tuple[Image]:
    """The colours of `reference` for `image`, judged only by the pixels that the mask keeps. Where nothing is kept nothing is changed."""
    holes = flat(mask)
    if not bool((holes < 0.5).any()):
        return (image,)
    return (each(lambda a, b, m: matching.matched(a[..., :3], b[..., :3], m, strength), image, reference, holes),)


@node("SeamFit", category="image/inpaint", display="Seam Fit", outputs=("IMAGE",))
def seam_fit(
    image: Image, original: Image, mask: Mask, strength: Strength = 1.0, width: Annotated[float, Range(0.5, 64.0, 0.5)] = 3.0
) -> tuple[Image]:
    """A smooth correction inside the mask that makes a painted picture meet the original along the mask's border."""
    return (each(lambda a, b, m: seam.fitted(a[..., :3], b[..., :3], m, strength, width), image, original, flat(mask)),)


@node("SeamFigure", category="image/inpaint", display="Seam Figure", outputs=("IMAGE", "mean", "p95"), is_output=True)
def seam_figure(image: Image, mask: Mask, full: Annotated[float, Range(0.1, 100.0, 0.1)] = 10.0) -> tuple[Image, float, float] | Result:
    """How visible the border of a mask is: Delta E 2000 between its two banks, drawn as a heat line (red: `full` and more)."""
    seams = [seam.seam_of(pixels[..., :3].numpy(), hole.numpy()) for pixels, hole in _pairs(image, flat(mask))]
    lines = [seam.heat_line(pixels[..., :3].numpy(), found, full) for pixels, found in zip(image, seams, strict=True)]
    mean, p95 = (float(np.mean([getattr(found, name) for found in seams])) for name in ("mean", "p95"))
    text = f"seam: mean Delta E 2000 {mean:.2f}, p95 {p95:.2f}"
    return Result((torch.from_numpy(np.stack(lines)), mean, p95), shown={"text": [text]})


def _pairs(image: torch.Tensor, mask: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(pixels, mask[place % len(mask)]) for place, pixels in enumerate(image)]


@node("ProtectedComposite", category="image/inpaint", display="Protected Composite", outputs=("IMAGE", "changed"))
def protected_composite(
    original: Image, image: Image, mask: Mask, feather: Pixels = 0.0, edge: EdgeName = "inward", protect: bool = True
) -> tuple[Image, int] | Result:
    """A painted picture over the original within the mask; with `protect` not one byte outside of it changes."""
    holes = flat(mask)

    def laid(behind: Any, painted: Any, hole: Any) -> Any:
        return compositing.composite(behind[..., :3], painted[..., :3], compositing.alpha_of(hole, feather, edge, protect))

    result = each(laid, original, image, holes)
    count = sum(
        compositing.changed_outside(original[place % len(original)][..., :3].numpy(), after.numpy(), hole.numpy())
        for place, (after, hole) in enumerate(_pairs(result, holes))
    )
    return Result((result, count), shown={"text": [f"changed original pixels: {count}"]})
