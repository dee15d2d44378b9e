"""Where the parts of a document lie in an OpenRaster file, ours and everybody's (OpenRaster 0.0.6).

`stack.xml`, `data/`, `mergedimage.png` and the thumbnail are what every reader knows. `sfumato/document.json` holds what OpenRaster has
no words for, and names where each picture lies; `sfumato/` also holds pictures that others need not see: masks, untouched results.
"""

from __future__ import annotations

from sfumato.document.layers import DOCUMENT, SurfaceId

FORMAT = 1
"""Of `sfumato/document.json`; larger after changes that an older version would read wrongly."""

MIMETYPE = b"image/openraster"
MIMETYPE_NAME, STACK, MERGED, THUMBNAIL = "mimetype", "stack.xml", "mergedimage.png", "Thumbnails/thumbnail.png"
DESCRIPTION = "sfumato/document.json"
STANDARD = frozenset({MIMETYPE_NAME, STACK, MERGED, THUMBNAIL, DESCRIPTION})
OWN_PICTURES = ("sfumato/layers/", "sfumato/selection.png")

THUMBNAIL_SIDE = 256


def shown_name(layer_id: str) -> str:
    """What every reader sees of a layer."""
    return f"data/{layer_id}.png"


def own_name(surface: SurfaceId) -> str:
    """A picture that only we read."""
    return "sfumato/selection.png" if surface.owner == DOCUMENT else f"sfumato/layers/{surface.owner}-{surface.part}.png"
