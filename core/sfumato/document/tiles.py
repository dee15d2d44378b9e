"""Sparse picture storage: tiles of 256 x 256 pixels that are shared until they are written to.

A tile is a read-only array of planes. Where nothing was painted there is no tile, and one background tile stands for all of these;
a tile of a single colour is an array of stride 0, a few bytes. Both behave as any other array, so that no reader tells them apart.
Coordinates may be negative: a layer goes on beyond the document's rim.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

import numpy as np

from sfumato.document.planes import Planes
from sfumato.geometry import Bounds

TILE = 256
"""Pixels along a tile's side."""

TileKey: TypeAlias = tuple[int, int]
"""(column, row) of a tile: pixel (x, y) lies in (x // 256, y // 256)."""


class Tiles:
    """Pixels of one layer, or of one mask. `channels` 4 (premultiplied RGBA) or 1 (coverage); `background` is what no tile covers."""

    def __init__(self, channels: int = 4, background: int = 0) -> None:
        self.channels, self.background = channels, background
        self.empty_tile: Planes = solid([background] * channels)
        self._tiles: dict[TileKey, Planes] = {}
        self._own: set[TileKey] = set()
        self._before: dict[TileKey, Planes] | None = None
        self._halved: dict[int, dict[TileKey, Planes]] = {}
        self._versions: dict[int, object] = {}

    def __len__(self) -> int:
        return len(self._tiles)

    def __contains__(self, key: TileKey) -> bool:
        return key in self._tiles

    def keys(self) -> Iterable[TileKey]:
        return self._tiles.keys()

    def items(self) -> Iterable[tuple[TileKey, Planes]]:
        return self._tiles.items()

    @property
    def memory(self) -> int:
        """Bytes of the tiles that are held (some may be shared with others)."""
        return sum(stored_bytes(tile) for tile in self._tiles.values())

    def bounds(self) -> Bounds:
        """The rectangle of whole tiles around all that differs from the background."""
        if not self._tiles:
            return Bounds()
        columns, rows = zip(*self._tiles, strict=True)
        return Bounds(min(columns) * TILE, min(rows) * TILE, (max(columns) + 1) * TILE, (max(rows) + 1) * TILE)

    def content_bounds(self) -> Bounds:
        """The rectangle around all pixels that differ from the background."""
        whole, found = self.bounds(), Bounds()
        middle = (whole.left + whole.right) / 2, (whole.top + whole.bottom) / 2
        # From the rim inwards: what lies within the rectangle found so far need not be looked at.
        for key in sorted(self._tiles, key=lambda each: -max(abs(each[0] * TILE - middle[0]), abs(each[1] * TILE - middle[1]))):
            if bounds_of_key(key) not in found:
                found |= _content(key, self._tiles[key], self.background)
        return found

    def versions(self, bounds: Bounds) -> tuple[object, ...]:
        """One object for each row of tiles, another one after every change in it; a snapshot has those of its moment."""
        return tuple(self._versions.get(row) for row in range(bounds.top // TILE, -(-bounds.bottom // TILE)))

    def tile(self, key: TileKey, level: int = 0) -> Planes:
        """One tile, not to be written to; at `level` n of the picture halved n times (2 x 2 means), made when first asked for."""
        if level == 0:
            return self._tiles.get(key, self.empty_tile)
        known = self._halved.setdefault(level, {})
        if key not in known:
            column, row = 2 * key[0], 2 * key[1]
            parts = [self.tile((column + x, row + y), level - 1) for y in (0, 1) for x in (0, 1)]
            known[key] = self.empty_tile if all(part is self.empty_tile for part in parts) else _half(parts)
        return known[key]

    def read(self, bounds: Bounds, level: int = 0) -> Planes:
        """uint16 [C,H,W] of a rectangle (of the halved picture's pixels, at a level). Not to be written to: it may be a tile itself."""
        result = None
        for key, tile in self.touched(bounds, level):
            part = bounds & bounds_of_key(key)
            inner = tile[:, part.top - key[1] * TILE : part.bottom - key[1] * TILE, part.left - key[0] * TILE : part.right - key[0] * TILE]
            if part == bounds and key not in self._own:
                return inner
            if result is None:
                result = np.full((self.channels, bounds.height, bounds.width), self.background, np.uint16)
            result[:, part.top - bounds.top : part.bottom - bounds.top, part.left - bounds.left : part.right - bounds.left] = inner
        if result is None:
            return np.broadcast_to(np.uint16(self.background), (self.channels, bounds.height, bounds.width))
        return result

    def touched(self, bounds: Bounds, level: int = 0) -> Iterator[tuple[TileKey, Planes]]:
        """The tiles, other than background, that a rectangle touches."""
        cells = bounds.cells(TILE)
        if level == 0 and len(self._tiles) * 4 < (bounds.width // TILE + 1) * (bounds.height // TILE + 1):
            cells = (key for key in list(self._tiles) if bounds & bounds_of_key(key))
        for key in cells:
            tile = self.tile(key, level)
            if tile is not self.empty_tile:
                yield key, tile

    def writable(self, key: TileKey) -> Planes:
        """A tile to write to: [C,256,256], copied if it was shared. Good until the next `snapshot` or `stop_recording`."""
        tile = self._tiles.get(key, self.empty_tile)
        if self._before is not None:
            self._before.setdefault(key, tile)
        if key not in self._own:
            self._tiles[key] = tile = np.array(tile)
            self._own.add(key)
        self._changed(key)
        return tile

    def put(self, key: TileKey, tile: Planes | None) -> None:
        """Replace a whole tile by a read-only one (shared, not copied); None or the background takes it away."""
        if self._before is not None:
            self._before.setdefault(key, self._tiles.get(key, self.empty_tile))
        self._own.discard(key)
        if tile is None or (_is_solid(tile) and (tile[:, 0, 0] == self.background).all()):
            self._tiles.pop(key, None)
        else:
            tile.setflags(write=False)
            self._tiles[key] = tile
        self._changed(key)

    def write(self, bounds: Bounds, planes: Planes) -> None:
        """Copy uint16 [C,H,W] to a rectangle of that size."""
        for key in bounds.cells(TILE):
            whole = bounds_of_key(key)
            part = bounds & whole
            piece = planes[:, part.top - bounds.top : part.bottom - bounds.top, part.left - bounds.left : part.right - bounds.left]
            if part == whole:
                self.put(key, piece if _is_solid(piece) else shrunk(np.array(piece)))
            else:
                place = self.writable(key)
                place[:, part.top - whole.top : part.bottom - whole.top, part.left - whole.left : part.right - whole.left] = piece

    def fill(self, bounds: Bounds, colour: Iterable[int]) -> None:
        """One value a channel for all pixels of a rectangle; whole tiles of it take no memory."""
        self.write(bounds, np.broadcast_to(np.array(list(colour), np.uint16)[:, None, None], (self.channels, bounds.height, bounds.width)))

    def clear(self) -> None:
        """Background everywhere."""
        for key in list(self._tiles):
            self.put(key, None)

    def snapshot(self) -> Tiles:
        """The same pixels, never to change with these: tiles are shared, none is copied."""
        self._freeze()
        copy = Tiles(self.channels, self.background)
        copy.empty_tile = self.empty_tile
        copy._tiles = dict(self._tiles)
        copy._versions = dict(self._versions)
        copy._halved = {level: dict(tiles) for level, tiles in self._halved.items()}
        return copy

    def start_recording(self) -> None:
        """From now on the first write to a tile keeps what it was before."""
        if self._before is None:
            self._freeze()
            self._before = {}

    def recorded(self) -> Mapping[TileKey, Planes]:
        """What the tiles that were touched since `start_recording` were before."""
        return self._before or {}

    def read_recorded(self, bounds: Bounds) -> Planes:
        """As `read`, of the pixels when recording began."""
        old = Tiles(self.channels, self.background)
        before = self.recorded()
        for key in bounds.cells(TILE):
            old.put(key, before.get(key, self._tiles.get(key)))
        return old.read(bounds)

    def stop_recording(self) -> Mapping[TileKey, Planes]:
        """As `recorded`, and ends it. Tiles that became one colour shrink, those that became background go."""
        before, self._before = self._before or {}, None
        for key, old in before.items():
            if (tile := self._tiles.get(key, old)) is not old:
                self.put(key, shrunk(tile))
        self._freeze()
        return before

    def tidied(self) -> Tiles:
        """These tiles, with those of one colour shrunk and those of background gone."""
        for key, tile in list(self._tiles.items()):
            self.put(key, shrunk(tile))
        return self

    def _freeze(self) -> None:
        for key in self._own:
            self._tiles[key].setflags(write=False)
        self._own.clear()

    def _changed(self, key: TileKey) -> None:
        self._versions[key[1]] = object()
        for level, tiles in self._halved.items():
            tiles.pop((key[0] >> level, key[1] >> level), None)


def solid(colour: Iterable[int]) -> Planes:
    """A whole tile of one colour in a few bytes."""
    return np.broadcast_to(np.array(list(colour), np.uint16)[:, None, None], (len(list(colour)), TILE, TILE))


def shrunk(tile: Planes) -> Planes:
    """A solid tile if all pixels are equal, else the tile itself."""
    first = tile[:, :1, :1]
    if not _is_solid(tile) and (tile[:, -1:, -1:] == first).all() and (tile == first).all():
        return solid(first[:, 0, 0])
    return tile


def stored_bytes(tile: Planes) -> int:
    """What a tile takes in memory."""
    return len(tile) * tile.itemsize if _is_solid(tile) else tile.nbytes


def bounds_of_key(key: TileKey) -> Bounds:
    """The pixels of a tile."""
    return Bounds.at(key[0] * TILE, key[1] * TILE, TILE, TILE)


def _is_solid(tile: Planes) -> bool:
    return tile.strides[1:] == (0, 0)


def _half(parts: list[Planes]) -> Planes:
    """2 x 2 means of four tiles, in the order of reading. Premultiplied values are averaged, so that transparent pixels lend no colour."""
    result = np.empty_like(parts[0], shape=parts[0].shape)
    half = TILE // 2
    for index, part in enumerate(parts):
        rows, columns = slice(index // 2 * half, (index // 2 + 1) * half), slice(index % 2 * half, (index % 2 + 1) * half)
        if _is_solid(part):
            result[:, rows, columns] = part[:, :1, :1]
            continue
        wide = part[:, ::2].astype(np.uint32) + part[:, 1::2]
        result[:, rows, columns] = (wide[..., ::2] + wide[..., 1::2] + 2) >> 2
    result.setflags(write=False)
    return result


def _content(key: TileKey, tile: Planes, background: int) -> Bounds:
    filled = (tile != background).any(axis=0)
    rows, columns = filled.any(axis=1).nonzero()[0], filled.any(axis=0).nonzero()[0]
    if not len(rows):
        return Bounds()
    x, y = key[0] * TILE, key[1] * TILE
    return Bounds(x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]) + 1, y + int(rows[-1]) + 1)
