"""Safetensors files: the header, read within bounds by a reader of our own, and a writer of plain arrays.

The format (Hugging Face, safetensors 0.x): eight bytes of length, little-endian; that much JSON, name -> dtype, shape, offsets; the
bytes of the tensors, without gaps. A legal file may still be an attack (a million empty tensors cost seconds and a gigabyte
in ordinary readers), so that there are limits, and the header is walked tensor by tensor instead of parsed at once.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from sfumato.errors import ModelFileError
from sfumato.files import FileSystem, write_atomically
from sfumato.models.content import HEAD_BYTES, refuse

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_HEADER_BYTES = 16 << 20
MOST_TENSORS = 100_000
MOST_METADATA_BYTES = 1 << 20
MOST_METADATA = 10_000
MOST_NAME_BYTES = 4096
MOST_DIMENSIONS = 16
_MOST_REMEMBERED = 4096

BITS: Mapping[str, int] = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64,
    "F32": 32, "I32": 32, "U32": 32,
    "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "BOOL": 8, "I8": 8, "U8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
"""dtype -> bits of one element."""

_NUMPY_NAMES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1", "C64": "<c8",
}  # fmt: skip

_STRING = rb'"([^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+)"'
_SPACE = rb"[ \t\r\n]*+"
_KEY = re.compile(_SPACE + _STRING + _SPACE + rb":" + _SPACE)
_USUAL_ENTRY = re.compile(
    rb'"([^"\\\x00-\x1f]++)": ?\{"dtype": ?"(\w++)", ?"shape": ?\[([0-9, ]*+)\], ?"data_offsets": ?\[(\d++), ?(\d++)\]\}, ?'
)
_ANY_TENSOR = re.compile(rb"\{[^{}]{0,2000}+\}")
_TEXT = re.compile(_STRING)
_COMMA_OR_END = re.compile(_SPACE + rb"([,}])")
_EMPTY = re.compile(_SPACE + rb"\}")


class TensorInfo(NamedTuple):
    """`offsets` are (begin, end) in bytes from the start of the data."""

    dtype: str
    shape: tuple[int, ...]
    offsets: tuple[int, int]


@dataclass(frozen=True)
class Header:
    """All that a safetensors file says about itself. `size` is the file's, `data_start` where the tensors' bytes begin, in bytes.

    Metadata beyond `MOST_METADATA_BYTES` is not kept: the names are in `metadata_left_out`.
    """

    path: Path
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    size: int
    data_start: int = 0
    metadata_left_out: tuple[str, ...] = ()

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a tensor, or None if there is no such tensor."""
        info = self.tensors.get(name)
        return info.shape if info else None


