"""PSD export, read back by Pillow, and by a reader of records written from the specification."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image
from PIL.PsdImagePlugin import PsdImageFile

from sfumato.document.blending import BlendMode
from sfumato.document.compositing import composite
from sfumato.document.document import Document
from sfumato.document.layers import GroupLayer, RasterLayer, SurfaceId
from sfumato.document.packbits import pack_rows
from sfumato.document.planes import from_pixels, to_8_bit_pixels
from sfumato.document.psd import write_psd
from sfumato.errors import SaveError
from sfumato.geometry import Bounds

Make = Callable[[], Document]


def unpack_bits(data: bytes) -> bytes:
    """TIFF 6.0, section 9, word for word."""
    out, at = bytearray(), 0
    while at < len(data):
        n = struct.unpack_from("b", data, at)[0]
        if n >= 0:
            out += data[at + 1 : at + 2 + n]
            at += n + 2
        elif n == -128:
            at += 1
        else:
            out += data[at + 1 : at + 2] * (1 - n)
            at += 2
    return bytes(out)


rows = hnp.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 400)), elements=st.sampled_from([0, 1, 255]), fill=st.just(7))


@settings(max_examples=80, deadline=None)
@given(rows)
def test_packed_rows_come_back(pixels: NDArray[np.uint8]) -> None:
    lengths, data = pack_rows(pixels)
    assert lengths.sum() == len(data) and len(lengths) == len(pixels)
    at = 0
    for row, length in zip(pixels, lengths, strict=True):
        assert unpack_bits(data[at : at + length]) == row.tobytes()
        at += int(length)
    assert len(data) <= pixels.size + len(pixels) * (pixels.shape[1] // 128 + 1)


def test_equal_rows_are_small() -> None:
    assert len(pack_rows(np.zeros((10, 1280), np.uint8))[1]) == 10 * 20


def fields_of(path: Path) -> list[dict[str, Any]]:
    """The layers, read as the specification says; `channels` are arrays by id."""
    data, at = path.read_bytes(), 26
    for _ in range(2):
        at += 4 + struct.unpack_from(">I", data, at)[0]
    count = -struct.unpack_from(">h", data, at + 8)[0]
    at += 10
    found: list[dict[str, Any]] = []
    for _ in range(count):
        top, left, bottom, right, channels = struct.unpack_from(">iiiiH", data, at)
        sizes = dict(struct.unpack_from(">hI", data, at + 18 + 6 * i) for i in range(channels))
        at += 18 + 6 * channels
        signature, mode, opacity, _, flags, length = struct.unpack_from(">4s4sBBBxI", data, at)
        assert signature == b"8BIM"
        extra = data[at + 16 : at + 16 + length]
        at += 16 + length
        name_at = extra.index(b"luni") + 8
        name = extra[name_at + 4 : name_at + 4 + 2 * struct.unpack_from(">I", extra, name_at)[0]].decode("utf-16-be")
        kind = struct.unpack_from(">I", extra, extra.index(b"lsct") + 8)[0] if b"lsct" in extra else 0
        group_mode = extra[extra.index(b"lsct") + 16 :][:4] if kind else b""
        facts = {"name": name, "mode": mode, "opacity": opacity, "hidden": bool(flags & 2), "kind": kind, "group": group_mode}
        if struct.unpack_from(">I", extra)[0]:
            mask_top, mask_left, mask_bottom, mask_right = struct.unpack_from(">iiii", extra, 4)
            facts["mask"] = Bounds(mask_left, mask_top, mask_right, mask_bottom)
        found.append(facts | {"bounds": Bounds(left, top, right, bottom), "sizes": sizes})
    for layer in found:
        layer["channels"] = {}
        for channel, size in layer["sizes"].items():
            area = layer["mask"] if channel == -2 else layer["bounds"]
            layer["channels"][channel] = unpack_channel(data[at : at + size], area.height, area.width)
            at += size
    return found


def unpack_channel(data: bytes, height: int, width: int) -> NDArray[np.uint8]:
    assert data[:2] == (b"\0\1" if height else b"\0\0")
    unpacked = unpack_bits(data[2 + 2 * height :])
    return np.frombuffer(unpacked, np.uint8).reshape(height, width)


def on_white(document: Document) -> NDArray[np.uint8]:
    """The merged picture as Photoshop stores it: colours on white, alpha beside them; [H,W,4]."""
    planes = composite(document, document.bounds).astype(np.float64)
    planes[:3] += 65535 - planes[3]
    pixels: NDArray[np.uint8] = np.floor(planes / 257 + 0.5).astype(np.uint8).transpose(1, 2, 0)
    return pixels


def test_the_merged_picture_and_every_layer_are_read_by_pillow(tmp_path: Path) -> None:
    document = Document.new(300, 200)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 310, 4), np.uint8)
    pixels[:, :100] = (9, 8, 7, 255)
    with document.edit("Paint") as edit:
        edit.write(SurfaceId(document.structure.layers[0].id), Bounds.at(-20, 10, 310, 60), from_pixels(pixels))
        top = edit.add(RasterLayer(name="top", blend=BlendMode.SCREEN))
        edit.write(SurfaceId(top), Bounds.at(50, 50, 30, 30), from_pixels(pixels[:30, :30]))
    assert write_psd(tmp_path / "a.psd", document.snapshot()) == ()
    with Image.open(tmp_path / "a.psd") as picture:
        assert isinstance(picture, PsdImageFile) and picture.size == (300, 200)
        assert (np.asarray(picture) == on_white(document)).all()
        assert [(name, box) for name, _, box, _ in picture.layers] == [("Layer 1", (-20, 10, 290, 70)), ("top", (50, 50, 80, 80))]
    channels = fields_of(tmp_path / "a.psd")[1]["channels"]
    wanted = to_8_bit_pixels(from_pixels(pixels[:30, :30]))
    assert (np.stack([channels[each] for each in (0, 1, 2, -1)], axis=2) == wanted).all()


def test_groups_masks_modes_and_names_are_there(tmp_path: Path, one_of_each: Make) -> None:
    document = one_of_each()
    warnings = write_psd(tmp_path / "a.psd", document.snapshot())
    assert len(warnings) == 1 and "蒙版" in warnings[0]
    found = fields_of(tmp_path / "a.psd")
    assert [each["name"] for each in found][:4] == ["Layer 1", "</Layer group>", "", 'Group "<é>"\n']
    _, divider, masked, group, control, region, made, _ = found
    assert (divider["kind"], group["kind"], group["group"], group["opacity"]) == (3, 1, b"mul ", 26)
    assert masked["channels"][-2].shape == (20, 20) and masked["bounds"] == Bounds.at(30, 40, 50, 60)
    assert [each["hidden"] for each in (masked, control, region, made)] == [False, True, True, True]
    with Image.open(tmp_path / "a.psd") as picture:
        assert (np.asarray(picture) == on_white(document)).all()


def test_a_group_that_is_passed_through_says_so(tmp_path: Path) -> None:
    document = Document.new(10, 10)
    with document.edit("Group") as edit:
        edit.add(GroupLayer(name="g", isolated=False))
        edit.add(RasterLayer(name="erased", blend=BlendMode.DST_OUT))
    assert "dst-out" in write_psd(tmp_path / "a.psd", document.snapshot())[0]
    assert fields_of(tmp_path / "a.psd")[2]["group"] == b"pass"


def test_what_is_too_large_is_said(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="too many"):
        write_psd(tmp_path / "a.psd", Document.new(30_001, 10).snapshot())
