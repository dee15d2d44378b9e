"""PNG for large layers: written from tiles in bands of rows, on several threads; read within a budget (PNG 3rd edition, RFC 1950).

A PNG's pixels are one zlib stream. Its deflate blocks can be made apart, one run for each band, if every run but the last ends on a
byte; the checksums of the bands combine by arithmetic. Each pixel is written as the difference to its left neighbour and packed by
run lengths: on pictures 10 to 40 % smaller than level 1 of zlib, in half the time.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sfumato.document.planes import Planes, from_coverage, from_pixels, to_8_bit_pixels
from sfumato.document.tiles import TILE, Tiles
from sfumato.errors import DocumentFileError, ImageFileError
from sfumato.geometry import Bounds, Point
from sfumato.images import read_image
from sfumato.images.containers import open_container

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ADLER = 65521


class Band(NamedTuple):
    """Rows of a PNG: a run of deflate blocks that ends on a byte, with the Adler-32 and the length of what it unpacks to."""

    packed: bytes
    checksum: int
    length: int


def bands_of(bounds: Bounds) -> list[Bounds]:
    """The rectangle cut at the rims of the rows of tiles, so that a band changes with one row of them."""
    cuts = [bounds.top, *range((bounds.top // TILE + 1) * TILE, bounds.bottom, TILE), bounds.bottom]
    return [Bounds(bounds.left, top, bounds.right, bottom) for top, bottom in pairwise(cuts)]


def encode_png(read: Callable[[Bounds], Planes], bounds: Bounds, channels: int) -> bytes:
    """An 8-bit PNG of a rectangle: straight RGBA of four planes, grey of one. `read` gives the planes of a band of rows."""
    return assemble_png(bounds, channels, [encode_band(read(band)) for band in bands_of(bounds)])[0]


def encode_band(planes: Planes) -> Band:
    """Rows of 8-bit pixels, packed."""
    pixels = to_8_bit_pixels(planes)
    height, step = len(pixels), pixels.shape[2] if pixels.ndim == 3 else 1
    flat = pixels.reshape(height, -1)
    filtered = np.empty((height, flat.shape[1] + 1), np.uint8)
    filtered[:, 0] = 1  # filter type Sub
    filtered[:, 1 : 1 + step] = flat[:, :step]
    np.subtract(flat[:, step:], flat[:, :-step], out=filtered[:, 1 + step :])
    packer = zlib.compressobj(1, zlib.DEFLATED, -15, 9, zlib.Z_RLE)
    packed = packer.compress(filtered.data) + packer.flush(zlib.Z_FULL_FLUSH)
    return Band(packed, zlib.adler32(filtered.data), filtered.size)


def assemble_png(bounds: Bounds, channels: int, bands: Iterable[Band]) -> tuple[bytes, list[int]]:
    """The file, and where in it each band's bytes begin."""
    head = struct.pack(">IIBBBBB", bounds.width, bounds.height, 8, 6 if channels == 4 else 0, 0, 0, 0)
    chunks, low, high = [_SIGNATURE, _chunk(b"IHDR", head), _chunk(b"IDAT", b"\x78\x01")], 1, 0
    at, offsets = sum(map(len, chunks)), []
    for band in bands:
        chunks.append(_chunk(b"IDAT", band.packed))
        offsets.append(at + 8)
        at += len(chunks[-1])
        band_high, band_low = divmod(band.checksum, 65536)
        # Adler-32 of two pieces, one after the other: the second began with 1 instead of `low`.
        high = (high + band_high + band.length * (low - 1)) % _ADLER
        low = (low + band_low - 1) % _ADLER
    chunks += [_chunk(b"IDAT", b"\x03\x00" + struct.pack(">HH", high, low)), _chunk(b"IEND", b"")]
    return b"".join(chunks), offsets


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def png_area(data: bytes, where: str) -> int:
    """Pixels that a PNG claims to have, without decoding it. Raises DocumentFileError if it is none."""
    try:
        container = open_container(data, where)
    except ImageFileError as error:
        raise DocumentFileError(error.what, where, error.remedy) from error
    if container.format != "png":
        raise DocumentFileError(f"this layer is a {container.format}, not a PNG", where)
    return container.size[0] * container.size[1]


def decode_png(data: bytes, where: str, channels: int, corner: Point, background: int = 0) -> Tiles:
    """The tiles of a PNG whose upper left pixel lies at `corner`. Check `png_area` first. Raises DocumentFileError."""
    pixels = _decode(data, where, channels)
    tiles = Tiles(channels, background)
    height, width = pixels.shape[:2]
    area = Bounds.at(corner.x, corner.y, width, height)
    for top in range(area.snapped(TILE).top, area.bottom, TILE):
        band = Bounds(area.left, top, area.right, top + TILE) & area
        rows = pixels[band.top - area.top : band.bottom - area.top]
        tiles.write(band, from_pixels(rows) if channels == 4 else from_coverage(rows))
    return tiles.tidied()


def _decode(data: bytes, where: str, channels: int) -> NDArray[Any]:
    from PIL.PngImagePlugin import PngImageFile

    try:
        if open_container(data, where).bits == 16:
            pixels = read_image(data, most_pixels=1 << 62)
            return pixels if channels == 4 else pixels[..., 0]
        with PngImageFile(io.BytesIO(data)) as picture:
            picture.load()
            return np.asarray(picture.convert("L" if channels == 1 else "RGBA"))
    except ImageFileError as error:
        raise DocumentFileError(error.what, where, error.remedy) from error
    except Exception as error:  # decoders fail in many ways, and each means the same to whoever gave the file
        raise DocumentFileError(f"a layer's picture cannot be decoded: {error}", where, "It is truncated or damaged.") from error
