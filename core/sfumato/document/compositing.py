"""The picture that a stack of layers makes: worked out tile by tile, and only where there is something."""

from __future__ import annotations

from typing import cast

import numpy as np

from sfumato.document.blending import CLEARING, BlendMode, blend
from sfumato.document.layers import GroupLayer, Layer, MaskLayer, RegionLayer, SurfaceId, Tree
from sfumato.document.picture import Picture
from sfumato.document.planes import ONE, Light, Planes, to_light, to_planes
from sfumato.document.tiles import TILE
from sfumato.geometry import Bounds, Point


def composite(picture: Picture, bounds: Bounds, level: int = 0, *, guides: bool = False, layers: Tree | None = None) -> Planes:
    """uint16 [4,H,W] of a rectangle, on transparent ground.

    `bounds` are pixels of the document halved `level` times. `guides` shows control and region layers too. `layers` takes another
    tree than the document's own (a part of it, to keep what lies below the layer that is painted on). Modes other than plain
    painting are applied after halving, as in every painting program: exact at level 0.
    """
    result = np.zeros((4, bounds.height, bounds.width), np.uint16)
    painter = _Painter(picture, level, guides)
    tree = picture.structure.layers if layers is None else layers
    for cell in bounds.cells(TILE):
        part = bounds & Bounds.at(cell[0] * TILE, cell[1] * TILE, TILE, TILE)
        painted = painter.tree(tree, part)
        if painted is not None:
            place = result[:, part.top - bounds.top : part.bottom - bounds.top, part.left - bounds.left : part.right - bounds.left]
            place[...] = _as_planes(painted)
    return result


class _Painter:
    """Composites within one tile; None stands for nothing at all."""

    def __init__(self, picture: Picture, level: int, guides: bool) -> None:
        self._picture, self._level, self._guides = picture, level, guides

    def tree(self, tree: Tree, part: Bounds) -> Light | Planes | None:
        """Planes as they are stored if one layer alone makes the picture."""
        shown = [layer for layer in tree if self._is_shown(layer, part)]
        start = next((i for i in range(len(shown) - 1, -1, -1) if self._covers(shown[i], part)), 0)
        shown = shown[start:]
        if not shown:
            return None
        if len(shown) == 1 and self._is_plain(shown[0]):
            return self._read(SurfaceId(shown[0].id), shown[0], part)
        result: Light | None = None
        for layer in shown:
            result = self._lay(layer, part, result)
        return result

    def _lay(self, layer: Layer, part: Bounds, below: Light | None) -> Light | None:
        if isinstance(layer, GroupLayer) and layer.is_passed_through:
            for child in layer.children:
                if self._is_shown(child, part):
                    below = self._lay(child, part, below)
            return below
        mode = BlendMode.DST_IN if isinstance(layer, MaskLayer) else layer.blend
        source = self._source(layer, part)
        if source is None:
            return None if mode in CLEARING else below
        if below is None:
            if mode in (BlendMode.DST_IN, BlendMode.DST_OUT, BlendMode.SRC_ATOP):
                return None
            return source
        return blend(mode, below, source)

    def _source(self, layer: Layer, part: Bounds) -> Light | None:
        """What a layer adds: its pixels, times its mask and opacity."""
        if isinstance(layer, MaskLayer):
            shown = np.zeros((4, part.height, part.width), np.float32)
            shown[3] = 1 - np.float32(layer.opacity) + to_light(self._read(SurfaceId(layer.id, "mask"), layer, part), layer.opacity)[0]
            return shown
        if isinstance(layer, GroupLayer):
            inner = self.tree(layer.children, part)
            if inner is None:
                return None
            light = _as_light(inner) * np.float32(layer.opacity)
        elif isinstance(layer, RegionLayer):
            area = to_light(self._read(SurfaceId(layer.id, "area"), layer, part), layer.opacity)
            light = np.array([*layer.colour, 255], np.float32)[:, None, None] / np.float32(255) * area
        else:
            if not self._has_content(SurfaceId(layer.id), layer, part):
                return None
            light = to_light(self._read(SurfaceId(layer.id), layer, part), layer.opacity)
        if layer.masked:
            light *= to_light(self._read(SurfaceId(layer.id, "mask"), layer, part))[0]
        return light

    def _is_shown(self, layer: Layer, part: Bounds) -> bool:
        """Visible, and with something here (or with an effect where it has nothing)."""
        if not layer.visible or (layer.is_guide and not self._guides):
            return False
        if isinstance(layer, MaskLayer) or layer.blend in CLEARING:
            return True
        if isinstance(layer, GroupLayer):
            return layer.opacity > 0 and any(self._is_shown(child, part) for child in layer.children)
        surface = SurfaceId(layer.id, "area" if isinstance(layer, RegionLayer) else "pixels")
        return layer.opacity > 0 and self._has_content(surface, layer, part)

    def _covers(self, layer: Layer, part: Bounds) -> bool:
        """Nothing below it can be seen."""
        if isinstance(layer, GroupLayer) or not self._is_plain(layer):
            return False
        return bool(self._read(SurfaceId(layer.id), layer, part)[3].min() == ONE)

    def _is_plain(self, layer: Layer) -> bool:
        """Its stored pixels are what it adds."""
        is_other = isinstance(layer, GroupLayer | MaskLayer | RegionLayer)
        return not is_other and layer.opacity == 1 and layer.blend is BlendMode.NORMAL and not layer.masked

    def _has_content(self, surface: SurfaceId, layer: Layer, part: Bounds) -> bool:
        tiles = self._picture.surface(surface)
        return bool(len(tiles)) and next(iter(tiles.touched(self._in_layer(layer, part), self._level)), None) is not None

    def _read(self, surface: SurfaceId, layer: Layer, part: Bounds) -> Planes:
        return self._picture.surface(surface).read(self._in_layer(layer, part), self._level)

    def _in_layer(self, layer: Layer, part: Bounds) -> Bounds:
        if not (layer.offset.x or layer.offset.y):
            return part
        step = 1 << self._level
        return part.moved(Point(-round(layer.offset.x / step), -round(layer.offset.y / step)))


def _as_planes(painted: Light | Planes) -> Planes:
    return cast(Planes, painted) if painted.dtype == np.uint16 else to_planes(cast(Light, painted))


def _as_light(painted: Light | Planes) -> Light:
    return to_light(cast(Planes, painted)) if painted.dtype == np.uint16 else cast(Light, painted)
