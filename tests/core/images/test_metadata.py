"""What a picture carries comes back as it was, and in the places where other programs look."""

from __future__ import annotations

import io
import json
import struct
import time
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sfumato.errors import ImageFileError
from sfumato.images import PictureMetadata, encode_image, read_image, read_metadata

PIXELS = np.zeros((4, 4, 3), np.uint8)
FORMATS: list[Literal["png", "webp", "jpeg"]] = ["png", "webp", "jpeg"]

any_text = st.text(st.characters(), max_size=20)  # emoji, line breaks, lone surrogates, NUL
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)
graphs = st.dictionaries(any_text, json_values, max_size=4)


def replaced(text: str) -> str:
    return "".join("\ufffd" if sign == "\0" or "\ud800" <= sign <= "\udfff" else sign for sign in text)


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=60, deadline=None)
@given(prompt=st.none() | graphs, workflow=st.none() | graphs, record=st.none() | graphs, parameters=any_text)
def test_everything_comes_back(format: Any, prompt: Any, workflow: Any, record: Any, parameters: str) -> None:
    encoded = encode_image(PIXELS, format, PictureMetadata(prompt, workflow, parameters, record))
    read = read_metadata(encoded.data)
    assert (read.prompt, read.workflow, read.record) == (prompt, workflow, record) and encoded.warnings == ()
    assert read.parameters == replaced(parameters) and read.extra == {}


@pytest.mark.parametrize("format", FORMATS)
def test_a_picture_that_carries_nothing_reads_as_empty(format: Any) -> None:
    assert read_metadata(encode_image(PIXELS, format).data) == PictureMetadata()


FULL = PictureMetadata(
    {"3": {"class_type": "KSampler"}}, {"nodes": [1]}, "ein Haus, größer 🏠\nSteps: 20, Seed: 7, Size: 8x8", {"seed": 7}, {"more": [1]}
)


def test_png_chunks_are_where_comfyui_and_a1111_look() -> None:
    with Image.open(io.BytesIO(encode_image(PIXELS, "png", FULL).data)) as picture:
        texts = dict(picture.text)  # type: ignore[attr-defined]
    assert json.loads(texts["prompt"]) == FULL.prompt and json.loads(texts["workflow"]) == FULL.workflow
    assert json.loads(texts["sfumato"]) == FULL.record and json.loads(texts["more"]) == [1]
    assert texts["parameters"] == FULL.parameters


@pytest.mark.parametrize("format", ["webp", "jpeg"])
def test_exif_fields_are_where_comfyui_and_a1111_look(format: Any) -> None:
    with Image.open(io.BytesIO(encode_image(PIXELS, format, FULL).data)) as picture:
        exif = picture.getexif()
    name, _, text = str(exif[0x0110]).partition(":")
    assert name == "prompt" and json.loads(text) == FULL.prompt
    name, _, text = str(exif[0x010F]).partition(":")
    assert name == "workflow" and json.loads(text) == FULL.workflow
    name, _, text = str(exif[0x010E]).partition(":")
    assert name == "sfumato" and json.loads(text) == FULL.record
    comment = exif.get_ifd(0x8769)[0x9286]
    assert comment[:8] == b"UNICODE\0" and comment[8:].decode("utf-16-be") == FULL.parameters
    assert read_metadata(encode_image(PIXELS, format, FULL).data).extra == {"more": "[1]"}


def test_chunks_of_other_programs_are_read() -> None:
    info, stream = PngInfo(), io.BytesIO()
    info.add_text("prompt", '{"1": {"inputs": {"x": NaN}}}')
    info.add_text("parameters", "ünïcode latin", zip=True)
    info.add_itxt("workflow", '{"a": "🏠"}', lang="en", tkey="x", zip=True)
    info.add_text("Software", "NovelAI")
    Image.fromarray(PIXELS).save(stream, "PNG", pnginfo=info)
    read = read_metadata(stream.getvalue())
    assert np.isnan(read.prompt["1"]["inputs"]["x"]) and read.workflow == {"a": "🏠"}
    assert read.parameters == "ünïcode latin" and read.extra == {"Software": "NovelAI"}


@pytest.mark.parametrize(
    ("order", "code", "encoding"),
    [
        ("<", b"UNICODE\0", "utf-16-be"),
        ("<", b"UNICODE\0", "utf-16-le"),
        (">", b"UNICODE\0", "utf-16-be"),
        ("<", b"ASCII\0\0\0", "ascii"),
        (">", b"ASCII\0\0\0", "ascii"),
        ("<", bytes(8), "utf-8"),
    ],
)
def test_user_comments_of_other_programs_are_read(order: str, code: bytes, encoding: str) -> None:
    text = "a cat\nSteps: 20, Sampler: Euler a, Seed: 1"
    comment = code + text.encode(encoding)
    inner = struct.pack(f"{order}HHHII I", 1, 0x9286, 7, len(comment), 44, 0) + comment
    block = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    block += struct.pack(f"{order}HHHII I", 1, 0x8769, 4, 1, 26, 0) + inner
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "JPEG", exif=b"Exif\0\0" + block)
    assert read_metadata(stream.getvalue()).parameters == text


