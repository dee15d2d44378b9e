"""What has happened to a document, as frozen records in the past tense; listeners are called in the thread that changed it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from sfumato.document.layers import SurfaceId
from sfumato.document.picture import Picture
from sfumato.document.tiles import TileKey
from sfumato.geometry import Bounds, Size


@dataclass(frozen=True)
class LayerAdded:
    """A layer is there, in `parent` (None: top level). Its pixels, if it has any, are told as `PixelsChanged`."""

    layer: str
    parent: str | None


@dataclass(frozen=True)
class LayerRemoved:
    """A layer is gone, and with it what it held, within `bounds` of the document."""

    layer: str
    bounds: Bounds


@dataclass(frozen=True)
class LayerChanged:
    """Other settings. `bounds` is where the picture may look different, in document pixels; empty for a new name."""

    layer: str
    bounds: Bounds


@dataclass(frozen=True)
class LayersReordered:
    """The same layers, in another order or other groups. `bounds` is where there are any."""

    bounds: Bounds


@dataclass(frozen=True)
class PixelsChanged:
    """Pixels of one surface are different within `bounds`, in document pixels."""

    surface: SurfaceId
    bounds: Bounds


@dataclass(frozen=True)
class SelectionChanged:
    """Another selection, or none (`active` is False)."""

    bounds: Bounds
    active: bool


@dataclass(frozen=True)
class FrameChanged:
    """The frame of the next generation is elsewhere."""

    frame: Bounds


@dataclass(frozen=True)
class SizeChanged:
    """The document has another size."""

    size: Size


@dataclass(frozen=True)
class HistoryChanged:
    """There is something else to undo or redo; labels, or None for nothing."""

    undo: str | None
    redo: str | None


@dataclass(frozen=True)
class EditCommitted:
    """A command was done, undone or redone; `touched` are the tiles that it changed."""

    label: str
    touched: Mapping[SurfaceId, tuple[TileKey, ...]]


@dataclass(frozen=True)
class DocumentSaved:
    """`picture` is on the disk, at `path`; the document may have changed since that moment."""

    path: str
    picture: Picture


DocumentEvent: TypeAlias = (
    LayerAdded
    | LayerRemoved
    | LayerChanged
    | LayersReordered
    | PixelsChanged
    | SelectionChanged
    | FrameChanged
    | SizeChanged
    | HistoryChanged
    | EditCommitted
    | DocumentSaved
)
