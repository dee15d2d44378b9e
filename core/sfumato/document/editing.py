"""An edit: everything that happens between the first and the last moment of one command, taken back whole if it is cancelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sfumato.document.blending import BlendMode, blend
from sfumato.document.commands import Command, Patch
from sfumato.document.events import DocumentEvent, PixelsChanged, SelectionChanged
from sfumato.document.layers import PARTS, SELECTION, GroupLayer, Layer, Part, SurfaceId, inserted, new_id, parent_of, replaced, walk
from sfumato.document.picture import Structure
from sfumato.document.planes import Light, Planes, to_light, to_planes
from sfumato.document.tiles import TileKey, Tiles, bounds_of_key
from sfumato.document.transforming import transformed
from sfumato.errors import BadValueError
from sfumato.geometry import Affine, Bounds, Point

if TYPE_CHECKING:
    from sfumato.document.document import Document


class Edit:
    """Made by `Document.begin`. Rectangles are in document pixels. Raises BadValueError for layers that are locked or not there."""

    def __init__(self, document: Document, label: str, merge_key: str | None = None) -> None:
        self._document, self.label, self._merge_key = document, label, merge_key
        self._before = document.structure
        self._recording: dict[SurfaceId, Tiles] = {}
        self._is_over = False

    # pixels

    def paint(
        self,
        surface: SurfaceId,
        bounds: Bounds,
        source: Planes | Light,
        mode: BlendMode = BlendMode.NORMAL,
        opacity: float = 1.0,
        *,
        over_original: bool = False,
    ) -> None:
        """Lay premultiplied [4,H,W] on a layer, within the selection, leaving alpha alone where that is locked.

        `over_original` lays it on what was there when the edit began: for strokes that are worked out anew with every dab.
        """
        tiles, inner = self._tiles(surface), self._inner(surface, bounds)
        old = tiles.read_recorded(inner) if over_original else tiles.read(inner)
        light = _as_light(source, opacity) * self._selected(bounds)
        if self._document.structure.layer(surface.owner).alpha_locked:
            planes = _blend_colours(mode, old, light)
        else:
            planes = to_planes(blend(mode, to_light(old), light))
        self._put(surface, tiles, bounds, inner, planes)

    def cover(self, surface: SurfaceId, bounds: Bounds, coverage: Planes | Light, value: float = 1.0) -> None:
        """Draw a mask, an area or the selection towards `value` (0..1) where `coverage` [1,H,W] says so."""
        tiles, inner = self._tiles(surface), self._inner(surface, bounds)
        light = _as_light(coverage)
        if surface != SELECTION:
            light = light * self._selected(bounds)
        old = to_light(tiles.read(inner))
        self._put(surface, tiles, bounds, inner, to_planes(old + (np.float32(value) - old) * light))

    def write(self, surface: SurfaceId, bounds: Bounds, planes: Planes) -> None:
        """Replace the pixels of a rectangle by uint16 [C,H,W], whatever is selected."""
        if planes.shape != (PARTS[surface.part][0], bounds.height, bounds.width):
            raise BadValueError(f"planes of the shape {list(planes.shape)} do not fit {bounds.width} x {bounds.height} pixels", "pixels")
        self._put(surface, self._tiles(surface), bounds, self._inner(surface, bounds), planes)

    def clear(self, surface: SurfaceId) -> None:
        """Nothing (a mask: everything shown) everywhere."""
        tiles = self._tiles(surface)
        bounds = tiles.bounds().moved(self._document.structure.offset_of(surface))
        tiles.clear()
        self._tell(surface, bounds)

    def original(self, surface: SurfaceId, bounds: Bounds) -> Planes:
        """The pixels as they were when the edit began."""
        return self._tiles(surface).read_recorded(self._inner(surface, bounds))

    # layers

    def add(
        self,
        layer: Layer,
        parent: str | None = None,
        index: int | None = None,
        surfaces: Mapping[Part, Tiles] | None = None,
    ) -> str:
        """A new layer, above its siblings unless `index` (from below) says otherwise, with its pixels; returns its id."""
        if any(each.id == layer.id for each in walk(self._document.structure.layers)):
            raise BadValueError("this layer is there already", f"layer {layer.name!r}", "Duplicate it instead.")
        self._set(layers=inserted(self._document.structure.layers, layer, parent, index))
        for part, tiles in (surfaces or {}).items():
            target = self._record(SurfaceId(layer.id, part))
            for key, tile in tiles.snapshot().items():
                target.put(key, tile)
            self._tell(SurfaceId(layer.id, part), tiles.bounds().moved(layer.offset))
        return layer.id

    def remove(self, layer_id: str) -> None:
        """Take a layer away, a group with all that is in it."""
        layer = self._unlocked(layer_id)
        self._set(layers=replaced(self._document.structure.layers, layer_id, ()))
        for each in walk((layer,)):
            for part in each.parts:
                self._record(SurfaceId(each.id, part)).clear()

    def move(self, layer_id: str, parent: str | None = None, index: int | None = None) -> None:
        """Put a layer into another group or place; `index` counts from below, the layer itself already taken out."""
        layer = self._document.structure.layer(layer_id)
        if parent is not None and any(each.id == parent for each in walk((layer,))):
            raise BadValueError("a group cannot be put into itself", f"layer {layer.name!r}")
        self._set(layers=inserted(replaced(self._document.structure.layers, layer_id, ()), layer, parent, index))

    def duplicate(self, layer_id: str) -> str:
        """A copy right above the layer, with ids of its own; pixels are shared until one is painted on. Returns its id."""
        group, index = parent_of(self._document.structure.layers, layer_id)
        ids: dict[str, str] = {}
        copy = _copied(self._document.structure.layer(layer_id), ids)
        self._set(layers=inserted(self._document.structure.layers, copy, group.id if group else None, index + 1))
        for old, new in ids.items():
            for part in self._document.structure.layer(new).parts:
                target = self._record(SurfaceId(new, part))
                for key, tile in self._document.surface(SurfaceId(old, part)).snapshot().items():
                    target.put(key, tile)
        return copy.id

    def change(self, layer_id: str, **settings: Any) -> None:
        """Other settings for a layer: any field of its class but `id` and `children`."""
        layer = self._document.structure.layer(layer_id)
        unknown = settings.keys() - ({each.name for each in fields(layer)} - {"id", "children"})
        if unknown:
            raise BadValueError(f"a layer of the kind {layer.kind} has no {', '.join(sorted(unknown))}", f"layer {layer.name!r}")
        if layer.locked and settings.keys() - {"locked", "visible", "name"}:
            self._unlocked(layer_id)
        self._set(layers=replaced(self._document.structure.layers, layer_id, (replace(layer, **settings),)))

    def transform(self, layer_id: str, by: Affine, *, smooth: bool = True) -> None:
        """Move, scale or turn a layer in the document's plane, its mask and a group's layers with it. Whole pixels lose nothing."""
        self._unlocked(layer_id)
        for layer in list(walk((self._document.structure.layer(layer_id),))):
            if by == Affine.shift(round(by.dx), round(by.dy)):
                self.change(layer.id, offset=layer.offset + Point(round(by.dx), round(by.dy)))
                continue
            inner = Affine.shift(-layer.offset.x, -layer.offset.y) @ by @ Affine.shift(layer.offset.x, layer.offset.y)
            for part in layer.parts:
                if part != "result":
                    self._transform(SurfaceId(layer.id, part), inner, smooth)

    def _transform(self, surface: SurfaceId, inner: Affine, smooth: bool) -> None:
        tiles = self._record(surface)
        before, made = tiles.bounds(), transformed(tiles, inner, smooth=smooth)
        tiles.clear()
        for key, tile in made.items():
            tiles.put(key, tile)
        self._tell(surface, (before | made.bounds()).moved(self._document.structure.offset_of(surface)))

    # the document

    def select(self, active: bool = True) -> None:
        """Let the selection count, or let everything be selected; without one its pixels are gone."""
        if not active:
            self._record(SELECTION).clear()
        self._set(selection_active=active)

    def set_frame(self, frame: Bounds) -> None:
        """Where the next generation looks."""
        self._set(frame=frame)

    def crop(self, bounds: Bounds) -> None:
        """Make the document the size of a rectangle (also a larger one); pixels outside are kept, out of sight."""
        by = Point(-bounds.left, -bounds.top)
        selection = self._record(SELECTION)
        area = selection.bounds()
        pixels = np.array(selection.read(area))
        selection.clear()
        if area:
            selection.write(area.moved(by), pixels)
        layers = self._document.structure.layers
        for layer in walk(layers):
            current = next(each for each in walk(layers) if each.id == layer.id)
            layers = replaced(layers, layer.id, (replace(current, offset=current.offset + by),))
        self._set(layers=layers, size=bounds.size, frame=self._document.structure.frame.moved(by))

    # the end

    def commit(self) -> Command | None:
        """The edit becomes one command of the history; None if nothing has changed, or if it is over already."""
        if self._is_over:
            return None
        self._is_over = True
        patches: dict[SurfaceId, dict[TileKey, Patch]] = {}
        for name, tiles in self._recording.items():
            found = {key: Patch.between(before, tiles.tile(key)) for key, before in tiles.stop_recording().items()}
            if kept := {key: patch for key, patch in found.items() if patch is not None}:
                patches[name] = kept
        command = Command(self.label, self._before, self._document.structure, patches, self._merge_key)
        is_empty = not patches and command.before == command.after
        self._document.end_edit(None if is_empty else command)
        return None if is_empty else command

    def cancel(self) -> None:
        """Everything is again as it was when the edit began. Does nothing if it is over already."""
        if self._is_over:
            return
        changed: list[PixelsChanged] = []
        for name, tiles in self._recording.items():
            before = dict(tiles.recorded())
            tiles.stop_recording()
            for key, tile in before.items():
                tiles.put(key, tile)
            changed.append(PixelsChanged(name, Bounds.around(bounds_of_key(key) for key in before)))
        self._document.set_structure(self._before)
        self._is_over = True
        self._document.end_edit(None)
        for event in changed:
            if event.surface in self._before.surfaces():
                self._document.tell(PixelsChanged(event.surface, event.bounds.moved(self._before.offset_of(event.surface))))

    def touched(self) -> dict[SurfaceId, dict[TileKey, Planes]]:
        """The tiles that were written to so far, as they are now; not to be written to."""
        now = {name: tiles.snapshot() for name, tiles in self._recording.items()}
        return {name: {key: now[name].tile(key) for key in tiles.recorded()} for name, tiles in self._recording.items()}

    def _tiles(self, surface: SurfaceId) -> Tiles:
        if surface != SELECTION:
            layer = self._unlocked(surface.owner)
            if surface.part not in layer.parts:
                raise BadValueError(f"a layer of the kind {layer.kind} has no {surface.part}", f"layer {layer.name!r}")
        return self._record(surface)

    def _record(self, surface: SurfaceId) -> Tiles:
        self._check_going_on()
        if surface not in self._recording:
            self._recording[surface] = self._document.own_surface(surface)
            self._recording[surface].start_recording()
        return self._recording[surface]

    def _check_going_on(self) -> None:
        if self._is_over:
            raise BadValueError("this edit is over", self.label, "Begin another one.")

    def _unlocked(self, layer_id: str) -> Layer:
        """The layer, if neither it nor a group around it is locked."""
        layers, current = self._document.structure.layers, layer_id
        while True:
            group, index = parent_of(layers, current)
            layer = (group.children if group else layers)[index]
            if layer.locked:
                raise BadValueError("this layer is locked", f"layer {layer.name!r}", "Unlock it first.")
            if group is None:
                return self._document.structure.layer(layer_id)
            current = group.id

    def _inner(self, surface: SurfaceId, bounds: Bounds) -> Bounds:
        return bounds.moved(-self._document.structure.offset_of(surface))

    def _selected(self, bounds: Bounds) -> Light | np.float32:
        if not self._document.structure.selection_active:
            return np.float32(1)
        return to_light(self._document.surface(SELECTION).read(bounds))

    def _put(self, surface: SurfaceId, tiles: Tiles, bounds: Bounds, inner: Bounds, planes: Planes) -> None:
        if bounds:
            tiles.write(inner, planes)
            self._tell(surface, bounds)

    def _tell(self, surface: SurfaceId, bounds: Bounds) -> None:
        if not bounds:
            return
        event: DocumentEvent = PixelsChanged(surface, bounds)
        if surface == SELECTION:
            event = SelectionChanged(bounds, self._document.structure.selection_active)
        self._document.tell(event)

    def _set(self, **changes: Any) -> None:
        self._check_going_on()
        structure: Structure = replace(self._document.structure, **changes)
        self._document.set_structure(structure)


def _as_light(source: Planes | Light, factor: float = 1.0) -> Light:
    if source.dtype == np.uint16:
        return np.multiply(source, np.float32(factor / 65535), dtype=np.float32)
    return np.multiply(source, np.float32(factor), dtype=np.float32)


def _blend_colours(mode: BlendMode, old: Planes, source: Light) -> Planes:
    """As if the backdrop were opaque; then with its alpha. Where nothing would be left, or nothing was, it stays."""
    alpha = to_light(old[3:])
    opaque = np.divide(to_light(old), alpha, out=np.zeros(old.shape, np.float32), where=alpha > 0)
    result = blend(mode, opaque, source)
    colours = np.divide(result[:3], result[3:], out=np.zeros_like(result[:3]), where=result[3:] > 0) * alpha
    planes = np.where((result[3:] > 0) & (alpha > 0), to_planes(colours), old[:3])
    return np.concatenate([planes, old[3:]])


def _copied(layer: Layer, ids: dict[str, str]) -> Layer:
    ids[layer.id] = new_id()
    copy = replace(layer, id=ids[layer.id])
    if isinstance(copy, GroupLayer):
        return replace(copy, children=tuple(_copied(child, ids) for child in copy.children))
    return copy
