"""Completion of a hole with patches of its surroundings.

Patches are found by PatchMatch (Barnes et al. 2009: propagation and random search), here for all pixels at once; colours
are voted by all patches that cover a pixel, from coarse to fine (Wexler, Shechtman, Irani 2007). The time is bounded: holes of more
pixels than the budget are completed at a smaller size, and their finest detail is fetched once from where the patches came from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sfumato.errors import BadValueError
from sfumato.geometry import Size
from sfumato_inpaint.colour import Floats
from sfumato_inpaint.cropping import resampled
from sfumato_inpaint.laplace import continued

Places = NDArray[np.int32]

_SIDE = 7
_BUDGET = 12_000
"""Hole pixels that the full search works on."""
_ROUNDS = (8, 5, 4)
"""Rounds of searching and voting at the coarsest level, the next, and all finer ones."""
_DECAY = (2.0, 1.3)
"""How much less a pixel counts for each pixel further inside: at the coarsest level, and at finer ones."""
_FAR = 0.01
"""What a source as far away as the picture is large costs, in squared differences."""
_NEIGHBOURS = ((0, 1), (0, -1), (1, 0), (-1, 0))


def completed(image: Floats, hole: NDArray[Any], seed: int = 0) -> Floats:
    """`image` [H,W,C] with `hole` [H,W] (true or > 0) filled from patches of the rest; the same seed gives the same picture.

    Raises BadValueError if the rest holds no whole patch of 7x7 pixels.
    """
    hole = np.asarray(hole) > 0
    if not hole.any():
        return np.array(image, np.float32)
    levels = _pyramid(np.asarray(image, np.float32), hole)
    rng = np.random.default_rng(seed)
    picture, sources = levels[-1].start, None
    for depth, level in enumerate(reversed(levels)):
        if depth:
            picture, sources = _onto(level, picture, sources)
        is_searched = int(level.hole.sum()) <= _BUDGET or depth == 0
        search = _Search(level, rng, sources, _DECAY[min(depth, 1)])
        for _ in range(_ROUNDS[min(depth, 2)] if is_searched else 1):
            if is_searched:
                search.improve(picture)
            picture = search.voted(picture)
        sources = search.field()
    return np.where(hole[..., None], picture, image).astype(np.float32)


@dataclass(frozen=True)
class _Level:
    """One size of the picture: `image` [H,W,C], its `hole`, a first guess, and where whole patches of known pixels have their middle."""

    image: Floats
    hole: NDArray[np.bool_]
    valid: NDArray[np.bool_]

    @property
    def start(self) -> Floats:
        return continued(self.image, self.hole)


def _pyramid(image: Floats, hole: NDArray[np.bool_]) -> list[_Level]:
    """Finest first; it ends where a hole is a few patches wide, or no whole patch of known pixels is left."""
    levels = [_level(image, hole)]
    if not levels[0].valid.any():
        raise BadValueError(
            f"the kept pixels hold no whole patch of {_SIDE}x{_SIDE} to copy from", "mask", "Keep more of the picture, or use harmonic."
        )
    thickness = float(ndimage.distance_transform_edt(np.pad(hole, 1)).max())
    while thickness > _SIDE / 2 or int(levels[-1].hole.sum()) > _BUDGET:
        finest = levels[-1]
        height, width = (side // 2 for side in finest.hole.shape)
        if min(height, width) < 3 * _SIDE:
            break
        size = Size(width, height)
        known = np.where(finest.hole[..., None], 0, np.concatenate([finest.image, np.ones((*finest.hole.shape, 1), np.float32)], -1))
        small = _halved(known.astype(np.float32), size)
        share = small[..., -1:]
        level = _level(np.asarray(small[..., :-1] / np.maximum(share, 1e-6), np.float32), share[..., 0] < 0.5)
        if int(level.valid.sum()) < _SIDE * _SIDE or not level.hole.any():
            break
        levels.append(level)
        thickness /= 2
    return levels


def _level(image: Floats, hole: NDArray[np.bool_]) -> _Level:
    valid = ~ndimage.binary_dilation(hole, np.ones((_SIDE, _SIDE)))
    margin = _SIDE // 2
    inner = np.zeros_like(valid)
    inner[margin:-margin, margin:-margin] = True
    return _Level(image, hole, valid & inner)


def _halved(pixels: Floats, size: Size) -> Floats:
    cut = pixels[: size.height * 2, : size.width * 2]
    shape = (size.height, 2, size.width, 2, pixels.shape[-1])
    return np.asarray(cut.reshape(shape).mean((1, 3)), np.float32)


def _onto(level: _Level, picture: Floats, sources: Places | None) -> tuple[Floats, Places | None]:
    """A coarser result brought to a level: the picture enlarged, the sources doubled."""
    height, width = level.hole.shape
    larger = resampled(picture, Size(width, height))
    picture = np.where(level.hole[..., None], larger, level.image)
    if sources is None:
        return picture, None
    rows = (np.arange(height) // 2).clip(max=sources.shape[0] - 1)
    columns = (np.arange(width) // 2).clip(max=sources.shape[1] - 1)
    odd = np.stack(np.meshgrid(np.arange(height) % 2, np.arange(width) % 2, indexing="ij"), -1)
    return picture, (sources[rows][:, columns] * 2 + odd).astype(np.int32)


class _Search:
    """The nearest-neighbour field of one level: for every patch that touches the hole (its middle: target), the middle of its source."""

    def __init__(self, level: _Level, rng: np.random.Generator, sources: Places | None, decay: float) -> None:
        self._level, self._rng = level, rng
        margin = _SIDE // 2
        touched = ndimage.binary_dilation(level.hole, np.ones((_SIDE, _SIDE)))
        self._targets = np.argwhere(touched).astype(np.int32)
        self._number = np.full(level.hole.shape, -1, np.int32)
        self._number[touched] = np.arange(len(self._targets))
        grid = np.arange(-margin, margin + 1)
        self._window = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
        # Not a random start: what is nearest is the likeliest, and random ones are soon among patches that agree with each other only.
        nearest = ndimage.distance_transform_edt(~level.valid, return_distances=False, return_indices=True)
        self._sources = nearest[:, self._targets[:, 0], self._targets[:, 1]].T.astype(np.int32)
        if sources is not None:
            self._take_over(sources[touched])
        self._cost = np.full(len(self._targets), np.inf, np.float32)
        # What is known counts more than what was guessed, and guesses near known pixels more than those deep inside: so the
        # coarsest level grows inwards from the border, like the peels of an onion.
        depth = ndimage.distance_transform_edt(level.hole)
        self._trust = np.where(level.hole, decay ** -np.minimum(depth, 20), 1).astype(np.float32)

    def _take_over(self, sources: Places) -> None:
        inside = sources.clip(0, np.array(self._level.valid.shape) - 1)
        is_valid = self._level.valid[inside[:, 0], inside[:, 1]]
        self._sources[is_valid] = inside[is_valid]

    def field(self) -> Places:
        """[H,W,2]: the source of every target, elsewhere the place itself."""
        height, width = self._level.hole.shape
        result = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), -1).astype(np.int32)
        result[self._targets[:, 0], self._targets[:, 1]] = self._sources
        return result

    def improve(self, picture: Floats) -> None:
        """One pass: costs anew, propagation from four sides at two distances, random search in shrinking windows."""
        patches, trust = self._patches(picture, self._targets), self._patches(self._trust[..., None], self._targets)
        weights = trust / trust.sum(1, keepdims=True)
        self._cost = self._costs(patches, weights, self._sources, np.arange(len(self._targets)))
        for distance in (4, 1):
            for dy, dx in _NEIGHBOURS:
                self._try(patches, weights, *self._propagated(dy * distance, dx * distance))
        reach = float(max(self._level.hole.shape))
        while reach >= 1:
            shift = np.rint(self._rng.uniform(-reach, reach, self._sources.shape)).astype(np.int32)
            self._try(patches, weights, np.arange(len(self._targets)), self._sources + shift)
            reach /= 3

    def _propagated(self, dy: int, dx: int) -> tuple[NDArray[Any], Places]:
        """(which targets, their candidates): the source of the neighbour at (dy, dx), moved back by as much."""
        there = self._targets + np.array([dy, dx], np.int32)
        inside = ((there >= 0) & (there < self._number.shape)).all(1)
        near = np.where(inside, self._number[tuple(there.clip(0, np.array(self._number.shape) - 1).T)], -1)
        mine = np.flatnonzero(near >= 0)
        return mine, self._sources[near[mine]] - np.array([dy, dx], np.int32)

    def _try(self, patches: Floats, weights: Floats, which: NDArray[Any], candidates: Places) -> None:
        inside = ((candidates >= 0) & (candidates < self._level.valid.shape)).all(1)
        held = candidates.clip(0, np.array(self._level.valid.shape) - 1)
        usable = inside & self._level.valid[held[:, 0], held[:, 1]]
        which, candidates = which[usable], candidates[usable]
        cost = self._costs(patches[which], weights[which], candidates, which)
        better = cost < self._cost[which]
        self._sources[which[better]], self._cost[which[better]] = candidates[better], cost[better]

    def _costs(self, patches: Floats, weights: Floats, sources: Places, which: NDArray[Any]) -> Floats:
        """Weighted squared differences, and a little for the way: what is near is likelier to belong here."""
        apart = patches - self._patches(self._level.image, sources)
        away = np.sqrt(((sources - self._targets[which]).astype(np.float32) ** 2).sum(-1)) / max(self._level.hole.shape)
        return np.asarray(np.einsum("npc,npc,np->n", apart, apart, weights[..., 0], optimize=False) + _FAR * away, np.float32)

    def _patches(self, image: Floats, middles: Places) -> Floats:
        """[n, 49, C]; beyond the border the nearest pixel counts."""
        rows = (middles[:, None, 0] + self._window[:, 0]).clip(0, image.shape[0] - 1)
        columns = (middles[:, None, 1] + self._window[:, 1]).clip(0, image.shape[1] - 1)
        return np.asarray(image[rows, columns], np.float32)

    def voted(self, picture: Floats) -> Floats:
        """The picture with every hole pixel the weighted mean of what the patches over it say."""
        height, width = self._level.hole.shape
        total, weight = np.zeros((height * width, picture.shape[-1])), np.zeros(height * width)
        known = self._cost[np.isfinite(self._cost)]
        spread = 2 * float(np.percentile(known, 75)) + 1e-6 if len(known) else 1.0
        cost = np.where(np.isfinite(self._cost), self._cost, spread)
        share = np.exp(-np.minimum(cost / spread, 20)) * self._trust[self._targets[:, 0], self._targets[:, 1]]
        for dy, dx in self._window:
            row, column = self._targets[:, 0] + dy, self._targets[:, 1] + dx
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            place = row[inside] * width + column[inside]
            colours = self._level.image[self._sources[inside, 0] + dy, self._sources[inside, 1] + dx]
            weight += np.bincount(place, share[inside], height * width)
            for channel in range(picture.shape[-1]):
                total[:, channel] += np.bincount(place, share[inside] * colours[:, channel], height * width)
        mean = (total / np.maximum(weight, 1e-100)[:, None]).reshape(picture.shape)
        return np.where((self._level.hole & (weight.reshape(height, width) > 0))[..., None], mean, picture).astype(np.float32)
