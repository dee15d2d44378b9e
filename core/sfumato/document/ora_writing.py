"""Saving a document as OpenRaster: every reader sees layers and the merged picture; what only we know lies in a folder of its own."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

import sfumato
from sfumato.document.compositing import composite
from sfumato.document.last_save import BandPlace, LastSave, Places, identity_of
from sfumato.document.layers import GroupLayer, Layer, MaskLayer, RegionLayer, SurfaceId, walk
from sfumato.document.ora_layout import (
    DESCRIPTION,
    FORMAT,
    MERGED,
    MIMETYPE,
    MIMETYPE_NAME,
    STACK,
    THUMBNAIL,
    THUMBNAIL_SIDE,
    own_name,
    shown_name,
)
from sfumato.document.picture import Picture
from sfumato.document.planes import ONE, Planes
from sfumato.document.png import Band, assemble_png, bands_of, encode_band, encode_png
from sfumato.document.stack_xml import Element, write_xml
from sfumato.document.structure_json import structure_to_json
from sfumato.document.zip_archive import ZipWriter
from sfumato.files import FileSystem, write_atomically
from sfumato.geometry import Bounds, Point


class _Part(NamedTuple):
    """A picture to be written. `versions` of a band are others when its pixels are."""

    name: str
    channels: int
    bounds: Bounds
    versions: Callable[[Bounds], tuple[object, ...]]
    read: Callable[[Bounds], Planes]


def write_ora(
    path: Path,
    picture: Picture,
    last: LastSave | None = None,
    *,
    threads: int | None = None,
    file_system: FileSystem | None = None,
) -> int:
    """Write a document (a `Document.snapshot`, in another thread) to `path`, whole or not at all; returns the bytes written.

    `last` is what an earlier save left, and is brought up to date. Pixels are written with 8 bits a channel, not premultiplied.
    Raises SaveError, with the old file untouched.
    """
    last = last if last is not None else LastSave()
    places: Places = {}
    with ThreadPoolExecutor(threads or min(os.cpu_count() or 1, 8), "sfumato-save") as executor:
        size = write_atomically(path, lambda stream: _Saving(stream, picture, last, executor, places).run(), file_system=file_system)
    last.path, last.places, last.identity = path, places, identity_of(path)
    return size


class _Saving:
    """One save on its way."""

    def __init__(self, stream: IO[bytes], picture: Picture, last: LastSave, executor: Executor, places: Places) -> None:
        self._writer, self._picture, self._last, self._executor, self._places = ZipWriter(stream), picture, last, executor, places

    def run(self) -> None:
        writer, picture = self._writer, self._picture
        writer.add(MIMETYPE_NAME, MIMETYPE)
        shown = {layer.id: _shown(picture, layer) for layer in walk(picture.structure.layers) if not isinstance(layer, GroupLayer)}
        own = _own_parts(picture)
        stack = write_xml(_stack(picture, {layer_id: part.bounds.corner for layer_id, part in shown.items()}))
        writer.add(STACK, stack)
        for part in [*shown.values(), *own.values()]:
            self._add(part)
        surfaces = {SurfaceId(layer_id): part for layer_id, part in shown.items() if _is_plain(picture, layer_id)} | own
        writer.add(DESCRIPTION, _description(picture, surfaces, stack))
        self._add_merged()
        for name, data in picture.unknown.items():
            if name not in writer.entries:
                writer.add(name, data)
        writer.finish()

    def _add(self, part: _Part, step: int = 0) -> list[Planes]:
        """Write one picture; with a `step`, also return its bands made that many times smaller."""

        def encode(band: Bounds) -> tuple[Band, Planes | None]:
            known = self._last.band(part.name, band, part.versions(band))
            if known is not None:
                return known
            planes = part.read(band)
            return encode_band(planes), _smaller(planes, step) if step else None

        bands = bands_of(part.bounds)
        made = list(self._executor.map(encode, bands))
        data, offsets = assemble_png(part.bounds, part.channels, [band for band, _ in made])
        self._writer.add(part.name, data)
        start = self._writer.entries[part.name].offset
        for bounds, offset, (band, small) in zip(bands, offsets, made, strict=True):
            facts = start + offset, len(band.packed), zlib.crc32(band.packed), band.checksum, band.length, small
            self._places[part.name, bounds] = BandPlace(part.versions(bounds), *facts)
        return [small for _, small in made if small is not None]

    def _add_merged(self) -> None:
        """The whole picture as others show it, and its thumbnail, from the same pixels."""
        picture, step = self._picture, 1
        while max(picture.bounds.width, picture.bounds.height) > THUMBNAIL_SIDE * step:
            step *= 2
        part = _Part(MERGED, 4, picture.bounds, lambda band: _all_versions(picture, band), lambda band: composite(picture, band))
        small = self._add(part, step)
        thumbnail = np.concatenate(small, axis=1)
        whole = Bounds(0, 0, thumbnail.shape[2], thumbnail.shape[1])
        self._writer.add(THUMBNAIL, encode_png(lambda band: thumbnail[:, band.top : band.bottom], whole, 4))


def _all_versions(picture: Picture, band: Bounds) -> tuple[object, ...]:
    """Of everything that a band of the merged picture is made of."""
    surfaces = [SurfaceId(layer.id, part) for layer in walk(picture.structure.layers) for part in layer.parts if part in ("pixels", "mask")]
    versions = [picture.surface(each).versions(band.moved(-picture.structure.offset_of(each))) for each in surfaces]
    return picture.structure.size, picture.structure.layers, *versions


def _is_plain(picture: Picture, layer_id: str) -> bool:
    """What others see of the layer are its very pixels."""
    layer = picture.structure.layer(layer_id)
    return "pixels" in layer.parts and not layer.masked


def _shown(picture: Picture, layer: Layer) -> _Part:
    name, pixels, mask = shown_name(layer.id), picture.surface(SurfaceId(layer.id)), picture.surface(SurfaceId(layer.id, "mask"))
    if isinstance(layer, MaskLayer):
        bounds = picture.bounds.moved(-layer.offset) | mask.content_bounds()
        return _Part(name, 4, bounds, mask.versions, lambda band: _tinted(mask.read(band), (0, 0, 0)))
    if isinstance(layer, RegionLayer):
        area, colour = picture.surface(SurfaceId(layer.id, "area")), layer.colour

        def coloured(band: Bounds) -> tuple[object, ...]:
            return colour, area.versions(band)

        return _Part(name, 4, _filled(area.content_bounds()), coloured, lambda band: _tinted(area.read(band), colour))
    bounds = _filled(pixels.content_bounds())
    if not layer.masked:
        return _Part(name, 4, bounds, pixels.versions, pixels.read)

    def masked(band: Bounds) -> tuple[object, ...]:
        return pixels.versions(band), mask.versions(band)

    return _Part(name, 4, bounds, masked, lambda band: _times(pixels.read(band), mask.read(band)))


def _own_parts(picture: Picture) -> dict[SurfaceId, _Part]:
    """Every picture with content that others do not see as it is."""
    found = {}
    there = set(picture.structure.surfaces())
    for surface, tiles in sorted(picture.with_content().items()):
        if surface in there and not (surface.part == "pixels" and _is_plain(picture, surface.owner)):
            found[surface] = _Part(own_name(surface), tiles.channels, _filled(tiles.content_bounds()), tiles.versions, tiles.read)
    return found


def _filled(bounds: Bounds) -> Bounds:
    """A PNG has at least one pixel."""
    return bounds or Bounds(0, 0, 1, 1)


def _times(pixels: Planes, mask: Planes) -> Planes:
    result: Planes = ((pixels.astype(np.uint32) * mask + ONE // 2) // ONE).astype(np.uint16)
    return result


def _tinted(coverage: Planes, colour: tuple[int, int, int]) -> Planes:
    return _times(np.concatenate([coverage] * 4), np.array([*colour, 255], np.uint16)[:, None, None] * np.uint16(257))


def _stack(picture: Picture, corners: dict[str, Point]) -> Element:
    size = picture.structure.size
    root = Element("image", {"version": "0.0.6", "w": str(size.width), "h": str(size.height), "xres": "72", "yres": "72"})
    root.children.append(Element("stack", {}, [_element(layer, corners) for layer in reversed(picture.structure.layers)]))
    return root


def _element(layer: Layer, corners: dict[str, Point]) -> Element:
    attributes = {
        "name": layer.name,
        "opacity": repr(float(layer.opacity)),
        "visibility": "visible" if layer.visible and not layer.is_guide else "hidden",
        "composite-op": "svg:dst-in" if isinstance(layer, MaskLayer) else str(layer.blend),
    }
    if isinstance(layer, GroupLayer):
        attributes["isolation"] = "auto" if layer.is_passed_through else "isolate"
        return Element("stack", attributes, [_element(child, corners) for child in reversed(layer.children)])
    corner = corners[layer.id] + layer.offset
    attributes |= {"src": shown_name(layer.id), "x": str(corner.x), "y": str(corner.y)}
    if layer.locked:
        attributes["edit-locked"] = "true"
    return Element("layer", attributes)


def _description(picture: Picture, surfaces: dict[SurfaceId, _Part], stack: bytes) -> bytes:
    listed = [
        {"owner": surface.owner, "part": surface.part, "src": part.name, "x": part.bounds.left, "y": part.bounds.top}
        for surface, part in surfaces.items()
    ]
    data = {
        "format": FORMAT,
        "program": f"sfumato {sfumato.__version__}",
        "stack_crc32": zlib.crc32(stack),
        "structure": structure_to_json(picture.structure),
        "surfaces": listed,
    }
    return json.dumps(data, indent=1, sort_keys=True).encode("utf-8", "replace")


def _smaller(planes: Planes, step: int) -> Planes:
    """Means of squares of `step` pixels; what is missing at the rim counts as transparent."""
    height, width = (-(-side // step) * step for side in planes.shape[1:])
    padded = np.zeros((4, height, width), np.uint16)
    padded[:, : planes.shape[1], : planes.shape[2]] = planes
    blocks = padded.reshape(4, height // step, step, width // step, step)
    sums = blocks.sum(axis=2, dtype=np.uint32).sum(axis=3, dtype=np.uint64)
    means: Planes = (sums // np.uint64(step * step)).astype(np.uint16)
    return means
