"""The answer to "what is this model file?", and the tools for looking at a header's names and shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from sfumato.models.safetensors_file import Header

Kind: TypeAlias = Literal["checkpoint", "unet", "vae", "clip", "controlnet", "lora", "embedding", "upscaler", "unknown"]


@dataclass(frozen=True)
class Recognised:
    """What a file is. `family` ("sd1", "sdxl", "flux" ...) is empty where the file does not tell. `reason` says why, in words.

    `details`, where they apply: `in_channels`, `context_dim`, `latent_channels`, `prediction` ("epsilon", "v_prediction", "flow"; a
    hint), `has_text_encoder`, `has_vae`, `layout` ("original" or "diffusers": how the tensors are named), `dialect` (of a LoRA),
    `rank`, `tokens` (vectors of an embedding), `width`, `scale`.
    """

    kind: Kind
    family: str
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)


def has_prefix(names: Iterable[str], *prefixes: str) -> bool:
    """Whether any name begins with one of `prefixes`."""
    return any(name.startswith(prefixes) for name in names)


def find_name(names: Iterable[str], ending: str) -> str | None:
    """The first name that ends in `ending`."""
    return next((name for name in names if name.endswith(ending)), None)


def dimension(header: Header, name: str, axis: int) -> int | None:
    """The size of one axis of a tensor, or None if there is no such tensor or axis."""
    shape = header.shape(name)
    return shape[axis] if shape and -len(shape) <= axis < len(shape) else None


def prediction_hint(header: Header) -> str | None:
    """What the file itself says of its prediction: an empty marker tensor, or metadata of the ModelSpec standard."""
    if "v_pred" in header.tensors:
        return "v_prediction"
    said = header.metadata.get("modelspec.prediction_type", "").strip().lower()
    return {"epsilon": "epsilon", "eps": "epsilon", "v": "v_prediction", "v_prediction": "v_prediction"}.get(said)
