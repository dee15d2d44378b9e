"""How the weight of a word acts on its encoding; two ways that prompts in the world are written for."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch

Weighting: TypeAlias = Literal["comfy", "a1111"]


def towards_empty(encoded: torch.Tensor, weights: torch.Tensor, empty: torch.Tensor) -> torch.Tensor:
    """ComfyUI's way: `empty + w * (encoded - empty)`, position by position. A weight of 1 leaves the very bits.

    `encoded` [N,77,D] float32, `weights` [N,77], `empty` [77,D] the encoding of the empty prompt.
    """
    w = weights[..., None]
    return torch.where(w == 1.0, encoded, empty + w * (encoded - empty))


def mean_restored(encoded: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """A1111's way: `w * encoded`, then each chunk scaled so that the mean of its numbers is what it was.

    `encoded` [N,77,D] float32, `weights` [N,77]. A chunk with all weights 1 keeps its very bits; one whose mean becomes 0 is
    not scaled. Encoders whose outputs average to about 0 do not suit this way: the scale is then far from 1.
    """
    weighted = encoded * weights[..., None]
    before, after = encoded.mean(dim=(1, 2), keepdim=True), weighted.mean(dim=(1, 2), keepdim=True)
    return torch.where(after == 0.0, weighted, weighted * (before / after))
