"""Safetensors headers within bounds: the reader agrees with the format's own library, and refuses everything else in one way."""

from __future__ import annotations

import json
import os
import random
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from sfumato.errors import ModelFileError, SaveError
from sfumato.models.safetensors_file import MOST_HEADER_BYTES, RawTensor, read_header, read_tensor, write_safetensors
from sfumato.power_cuts import check_power_cuts

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(lambda name: name != "__metadata__")
arrays = st_numpy.arrays(
    st.sampled_from([np.float32, np.float16, np.float64, np.int64, np.int32, np.int16, np.int8, np.uint8, np.bool_]),
    st_numpy.array_shapes(min_dims=0, max_dims=4, max_side=4, min_side=0),
)

REPEATS = 300 << 10
"""More than enough of anything that a header may hold once."""


def put(folder: Path, header: bytes | dict[str, Any], data: bytes = b"", length: int | None = None, name: str = "a.safetensors") -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / name
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


def tensor(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@settings(max_examples=40, deadline=None)
@given(tensors=st.dictionaries(names, arrays, min_size=1, max_size=6), metadata=st.dictionaries(names, names, max_size=3))
def test_files_of_the_formats_own_library_are_read(
    tmp_path_factory: pytest.TempPathFactory, tensors: Any, metadata: dict[str, str]
) -> None:
    path = tmp_path_factory.mktemp("models") / "a.safetensors"
    safetensors.numpy.save_file(tensors, path, metadata)
    header = read_header(path)
    assert {name: info.shape for name, info in header.tensors.items()} == {name: array.shape for name, array in tensors.items()}
    assert dict(header.metadata) == metadata and header.size == path.stat().st_size
    for name, array in tensors.items():
        assert np.array_equal(read_tensor(header, name), array, equal_nan=array.dtype.kind == "f")


@settings(max_examples=40, deadline=None)
@given(tensors=st.dictionaries(names, arrays, max_size=6), metadata=st.dictionaries(names, names, max_size=3))
def test_the_formats_own_library_reads_what_is_written(
    tmp_path_factory: pytest.TempPathFactory, tensors: Any, metadata: dict[str, str]
) -> None:
    path = tmp_path_factory.mktemp("models") / "a.safetensors"
    assert write_safetensors(path, tensors, metadata) == path.stat().st_size
    read = safetensors.numpy.load_file(path)
    assert read.keys() == tensors.keys()
    assert all(np.array_equal(read[name], array, equal_nan=array.dtype.kind == "f") for name, array in tensors.items())
    assert dict(read_header(path).metadata) == metadata
    again = path.with_name("b.safetensors")
    write_safetensors(again, dict(reversed(tensors.items())), metadata)
    assert again.read_bytes() == path.read_bytes()


def test_raw_tensors_have_the_dtypes_that_numpy_lacks(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "a", {"x": RawTensor("BF16", (2,), b"abcd")})
    header = read_header(tmp_path / "a")
    assert header.tensors["x"] == ("BF16", (2,), (0, 4))
    with pytest.raises(ModelFileError, match="BF16"):
        read_tensor(header, "x")


def test_writing_survives_power_cuts(tmp_path: Path) -> None:
    def write(path: Path, system: Any) -> None:
        write_safetensors(path, {f"t{i}": np.full(9, path.exists(), np.float32) for i in range(20)}, file_system=system)

    assert check_power_cuts(write, tmp_path / "a.safetensors") > 20


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(SaveError):
        write_safetensors(tmp_path / "none" / "a", {})


@pytest.mark.parametrize(
    "spelling",
    [
        '{"a":{"shape":[1],"data_offsets":[0,4],"dtype":"F32"},"b":%s}',
        '{\n "a" : { "dtype" : "F32" , "shape" : [ 1 ] , "data_offsets" : [ 0 , 4 ] } ,\t"b":%s} ',
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"__metadata__":{"x":"y"},"\\u0062":%s}',
    ],
)
def test_every_way_of_writing_the_same_header_is_read(tmp_path: Path, spelling: str) -> None:
    raw = spelling % json.dumps(tensor(offsets=(4, 8)))
    header = read_header(put(tmp_path, raw.encode() + b"  ", bytes(8)))
    assert dict(header.tensors) == {"a": ("F32", (1,), (0, 4)), "b": ("F32", (1,), (4, 8))}


EMPTY = b'{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
EMPTY_UNUSUAL = b'{"shape":[0],"dtype":"F32","data_offsets":[0,0]}'

