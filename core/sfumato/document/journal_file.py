"""The file of a journal: appended to, written anew when most of it is outdated, and never torn in the middle."""

from __future__ import annotations

import io
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from sfumato.document.journal_records import NAME, SIGNATURE, Kind, frame
from sfumato.document.layers import SurfaceId
from sfumato.document.packing import pack
from sfumato.document.picture import Structure
from sfumato.document.planes import Planes
from sfumato.document.structure_json import structure_to_json
from sfumato.document.tiles import TileKey
from sfumato.errors import SaveError
from sfumato.files import write_atomically

SYNC_SECONDS = 1.0
"""Between two syncs of the file."""

COMPACT_BYTES = 64 << 20
"""Smaller journals are left alone."""

RESULT_BYTES = 512 << 20
"""Of results that are kept when a journal is written anew; the newest stay."""

Place: TypeAlias = tuple[SurfaceId, TileKey]
Name: TypeAlias = Place | Literal["structure"]
Extent: TypeAlias = tuple[int, int]


@dataclass
class Noted:
    """What is to be written; later moments have taken the place of earlier ones."""

    structure: Structure | None = None
    tiles: dict[Place, Planes] = field(default_factory=dict)
    results: list[bytes] = field(default_factory=list)

    def __bool__(self) -> bool:
        return self.structure is not None or bool(self.tiles or self.results)

    def followed_by(self, later: Noted) -> Noted:
        """Both, in this order."""
        return Noted(later.structure or self.structure, self.tiles | later.tiles, self.results + later.results)


class JournalFile:
    """Not for several threads at once. All methods raise OSError or SaveError, and leave what was in the file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._file: io.FileIO | None = None
        self._begin = b""
        self._index: dict[Name, Extent] = {}
        self._results: list[Extent] = []
        self._size, self._synced = 0, 0.0

    def append(self, noted: Noted) -> None:
        """Write what was noted, as one step; sync if the last time is long ago; write everything anew if most is outdated."""
        if noted:
            if self._file is None:
                raise SaveError("the journal is not open", str(self._path))
            self._append(noted)
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self.sync()
        if self._size > max(COMPACT_BYTES, 3 * self._live):
            self._compact()

    def sync(self) -> None:
        """Return when everything is on the disk."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def begin(self, facts: dict[str, object], records: list[tuple[Name, bytes]]) -> None:
        """A new file in the place of the old one; only results are kept."""
        self._replace(frame(Kind.BEGIN, facts), records, self._old_results())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, noted: Noted) -> None:
        records = [] if noted.structure is None else [structure_record(noted.structure)]
        records += [((surface, key), tile_record(surface, key, tile)) for (surface, key), tile in noted.tiles.items()]
        index, results, data = _laid_out(self._size, records, noted.results)
        self._write(data)
        self._index.update(index)
        self._results += results

    def _write(self, data: bytes) -> None:
        """All of it, or the file is cut back to where it was: a torn record in the middle would hide all that follow."""
        assert self._file is not None
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            with suppress(OSError):
                self._file.truncate(self._size)
                self._file.seek(self._size)
            raise
        self._size += len(data)

    @property
    def _live(self) -> int:
        return sum(length for _, length in self._index.values()) + sum(length for _, length in self._results)

    def _compact(self) -> None:
        """Write the newest record of everything to a new file."""
        assert self._file is not None
        old = self._file
        records = [(name, _read(old, at, length)) for name, (at, length) in self._index.items()]
        self._replace(self._begin, records, self._old_results())

    def _old_results(self) -> list[bytes]:
        """Those in the file, the newest that fit."""
        kept: list[bytes] = []
        for at, length in reversed(self._results):
            if self._file is None or sum(map(len, kept)) + length > RESULT_BYTES:
                break
            kept.insert(0, _read(self._file, at, length))
        return kept

    def _replace(self, begin: bytes, records: list[tuple[Name, bytes]], results: list[bytes]) -> None:
        """A new file, whole or not at all; appended to from now on."""
        index, places, data = _laid_out(len(SIGNATURE) + len(begin), records, results)
        self.close()
        try:
            write_atomically(self._path, SIGNATURE + begin + data)
            self._begin, self._index, self._results = begin, index, places
        finally:
            if self._path.exists():
                self._file = self._path.open("r+b", buffering=0)
                self._size = self._file.seek(0, os.SEEK_END)
                self._synced = time.monotonic()


def _laid_out(start: int, records: list[tuple[Name, bytes]], results: list[bytes]) -> tuple[dict[Name, Extent], list[Extent], bytes]:
    """(where each record lies, where each result lies, their bytes with a COMMIT) if they are written at `start`."""
    index: dict[Name, Extent] = {}
    places, at = [], start
    for name, record in records:
        index[name] = at, len(record)
        at += len(record)
    for record in results:
        places.append((at, len(record)))
        at += len(record)
    return index, places, b"".join([*(record for _, record in records), *results, frame(Kind.COMMIT, {"time": time.time()})])


def structure_record(structure: Structure) -> tuple[Name, bytes]:
    """Its name in the index, and its bytes."""
    return "structure", frame(Kind.STRUCTURE, structure_to_json(structure))


def tile_record(surface: SurfaceId, key: TileKey, tile: Planes) -> bytes:
    """The bytes of one."""
    head = {"owner": surface.owner, "part": surface.part, "column": key[0], "row": key[1]}
    return frame(Kind.TILE, head, pack(tile))


def _read(file: io.FileIO, at: int, length: int) -> bytes:
    file.seek(at)
    data = b""
    while len(data) < length and (more := file.read(length - len(data))):
        data += more
    file.seek(0, os.SEEK_END)
    return data
