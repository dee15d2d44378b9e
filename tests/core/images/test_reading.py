"""Pictures as other programs write them are read as they are, and nothing else gets further than an error."""

from __future__ import annotations

import io
import random
import struct
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from sfumato.errors import ImageFileError
from sfumato.images import PictureMetadata, encode_image, read_image, read_metadata

RNG = np.random.default_rng(3)
RGB = RNG.integers(0, 256, (13, 17, 3), np.uint8)
RGBA = RNG.integers(0, 256, (13, 17, 4), np.uint8)


def saved(picture: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


def png(kind: int, bits: int, size: tuple[int, int], rows: bytes, extra: list[tuple[bytes, bytes]] | None = None) -> bytes:
    """A PNG made by hand: colour type, bits, (width, height), the rows with their filter bytes, chunks before the pixels."""
    head = struct.pack(">IIBBBBB", *size, bits, kind, 0, 0, 0)
    chunks = [(b"IHDR", head), *(extra or []), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, body) for name, body in chunks)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
@pytest.mark.parametrize("pixels", [RGB, RGBA], ids=["rgb", "rgba"])
def test_lossless_pictures_of_pillow_are_read_exactly(format: str, pixels: Any) -> None:
    data = saved(Image.fromarray(pixels), format, **({"lossless": True, "exact": True} if format == "WEBP" else {}))
    read = read_image(data)
    assert read.dtype == np.float32 and np.array_equal(read, pixels.astype(np.float32) / np.float32(255))


def test_a_jpeg_is_read_as_pillow_reads_it() -> None:
    data = saved(Image.fromarray(RGB), "JPEG", quality=90)
    assert np.array_equal(np.rint(read_image(data) * 255), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "CMYK", "I;16"])
