"""The layers of a document, frozen: what kinds there are and what each knows; pixels are kept apart, in the document's surfaces.

A tree is a tuple of layers, the lowest first; a group holds such a tuple. A changed tree is a new one that shares what did not change, so
that the tree before and the tree after are all that undo needs.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias, get_args

from sfumato.document.blending import BlendMode
from sfumato.errors import BadValueError
from sfumato.geometry import NOWHERE, ORIGIN, Bounds, Point
from sfumato.request import GenerateRequest

Part: TypeAlias = Literal["pixels", "mask", "area", "result", "hole"]
"""Which picture of a layer: what is shown; what hides parts of it; a region's area; a generation's untouched result and its mask."""

PARTS: Mapping[Part, tuple[int, int]] = {"pixels": (4, 0), "mask": (1, 65535), "area": (1, 0), "result": (4, 0), "hole": (1, 0)}
"""Part -> (channels, value where nothing was painted)."""

DOCUMENT = ""
"""The owner of the selection, which is the document's own `area`."""

ControlKind: TypeAlias = Literal["canny", "depth", "pose", "scribble"]


class SurfaceId(NamedTuple):
    """Names one picture in a document: the id of its layer (or `DOCUMENT`), and which part of it."""

    owner: str
    part: Part = "pixels"


SELECTION = SurfaceId(DOCUMENT, "area")


def new_id() -> str:
    """An id that no other layer has, in this document or another."""
    return secrets.token_hex(8)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What all layers have in common. `id` stays for life; `offset` moves all parts; `extra` is what a newer version wrote."""

    kind: ClassVar[str] = ""
    parts: ClassVar[tuple[Part, ...]] = ("pixels", "mask")
    is_guide: ClassVar[bool] = False
    """Shown to the painter, but no part of the picture."""

    id: str = field(default_factory=new_id)
    name: str = ""
    opacity: float = 1.0
    blend: BlendMode = BlendMode.NORMAL
    visible: bool = True
    locked: bool = False
    alpha_locked: bool = False
    masked: bool = False
    """Its mask counts."""
    offset: Point = ORIGIN
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise BadValueError(f"{self.opacity} is no opacity between 0 and 1", f"layer {self.name!r}")


@dataclass(frozen=True, kw_only=True)
class RasterLayer(Layer):
    """Painted pixels."""

    kind = "raster"


@dataclass(frozen=True, kw_only=True)
class GroupLayer(Layer):
    """Layers that are treated as one. `isolated`: their modes do not see what lies below the group."""

    kind = "group"
    parts = ("mask",)
    children: tuple[Layer, ...] = ()
    isolated: bool = True

    @property
    def is_passed_through(self) -> bool:
        """Its layers are laid on what is below as if there were no group. One that holds a mask is not: it masks the group alone."""
        is_plain = not self.isolated and self.opacity == 1 and self.blend is BlendMode.NORMAL and not self.masked
        return is_plain and not any(isinstance(each, MaskLayer) for each in self.children)


@dataclass(frozen=True, kw_only=True)
class MaskLayer(Layer):
    """Hides what lies below it in its group where its mask is dark."""

    kind = "mask"
    parts = ("mask",)


@dataclass(frozen=True, kw_only=True)
class ControlLayer(Layer):
    """Pixels that guide a generation: a source to make a control picture of or, if `prepared`, one already."""

    kind = "control"
    is_guide = True
    control: ControlKind = "scribble"
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    """From when to when it counts, as parts of the steps."""
    model: str = ""
    prepared: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.control not in get_args(ControlKind):
            known = ", ".join(get_args(ControlKind))
            raise BadValueError(f"{self.control!r} is no kind of control", f"layer {self.name!r}", f"Use {known}.")
        if not (0 <= self.start <= self.end <= 1 and 0 <= self.strength <= 10):
            raise BadValueError("its strength is 0 to 10, its range within 0 to 1", f"layer {self.name!r}")


@dataclass(frozen=True, kw_only=True)
class RegionLayer(Layer):
    """A prompt that holds for an area only."""

    kind = "region"
    parts = ("area",)
    is_guide = True
    prompt: str = ""
    negative: str = ""
    strength: float = 1.0
    colour: tuple[int, int, int] = (230, 120, 60)
    """How the area is shown: RGB, 0 to 255."""


@dataclass(frozen=True, kw_only=True)
class GenerativeLayer(Layer):
    """A generation that can be blended again, rolled again or run again: `pixels` is shown, `result` is what came, `hole` its mask."""

    kind = "generative"
    parts = ("pixels", "mask", "result", "hole")
    request: GenerateRequest
    frame: Bounds = NOWHERE
    """Where the generation looked, in document pixels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.request.checked()  # a document must not hold what it could not read again


Tree: TypeAlias = tuple[Layer, ...]


def walk(tree: Tree) -> Iterator[Layer]:
    """Every layer, the lowest first, a group before its children."""
    for layer in tree:
        yield layer
        if isinstance(layer, GroupLayer):
            yield from walk(layer.children)


def find(tree: Tree, layer_id: str) -> Layer:
    """Raises BadValueError if there is no such layer."""
    for layer in walk(tree):
        if layer.id == layer_id:
            return layer
    raise BadValueError("there is no such layer in this document", f"layer {layer_id}")


def parent_of(tree: Tree, layer_id: str) -> tuple[GroupLayer | None, int]:
    """(its group, or None at the top; its place among its siblings). Raises BadValueError."""
    groups: list[GroupLayer | None] = [None, *(each for each in walk(tree) if isinstance(each, GroupLayer))]
    for group in groups:
        for index, layer in enumerate(tree if group is None else group.children):
            if layer.id == layer_id:
                return group, index
    raise BadValueError("there is no such layer in this document", f"layer {layer_id}")


def replaced(tree: Tree, layer_id: str, by: tuple[Layer, ...]) -> Tree:
    """The tree with other layers, or none, in the place of one. Groups that do not hold it stay the same objects."""
    result: list[Layer] = []
    for layer in tree:
        if layer.id == layer_id:
            result.extend(by)
        elif isinstance(layer, GroupLayer) and (children := replaced(layer.children, layer_id, by)) is not layer.children:
            result.append(replace(layer, children=children))
        else:
            result.append(layer)
    return tree if len(result) == len(tree) and all(a is b for a, b in zip(result, tree, strict=True)) else tuple(result)


def inserted(tree: Tree, layer: Layer, parent: str | None = None, index: int | None = None) -> Tree:
    """The tree with one more layer in a group (None: at the top level); above all others, or at an index counted from below."""
    if parent is None:
        at = len(tree) if index is None else index
        return (*tree[:at], layer, *tree[at:])
    group = find(tree, parent)
    if not isinstance(group, GroupLayer):
        raise BadValueError("this layer is no group", f"layer {group.name!r}", "Layers can be put into groups only.")
    return replaced(tree, parent, (replace(group, children=inserted(group.children, layer, None, index)),))
