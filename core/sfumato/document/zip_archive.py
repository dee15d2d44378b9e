"""Zip archives: written forward only, every entry stored; read from strangers, with every name and size checked first (APPNOTE 6.3)."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, NamedTuple

from sfumato.errors import DocumentFileError, SaveError

MOST_ENTRIES = 20_000
MOST_FILE_BYTES = 8 << 30

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_VERSION, _UTF_8, _DATE = 20, 0x800, (1 << 5) | 1  # 1 January 1980: equal documents are equal files
_LARGEST = 0xFFFFFFFE


class Entry(NamedTuple):
    """Where an entry's bytes lie in the file."""

    offset: int
    size: int
    checksum: int


class ZipWriter:
    """Writes entries one after the other to a stream that need not seek. `entries` says where they are."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._at = stream, 0
        self.entries: dict[str, Entry] = {}
        self._headers: list[bytes] = []

    def add(self, name: str, data: bytes) -> None:
        """One stored entry. Raises SaveError where the format's limit of 4 GiB is reached."""
        raw, checksum = name.encode(), zlib.crc32(data)
        if len(data) > _LARGEST or self._at + len(data) + 1024 > _LARGEST or len(self.entries) >= MOST_ENTRIES:
            raise SaveError("the document is larger than 4 GiB", name, "Merge layers, or save parts of it as documents of their own.")
        flags = 0 if raw.isascii() else _UTF_8
        shared = (_VERSION, flags, 0, 0, _DATE, checksum, len(data), len(data), len(raw), 0)
        self._headers.append(_CENTRAL.pack(b"PK\1\2", _VERSION, *shared, 0, 0, 0, 0, self._at) + raw)
        head = _LOCAL.pack(b"PK\3\4", *shared) + raw
        self.entries[name] = Entry(self._at + len(head), len(data), checksum)
        self._write(head)
        self._write(data)

    def finish(self) -> None:
        """Write the list of entries."""
        start, count = self._at, len(self._headers)
        self._write(b"".join(self._headers))
        self._write(_END.pack(b"PK\5\6", 0, 0, count, count, self._at - start, start, 0))

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._at += len(data)


class ZipReader:
    """A zip archive from anybody. Raises DocumentFileError for names that lead elsewhere, links, doubles, bombs and damage."""

    def __init__(self, path: Path) -> None:
        self._where = str(path)
        try:
            if path.stat().st_size > MOST_FILE_BYTES:
                raise DocumentFileError(f"more than {MOST_FILE_BYTES:,} bytes", self._where)
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError as error:
            raise DocumentFileError("there is no such file", self._where) from error
        except OSError as error:
            raise DocumentFileError(f"the file cannot be read ({error.strerror or error})", self._where) from error
        except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
            raise DocumentFileError(f"this is no document, or a part of one ({error})", self._where, "Get the file again.") from error
        try:
            self._entries = self._checked()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> ZipReader:
        return self

    def __exit__(self, *error: object) -> None:
        self._zip.close()

    @property
    def names(self) -> tuple[str, ...]:
        """All entries that are files, in order."""
        return tuple(self._entries)

    def size(self, name: str) -> int:
        """Bytes that an entry claims to unpack to. Raises DocumentFileError if there is no such entry."""
        return self._entry(name).file_size

    def read(self, name: str, most: int) -> bytes:
        """An entry's bytes. Raises DocumentFileError if it is not there, damaged, or longer than `most`."""
        entry = self._entry(name)
        if entry.file_size > most:
            raise DocumentFileError(f"{entry.file_size:,} bytes, more than the {most:,} that are read", f"{self._where}: {name}")
        try:
            with self._zip.open(entry) as stream:
                data = stream.read(entry.file_size + 1)  # more than it claims is a lie, and refused by the checksum or here
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, NotImplementedError, struct.error) as error:
            raise DocumentFileError(f"this part is damaged ({error})", f"{self._where}: {name}", "Get the file again.") from error
        if len(data) != entry.file_size:
            raise DocumentFileError("this part has another length than it says", f"{self._where}: {name}", "Get the file again.")
        return data

    def _entry(self, name: str) -> zipfile.ZipInfo:
        try:
            return self._entries[name]
        except KeyError:
            raise DocumentFileError(f"the part {name[:80]!r} is missing", self._where, "Get the file again.") from None

    def _checked(self) -> dict[str, zipfile.ZipInfo]:
        entries: dict[str, zipfile.ZipInfo] = {}
        listed = self._zip.infolist()
        if len(listed) > MOST_ENTRIES:
            raise DocumentFileError(f"{len(listed):,} parts, more than the {MOST_ENTRIES:,} that are read", self._where)
        for entry in listed:
            if fault := _fault(entry, entries):
                raise DocumentFileError(f"a part {fault}", f"{self._where}: {entry.filename[:80]!r}", "This file may be an attack.")
            if not entry.is_dir():
                entries[entry.filename] = entry
        return entries


def _fault(entry: zipfile.ZipInfo, known: dict[str, zipfile.ZipInfo]) -> str:
    name = entry.orig_filename
    if name in known or entry.filename in known:
        return "is there twice"
    if "\0" in name or "\\" in name or name.startswith("/") or ":" in name.partition("/")[0] or ".." in name.split("/"):
        return "has a name that leads out of the document"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "is a symbolic link"
    if entry.flag_bits & 1:
        return "is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed by an unknown method"
    return ""
