"""What killed processes left behind: which journals have no living owner, and the documents that they hold."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from sfumato.document.document import Document
from sfumato.document.folder_lock import FolderLock
from sfumato.document.history import History
from sfumato.document.journal_records import NAME, Kind, Record, read_records
from sfumato.document.layers import PARTS, Part, SurfaceId
from sfumato.document.ora_reading import read_ora
from sfumato.document.packing import unpack
from sfumato.document.png import decode_png
from sfumato.document.structure_json import structure_from_json
from sfumato.document.tiles import TileKey, Tiles
from sfumato.errors import BadValueError, DocumentFileError
from sfumato.geometry import Bounds, Point
from sfumato.request import GenerateRequest

_FARTHEST = 1 << 16


@dataclass(frozen=True)
class Orphan:
    """A journal without an owner. `name` is what the user knew it by, `path` its file ("" if never saved), `time` the last edit, in seconds
    since 1970; `edits` and `results` are what is in it beyond that file."""

    folder: Path
    name: str
    path: str
    time: float
    edits: int
    results: int


@dataclass(frozen=True)
class Result:
    """A picture that a generation had made: [4,H,W] premultiplied tiles at (0, 0), where it looked, and what it was asked."""

    request: GenerateRequest | None
    frame: Bounds
    size: Bounds
    tiles: Tiles
    time: float


@dataclass(frozen=True)
class Recovered:
    """A document as it was at its last whole edit, the results, and what could not be brought back."""

    document: Document
    name: str
    path: str
    results: tuple[Result, ...]
    warnings: tuple[str, ...]


def find_orphans(journals: Path) -> list[Orphan]:
    """Journals whose process has ended without closing them, the newest first. Empty ones, and those that hold nothing new, are removed."""
    found = []
    for folder in sorted(journals.iterdir()) if journals.is_dir() else ():
        lock = FolderLock(folder)
        try:
            if not folder.is_dir() or not lock.take():
                continue
        except OSError:  # a folder that we may not write to is nobody's that we could help
            continue
        try:
            orphan = _look(folder)
            if orphan is None:
                lock.release()  # Windows removes no file that is open
                shutil.rmtree(folder, ignore_errors=True)
            else:
                found.append(orphan)
        finally:
            lock.release()
    return sorted(found, key=lambda each: -each.time)


def discard(folder: Path) -> None:
    """The user does not want it, or has it in a document of its own."""
    shutil.rmtree(folder, ignore_errors=True)


def recover(folder: Path, *, history: History | None = None) -> Recovered:
    """The document of a journal. The folder stays: `discard` it once the document is saved or has a journal of its own.

    Raises DocumentFileError if there is nothing in it that can be read.
    """
    begin: dict[str, Any] | None = None
    structure: dict[str, Any] | None = None
    tiles: dict[tuple[SurfaceId, TileKey], bytes] = {}
    results: list[Result] = []
    warnings: list[str] = []
    new_structure, new_tiles = structure, dict(tiles)
    for record in _records(folder):
        match record.kind:
            case Kind.BEGIN:
                begin = record.head
            case Kind.STRUCTURE:
                new_structure = record.head
            case Kind.TILE:
                new_tiles[_place(record.head)] = record.body
            case Kind.RESULT:
                results.append(_result(record))
            case Kind.COMMIT:
                structure, tiles = new_structure or structure, tiles | new_tiles
                new_structure, new_tiles = None, {}
    if begin is None or structure is None:
        raise DocumentFileError("this journal holds no document", str(folder))
    surfaces, unknown = _base(folder, begin, warnings)
    for (surface, key), packed in tiles.items():
        surfaces.setdefault(surface, Tiles(*PARTS[surface.part])).put(key, unpack(packed))
    document = Document(structure_from_json(structure), surfaces, unknown, history)
    return Recovered(document, str(begin.get("name", "")), str(begin.get("path", "")), tuple(results), tuple(warnings))


def _look(folder: Path) -> Orphan | None:
    begin, edits, results, tiles, last = None, -1, 0, 0, 0.0
    for record in _records(folder):
        if record.kind is Kind.BEGIN:
            begin = record.head
        edits += record.kind is Kind.COMMIT
        results += record.kind is Kind.RESULT
        tiles += record.kind is Kind.TILE
        last = float(record.head.get("time", last))
    if begin is None or (edits < 1 and not results and (begin.get("base") or not tiles)):
        return None
    return Orphan(folder, str(begin.get("name", "")), str(begin.get("path", "")), last, max(edits, 0), results)


def _records(folder: Path) -> Iterator[Record]:
    try:
        with (folder / NAME).open("rb") as stream:
            yield from read_records(stream)
    except FileNotFoundError:
        return
    except OSError as error:
        raise DocumentFileError(f"the journal cannot be read ({error.strerror or error})", str(folder)) from error


def _base(folder: Path, begin: dict[str, Any], warnings: list[str]) -> tuple[dict[SurfaceId, Tiles], dict[str, bytes]]:
    name = str(begin.get("base", ""))
    if not name:
        return {}, {}
    path = folder / Path(name).name
    try:
        there = path.stat()
        if (there.st_size, there.st_mtime_ns) != (begin.get("base_size"), begin.get("base_time")):
            warnings.append("the file that it was opened from has been changed since: parts may not fit together")
        document = read_ora(path).document
    except (OSError, DocumentFileError) as error:
        warnings.append(f"the file that it was opened from cannot be read ({error}): only what was changed since is here")
        return {}, {}
    surfaces = {surface: document.own_surface(surface) for surface in document.with_content()}
    return surfaces, dict(document.unknown)


def _place(head: dict[str, Any]) -> tuple[SurfaceId, TileKey]:
    owner, part, column, row = (head.get(name) for name in ("owner", "part", "column", "row"))
    is_place = isinstance(column, int) and isinstance(row, int) and max(abs(column), abs(row)) <= _FARTHEST
    if not (isinstance(owner, str) and part in get_args(Part) and is_place):
        raise DocumentFileError("the journal names a tile that cannot be")
    return SurfaceId(owner, part), (column, row)  # type: ignore[arg-type,return-value]


def _result(record: Record) -> Result:
    try:
        request: GenerateRequest | None = GenerateRequest.from_json(record.head["request"])
    except (BadValueError, KeyError):
        request = None
    tiles = decode_png(record.body, "result", 4, Point())
    from PIL.PngImagePlugin import PngImageFile

    with PngImageFile(io.BytesIO(record.body)) as picture:
        size = Bounds(0, 0, *picture.size)
    return Result(request, Bounds(*record.head["frame"]), size, tiles, float(record.head["time"]))