def test_a_jpeg_drops_the_workflow_first_and_says_so() -> None:
    big = {"nodes": ["x" * 70_000]}
    encoded = encode_image(PIXELS, "jpeg", PictureMetadata({"1": {}}, big, "p", {"seed": 1}))
    read = read_metadata(encoded.data)
    assert read.workflow is None and (read.prompt, read.parameters, read.record) == ({"1": {}}, "p", {"seed": 1})
    assert len(encoded.warnings) == 1 and "'workflow'" in encoded.warnings[0] and "65,533" in encoded.warnings[0]
    for format in ("png", "webp"):
        assert read_metadata(encode_image(PIXELS, format, PictureMetadata(workflow=big)).data).workflow == big


def test_a_jpeg_drops_everything_if_it_must() -> None:
    big = "x" * 70_000
    encoded = encode_image(PIXELS, "jpeg", PictureMetadata(big, big, big, big))
    assert read_metadata(encoded.data) == PictureMetadata() and len(encoded.warnings) == 4 and read_image(encoded.data).shape == (4, 4, 3)


@pytest.mark.parametrize("size", [65_300, 65_400, 65_433, 65_434, 65_450, 65_520, 65_540])
def test_metadata_just_at_a_jpegs_limit_are_kept_or_dropped_whole(size: int) -> None:
    encoded = encode_image(PIXELS, "jpeg", PictureMetadata(record="x" * size))
    read = read_metadata(encoded.data).record
    assert read == "x" * size if not encoded.warnings else read is None


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("value", [float("nan"), {1, 2}, object()])
def test_what_json_cannot_hold_is_left_out_and_told(format: Any, value: Any) -> None:
    encoded = encode_image(PIXELS, format, PictureMetadata({"a": value}, record={"seed": 1}))
    assert len(encoded.warnings) == 1 and "'prompt'" in encoded.warnings[0]
    read = read_metadata(encoded.data)
    assert read.prompt is None and read.record == {"seed": 1}


@pytest.mark.parametrize("name", ["", "x" * 80, "ü", "a\nb", " a"])
def test_a_name_that_no_chunk_can_have_is_left_out_and_told(name: str) -> None:
    for format in FORMATS:
        encoded = encode_image(PIXELS, format, PictureMetadata(record=1, extra={name: 1}))
        if name != "x" * 80 or format == "png":
            assert len(encoded.warnings) == 1 and read_metadata(encoded.data) == PictureMetadata(record=1)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def with_chunk(name: bytes, body: bytes) -> bytes:
    data = encode_image(PIXELS, "png").data
    return data[:33] + chunk(name, body) + data[33:]


ITXT = b"prompt\0\1\0\0\0"
HOSTILE = {
    "deep brackets": (with_chunk(b"tEXt", b"prompt\0" + b"[" * 100_000), "levels deep"),
    "deep tables": (with_chunk(b"tEXt", b"workflow\0" + b'{"a":' * 100_000), "levels deep"),
    "no json": (with_chunk(b"tEXt", b"prompt\0{"), "'prompt' part"),
    "no utf-8": (with_chunk(b"iTXt", b"prompt\0\0\0\0\0\xff{"), "'prompt' part"),
    "zip bomb": (with_chunk(b"zTXt", b"prompt\0\0" + zlib.compress(bytes(200 << 20), 9)), "bytes of text"),
    "international zip bomb": (with_chunk(b"iTXt", ITXT + zlib.compress(bytes(200 << 20), 9)), "bytes of text"),
    "no zip": (with_chunk(b"zTXt", b"prompt\0\0hello"), "packed text"),
    "cut zip": (with_chunk(b"iTXt", ITXT + zlib.compress(b'{"a": 1}')[:6]), "'prompt' part"),
    "wrong checksum": (with_chunk(b"tEXt", b"prompt\0{}").replace(b"prompt\0{}", b"prompt\0[]"), "checksum"),
    "record": (with_chunk(b"tEXt", b"sfumato\0[1"), "'sfumato' part"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_metadata_are_refused_in_words(name: str, tmp_path: Path) -> None:
    data, words = HOSTILE[name]
    path = tmp_path / "a.png"
    path.write_bytes(data)
    start = time.process_time()
    with pytest.raises(ImageFileError, match=words) as caught:
        read_metadata(path)
    assert time.process_time() - start < 1 and str(path) in str(caught.value)


def test_broken_metadata_leave_the_pixels_readable() -> None:
    for name in ("deep brackets", "no json", "record"):
        assert read_image(HOSTILE[name][0]).shape == (4, 4, 3)


@settings(max_examples=200, deadline=None)
@given(block=st.binary(max_size=80), order=st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b""]))
def test_damaged_exif_is_no_fault(block: bytes, order: bytes) -> None:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "JPEG", exif=b"Exif\0\0" + order + block)
    assert read_image(stream.getvalue()).shape == (4, 4, 3)
    read_metadata(stream.getvalue())
