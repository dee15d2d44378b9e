"""Which value belongs to which input: the widgets of a node in the order in which ComfyUI's editor writes their values.

The editor makes widgets of the required inputs and then of the optional ones, and adds some that only it knows: what becomes of a
seed after a run, a filter for choices, a button to upload with. Files do not say which values are theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sfumato.catalogue import Catalogue
from sfumato.nodes import MISSING, Input, NodeType
from sfumato.workflow_json import JsonPath
from sfumato_comfy.sheets import Box

UNNAMED = "widgets_values"
"""The input under which the values of a node of unknown type are kept if the file does not say what they are called."""

NAMED = "widgets_values_named"
"""Where newer editors write the values by name, besides those by position."""

OMITTED = "sfumato_omitted"
"""Property of a box: inputs that the graph left out, with the value that stands at their place. Changing it gives the input."""

_AFTER_A_RUN = ("fixed", "increment", "decrement", "randomize", "increment-wrap")
_SEEDS = ("seed", "noise_seed")
_BROWSERS_OWN = ("control_after_generate", "control_filter_list", "upload", "videopreview", "audioUI")
_UPLOADS = ("image_upload", "animated_image_upload", "video_upload", "audio_upload")
_ZEROS: Mapping[str, Any] = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}


@dataclass(frozen=True)
class Place:
    """A position among the values: that of the input `name`, or of a widget that the editor adds to it."""

    name: str
    kind: Literal["input", "control", "filter", "upload"] = "input"
    socket: Input | None = None

    @property
    def own(self) -> Any:
        """What the editor writes for a widget of its own."""
        return {"control": "fixed", "filter": "", "upload": self.name}.get(self.kind)


@dataclass(frozen=True)
class Origin:
    """Where a value stands in the file, or would stand, and where it stands once more. A list that is too short needs `before` first."""

    path: JsonPath
    before: tuple[Any, ...] = ()
    again: JsonPath | None = None


@dataclass(frozen=True)
class Value:
    """A constant, and where it stands; None if the file has no place for it. MISSING: it is left out, and could stand there."""

    value: Any
    origin: Origin | None = None


def widget_sockets(node_type: NodeType) -> list[Input]:
    """The inputs that have a widget, in the editor's order."""
    shown = [socket for socket in node_type.inputs if socket.is_widget and not socket.options.get("forceInput")]
    return sorted(shown, key=lambda socket: not socket.required)


def places_of(node_type: NodeType | None, names: Sequence[str]) -> list[Place]:
    """The positions of the values of a node whose widgets are called `names`."""
    places: list[Place] = []
    uploads: list[Place] = []
    for name in names:
        socket = node_type.input(name) if node_type else None
        if socket is None or not socket.required:
            places += uploads  # the button comes after what is required
            uploads = []
        places += [Place(name, "input", socket), *_added(node_type, name, socket)]
        if socket is not None and any(socket.options.get(mark) for mark in _UPLOADS):
            uploads.append(Place(name, "upload"))
    return places + uploads


def values_of(box: Box, node_type: NodeType | None, catalogue: Catalogue) -> dict[str, Value]:
    """The constants that the file gives to the inputs of `box`; what is newer than the file has its default."""
    path = (*box.path, UNNAMED)
    named = list(dict.fromkeys(slot.widget for slot in box.inputs if slot.widget is not None))
    if box.named is not None or isinstance(box.values, dict):
        found = {name: each for name, each in by_names(box).items() if _is_kept(node_type, name)}
        path = path if box.named is None else (*box.path, NAMED)
        return found if node_type is None else _completed(box, node_type, catalogue, found, Origin(path))
    values = box.values or []
    if node_type is None:
        places = places_of(None, named)
        at, end, _ = _fitted(places, values)
        if end < len(values) or len(at) < len(named):
            return {UNNAMED: Value(values, Origin(path))} if values else {}
        return {name: Value(values[index], Origin((*path, index))) for name, index in at.items()}
    places, later = _chosen(node_type, named, values)
    at, _, passed = _fitted(places, values)
    found = {name: Value(values[index], Origin((*path, index))) for name, index in at.items()}
    return _completed(box, node_type, catalogue, found, None, [*places[passed:], *later])


def first_value(box: Box) -> Value | None:
    """The first value of a box; None if it has none."""
    if isinstance(box.values, list) and box.values and box.values[0] is not None:
        name = next(iter(box.named or ()), None)
        return Value(box.values[0], Origin((*box.path, UNNAMED, 0), (), None if name is None else (*box.path, NAMED, name)))
    return next((each for each in by_names(box).values() if each.value is not None), None)


def default_of(socket: Input, catalogue: Catalogue | None = None) -> Any:
    """The value that the editor gives to a new widget, or MISSING. Choices known only at run time are asked of `catalogue`."""
    for default in (socket.options.get("default", MISSING), socket.default):
        if default is not MISSING and default is not None:
            return default
    if not socket.required:
        return MISSING
    if socket.type == "COMBO":
        return _first_choice(socket, catalogue)
    least = socket.options.get("min")
    return least if isinstance(least, (int, float)) and least > 0 else _ZEROS.get(socket.type, MISSING)


