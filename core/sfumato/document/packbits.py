"""PackBits, the run-length code of TIFF 6.0 (section 9) and Photoshop, for whole pictures at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MOST = 128
"""Bytes that one packet stands for, at most."""


def pack_rows(rows: NDArray[np.uint8]) -> tuple[NDArray[np.int64], bytes]:
    """(packed length of each row, all rows packed one after the other) of uint8 [H,W]; no packet crosses a row.

    Three or more equal bytes become a packet of two; what lies between such runs is copied behind its length.
    """
    height, width = rows.shape
    flat = rows.ravel()
    run_starts, run_lengths = _runs(flat, width)
    is_run = run_lengths >= 3
    # A packet begins with every run, after every run, and with every row; single bytes in between join.
    begins = is_run | (run_starts % width == 0)
    begins[1:] |= is_run[:-1]
    starts, packed_as_run = run_starts[begins], is_run[begins]
    starts, lengths, repeats = _cut(starts, np.diff(np.append(starts, flat.size)), packed_as_run)
    sizes = np.where(repeats, 2, 1 + lengths)
    places = np.cumsum(sizes) - sizes
    out = np.empty(int(sizes.sum()), np.uint8)
    out[places] = np.where(repeats, 257 - lengths, lengths - 1)
    out[places[repeats] + 1] = flat[starts[repeats]]
    copied = lengths[~repeats]
    steps = np.arange(int(copied.sum())) - np.repeat(np.cumsum(copied) - copied, copied)
    out[np.repeat(places[~repeats] + 1, copied) + steps] = flat[np.repeat(starts[~repeats], copied) + steps]
    return np.bincount(starts // width, weights=sizes, minlength=height).astype(np.int64), out.tobytes()


def _runs(flat: NDArray[np.uint8], width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(start, length) of every run of equal bytes within a row."""
    is_start = np.empty(flat.size, bool)
    is_start[0] = True
    np.not_equal(flat[1:], flat[:-1], out=is_start[1:])
    is_start[::width] = True
    starts = np.flatnonzero(is_start)
    return starts, np.diff(np.append(starts, flat.size))


def _cut(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], is_run: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Packets of at most 128 bytes; a rest of one byte is copied, not repeated."""
    pieces = -(-lengths // _MOST)
    which = np.repeat(np.arange(len(starts)), pieces)
    offsets = (np.arange(len(which)) - np.repeat(np.cumsum(pieces) - pieces, pieces)) * _MOST
    cut_lengths = np.minimum(_MOST, lengths[which] - offsets)
    return starts[which] + offsets, cut_lengths, is_run[which] & (cut_lengths > 1)
