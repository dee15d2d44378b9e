"""Colour match: a picture is given the colours of another, by what its kept pixels say and nothing else.

The statistics are weighted sums over kept pixels; a masked pixel has no weight, so it pulls nothing towards black. Both pictures
show the same thing where pixels are kept, so the pixels there are pairs, and pairs that disagree with all others (an edge that the
autoencoder moved, a clipped highlight) are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import BadValueError
from sfumato_inpaint.colour import Floats, lab_of, rgb_of
from sfumato_inpaint.selection import check_size

_FEWEST = 16
"""Kept pixels below which nothing is claimed."""
_FLAT = 1.0
"""Spread in Lab units below which a ratio of spreads is noise: pulls the ratio towards 1."""
_MOST_PIXELS = 200_000
_CONTRAST = (0.8, 1.25)


@dataclass(frozen=True)
class Match:
    """new = (old - `pivot`) * `scale` + `pivot` + `shift`, each [3] in CIELAB."""

    pivot: Floats
    shift: Floats
    scale: Floats

    def applied(self, lab: NDArray[Any]) -> Floats:
        """CIELAB [..., 3] -> [..., 3]."""
        return ((lab - self.pivot) * self.scale + self.pivot + self.shift).astype(np.float32)


def match_of(generated: Floats, reference: Floats, mask: NDArray[Any]) -> Match:
    """What takes the kept pixels (weight 1 - `mask`) of `generated` [H,W,3] to those of `reference` [H,W,3], sRGB in 0..1.

    Mean and spread of every channel (Reinhard et al. 2001, "Color transfer between images", in CIELAB), weighted and trimmed. Raises
    BadValueError where fewer than 16 pixels are kept.
    """
    check_size(mask, generated)
    check_size(mask, reference)
    weight = 1 - np.asarray(mask, np.float32).ravel()
    kept = np.flatnonzero(weight > 0.5)
    if len(kept) < _FEWEST:
        raise BadValueError(f"only {len(kept)} pixels are kept", "mask", "Keep more of the picture, or leave the colour match out.")
    kept = kept[:: -(-len(kept) // _MOST_PIXELS)]
    mine = lab_of(generated[..., :3].reshape(-1, 3)[kept]).astype(np.float64)
    theirs = lab_of(reference[..., :3].reshape(-1, 3)[kept]).astype(np.float64)
    share = weight[kept].astype(np.float64) * _agreeing(theirs - mine)
    mean_mine, mean_theirs = np.average(mine, 0, share), np.average(theirs, 0, share)
    spread_mine, spread_theirs = (np.sqrt(np.average((x - m) ** 2, 0, share)) for x, m in ((mine, mean_mine), (theirs, mean_theirs)))
    scale = np.clip((spread_theirs + _FLAT) / (spread_mine + _FLAT), *_CONTRAST)
    parts = (mean_mine, mean_theirs - mean_mine, scale)
    return Match(*(part.astype(np.float32) for part in parts))


def _agreeing(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N]: 1 for pairs within three robust deviations of the median difference, 0 for the others."""
    off = np.sqrt(((difference - np.median(difference, 0)) ** 2).sum(-1))
    return np.asarray(off <= 3 * 1.4826 * np.median(off) + 0.5, np.float64)


def matched(generated: Floats, reference: Floats, mask: NDArray[Any], strength: float = 1.0) -> Floats:
    """`generated` [H,W,3] with the colours of `reference`, judged by the pixels that `mask` [H,W] keeps (0); see `match_of`."""
    if strength == 0:
        return np.asarray(generated, np.float32)
    lab = lab_of(generated[..., :3])
    corrected = match_of(generated, reference, mask).applied(lab)
    return rgb_of(lab + np.float32(strength) * (corrected - lab))
