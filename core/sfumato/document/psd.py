"""Export for Photoshop and what reads its files: layers, groups, masks, modes (Adobe Photoshop File Formats Specification, 2019).

Sections in order: header, colour mode data, image resources, layers and masks, merged picture. Numbers are big-endian. Layers are listed
from below; a group is a pair of records around its layers, the lower one a divider.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.document.blending import BlendMode
from sfumato.document.compositing import composite
from sfumato.document.layers import GroupLayer, Layer, MaskLayer, RegionLayer, SurfaceId, Tree
from sfumato.document.packbits import pack_rows
from sfumato.document.picture import Picture
from sfumato.document.planes import ONE, Planes, to_8_bit_pixels
from sfumato.errors import SaveError
from sfumato.files import FileSystem, write_atomically
from sfumato.geometry import Bounds

MOST_SIDE = 30_000
"""Pixels: the format's limit."""

_MODES: Mapping[BlendMode, bytes] = {
    BlendMode.NORMAL: b"norm",
    BlendMode.MULTIPLY: b"mul ",
    BlendMode.SCREEN: b"scrn",
    BlendMode.OVERLAY: b"over",
    BlendMode.DARKEN: b"dark",
    BlendMode.LIGHTEN: b"lite",
    BlendMode.COLOR_DODGE: b"div ",
    BlendMode.COLOR_BURN: b"idiv",
    BlendMode.HARD_LIGHT: b"hLit",
    BlendMode.SOFT_LIGHT: b"sLit",
    BlendMode.DIFFERENCE: b"diff",
    BlendMode.EXCLUSION: b"smud",
    BlendMode.HUE: b"hue ",
    BlendMode.SATURATION: b"sat ",
    BlendMode.COLOR: b"colr",
    BlendMode.LUMINOSITY: b"lum ",
    BlendMode.PLUS: b"lddg",
}
_PASS, _DIVIDER = b"pass", b"</Layer group>"
_OPEN_GROUP, _END_OF_GROUP = 1, 3
_HIDDEN, _ALPHA_LOCKED = 2, 1
_ALPHA, _MASK = -1, -2


@dataclass
class _Record:
    """One layer as the file lists it; channels by id: 0, 1, 2 colours, -1 alpha, -2 mask."""

    name: str
    mode: bytes = b"norm"
    opacity: float = 1.0
    flags: int = 0
    bounds: Bounds = field(default_factory=Bounds)
    channels: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    mask_bounds: Bounds = field(default_factory=Bounds)
    group: int = 0


def write_psd(path: Path, picture: Picture, *, file_system: FileSystem | None = None) -> tuple[str, ...]:
    """Write a document for Photoshop, whole or not at all; returns what it has no words for, in words.

    8 bits a channel, run-length packed. Guides (control and region layers) become hidden layers. Raises SaveError, also for sides of
    more than 30,000 pixels.
    """
    size, warnings = picture.structure.size, list[str]()
    if max(size.width, size.height) > MOST_SIDE:
        raise SaveError(f"{size.width} x {size.height} pixels are too many for PSD", str(path), "Save it as .ora.")
    records = list(_records(picture, picture.structure.layers, warnings))
    merged = _on_white(composite(picture, picture.bounds))
    parts = [
        b"8BPS" + struct.pack(">H6xHIIHH", 1, 4, size.height, size.width, 8, 3),
        struct.pack(">II", 0, 0),
        _layer_section(records),
        _merged(merged),
    ]
    write_atomically(path, b"".join(parts), file_system=file_system)
    return tuple(warnings)


def _records(picture: Picture, layers: Tree, warnings: list[str]) -> Iterator[_Record]:
    for layer in layers:
        if isinstance(layer, GroupLayer):
            yield _Record(_DIVIDER.decode(), group=_END_OF_GROUP)
            yield from _records(picture, layer.children, warnings)
            yield _group(picture, layer, warnings)
        elif isinstance(layer, MaskLayer):
            warnings.append(f"the mask {layer.name!r} is left out: Photoshop knows masks of single layers and groups only")
        else:
            yield _pixels(picture, layer, warnings)


def _group(picture: Picture, layer: GroupLayer, warnings: list[str]) -> _Record:
    record = _common(layer, warnings)
    record.group = _OPEN_GROUP
    record.mode = _PASS if layer.is_passed_through else record.mode
    _add_mask(record, picture, layer)
    return record


def _pixels(picture: Picture, layer: Layer, warnings: list[str]) -> _Record:
    record = _common(layer, warnings)
    if isinstance(layer, RegionLayer):
        area = picture.surface(SurfaceId(layer.id, "area"))
        inner = area.content_bounds()
        alpha = to_8_bit_pixels(area.read(inner))
        planes = [np.full(alpha.shape, value, np.uint8) for value in layer.colour] + [alpha]
    else:
        tiles = picture.surface(SurfaceId(layer.id))
        inner = tiles.content_bounds()
        planes = list(to_8_bit_pixels(tiles.read(inner)).transpose(2, 0, 1))
    record.bounds = inner.moved(layer.offset)
    record.channels = {0: planes[0], 1: planes[1], 2: planes[2], _ALPHA: planes[3]}
    _add_mask(record, picture, layer)
    return record