def by_names(box: Box) -> dict[str, Value]:
    """The values of a box that has them by name (else none): in the editor's order, so that their positions are known, too."""
    if box.named is None:
        values = box.values if isinstance(box.values, dict) else {}
        return {name: Value(value, Origin((*box.path, UNNAMED, name))) for name, value in values.items()}
    listed = box.values if isinstance(box.values, list) and len(box.values) == len(box.named) else None
    found = {}
    for index, (name, value) in enumerate(box.named.items()):
        again = (*box.path, UNNAMED, index) if listed is not None and _same(listed[index], value) else None
        found[name] = Value(value, Origin((*box.path, NAMED, name), (), again))
    return found


def _completed(
    box: Box, node_type: NodeType, catalogue: Catalogue, found: dict[str, Value], by_name: Origin | None, rest: Sequence[Place] = ()
) -> dict[str, Value]:
    """`found` with defaults where nothing stands. `rest` are the positions after the last value, `by_name` the object of values."""
    omitted = box.properties.get(OMITTED)
    left_out = omitted if isinstance(omitted, dict) else {}
    given = {name: each for name, each in found.items() if each.value is not None or node_type.input(name) is None}
    for socket in widget_sockets(node_type):
        name = socket.name
        origin = found[name].origin if name in found else Origin((*by_name.path, name)) if by_name else _after(box, rest, name)
        if name in left_out and (name not in given or _same(given[name].value, left_out[name])):
            given[name] = Value(MISSING, origin)
        elif name not in given:
            given[name] = Value(default_of(socket, catalogue), origin)
    return given


def _after(box: Box, rest: Sequence[Place], name: str) -> Origin | None:
    """The place of `name` in a list that ends before it."""
    before: list[Any] = []
    for place in rest:
        if place.kind != "input":
            before.append(place.own)
        elif place.name == name:
            return Origin((*box.path, UNNAMED, len(box.values or ()) + len(before)), tuple(before))
        else:
            default = default_of(place.socket) if place.socket else MISSING
            before.append(None if default is MISSING else default)
    return None


def _chosen(node_type: NodeType, named: Sequence[str], values: Sequence[Any]) -> tuple[list[Place], list[Place]]:
    """(positions, more that may follow): as the catalogue has them, or as the file names them if all values fit these names."""
    known = [socket.name for socket in widget_sockets(node_type)]
    if named and set(named) != set(known):
        places = places_of(node_type, named)
        at, end, _ = _fitted(places, values)
        if end == len(values) and len(at) == len(named):
            return places, places_of(node_type, [name for name in known if name not in at])
    return places_of(node_type, known), []


def _fitted(places: Sequence[Place], values: Sequence[Any]) -> tuple[dict[str, int], int, int]:
    """(index of the value of each input, number of values used, number of places passed)."""
    is_exact = len(places) == len(values) and all(_may_be(p, v) or v is None for p, v in zip(places, values, strict=True))
    at: dict[str, int] = {}
    index, inputs_left = 0, sum(place.kind == "input" for place in places)
    for number, place in enumerate(places):
        if index >= len(values):
            return at, index, number
        inputs_left -= place.kind == "input"
        value, is_scarce = values[index], inputs_left >= len(values) - index
        if place.kind == "input":
            at[place.name] = index
            index += 1
        elif is_exact or (_may_be(place, value) and not (is_scarce and _is_next(places, number + 1, value))):
            index += 1
    return at, index, len(places)


def _is_next(places: Sequence[Place], start: int, value: Any) -> bool:
    """Whether `value` may belong to the next input, from the place number `start` on."""
    following = next((places[number] for number in range(start, len(places)) if places[number].kind == "input"), None)
    if following is None:
        return False
    socket = following.socket
    if socket is None:
        return True
    if socket.choices is not None:
        return value in socket.choices
    return socket.type in (("BOOLEAN",) if isinstance(value, bool) else ("COMBO", "STRING"))


def _may_be(place: Place, value: Any) -> bool:
    """Whether the value may be one of the editor's own. Old files have true or false where words came later."""
    if place.kind == "control":
        return isinstance(value, bool) or (isinstance(value, str) and value in _AFTER_A_RUN)
    if place.kind == "filter":
        return isinstance(value, str)
    return place.kind == "input" or value in (None, "", place.name, "image", "video", "audio")


def _added(node_type: NodeType | None, name: str, socket: Input | None) -> list[Place]:
    """The editor's widgets right after that of an input. Of an unknown one nothing is known: there may be one."""
    if socket is None:
        return [Place(name, "control")] if node_type is None else []
    is_controlled = socket.options.get("control_after_generate", socket.type == "INT" and name in _SEEDS)
    if not is_controlled:
        return []
    return [Place(name, "control"), Place(name, "filter")] if socket.type == "COMBO" else [Place(name, "control")]


def _is_kept(node_type: NodeType | None, name: str) -> bool:
    return (node_type is not None and node_type.input(name) is not None) or name not in _BROWSERS_OWN


def _first_choice(socket: Input, catalogue: Catalogue | None) -> Any:
    choices: Sequence[Any] | None = socket.choices
    if socket.source is not None and catalogue is not None:
        try:
            choices = catalogue.resolve(socket.source)
        except Exception:  # noqa: BLE001  a stranger's list may raise anything; the check of the graph asks again, and tells
            return MISSING
    return choices[0] if choices else MISSING


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)
