"""A document's structure as plain JSON values and back, every value checked on the way in."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from sfumato.document.blending import BlendMode
from sfumato.document.layers import ControlLayer, GenerativeLayer, GroupLayer, Layer, MaskLayer, RasterLayer, RegionLayer, walk
from sfumato.document.picture import Structure
from sfumato.errors import BadValueError, DocumentFileError
from sfumato.geometry import Bounds, Point, Size
from sfumato.request import GenerateRequest

KINDS: Mapping[str, type[Layer]] = {
    each.kind: each for each in (RasterLayer, GroupLayer, MaskLayer, ControlLayer, RegionLayer, GenerativeLayer)
}
MOST_LAYERS = 4096
MOST_NESTING = 64

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FARTHEST = 1 << 24


def structure_to_json(structure: Structure) -> dict[str, Any]:
    """Plain values; what a newer version had added is among them."""
    return {
        **structure.extra,
        "size": [structure.size.width, structure.size.height],
        "frame": _sides(structure.frame),
        "selection_active": structure.selection_active,
        "layers": [layer_to_json(layer) for layer in structure.layers],
    }


def layer_to_json(layer: Layer) -> dict[str, Any]:
    """One layer with all that is in it."""
    values = {field.name: getattr(layer, field.name) for field in fields(layer) if field.name != "extra"}
    return {**layer.extra, "kind": layer.kind, **{name: _plain(value) for name, value in values.items()}}


def structure_from_json(data: Any) -> Structure:
    """Keys that are not known are kept, to be written again. Raises DocumentFileError for values that cannot be."""
    try:
        known = {"size", "frame", "selection_active", "layers"}
        layers = tuple(_layer(each, 0) for each in _list(data["layers"]))
        structure = Structure(
            size=Size(*(_whole(each) for each in _list(data["size"], 2))),
            frame=_bounds(data.get("frame", [0, 0, 0, 0])),
            selection_active=_flag(data.get("selection_active", False)),
            layers=layers,
            extra={key: value for key, value in data.items() if key not in known},
        )
    except (BadValueError, ValueError, TypeError, KeyError, AttributeError) as error:
        what = error.what if isinstance(error, BadValueError) else str(error)
        raise DocumentFileError(f"its description of the layers is damaged: {what}") from error
    ids = [layer.id for layer in walk(layers)]
    if len(ids) != len(set(ids)) or len(ids) > MOST_LAYERS:
        raise DocumentFileError("its description of the layers is damaged: ids that occur twice, or too many layers")
    return structure


def _plain(value: Any) -> Any:
    if isinstance(value, Point):
        return [value.x, value.y]
    if isinstance(value, Bounds):
        return _sides(value)
    if isinstance(value, GenerateRequest):
        return value.to_json()
    if isinstance(value, tuple):
        return [layer_to_json(each) if isinstance(each, Layer) else each for each in value]
    return str(value) if isinstance(value, BlendMode) else value


def _sides(bounds: Bounds) -> list[int]:
    return [bounds.left, bounds.top, bounds.right, bounds.bottom]


def _layer(data: Any, depth: int) -> Layer:
    if depth > MOST_NESTING:
        raise ValueError(f"groups are nested more than {MOST_NESTING} deep")
    kind = KINDS.get(data["kind"])
    if kind is None:
        raise ValueError(f"a layer of the unknown kind {str(data['kind'])[:40]!r}")
    names = {field.name for field in fields(kind)} - {"extra"}
    values: dict[str, Any] = {name: _READERS[name](data[name]) for name in names - {"children"} if name in data}
    if "children" in names:
        values["children"] = tuple(_layer(each, depth + 1) for each in _list(data.get("children", [])))
    return kind(**values, extra={key: value for key, value in data.items() if key not in names and key != "kind"})


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text is no text")
    return value


def _id(value: Any) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError("an id that cannot be")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a number is no number")
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _FARTHEST:
        raise ValueError("a coordinate that cannot be")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("a switch that is neither on nor off")
    return value


def _list(value: Any, length: int | None = None) -> list[Any]:
    if not isinstance(value, list) or (length is not None and len(value) != length):
        raise ValueError("a list of the wrong length")
    return value


def _bounds(value: Any) -> Bounds:
    return Bounds(*(_whole(each) for each in _list(value, 4)))


def _colour(value: Any) -> tuple[int, int, int]:
    red, green, blue = (min(max(_whole(each), 0), 255) for each in _list(value, 3))
    return red, green, blue


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "id": _id,
    "offset": lambda value: Point(*(_whole(each) for each in _list(value, 2))),
    "blend": lambda value: BlendMode(_text(value)),
    "frame": _bounds,
    "colour": _colour,
    "request": GenerateRequest.from_json,
    **dict.fromkeys(("name", "control", "model", "prompt", "negative"), _text),
    **dict.fromkeys(("opacity", "strength", "start", "end"), _number),
    **dict.fromkeys(("visible", "locked", "alpha_locked", "masked", "isolated", "prepared"), _flag),
}
