"""What lies where in the file that was saved last, so that the next save copies the bands of rows that did not change."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sfumato.document.planes import Planes
from sfumato.document.png import Band
from sfumato.geometry import Bounds


class BandPlace(NamedTuple):
    """A packed band in the file. `versions` are those of the pixels that it was made of; `small` is its part of the thumbnail."""

    versions: tuple[object, ...]
    offset: int
    size: int
    crc: int
    checksum: int
    length: int
    small: Planes | None = None


Places = dict[tuple[str, Bounds], BandPlace]


@dataclass
class LastSave:
    """One for a document. Holds no pixels but a thumbnail's."""

    path: Path = field(default_factory=Path)
    identity: tuple[int, ...] = ()
    places: Mapping[tuple[str, Bounds], BandPlace] = field(default_factory=dict)

    def band(self, name: str, bounds: Bounds, versions: tuple[object, ...]) -> tuple[Band, Planes | None] | None:
        """A band of the old file, with its part of the thumbnail, if its pixels and the file are as they were."""
        place = self.places.get((name, bounds))
        if place is None or place.versions != versions or identity_of(self.path) != self.identity:
            return None
        try:
            with self.path.open("rb") as stream:
                stream.seek(place.offset)
                packed = stream.read(place.size)
        except OSError:
            return None
        return (Band(packed, place.checksum, place.length), place.small) if zlib.crc32(packed) == place.crc else None


def identity_of(path: Path) -> tuple[int, ...]:
    """Changes when another file takes the place; empty if there is none."""
    try:
        there = path.stat()
    except OSError:
        return ()
    return there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns
