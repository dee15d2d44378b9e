"""A small document with everything in it, for the tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from sfumato.document.blending import BlendMode
from sfumato.document.document import Document
from sfumato.document.layers import (
    SELECTION,
    ControlLayer,
    GenerativeLayer,
    GroupLayer,
    MaskLayer,
    RasterLayer,
    RegionLayer,
    SurfaceId,
)
from sfumato.document.picture import Picture
from sfumato.document.planes import from_coverage, from_pixels, to_8_bit_pixels
from sfumato.geometry import Bounds, Point
from sfumato.request import GenerateRequest, LoraUse


def noise(seed: int, width: int, height: int, channels: int = 4) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def _one_of_each() -> Document:
    """A document with a layer of every kind, masks, offsets, a selection and a unicode name."""
    document = Document.new(300, 200)
    first = document.structure.layers[0].id
    with document.edit("Everything") as edit:
        edit.write(SurfaceId(first), Bounds.at(-20, 10, 310, 60), from_pixels(noise(1, 310, 60)))
        group = edit.add(GroupLayer(id="group", name='Group "<é>"\n', blend=BlendMode.MULTIPLY, opacity=0.1, isolated=False))
        edit.add(RasterLayer(id="masked", masked=True, offset=Point(7, -3)), group)
        edit.write(SurfaceId("masked"), Bounds.at(30, 40, 50, 60), from_pixels(noise(2, 50, 60)))
        edit.write(SurfaceId("masked", "mask"), Bounds.at(40, 40, 20, 20), from_coverage(noise(3, 20, 20)[..., 0]))
        edit.add(MaskLayer(id="mask", name="蒙版"), group)
        edit.write(SurfaceId("mask", "mask"), Bounds.at(0, 0, 20, 20), from_coverage(noise(4, 20, 20)[..., 0]))
        edit.add(ControlLayer(id="control", control="pose", strength=0.7, end=0.8, prepared=True))
        edit.write(SurfaceId("control"), Bounds.at(250, 150, 5, 5), from_pixels(noise(5, 5, 5, 3)))
        edit.add(RegionLayer(id="region", prompt="a red fish", colour=(1, 2, 3)))
        edit.write(SurfaceId("region", "area"), Bounds.at(5, 5, 9, 9), from_coverage(noise(6, 9, 9)[..., 0]))
        request = GenerateRequest("a house", seed=2**63, loras=(LoraUse("x", 0.5),))
        edit.add(GenerativeLayer(id="made", request=request, frame=Bounds(0, 0, 64, 64), visible=False))
        for part, count in (("pixels", 7), ("result", 8)):
            edit.write(SurfaceId("made", part), Bounds(0, 0, 64, 64), from_pixels(noise(count, 64, 64, 3)))  # type: ignore[arg-type]
        edit.add(RasterLayer(id="empty", locked=True))
        edit.write(SELECTION, Bounds.at(100, 100, 8, 8), from_coverage(noise(9, 8, 8)[..., 0]))
        edit.select()
        edit.set_frame(Bounds(8, 8, 72, 72))
    return document


def _same(a: Picture, b: Picture) -> bool:
    """Equal structure, and equal pixels to the 8 bits of a file."""
    if a.structure != b.structure:
        return False
    for surface in a.structure.surfaces():
        ours, theirs = a.surface(surface), b.surface(surface)
        area = ours.bounds() | theirs.bounds()
        if not (to_8_bit_pixels(ours.read(area)) == to_8_bit_pixels(theirs.read(area))).all():
            return False
    return True


@pytest.fixture(scope="session")
def one_of_each() -> Callable[[], Document]:
    """Makes a document with a layer of every kind, masks, offsets, a selection and names in several scripts."""
    return _one_of_each


@pytest.fixture(scope="session")
def same() -> Callable[[Picture, Picture], bool]:
    """Tells whether two pictures have an equal structure, and equal pixels to the 8 bits of a file."""
    return _same
