"""The few EXIF fields that pictures of diffusion tools use, read tolerantly and written plainly (TIFF 6.0, EXIF 2.32).

Texts are kept as other tools expect them: `prompt:{...}` in Model (0x0110), `workflow:{...}` in Make (0x010F) as ComfyUI's
savers write them, the `parameters` text in UserComment (0x9286) as A1111 does, and `sfumato:{...}` in ImageDescription (0x010E).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sfumato.images.text import writable

DESCRIPTION, MAKE, MODEL = 0x010E, 0x010F, 0x0110
_ORIENTATION, _EXIF_FOLDER, _USER_COMMENT = 0x0112, 0x8769, 0x9286
_ASCII, _SHORT, _LONG, _UNDEFINED = 2, 3, 4, 7
_BYTES_OF = {1: 1, _ASCII: 1, _SHORT: 2, _LONG: 4, _UNDEFINED: 1}
_MOST_ENTRIES = 512


@dataclass(frozen=True)
class Exif:
    """`texts`: tag -> text of the ASCII fields; `comment`: the user comment; `orientation`: 1 to 8, 1 = upright."""

    texts: Mapping[int, str] = field(default_factory=dict)
    comment: str = ""
    orientation: int = 1


def read_exif(data: bytes) -> Exif:
    """What can be read of an EXIF block (with or without its `Exif\\0\\0` head). Never fails: damaged fields are left out."""
    block = data.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8:
        return Exif()
    texts, orientation, comment = {}, 1, b""
    for tag, kind, value in _entries(block, order, struct.unpack_from(f"{order}I", block, 4)[0]):
        if kind == _ASCII:
            texts[tag] = value.split(b"\0")[0].decode("utf-8", "replace")
        elif tag == _ORIENTATION and kind == _SHORT and len(value) == 2:
            orientation = struct.unpack(f"{order}H", value)[0]
        elif tag == _EXIF_FOLDER and kind == _LONG and len(value) == 4:
            start = struct.unpack(f"{order}I", value)[0]
            comment = next((raw for inner, _, raw in _entries(block, order, start) if inner == _USER_COMMENT), b"")
    return Exif(texts, _read_comment(comment, order), orientation if 1 <= orientation <= 8 else 1)


def write_exif(exif: Exif) -> bytes:
    """The block, big-endian, with its `Exif\\0\\0` head. Texts must be ASCII; the comment may be any text."""
    fields: list[tuple[int, int, bytes]] = [(tag, _ASCII, text.encode("ascii") + b"\0") for tag, text in exif.texts.items()]
    if exif.orientation != 1:
        fields.append((_ORIENTATION, _SHORT, struct.pack(">H", exif.orientation)))
    if not exif.comment:
        return b"Exif\0\0MM\0\x2a" + struct.pack(">I", 8) + _folder(fields, 8)
    here = _folder([*fields, (_EXIF_FOLDER, _LONG, b"\0" * 4)], 8)
    here = _folder([*fields, (_EXIF_FOLDER, _LONG, struct.pack(">I", 8 + len(here)))], 8)
    comment = b"UNICODE\0" + writable(exif.comment).encode("utf-16-be")
    return b"Exif\0\0MM\0\x2a" + struct.pack(">I", 8) + here + _folder([(_USER_COMMENT, _UNDEFINED, comment)], 8 + len(here))


def _folder(fields: list[tuple[int, int, bytes]], start: int) -> bytes:
    """An image file directory that begins `start` bytes after the TIFF head, with the values behind it."""
    table, values = struct.pack(">H", len(fields)), b""
    after = start + 2 + 12 * len(fields) + 4
    for tag, kind, value in sorted(fields):
        head = struct.pack(">HHI", tag, kind, len(value) // _BYTES_OF[kind])
        if len(value) <= 4:
            table += head + value.ljust(4, b"\0")
        else:
            table += head + struct.pack(">I", after + len(values))
            values += value + b"\0" * (len(value) % 2)
    return table + b"\0" * 4 + values


def _entries(block: bytes, order: str, start: int) -> Iterator[tuple[int, int, bytes]]:
    if start + 2 > len(block):
        return
    count = min(struct.unpack_from(f"{order}H", block, start)[0], _MOST_ENTRIES)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        if at + 12 > len(block):
            return
        tag, kind, length = struct.unpack_from(f"{order}HHI", block, at)
        size = length * _BYTES_OF.get(kind, 0)
        begin = at + 8 if size <= 4 else struct.unpack_from(f"{order}I", block, at + 8)[0]
        if size and begin + size <= len(block):
            yield tag, kind, block[begin : begin + size]


def _read_comment(raw: bytes, order: str) -> str:
    code, text = raw[:8], raw[8:]
    if code == b"UNICODE\0":
        return text.decode(_utf16_of(text, order), "replace").removeprefix("\ufeff").rstrip("\0")
    if code in (b"ASCII\0\0\0", b"\0" * 8):
        return text.decode("utf-8", "replace").rstrip("\0")
    return raw.decode("utf-8", "replace").rstrip("\0")


def _utf16_of(text: bytes, order: str) -> str:
    """Little-endian blocks hold comments of either order: the place of the zero bytes of Latin letters decides."""
    if order == ">" or text[0::2].count(0) > text[1::2].count(0):
        return "utf-16-be"
    return "utf-16-le"
