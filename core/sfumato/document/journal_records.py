"""The records of a journal: framed, each with its checksum, so that a file cut anywhere is read up to its last whole record.

::

    file    = "Sfumato journal 1\\n" record*
    record  = "SfJr" kind:u8 0:u8 0:u8 0:u8 head:u32 body:u32 crc32:u32, then `head` bytes of JSON and `body` bytes
    kinds     BEGIN      where the document came from; always the first record
              STRUCTURE  the structure from the next COMMIT on
              TILE       one tile, packed, from the next COMMIT on
              COMMIT     everything since the last COMMIT counts
              RESULT     a picture that a generation made; counts by itself

Numbers are little-endian; the checksum is of kind, lengths, JSON and body.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from enum import IntEnum
from typing import IO, Any, NamedTuple

from sfumato.bounded_json import JsonFault, read_json

SIGNATURE = b"Sfumato journal 1\n"
NAME = "journal"

_FRAME = struct.Struct("<4sB3xIII")
_MAGIC = b"SfJr"
_MOST_HEAD, _MOST_BODY = 64 << 20, 1 << 30


class Kind(IntEnum):
    """What a record is."""

    BEGIN = 1
    STRUCTURE = 2
    TILE = 3
    COMMIT = 4
    RESULT = 5


class Record(NamedTuple):
    """`offset` and `length` are those of the whole frame in the file."""

    kind: Kind
    head: dict[str, Any]
    body: bytes
    offset: int
    length: int


def frame(kind: Kind, head: dict[str, Any], body: bytes = b"") -> bytes:
    """The bytes of one record."""
    text = json.dumps(head, separators=(",", ":")).encode("utf-8", "replace")
    return _FRAME.pack(_MAGIC, kind, len(text), len(body), _checksum(kind, text, body)) + text + body


def read_records(stream: IO[bytes]) -> Iterator[Record]:
    """All whole records from the start; ends without complaint where the first one is cut, damaged or unknown."""
    if stream.read(len(SIGNATURE)) != SIGNATURE:
        return
    at = len(SIGNATURE)
    while len(start := stream.read(_FRAME.size)) == _FRAME.size:
        magic, kind, head_size, body_size, checksum = _FRAME.unpack(start)
        if magic != _MAGIC or kind not in set(Kind) or head_size > _MOST_HEAD or body_size > _MOST_BODY:
            return
        text, body = stream.read(head_size), stream.read(body_size)
        if len(text) < head_size or len(body) < body_size or _checksum(kind, text, body) != checksum:
            return
        try:
            head = read_json(text)
        except JsonFault:
            return
        length = _FRAME.size + head_size + body_size
        yield Record(Kind(kind), head, body, at, length)
        at += length


def _checksum(kind: int, text: bytes, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(text, zlib.crc32(struct.pack("<BII", kind, len(text), len(body)))))