class RawTensor(NamedTuple):
    """A tensor as bytes, for dtypes that NumPy does not have (BF16). `data` is little-endian and contiguous."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def read_header(path: Path) -> Header:
    """The header of a safetensors file, fully checked, in at most 64 MB whatever the file holds.

    A model's header takes a few milliseconds, a hostile one about 0.1 s, the largest that is legal (100,000 tensors) under a second.

    Raises ModelFileError naming the tensor or place for anything that is not right, and for files of other kinds (see
    `sfumato.models.content`): no fall-back ever opens those.
    """
    where = str(path)
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            raw = _read_raw(stream, size, where)
    except FileNotFoundError as error:
        raise ModelFileError("there is no such file", where) from error
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ModelFileError(f"the file cannot be read ({reason})", where) from error
    try:
        return _Parser(raw).header(path, size)
    except _FaultError as error:
        raise ModelFileError(f"the safetensors header is wrong: {error}", where, "The file is damaged: get it again.") from error


def read_tensor(header: Header, name: str) -> NDArray[Any]:
    """One tensor as an array of its own. Raises KeyError if there is none of this name, ModelFileError for dtypes NumPy lacks."""
    import numpy as np

    dtype, shape, (begin, end) = header.tensors[name]
    if dtype not in _NUMPY_NAMES:
        raise ModelFileError(f"the tensor {_short(name)} has the dtype {dtype}, which NumPy does not have", str(header.path))
    with header.path.open("rb") as stream:
        stream.seek(header.data_start + begin)
        data = stream.read(end - begin)
    if len(data) != end - begin:
        raise ModelFileError(f"the tensor {_short(name)} is cut off", str(header.path), "The file was changed or truncated meanwhile.")
    return np.frombuffer(data, _NUMPY_NAMES[dtype]).reshape(shape).copy()


def write_safetensors(
    path: Path,
    tensors: Mapping[str, NDArray[Any] | RawTensor],
    metadata: Mapping[str, str] | None = None,
    *,
    file_system: FileSystem | None = None,
) -> int:
    """Write arrays (and raw tensors) to a safetensors file, whole or not at all; returns its size in bytes.

    The bytes depend on names, values and metadata only, not on the order they are given in. Raises SaveError.
    """
    raw = {name: each if isinstance(each, RawTensor) else _raw(each) for name, each in tensors.items()}
    # Wide elements first, as the format's own writer does, so that every tensor begins at a multiple of its element's size.
    order = sorted(raw, key=lambda name: (-BITS[raw[name].dtype], name))
    table: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    at = 0
    for name in order:
        dtype, shape, data = raw[name]
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    head = json.dumps(table, separators=(",", ":")).encode("ascii")
    head += b" " * (-len(head) % 8)

    def write(stream: IO[bytes]) -> None:
        stream.write(len(head).to_bytes(8, "little") + head)
        for name in order:
            stream.write(raw[name].data)

    return write_atomically(path, write, file_system=file_system)


def _raw(array: NDArray[Any]) -> RawTensor:
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    name = next((name for name, numpy_name in _NUMPY_NAMES.items() if little.dtype == numpy_name), None)
    if name is None:
        raise TypeError(f"safetensors has no dtype for {array.dtype}")
    return RawTensor(name, array.shape, little.tobytes())


def _read_raw(stream: IO[bytes], size: int, where: str) -> bytes:
    head = stream.read(HEAD_BYTES)
    length = int.from_bytes(head[:8], "little")
    if head[8:9] != b"{":
        raise refuse(head, where, size)
    if length > MOST_HEADER_BYTES:
        if head.startswith(b"PK"):
            raise refuse(head, where, size)
        raise ModelFileError(f"a header of {length:,} bytes is more than the {MOST_HEADER_BYTES:,} that are read", where)
    if length > size - 8:
        what = f"the file is cut off: its header alone has {length:,} bytes, the file {size:,}"
        raise ModelFileError(what, where, "The download was not finished: get the file again.")
    stream.seek(8)
    return stream.read(length)


class _FaultError(Exception):
    """Says what is wrong in a header; never leaves this module."""


class _Parser:
    """Walks the header's JSON once, entry by entry, and stops at the first fault."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._at = raw, 1
        self._tensors: dict[str, TensorInfo] = {}
        self._kinds: dict[tuple[bytes, bytes], tuple[str, tuple[int, ...], int]] = {}

    def header(self, path: Path, size: int) -> Header:
        metadata: dict[str, str] | None = None
        left_out: list[str] = []
        for name in self._keys(are_tensors=True):
            if name != "__metadata__":
                self._add(name, self._tensor(name))
            elif metadata is not None:
                raise _FaultError("two blocks of metadata")
            else:
                metadata, left_out = self._metadata()
        if self._raw[self._at :].strip(b" \t\r\n"):
            raise _FaultError(f"more text after its end (byte {self._at})")
        data_start = 8 + len(self._raw)
        _check_places(self._tensors, size - data_start)
        return Header(path, self._tensors, metadata or {}, size, data_start, tuple(left_out))

    def _keys(self, *, are_tensors: bool = False) -> Iterator[str]:
        """The keys of the object that begins here; the caller walks over each value before it asks for the next key."""
        if empty := _EMPTY.match(self._raw, self._at):
            self._at = empty.end()
            return
        while True:
            if are_tensors:
                self._usual_tensors()
            key = self._match(_KEY, "a name")
            if key.end(1) - key.start(1) > MOST_NAME_BYTES:
                raise _FaultError(f"a name of more than {MOST_NAME_BYTES:,} bytes (byte {key.start(1)})")
            yield _text(key[1])
            if self._match(_COMMA_OR_END, "a comma or the end")[1] == b"}":
                return

    def _usual_tensors(self) -> None:
        """The entries from here on that are written as every writer does, in one stride; the rest is left to the slow way."""
        match, raw, tensors, kinds = _USUAL_ENTRY.match, self._raw, self._tensors, self._kinds
        make, at = tuple.__new__, self._at
        while (found := match(raw, at)) and len(tensors) < MOST_TENSORS:
            name, dtype, shape, begin, end = found.groups()
            kind = kinds.get((dtype, shape)) or self._kind(dtype, shape)
            key = name.decode("utf-8", "replace")
            if kind is None or key in tensors or len(begin) > 19 or len(end) > 19 or len(name) > MOST_NAME_BYTES or "\ufffd" in key:
                break
            first, last = int(begin), int(end)
            if last - first != kind[2] or key == "__metadata__":
                break
            tensors[key] = make(TensorInfo, (kind[0], kind[1], (first, last)))
            at = found.end()
        self._at = at

    def _kind(self, dtype: bytes, shape: bytes) -> tuple[str, tuple[int, ...], int] | None:
        """(dtype, shape, bytes), remembered since tensors of a model are mostly alike; None for what the slow way shall explain."""
        bits = BITS.get(dtype.decode())
        parts = [part.strip() for part in shape[:400].split(b",")] if shape else []
        if bits is None or len(shape) > 400 or len(parts) > MOST_DIMENSIONS or not all(part.isdigit() for part in parts):
            return None
        sizes = tuple(map(int, parts))
        total = math.prod(sizes) * bits
        if total % 8:
            return None
        kind = (sys.intern(dtype.decode()), sizes, total // 8)
        if len(self._kinds) < _MOST_REMEMBERED:
            self._kinds[dtype, shape] = kind
        return kind

    def _add(self, name: str, info: TensorInfo) -> None:
        if name in self._tensors:
            raise _FaultError(f"two tensors are called {_short(name)}")
        if len(self._tensors) >= MOST_TENSORS:
            raise _FaultError(f"more than {MOST_TENSORS:,} tensors")
        self._tensors[name] = info

    def _metadata(self) -> tuple[dict[str, str], list[str]]:
        metadata: dict[str, str] = {}
        left_out: list[str] = []
        if self._raw[self._at : self._at + 1] != b"{":
            raise _FaultError("the metadata are no table of texts")
        self._at += 1
        room = MOST_METADATA_BYTES
        for key in self._keys():
            value = self._match(_TEXT, f"a text for the metadata {_short(key)}")
            if key in metadata:
                raise _FaultError(f"two metadata are called {_short(key)}")
            if len(metadata) + len(left_out) >= MOST_METADATA:
                raise _FaultError(f"more than {MOST_METADATA:,} metadata")
            size = value.end() - value.start() + len(key)
            if size > room:
                left_out.append(key)
            else:
                room -= size
                metadata[key] = _text(value[1])
        return metadata, left_out

    def _tensor(self, name: str) -> TensorInfo:
        found = self._match(_ANY_TENSOR, f"dtype, shape and data_offsets of the tensor {_short(name)}")
        try:
            entry = json.loads(found[0])
            dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _FaultError(f"the tensor {_short(name)} needs dtype, shape and two data_offsets") from error
        numbers = [*shape, begin, end] if isinstance(shape, list) else [None]
        if len(entry) != 3 or not isinstance(dtype, str) or any(type(n) is not int or n < 0 for n in numbers):
            raise _FaultError(f"the tensor {_short(name)} has a dtype, shape or offset that is none")
        return _checked(name, dtype, tuple(shape), begin, end)

    def _match(self, pattern: re.Pattern[bytes], wanted: str) -> re.Match[bytes]:
        found = pattern.match(self._raw, self._at)
        if found is None:
            raise _FaultError(f"byte {self._at} should begin {wanted}")
        self._at = found.end()
        return found


def _checked(name: str, dtype: str, shape: tuple[int, ...], begin: int, end: int) -> TensorInfo:
    bits = BITS.get(dtype)
    if bits is None:
        raise _FaultError(f"the tensor {_short(name)} has the unknown dtype {_short(dtype)}")
    if len(shape) > MOST_DIMENSIONS:
        raise _FaultError(f"the tensor {_short(name)} has more than {MOST_DIMENSIONS} dimensions")
    total = math.prod(shape) * bits
    if total % 8 or total // 8 != end - begin:
        raise _FaultError(f"the tensor {_short(name)} of {dtype} {list(shape)} needs {total / 8:g} bytes and is given {end - begin}")
    return TensorInfo(dtype, shape, (begin, end))


def _check_places(tensors: Mapping[str, TensorInfo], available: int) -> None:
    """The tensors fill the rest of the file without gap or overlap: then there is no room for anything hidden, either."""
    at, before = 0, ""
    for (begin, end), name in sorted((info.offsets, name) for name, info in tensors.items()):
        if begin != at:
            fault = "overlaps" if begin < at else "leaves a gap after"
            raise _FaultError(f"the tensor {_short(name)} {fault} {_short(before) if before else 'the header'}")
        at, before = end, name
    if at > available:
        raise _FaultError(f"the tensor {_short(before)} ends at byte {at:,} of {available:,}: the file is cut off")
    if at < available:
        raise _FaultError(f"{available - at:,} bytes after the last tensor belong to nothing")


def _text(raw: bytes) -> str:
    try:
        text: str = json.loads(b'"' + raw + b'"') if b"\\" in raw else raw.decode()
        text.encode()
    except ValueError as error:
        raise _FaultError("a name or metadata text is no Unicode") from error
    return text


def _short(name: str) -> str:
    return repr(name if len(name) <= 100 else name[:100] + "…")
