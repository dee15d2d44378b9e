"""Nodes that make CONDITIONING out of words, and change where, when and how strongly it counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from sfumato.lazy import lazy_module
from sfumato.nodes import NodeContext, node
from sfumato.sockets import MAX_SIZE, Clip, Conditioning, Mask, Percent, Range, Strength, Text

if TYPE_CHECKING:
    import torch

    from sfumato.engine import text_encoding
else:
    torch = lazy_module("torch")
    text_encoding = lazy_module("sfumato.engine.text_encoding")

Pixels = Annotated[int, Range(0, MAX_SIZE, 8)]
Weight = Annotated[float, Range(0.0, 10.0, 0.01)]


def changed(conditioning: Conditioning, **values: Any) -> Conditioning:
    """The same entries with more options."""
    return [[tensor, {**options, **values}] for tensor, options in conditioning]


@node("CLIPTextEncode", category="conditioning", display="CLIP Text Encode (Prompt)", outputs=("CONDITIONING",), optional=("dialect",))
def clip_text_encode(
    ctx: NodeContext,
    text: Annotated[str, Text(multiline=True, dynamic_prompts=True)],
    clip: Clip,
    dialect: Literal["comfy", "sfumato"] = "comfy",
) -> tuple[Conditioning]:
    """Words as the model understands them. `(word:1.3)` weighs; the dialect `sfumato` also knows `[word]`, BREAK and `[a:b:0.5]`."""
    return (text_encoding.encode_text(ctx.services, clip, text, dialect, ctx.progress),)


@node("CLIPSetLastLayer", category="conditioning", display="CLIP Set Last Layer", outputs=("CLIP",))
def clip_set_last_layer(clip: Clip, stop_at_clip_layer: Annotated[int, Range(-24, -1)] = -1) -> tuple[Clip]:
    """Leave out the last layers of the text encoder ("clip skip")."""
    return (text_encoding.with_skip(clip, -stop_at_clip_layer),)


@node("ConditioningCombine", category="conditioning", outputs=("CONDITIONING",))
def conditioning_combine(conditioning_1: Conditioning, conditioning_2: Conditioning) -> tuple[Conditioning]:
    """Both at once: their predictions are averaged."""
    return ([*conditioning_1, *conditioning_2],)


@node("ConditioningConcat", category="conditioning", outputs=("CONDITIONING",))
def conditioning_concat(conditioning_to: Conditioning, conditioning_from: Conditioning) -> tuple[Conditioning]:
    """One longer text: the tokens of `from` (its first entry) after those of each entry of `to`."""
    added = conditioning_from[0][0]
    return ([[torch.cat([tensor, added], dim=1), dict(options)] for tensor, options in conditioning_to],)


@node("ConditioningAverage", category="conditioning", outputs=("CONDITIONING",))
def conditioning_average(
    conditioning_to: Conditioning, conditioning_from: Conditioning, conditioning_to_strength: Strength = 1.0
) -> tuple[Conditioning]:
    """Somewhere between two texts: 1 is `to`, 0 is `from` (its first entry), padded with zeros or cut to the length of `to`."""
    source, source_options = conditioning_from[0]
    result = []
    for tensor, options in conditioning_to:
        other = source[:, : tensor.shape[1]]
        if other.shape[1] < tensor.shape[1]:
            other = torch.cat([other, torch.zeros(1, tensor.shape[1] - other.shape[1], tensor.shape[2])], dim=1)
        mixed = tensor * conditioning_to_strength + other * (1.0 - conditioning_to_strength)
        pooled, pooled_from = options.get("pooled_output"), source_options.get("pooled_output")
        if pooled is not None and pooled_from is not None:
            pooled = pooled * conditioning_to_strength + pooled_from * (1.0 - conditioning_to_strength)
        result.append([mixed, {**options, "pooled_output": pooled if pooled is not None else pooled_from}])
    return (result,)


@node("ConditioningSetArea", category="conditioning", outputs=("CONDITIONING",))
def conditioning_set_area(
    conditioning: Conditioning,
    width: Annotated[int, Range(64, MAX_SIZE, 8)] = 64,
    height: Annotated[int, Range(64, MAX_SIZE, 8)] = 64,
    x: Pixels = 0,
    y: Pixels = 0,
    strength: Weight = 1.0,
) -> tuple[Conditioning]:
    """Counts only in a rectangle of the picture, in pixels."""
    area = (height // 8, width // 8, y // 8, x // 8)
    return (changed(conditioning, area=area, strength=strength, set_area_to_bounds=False),)


@node("ConditioningSetAreaPercentage", category="conditioning", outputs=("CONDITIONING",))
def conditioning_set_area_percentage(
    conditioning: Conditioning,
    width: Annotated[float, Range(0.0, 1.0, 0.01)] = 1.0,
    height: Annotated[float, Range(0.0, 1.0, 0.01)] = 1.0,
    x: Annotated[float, Range(0.0, 1.0, 0.01)] = 0.0,
    y: Annotated[float, Range(0.0, 1.0, 0.01)] = 0.0,
    strength: Weight = 1.0,
) -> tuple[Conditioning]:
    """Counts only in a rectangle of the picture, in parts of its size."""
    return (changed(conditioning, area=("percentage", height, width, y, x), strength=strength, set_area_to_bounds=False),)


@node("ConditioningSetMask", category="conditioning", outputs=("CONDITIONING",))
def conditioning_set_mask(
    conditioning: Conditioning,
    mask: Mask,
    strength: Weight = 1.0,
    set_cond_area: Literal["default", "mask bounds"] = "default",
) -> tuple[Conditioning]:
    """Counts only where the mask is 1; with `mask bounds` the model sees only the rectangle around it."""
    flat = mask if mask.dim() == 3 else mask[None]
    return (changed(conditioning, mask=flat, mask_strength=strength, set_area_to_bounds=set_cond_area != "default"),)


@node("ConditioningSetTimestepRange", category="advanced/conditioning", outputs=("CONDITIONING",))
def conditioning_set_timestep_range(conditioning: Conditioning, start: Percent = 0.0, end: Percent = 1.0) -> tuple[Conditioning]:
    """Counts only from one part of the way to another: 0 is the first step, 1 the last."""
    return (changed(conditioning, start_percent=start, end_percent=end),)


@node("ConditioningZeroOut", category="advanced/conditioning", outputs=("CONDITIONING",))
def conditioning_zero_out(conditioning: Conditioning) -> tuple[Conditioning]:
    """No text at all (which is not the same as an empty text)."""
    result = []
    for tensor, options in conditioning:
        pooled = options.get("pooled_output")
        more = {"pooled_output": torch.zeros_like(pooled)} if pooled is not None else {}
        result.append([torch.zeros_like(tensor), {**options, **more}])
    return (result,)
