"""Pieces of the picture ready for the screen: one image for each tile of a mip level, made when first seen, kept within a budget."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from sfumato.document.compositing import composite
from sfumato.document.picture import Picture
from sfumato.document.tiles import TILE
from sfumato.geometry import Bounds

Key = tuple[int, int, int]
"""(level, column, row)."""

BUDGET = 256 << 20
"""Bytes of pieces that are kept: about four 4K screens at four levels."""


class ScreenCache:
    """uint8 BGRA pieces, premultiplied, as a screen wants them. `None` stands for a piece with nothing in it."""

    def __init__(self, budget: int = BUDGET) -> None:
        self._pieces: OrderedDict[Key, NDArray[np.uint8] | None] = OrderedDict()
        self._budget, self._held = budget, 0

    def piece(self, picture: Picture, key: Key) -> NDArray[np.uint8] | None:
        """The piece at `key`, [TILE,TILE,4]; composited now if it is new or was changed."""
        if key in self._pieces:
            self._pieces.move_to_end(key)
            return self._pieces[key]
        level, column, row = key
        made = _for_screen(picture, Bounds.at(column * TILE, row * TILE, TILE, TILE), level)
        self._pieces[key] = made
        self._held += 0 if made is None else made.nbytes
        while self._held > self._budget and len(self._pieces) > 1:
            _, old = self._pieces.popitem(last=False)
            self._held -= 0 if old is None else old.nbytes
        return made

    def changed(self, bounds: Bounds) -> list[Key]:
        """Document pixels look different within `bounds`: forget the pieces there, at every level; returns their keys."""
        gone = [key for key in self._pieces if _covers(key) & bounds]
        for key in gone:
            old = self._pieces.pop(key)
            self._held -= 0 if old is None else old.nbytes
        return gone

    def clear(self) -> None:
        """Forget everything."""
        self._pieces.clear()
        self._held = 0


def _covers(key: Key) -> Bounds:
    """The document pixels of a piece."""
    level, column, row = key
    side = TILE << level
    return Bounds.at(column * side, row * side, side, side)


def _for_screen(picture: Picture, bounds: Bounds, level: int) -> NDArray[np.uint8] | None:
    planes = composite(picture, bounds, level, guides=True)
    if not planes[3].any():
        return None
    piece = np.empty((bounds.height, bounds.width, 4), np.uint8)
    for place, channel in enumerate((2, 1, 0, 3)):  # little-endian ARGB
        np.right_shift(planes[channel], 8, out=piece[..., place], casting="unsafe")
    return piece