def _common(layer: Layer, warnings: list[str]) -> _Record:
    if layer.blend not in _MODES:
        warnings.append(f"the blend mode {layer.blend} of {layer.name!r} is not known to Photoshop: it is painted plainly")
    is_hidden = layer.is_guide or not layer.visible
    flags = _HIDDEN * is_hidden | _ALPHA_LOCKED * layer.alpha_locked
    return _Record(layer.name, _MODES.get(layer.blend, b"norm"), layer.opacity, flags)


def _add_mask(record: _Record, picture: Picture, layer: Layer) -> None:
    if layer.masked:
        tiles = picture.surface(SurfaceId(layer.id, "mask"))
        inner = tiles.content_bounds() or Bounds(0, 0, 1, 1)
        record.mask_bounds = inner.moved(layer.offset)
        record.channels[_MASK] = to_8_bit_pixels(tiles.read(inner))


def _layer_section(records: list[_Record]) -> bytes:
    """Lengths first: of the whole section, and of the part that lists the layers (even)."""
    heads: list[bytes] = []
    bodies: list[bytes] = []
    for record in records:
        packed = {channel: _channel(record.channels.get(channel)) for channel in _channels_of(record)}
        heads.append(_head(record, {channel: len(data) for channel, data in packed.items()}))
        bodies += packed.values()
    # A negative count: the first channel beyond the colours of the merged picture is its transparency.
    listed = struct.pack(">h", -len(records)) + b"".join([*heads, *bodies])
    listed += bytes(len(listed) % 2)
    section = struct.pack(">I", len(listed)) + listed + struct.pack(">I", 0)
    return struct.pack(">I", len(section)) + section


def _channels_of(record: _Record) -> list[int]:
    return [_ALPHA, 0, 1, 2] + [_MASK] * (_MASK in record.channels)


def _channel(rows: NDArray[np.uint8] | None) -> bytes:
    """Compression 1, the packed length of every row, the rows."""
    if rows is None or not rows.size:
        return struct.pack(">H", 0)
    lengths, data = pack_rows(np.ascontiguousarray(rows))
    return struct.pack(">H", 1) + lengths.astype(">u2").tobytes() + data


def _head(record: _Record, sizes: Mapping[int, int]) -> bytes:
    extra = _mask_head(record) + struct.pack(">I", 0) + _short_name(record.name) + _long_name(record.name) + _divider(record)
    channels = b"".join(struct.pack(">hI", channel, size) for channel, size in sizes.items())
    return b"".join(
        [
            _rectangle(record.bounds),
            struct.pack(">H", len(sizes)) + channels,
            b"8BIM" + (b"norm" if record.mode == _PASS else record.mode),
            struct.pack(">BBBxI", round(record.opacity * 255), 0, record.flags | 8, len(extra)),
            extra,
        ]
    )


def _rectangle(bounds: Bounds) -> bytes:
    return struct.pack(">iiii", bounds.top, bounds.left, bounds.bottom, bounds.right)


def _mask_head(record: _Record) -> bytes:
    if _MASK not in record.channels:
        return struct.pack(">I", 0)
    # 255: what no tile of a mask covers is revealed
    return struct.pack(">I", 20) + _rectangle(record.mask_bounds) + struct.pack(">BBxx", 255, 0)


def _short_name(name: str) -> bytes:
    """A length byte and the name, padded to a multiple of four."""
    raw = name.encode("ascii", "replace")[:255]
    return (bytes([len(raw)]) + raw).ljust(-(-(1 + len(raw)) // 4) * 4, b"\0")


def _long_name(name: str) -> bytes:
    raw = name.encode("utf-16-be", "replace")
    body = struct.pack(">I", len(raw) // 2) + raw
    return _block(b"luni", body.ljust(-(-len(body) // 4) * 4, b"\0"))


def _divider(record: _Record) -> bytes:
    return _block(b"lsct", struct.pack(">I", record.group) + b"8BIM" + record.mode) if record.group else b""


def _block(key: bytes, body: bytes) -> bytes:
    return b"8BIM" + key + struct.pack(">I", len(body)) + body


def _on_white(planes: Planes) -> NDArray[np.uint8]:
    """uint8 [4,H,W]: the merged picture's colours are laid on white, and its alpha is kept beside them."""
    planes[:3] += ONE - planes[3]
    return np.concatenate([to_8_bit_pixels(each[None]) for each in planes]).reshape(planes.shape)


def _merged(channels: NDArray[np.uint8]) -> bytes:
    """All channels: first the lengths of all rows, then the rows."""
    packed = [pack_rows(each) for each in channels]
    return b"".join([struct.pack(">H", 1), *(lengths.astype(">u2").tobytes() for lengths, _ in packed), *(data for _, data in packed)])
