"""What the container of a picture says without decoding it: format, size, text chunks, EXIF (PNG 3rd ed., JFIF, RIFF WebP)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from sfumato.errors import ImageFileError

Format: TypeAlias = Literal["png", "jpeg", "webp"]

MOST_TEXT = 64 << 20
"""Bytes of text chunks that are read from one picture, after decompression."""

_PNG_HEAD = b"\x89PNG\r\n\x1a\n"
_MOST_CHUNKS = 100_000
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})

_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"8BPS", "a Photoshop document"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (b"\xff\x0a", "a JPEG XL"),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML file"),
    (b"<!", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"{", "a JSON file"),
)


@dataclass(frozen=True)
class Container:
    """`size` is (width, height) in pixels as stored; `bits` per sample; `texts` are PNG's; `exif` is the raw block.

    `is_whole` is False for a PNG without its end: a decoder may not notice if only the last bytes are missing.
    """

    format: Format
    size: tuple[int, int]
    channels: int
    bits: int = 8
    texts: Mapping[str, str] = field(default_factory=dict)
    exif: bytes = b""
    is_whole: bool = True


def open_container(data: bytes, where: str = "") -> Container:
    """Raises ImageFileError for what is no PNG, JPEG or WebP, naming what it is instead, and for damaged heads and texts."""
    try:
        if data.startswith(_PNG_HEAD):
            return _png(data)
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
    except (_DamagedError, struct.error) as error:
        raise ImageFileError(f"the picture is damaged: {error}", where, "Get the file again.") from error
    raise ImageFileError(_what_else(data), where, "PNG, JPEG and WebP are read.")


class _DamagedError(Exception):
    """Says what is wrong; never leaves this module."""


def _what_else(data: bytes) -> str:
    if not data:
        return "the file is empty"
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypavif"):
        return "this is a HEIC or AVIF picture"
    start = data[:64].lstrip().lower()
    name = next((words for head, words in _OTHERS if data.startswith(head) or (head[:1] in b"<{" and start.startswith(head))), None)
    return f"this is {name}" if name else "this is no picture that is known here"


def _png(data: bytes) -> Container:
    chunks = _png_chunks(data)
    kind, head = next(chunks, (b"", b""))
    if kind != b"IHDR" or len(head) != 13:
        raise _DamagedError("it does not begin with an IHDR chunk")
    width, height, bits, colour = struct.unpack(">IIBB", head[:10])
    texts: dict[str, str] = {}
    exif, left, is_whole = b"", MOST_TEXT, False
    for kind, body in chunks:
        if kind == b"IEND":
            is_whole = True
        elif kind == b"eXIf":
            exif = body
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            key, text = _png_text(kind, body, left)
            left -= len(text)
            texts.setdefault(key, text)
    return Container("png", (width, height), _PNG_CHANNELS.get(colour, 4), bits, texts, exif, is_whole)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, body) of every chunk but the pixels, up to IEND or the end of the file; bodies of text are checked by their CRC."""
    at, count = len(_PNG_HEAD), 0
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end, count = at + 8 + length, count + 1
        if count > _MOST_CHUNKS:
            raise _DamagedError(f"more than {_MOST_CHUNKS:,} chunks")
        if kind == b"IEND":
            yield kind, b""
        if kind == b"IEND" or end + 4 > len(data):
            return
        if kind != b"IDAT":
            body = data[at + 8 : end]
            if kind.endswith(b"XIf") or kind in (b"IHDR", b"tEXt", b"zTXt", b"iTXt"):
                _check_crc(kind, body, data, end)
            yield kind, body
        at = end + 4


def _check_crc(kind: bytes, body: bytes, data: bytes, end: int) -> None:
    if zlib.crc32(body, zlib.crc32(kind)) != struct.unpack_from(">I", data, end)[0]:
        raise _DamagedError(f"the checksum of a {kind.decode('latin-1')} chunk is wrong")


def _png_text(kind: bytes, body: bytes, most: int) -> tuple[str, str]:
    key, _, rest = body.partition(b"\0")
    raw, encoding = rest, "latin-1"
    if kind == b"zTXt":
        raw = _inflate(rest[1:], most)
    elif kind == b"iTXt":
        is_packed, rest = rest[:1] == b"\1", rest[2:]
        rest = rest.partition(b"\0")[2].partition(b"\0")[2]
        raw, encoding = _inflate(rest, most) if is_packed else rest, "utf-8"
    if len(raw) > most:
        raise _DamagedError(f"more than {MOST_TEXT:,} bytes of text")
    return key.decode("latin-1"), raw.decode(encoding, "replace")


def _inflate(packed: bytes, most: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(packed, most + 1)
    except zlib.error as error:
        raise _DamagedError(f"a packed text chunk cannot be read ({error})") from error
    if len(raw) > most:
        raise _DamagedError(f"more than {MOST_TEXT:,} bytes of text")
    return raw


def _jpeg(data: bytes) -> Container:
    size, channels, bits, exif = None, 3, 8, b""
    for marker, start, end in jpeg_segments(data):
        if marker in _JPEG_FRAMES and size is None:
            bits, height, width, channels = struct.unpack_from(">BHHB", data, start)
            size = (width, height)
        elif marker == 0xE1 and data[start : start + 6] == b"Exif\0\0" and not exif:
            exif = data[start:end]
    if size is None:
        raise _DamagedError("it has no frame header")
    return Container("jpeg", size, channels, bits, {}, exif)


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of the bodies of the segments before the pixels."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _JPEG_BARE:
            at += 2
        elif marker in (0xD9, 0xDA):
            return
        else:
            end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
            if end < at + 4 or end > len(data):
                return
            yield marker, at + 4, end
            at = end


def _webp(data: bytes) -> Container:
    size, exif, has_alpha = None, b"", False
    for kind, start, end in _webp_chunks(data):
        if kind == b"VP8X" and end - start >= 10:
            flags = data[start]
            width, height = (int.from_bytes(data[start + at : start + at + 3], "little") + 1 for at in (4, 7))
            size, has_alpha = (width, height), bool(flags & 0x10)
        elif kind == b"VP8L" and size is None:
            packed = struct.unpack_from("<I", data, start + 1)[0]
            size, has_alpha = ((packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1), bool(packed >> 28 & 1)
        elif kind == b"VP8 " and size is None:
            width, height = struct.unpack_from("<HH", data, start + 6)
            size = (width & 0x3FFF, height & 0x3FFF)
        elif kind == b"EXIF":
            exif = data[start:end]
    if size is None:
        raise _DamagedError("it has no picture chunk")
    return Container("webp", size, 4 if has_alpha else 3, 8, {}, exif)


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    at = 12
    for _ in range(_MOST_CHUNKS):
        if at + 8 > len(data):
            return
        kind, length = struct.unpack_from("<4sI", data, at)
        yield kind, at + 8, min(at + 8 + length, len(data))
        at += 8 + length + length % 2
