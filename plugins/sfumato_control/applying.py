"""Putting a control net on CONDITIONING: every entry gets a `Control` that remembers those applied before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sfumato.engine.handles import Control, ControlHandle
from sfumato.errors import BadValueError


def controlled(
    conditionings: Sequence[list[Any]],
    handle: ControlHandle,
    image: torch.Tensor,
    strength: float,
    start: float = 0.0,
    end: float = 1.0,
    *,
    on_negative: bool = False,
) -> list[list[Any]]:
    """The conditionings, steered by `image` (IMAGE) between the shares `start` and `end` of the way; as they were at strength 0.

    Entries with the same controls before share one `Control`, because only entries with the same one can go through the
    networks together. `on_negative` asks that a negative conditioning without controls be steered by the same.
    """
    if strength == 0.0:
        return list(conditionings)
    hint = _hint(image)
    made: dict[int, Control] = {}

    def control(options: dict[str, Any]) -> Control:
        previous = options.get("control")
        return made.setdefault(id(previous), Control(handle, hint, strength, start, end, previous))

    return [
        [[tensor, {**options, "control": control(options), "control_apply_to_uncond": on_negative}] for tensor, options in entries]
        for entries in conditionings
    ]


def _hint(image: torch.Tensor) -> torch.Tensor:
    """IMAGE [B,H,W,C] -> [B,3,H,W] float32; an alpha channel is left out, a single channel is grey."""
    if image.dim() != 4 or image.shape[-1] not in (1, 3, 4):
        raise BadValueError(f"{list(image.shape)} is no picture [batch, height, width, 3]", "image")
    return image[..., :3].float().movedim(-1, 1).expand(-1, 3, -1, -1).contiguous()
