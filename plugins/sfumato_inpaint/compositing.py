"""The protected composite: what was generated, laid over the original so that nothing outside the selection changes by one bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.images import to_8_bits
from sfumato_inpaint.colour import Floats
from sfumato_inpaint.selection import Edge, check_size, feather


def composite(original: Floats, generated: Floats, alpha: NDArray[Any]) -> Floats:
    """`generated` over `original` [H,W,C] with weight `alpha` [H,W] in 0..1; where alpha is 0 the very numbers of `original` stay."""
    check_size(alpha, original)
    check_size(alpha, generated)
    share = np.asarray(alpha, np.float32)[..., None]
    mixed = generated * share + original * (1 - share)
    return np.where(share > 0, np.where(share >= 1, generated, mixed), original).astype(np.float32)


def alpha_of(selection: NDArray[Any], soft: float = 0.0, edge: Edge = "inward", protect: bool = True) -> Floats:
    """The weight of the generated picture for a `selection` [H,W].

    `soft`: width of the edge in pixels. With `protect` it is 0 wherever the selection is 0, whatever `edge` says; without, a centred or
    outward edge reaches that far into the original. A selection that is soft itself keeps its tones where the edge leaves it.
    """
    mask = np.asarray(selection, np.float32)
    chosen = mask > 0
    # At the document's border there is no seam, so no soft edge: the selection goes on beyond it.
    reach = max(1, int(np.ceil(soft)) + 1)
    edged = feather(np.pad(chosen, reach, mode="edge"), soft, edge)[reach:-reach, reach:-reach]
    if edge == "inward" or protect:
        return np.where(chosen, edged * mask, 0).astype(np.float32)
    return np.where(chosen, edged * mask, edged).astype(np.float32)


def changed_outside(before: Floats, after: Floats, selection: NDArray[Any]) -> int:
    """How many pixels outside the selection differ in 8 bits."""
    differs = (to_8_bits(before) != to_8_bits(after)).any(-1)
    return int((differs & (np.asarray(selection) <= 0)).sum())
