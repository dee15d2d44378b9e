"""A document at one moment: its structure, frozen, and its surfaces; what is composited, saved and sent to other threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sfumato.document.blending import CLEARING
from sfumato.document.layers import DOCUMENT, PARTS, SELECTION, GroupLayer, Layer, MaskLayer, SurfaceId, Tree, find, walk
from sfumato.document.tiles import Tiles
from sfumato.errors import BadValueError
from sfumato.geometry import NOWHERE, ORIGIN, Bounds, Point, Size

MOST_SIDE = 32768
"""Pixels along a document's side: larger ones are refused."""


@dataclass(frozen=True, kw_only=True)
class Structure:
    """Everything of a document but its pixels. Frozen and shared: two moments differ in a few small records."""

    size: Size
    frame: Bounds = NOWHERE
    layers: Tree = ()
    selection_active: bool = False
    """There is a selection; otherwise everything may change."""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (0 < self.size.width <= MOST_SIDE and 0 < self.size.height <= MOST_SIDE):
            what = f"a document of {self.size.width} x {self.size.height} pixels cannot be"
            raise BadValueError(what, "size", f"Sides are 1 to {MOST_SIDE} pixels.")

    @property
    def bounds(self) -> Bounds:
        return Bounds.of(self.size)

    def layer(self, layer_id: str) -> Layer:
        """Raises BadValueError if there is no such layer."""
        return find(self.layers, layer_id)

    def offset_of(self, surface: SurfaceId) -> Point:
        """Where pixel (0, 0) of a surface lies in the document."""
        return ORIGIN if surface.owner == DOCUMENT else self.layer(surface.owner).offset

    def surfaces(self) -> list[SurfaceId]:
        """All that the layers may have, and the selection."""
        return [SurfaceId(layer.id, part) for layer in walk(self.layers) for part in layer.parts] + [SELECTION]


class Picture:
    """A structure with its surfaces. One that came from `Document.snapshot` never changes, and may be read by any thread."""

    def __init__(
        self,
        structure: Structure,
        surfaces: Mapping[SurfaceId, Tiles] | None = None,
        unknown: Mapping[str, bytes] | None = None,
        moment: object = None,
    ) -> None:
        self.structure = structure
        self._surfaces = dict(surfaces or {})
        self.unknown: Mapping[str, bytes] = unknown or {}
        """Entries of the document's file that are not ours, by name: written again as they were."""
        self.moment = moment
        """The last command that had been done when this was taken from a document."""

    @property
    def bounds(self) -> Bounds:
        return self.structure.bounds

    def surface(self, surface: SurfaceId) -> Tiles:
        """The pixels, in the surface's own coordinates; empty if nothing was painted. To read only."""
        found = self._surfaces.get(surface)
        return Tiles(*PARTS[surface.part]) if found is None else found

    def with_content(self) -> dict[SurfaceId, Tiles]:
        """All surfaces where something was painted."""
        return {name: tiles for name, tiles in self._surfaces.items() if len(tiles)}

    def bounds_of(self, layer: Layer) -> Bounds:
        """Where a layer may have an effect, in document pixels, by whole tiles."""
        if isinstance(layer, MaskLayer) or layer.blend in CLEARING:
            return self.bounds
        inner = [self.bounds_of(child) for child in layer.children] if isinstance(layer, GroupLayer) else []
        own = [self.surface(SurfaceId(layer.id, part)).bounds().moved(layer.offset) for part in layer.parts if part in ("pixels", "area")]
        return Bounds.around(inner + own)

    @property
    def memory(self) -> int:
        """Bytes of pixels; a tile that several surfaces share counts more than once."""
        return sum(tiles.memory for tiles in self._surfaces.values())