def test_other_modes_become_rgb_with_or_without_alpha(mode: str, tmp_path: Path) -> None:
    source = Image.fromarray(RGBA if mode in ("LA", "PA") else RGB)
    picture = source.convert("L").convert("I").convert("I;16") if mode == "I;16" else source.convert(mode)
    if mode == "PA":
        picture = source.convert("RGB").quantize(8)
        picture.info["transparency"] = bytes([0, 128, 255, 255, 255, 255, 255, 255])
    data = saved(picture, "JPEG" if mode == "CMYK" else "PNG")
    read = read_image(data)
    assert read.shape == (13, 17, 4 if mode in ("LA", "PA") else 3)
    if mode == "I;16":
        expected = np.repeat(np.asarray(picture)[..., None], 3, 2).astype(np.float32) / np.float32(65535)
        assert np.array_equal(read, expected)
    else:
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA" if read.shape[2] == 4 else "RGB"))
        assert np.array_equal(np.rint(read * 255), expected)


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_are_kept(kind: int, channels: int) -> None:
    values = RNG.integers(0, 65536, (5, 7, channels)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    read = read_image(png(kind, 16, (7, 5), rows))
    colour, alpha = values[..., : channels - 1 if channels in (2, 4) else channels], values[..., -1:]
    expected = np.repeat(colour, 3, 2) if colour.shape[2] == 1 else colour
    if channels in (2, 4):
        expected = np.concatenate([expected, alpha], 2)
    assert np.array_equal(read, expected.astype(np.float32) / np.float32(65535))


def test_a_transparent_colour_of_sixteen_bits_is_transparent() -> None:
    values = np.array([[[1000, 2000, 3000], [1000, 2000, 3001]]], ">u2")
    read = read_image(png(2, 16, (2, 1), b"\0" + values.tobytes(), [(b"tRNS", struct.pack(">HHH", 1000, 2000, 3000))]))
    assert read.shape == (1, 2, 4) and read[0, :, 3].tolist() == [0, 1]
    grey = np.array([[1000, 1001]], ">u2")
    read = read_image(png(0, 16, (2, 1), b"\0" + grey.tobytes(), [(b"tRNS", struct.pack(">H", 1000))]))
    assert read[0, :, 3].tolist() == [0, 1]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_span_black_to_white(bits: int) -> None:
    read = read_image(png(0, bits, (2, 1), bytes([0, (2**bits - 1) << (8 - 2 * bits)])))
    assert read[0, :, 0].tolist() == [0, 1]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_pictures_stand_upright(orientation: int, format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(RGB), format, exif=exif.tobytes(), **({"lossless": True} if format == "WEBP" else {}))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert np.array_equal(np.rint(read_image(data) * 255), expected)


def test_the_first_frame_counts_and_the_ending_does_not(tmp_path: Path) -> None:
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    for format in ("PNG", "WEBP"):
        options = {"lossless": True} if format == "WEBP" else {}
        path = tmp_path / "picture.jpg"
        path.write_bytes(saved(frames[0], format, save_all=True, append_images=frames[1:], **options))
        assert np.array_equal(np.rint(read_image(path) * 255)[..., :3], RGB)


def _bomb(width: int, height: int, kind: int = 2) -> bytes:
    return png(kind, 8, (width, height), bytes(100))


def _webp_of(width: int, height: int) -> bytes:
    data = bytearray(encode_image(RGB, "webp", PictureMetadata(parameters="x")).data)
    assert data[12:16] == b"VP8X"
    data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


@pytest.mark.parametrize(
    "data", [_bomb(2**31 - 1, 2**31 - 1), _bomb(20_000, 20_000), _bomb(16_000, 16_001, 6), _webp_of(2**24, 2**24), _webp_of(16_383, 16_383)]
)
def test_a_bomb_is_refused_before_memory_is_taken(data: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(ImageFileError, match="more than the budget of 256,000,000 pixels"):
        read_image(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_the_budget_counts_channels() -> None:
    assert read_image(encode_image(RGB, "png").data, most_pixels=221).shape == (13, 17, 3)
    with pytest.raises(ImageFileError, match="17 x 13 pixels of 4 channels"):
        read_image(encode_image(RGBA, "png").data, most_pixels=221)
    with pytest.raises(ImageFileError, match="budget"):
        read_image(encode_image(RGB, "png").data, most_pixels=220)


def test_a_picture_without_pixels_is_refused() -> None:
    with pytest.raises(ImageFileError):
        read_image(png(2, 8, (0, 5), b""))


def test_a_header_that_contradicts_the_pixels_is_refused() -> None:
    with pytest.raises(ImageFileError):
        read_image(_webp_of(40, 40))


OTHERS = {
    "a GIF": b"GIF89a" + bytes(20),
    "a BMP": b"BM" + bytes(20),
    "a TIFF": b"II*\0" + bytes(20),
    "a Photoshop document": b"8BPS" + bytes(20),
    "HEIC or AVIF": b"\0\0\0\x18ftypheic" + bytes(20),
    "an HTML page": b"\n <!DOCTYPE html><html>",
    "an SVG drawing": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "a JSON file": b'{"error": 1}',
    "a PDF": b"%PDF-1.7",
    "empty": b"",
    "no picture that is known": b"hello",
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_picture_of_ours_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(OTHERS[name])
    for read in (read_image, read_metadata):
        with pytest.raises(ImageFileError, match=name) as caught:
            read(path)
        assert str(path) in str(caught.value) and caught.value.exit_code == 3


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.png", tmp_path, tmp_path / "\0"):
        with pytest.raises(ImageFileError):
            read_image(path)


METADATA = PictureMetadata({"1": {"inputs": {}}}, {"nodes": []}, "a\nSteps: 1, Seed: 2, Size: 8x8", {"seed": 2})
GOOD = {
    **{format: encode_image(RNG.random((24, 20, 3)), format, METADATA, lossless=False).data for format in ("png", "webp", "jpeg")},
    "lossless webp": encode_image(RNG.random((24, 20, 4)), "webp", METADATA).data,
    "16 bits": png(6, 16, (3, 40), bytes(25 * 40), [(b"zTXt", b"parameters\0\0" + zlib.compress(b"x" * 99))]),
    "palette": saved(Image.fromarray(RGB).quantize(7), "PNG"),
    "progressive": saved(Image.fromarray(RGB), "JPEG", progressive=True),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_picture_that_is_cut_off_anywhere_is_refused(name: str) -> None:
    data = GOOD[name]
    read_image(data)
    for part in range(1, 16):
        with pytest.raises(ImageFileError):
            read_image(data[: len(data) * part // 16])


@pytest.mark.parametrize("name", GOOD)
def test_mutated_pictures_are_read_or_refused(name: str) -> None:
    seeded, slowest, refused = random.Random(name), 0.0, 0
    for _ in range(150):
        data = _mutated(seeded, GOOD[name])
        began = time.process_time()
        for read in (read_image, read_metadata):
            try:
                read(data)
            except ImageFileError as error:
                refused += 1
                assert str(error).encode()
        slowest = max(slowest, time.process_time() - began)
    assert refused > 10 and slowest < 0.4, (refused, slowest)


def _mutated(seeded: random.Random, good: bytes) -> bytes:
    data = bytearray(good)
    for _ in range(seeded.choice([1, 1, 2, 6])):
        at = seeded.randrange(len(data) if seeded.random() < 0.4 else min(len(data), 120))
        kind = seeded.randrange(3)
        if kind == 0:
            data[at] = seeded.randrange(256)
        elif kind == 1:
            del data[at : at + seeded.choice([1, 2, 30])]
        else:
            data[at:at] = seeded.choice([b"\0", b"\xff", b"\xff\xe1\0\2", good[at : at + 40], bytes(30), b"\x7f\xff\xff\xff"])
        data = data or bytearray(b"\0")
    return bytes(data)


@settings(max_examples=200, deadline=None)
@given(
    head=st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x20\0\0\0WEBP", b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0", b""]),
    rest=st.binary(),
)
def test_no_bytes_do_more_than_be_refused(head: bytes, rest: bytes) -> None:
    for read in (read_image, read_metadata):
        try:
            read(head + rest)
        except ImageFileError as error:
            assert str(error)
