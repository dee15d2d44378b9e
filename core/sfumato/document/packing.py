"""Tiles packed into few bytes for history and journal, without loss.

The high bytes become differences to their left neighbours and the low bytes are combined (xor) with the high ones, so that what came
from 8 bits (65535 = 257 x 255) is all zeros there; then zlib by run lengths. Measured on brush strokes and pictures of 512 KB
a tile: 4.4 to 5.6 ms and a quarter to 40 % of the size; plain zlib of level 1 takes twice as long for a third more bytes.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from sfumato.document.planes import Planes
from sfumato.errors import DocumentFileError

_HEAD = struct.Struct("<BBHH")
_SOLID, _PACKED = 0, 1
MOST_SIDE = 256


def pack(planes: Planes) -> bytes:
    """Bytes that `unpack` turns back into the same uint16 [C,H,W], H and W up to 256."""
    channels, height, width = planes.shape
    first = planes[:, :1, :1]
    if planes.size and (planes[:, -1:, -1:] == first).all() and (planes == first).all():
        return _HEAD.pack(_SOLID, channels, height, width) + np.ascontiguousarray(first).astype("<u2").tobytes()
    high = (planes >> 8).astype(np.uint8)
    low = planes.astype(np.uint8) ^ high
    high[:, :, 1:] -= high[:, :, :-1].copy()
    packer = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    packed = [packer.compress(high.tobytes()), packer.compress(low.tobytes()), packer.flush()]
    return b"".join([_HEAD.pack(_PACKED, channels, height, width), *packed])


def unpack(data: bytes) -> Planes:
    """uint16 [C,H,W] that `pack` was given; a solid one takes a few bytes again. Raises DocumentFileError for what is damaged."""
    try:
        kind, channels, height, width = _HEAD.unpack_from(data)
        if channels not in (1, 4) or not (0 < height <= MOST_SIDE and 0 < width <= MOST_SIDE):
            raise ValueError("a tile of an impossible size")
        if kind == _SOLID:
            colour = np.frombuffer(data, "<u2", channels, _HEAD.size).astype(np.uint16)
            return np.broadcast_to(colour[:, None, None], (channels, height, width))
        size = channels * height * width
        unpacker = zlib.decompressobj()
        raw = unpacker.decompress(data[_HEAD.size :], 2 * size)
        if len(raw) != 2 * size:
            raise ValueError("a tile of the wrong length")
    except (struct.error, zlib.error, ValueError) as error:
        raise DocumentFileError(f"a packed tile is damaged: {error}") from error
    high, low = np.frombuffer(raw, np.uint8).reshape(2, channels, height, width)
    high = np.add.accumulate(high, axis=2, dtype=np.uint8)
    planes: Planes = (high.astype(np.uint16) << np.uint16(8)) | (low ^ high)
    return planes