FAULTS: dict[str, tuple[bytes | dict[str, Any], bytes, str]] = {
    "unknown dtype": ({"a": tensor("F31")}, bytes(4), "unknown dtype"),
    "shape and bytes": ({"a": tensor(shape=(2,))}, bytes(4), "needs 8 bytes and is given 4"),
    "overflow": ({"a": tensor(shape=(2**62, 4, 0x4000000000000001))}, bytes(4), "needs"),
    "end before begin": ({"a": tensor(offsets=(4, 0))}, bytes(4), "needs 4 bytes and is given -4"),
    "outside": ({"a": tensor(offsets=(0, 4))}, bytes(2), "cut off"),
    "overlap": ({"a": tensor(offsets=(0, 4)), "b": tensor(offsets=(2, 6))}, bytes(6), "overlaps 'a'"),
    "gap": ({"a": tensor(offsets=(0, 4)), "b": tensor(offsets=(8, 12))}, bytes(12), "gap after 'a'"),
    "trailing data": ({"a": tensor()}, bytes(4) + b"PK\x03\x04", "4 bytes after the last tensor"),
    "negative": ({"a": tensor(shape=(-1,))}, bytes(4), "shape or offset that is none"),
    "float shape": ({"a": tensor(shape=(1.0,))}, bytes(4), "shape or offset that is none"),
    "true shape": ({"a": tensor(shape=(True,))}, bytes(4), "shape or offset that is none"),
    "text shape": ({"a": tensor(shape="1")}, bytes(4), "shape or offset that is none"),
    "null dtype": ({"a": tensor(dtype=None)}, bytes(4), "shape or offset that is none"),
    "three offsets": ({"a": tensor(offsets=(0, 4, 8))}, bytes(4), "needs dtype, shape and two data_offsets"),
    "no dtype": ({"a": {"shape": [1], "data_offsets": [0, 4]}}, bytes(4), "needs dtype, shape and two data_offsets"),
    "more keys": ({"a": {**tensor(), "code": "x"}}, bytes(4), "shape or offset that is none"),
    "nested": ({"a": {"dtype": {"a": {}}}}, bytes(4), "should begin dtype"),
    "no table": ({"a": 3}, b"", "should begin dtype"),
    "dimensions": ({"a": tensor(shape=[1] * 17)}, bytes(4), "more than 16 dimensions"),
    "half bytes": ({"a": tensor("F4", (3,), (0, 1))}, b"\0", "needs 1.5 bytes"),
    "duplicate": (b'{"a":%s,"a":%s}' % (EMPTY, EMPTY), b"", "two tensors"),
    "duplicate, unusual": (b'{"a":%s,"\\u0061":%s}' % (EMPTY_UNUSUAL, EMPTY), b"", "two tensors"),
    "two metadata": (b'{"__metadata__":{"a":""},"__metadata__":{}}', b"", "two blocks"),
    "same metadata": (b'{"__metadata__":{"a":"","a":""}}', b"", "two metadata"),
    "metadata of numbers": ({"__metadata__": {"a": 1}}, b"", "a text for the metadata 'a'"),
    "metadata as list": ({"__metadata__": []}, b"", "no table of texts"),
    "metadata as tensor": ({"__metadata__": tensor(), "a": tensor()}, bytes(4), "a text for the metadata"),
    "tensor in metadata": ({"__metadata__": {"a": tensor()}}, bytes(4), "a text for the metadata"),
    "surrogate": (b'{"\\ud800":%s}' % EMPTY, b"", "no Unicode"),
    "no utf-8": (b'{"\xff":%s,"b":%s}' % (EMPTY, EMPTY), b"", "no Unicode"),
    "cut": (b'{"a":{"dtype":"F32","sha', b"", "should begin"),
    "no comma": (b'{"a":%s "b"}' % EMPTY, b"", "a comma or the end"),
    "more after": (b'{} {"a":1}', b"", "more text after its end"),
    "long name": ({"n" * 5000: tensor()}, bytes(4), "a name of more than 4,096 bytes"),
    "brackets": (b"{" + b"[" * REPEATS, b"", "should begin a name"),
    "deep": (b'{"a":' + b'{"a":' * REPEATS, b"", "should begin dtype"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_header_is_refused_in_words(tmp_path: Path, fault: str) -> None:
    header, data, words = FAULTS[fault]
    path = put(tmp_path, header, data)
    with pytest.raises(ModelFileError, match=words) as caught:
        read_header(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 1000 and str(caught.value).encode()


@pytest.mark.parametrize("length", [0, 1, 2**24 + 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 200])
def test_a_length_that_lies_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(ModelFileError):
        read_header(put(tmp_path, {"a": tensor()}, bytes(4), length=length))


def _too_many(count: int, unusual: bool = False) -> bytes:
    start = b'{"shape":[0],"dtype":"F32"' if unusual else b'{"dtype":"F32","shape":[0]'
    return b"{" + b",".join(b'"%d":%s,"data_offsets":[0,0]}' % (i, start) for i in range(count)) + b"}"


HEAVY: dict[str, Callable[[], bytes]] = {
    "110,000 tensors": lambda: _too_many(110_000),
    "metadata of 15 MB": lambda: b'{"__metadata__":{"a":"' + b"x" * 15_000_000 + b'"}}',
    "a million metadata": lambda: b'{"__metadata__":{' + b",".join(b'"%x":""' % i for i in range(1_200_000)) + b"}}",
    "a name of 15 MB": lambda: b'{"' + b"n" * 15_000_000 + b'":1}',
    "escapes": lambda: b'{"' + b"\\u0061" * 2_500_000 + b'":1}',
    "a shape of 15 MB": lambda: b'{"a":{"dtype":"F32","shape":[' + b"1," * 7_500_000 + b'1],"data_offsets":[0,4]}}',
    "an offset of 15 MB": lambda: b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,' + b"9" * 15_000_000 + b"]}}",
    "spaces": lambda: b"{" + b" " * 15_000_000 + b"}",
    "brackets": lambda: b"{" + b"[" * 15_000_000,
    "quotes": lambda: b"{" + b'"' * 15_000_000,
    "backslashes": lambda: b'{"' + b"\\" * 15_000_000,
}


@pytest.mark.parametrize("heavy", [pytest.param(name, marks=[pytest.mark.slow] * name.endswith("tensors")) for name in HEAVY])
def test_a_heavy_header_costs_little(tmp_path: Path, heavy: str) -> None:
    path = put(tmp_path, HEAVY[heavy]())
    tracemalloc.start()
    _refuse_or_read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20
    assert any(_seconds(path) < 0.4 for _ in range(3))


def _seconds(path: Path) -> float:
    """In processor time: other work on the machine is not the reader's."""
    start = time.process_time()
    _refuse_or_read(path)
    return time.process_time() - start


def _refuse_or_read(path: Path) -> None:
    try:
        read_header(path)
    except ModelFileError as error:
        assert len(str(error)) < 1000


@pytest.mark.slow
def test_a_hundred_thousand_tensors_are_read_in_bounds(tmp_path: Path) -> None:
    path = put(tmp_path, _too_many(100_000))
    tracemalloc.start()
    assert len(read_header(path).tensors) == 100_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20
    with pytest.raises(ModelFileError, match="more than 100,000 tensors"):
        read_header(put(tmp_path, _too_many(100_001)))


def test_a_header_of_a_million_tensors_is_not_even_read(tmp_path: Path) -> None:
    path = put(tmp_path, b"{", length=89_000_000)
    os.truncate(path, 100_000_000)
    with pytest.raises(ModelFileError, match="a header of 89,000,000 bytes is more than"):
        read_header(path)


def test_more_metadata_than_is_kept_does_not_stop_the_tensors(tmp_path: Path) -> None:
    header = read_header(put(tmp_path, {"__metadata__": {"tags": "x" * (2 << 20), "title": "a"}, "a": tensor()}, bytes(4)))
    assert header.metadata == {"title": "a"} and header.metadata_left_out == ("tags",) and "a" in header.tensors


def test_a_header_at_the_limit_is_read(tmp_path: Path) -> None:
    raw = json.dumps({"a": tensor()}).encode()
    assert read_header(put(tmp_path, raw + b" " * (MOST_HEADER_BYTES - len(raw)), bytes(4))).tensors.keys() == {"a"}


def test_a_thousand_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    seeded = random.Random(7)
    start = {f"layer.{i}.weight": tensor("F16", (i, 2), (2 * i * (i - 1), 2 * i * (i + 1))) for i in range(12)}
    path = put(tmp_path, {"__metadata__": {"format": "pt"}, **start}, bytes(2 * 11 * 12))
    good = path.read_bytes()
    assert len(read_header(path).tensors) == 12
    refused, slowest = 0, 0.0
    for _ in range(1000):
        path.write_bytes(_mutated(seeded, good))
        began = time.process_time()
        try:
            read_header(path)
        except ModelFileError as error:
            refused += 1
            assert str(error).encode()
        slowest = max(slowest, time.process_time() - began)
    assert refused > 500 and slowest < 0.2, (refused, slowest)


def _mutated(seeded: random.Random, good: bytes) -> bytes:
    data = bytearray(good)
    for _ in range(seeded.choice([1, 1, 2, 8])):
        at = seeded.randrange(len(data)) if seeded.random() < 0.3 else seeded.randrange(min(len(data), 900))
        kind = seeded.randrange(4)
        if kind == 0:
            data[at] = seeded.randrange(256)
        elif kind == 1:
            del data[at : at + seeded.choice([1, 2, 40])]
        elif kind == 2:
            data[at:at] = seeded.choice([b"0", b"9" * 30, b'"', b"{", b"]", b"\\", b"-", b"\0", b"e9", b'"a":', good[at : at + 60]])
        else:
            data[at : at + 8] = seeded.choice([0, 1, 2**31, 2**63, 2**64 - 1]).to_bytes(8, "little")
        data = data or bytearray(b"\0")
    return bytes(data)


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=200), length=st.integers(0, 200))
def test_no_bytes_do_more_than_be_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes, length: int) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(length.to_bytes(8, "little") + b"{" + data)
    _refuse_or_read(path)


@pytest.mark.parametrize("name", ["missing", "folder", "x" * 300, "\0"])
def test_what_is_no_file_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelFileError):
        read_header(tmp_path / name)
