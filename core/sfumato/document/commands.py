"""One undoable change: the structure before and after, and of each tile that changed the other side, packed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from sfumato.document.layers import SurfaceId
from sfumato.document.packing import pack, unpack
from sfumato.document.picture import Structure
from sfumato.document.planes import Planes
from sfumato.document.tiles import TileKey, Tiles
from sfumato.errors import DocumentFileError
from sfumato.geometry import Bounds


class Patch:
    """The pixels of one tile that a change replaced: what is not in the tile now. `swap` puts them in and keeps what they replace.

    Only the rectangle that differs is held: as planes at first, packed when there is time, or nowhere while it is on the disk.
    """

    __slots__ = ("_content", "_lock", "box")

    def __init__(self, box: Bounds, content: Planes) -> None:
        self.box = box
        self._content: Planes | bytes | None = content
        self._lock = threading.Lock()

    @classmethod
    def between(cls, before: Planes, after: Planes) -> Patch | None:
        """What leads from `after` back to `before`; None if they are equal."""
        differs = (before != after).any(axis=0)
        rows, columns = differs.any(axis=1).nonzero()[0], differs.any(axis=0).nonzero()[0]
        if not len(rows):
            return None
        box = Bounds(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        return cls(box, _cut(before, box))

    @property
    def memory(self) -> int:
        """Bytes in memory."""
        content = self._content
        if isinstance(content, np.ndarray):
            return content.nbytes if content.strides[1:] != (0, 0) else content.itemsize * len(content)
        return len(content) if content is not None else 0

    @property
    def packed(self) -> bytes | None:
        """The content if it is packed and in memory."""
        content = self._content
        return content if isinstance(content, bytes) else None

    def shrink(self) -> None:
        """Pack what is not yet packed. May be called from another thread than `swap`."""
        content = self._content
        if isinstance(content, np.ndarray):
            packed = pack(content)
            with self._lock:
                if self._content is content:
                    self._content = packed

    def forget(self) -> None:
        """The content has been written to the disk."""
        with self._lock:
            self._content = None

    def restore(self, packed: bytes) -> None:
        """The content has been read from the disk again."""
        with self._lock:
            self._content = packed

    def swap(self, tiles: Tiles, key: TileKey) -> None:
        with self._lock:
            content = self._content
            if content is None:
                raise DocumentFileError("this part of the history is on the disk")
            there = _cut(tiles.tile(key), self.box)
            place = tiles.writable(key)
            place[:, self.box.top : self.box.bottom, self.box.left : self.box.right] = (
                unpack(content) if isinstance(content, bytes) else content
            )
            self._content = there


@dataclass
class Command:
    """A change that has been made. `undo` and `do` of a document take it back and make it again; `merge_key` joins slider drags."""

    label: str
    before: Structure
    after: Structure
    patches: Mapping[SurfaceId, Mapping[TileKey, Patch]]
    merge_key: str | None = None

    def all_patches(self) -> Iterator[Patch]:
        for surface in self.patches.values():
            yield from surface.values()

    @property
    def memory(self) -> int:
        """Bytes in memory, with flat sums for the objects around the pixels."""
        return sum(patch.memory + 500 for patch in self.all_patches()) + 2000

    def swap(self, surfaces: Mapping[SurfaceId, Tiles]) -> None:
        """Exchange every patch with what is there: from after to before, or back."""
        for name, patches in self.patches.items():
            for key, patch in patches.items():
                patch.swap(surfaces[name], key)

    def merged_with(self, later: Command) -> Command | None:
        """One command for both, if they belong to one drag of a slider and change no pixels."""
        if self.merge_key is None or self.merge_key != later.merge_key or self.patches or later.patches:
            return None
        return Command(self.label, self.before, later.after, {}, self.merge_key)


def _cut(tile: Planes, box: Bounds) -> Planes:
    piece = tile[:, box.top : box.bottom, box.left : box.right]
    return piece if piece.strides[1:] == (0, 0) else np.array(piece)
