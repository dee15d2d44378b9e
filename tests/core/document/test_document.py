"""Edits, undo and what listeners hear: a document that went back and forth is the one that it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from numpy.typing import NDArray

from sfumato.document.blending import BlendMode
from sfumato.document.compositing import composite
from sfumato.document.document import Document
from sfumato.document.events import (
    DocumentEvent,
    EditCommitted,
    FrameChanged,
    HistoryChanged,
    LayerAdded,
    LayerChanged,
    LayerRemoved,
    LayersReordered,
    PixelsChanged,
    SelectionChanged,
    SizeChanged,
)
from sfumato.document.history import History
from sfumato.document.layers import SELECTION, GenerativeLayer, GroupLayer, RasterLayer, SurfaceId, walk
from sfumato.document.picture import Picture, Structure
from sfumato.document.planes import ONE, Light, to_8_bit_pixels
from sfumato.document.structure_json import structure_from_json, structure_to_json
from sfumato.errors import BadValueError, DocumentFileError
from sfumato.geometry import Bounds, Point, Size
from sfumato.request import GenerateRequest

Make = Callable[[], Document]
Same = Callable[[Picture, Picture], bool]
HERE = Bounds(0, 0, 10, 10)


def colour(*values: float, size: tuple[int, int] = (10, 10)) -> Light:
    planes: NDArray[np.float32] = np.broadcast_to(np.array(values, np.float32)[:, None, None], (len(values), *size)).copy()
    return planes


def pixel(document: Document, surface: SurfaceId, x: int = 0, y: int = 0) -> list[float]:
    return [round(float(each) / ONE, 3) for each in document.surface(surface).read(Bounds.at(x, y, 1, 1))[:, 0, 0]]


@pytest.fixture
def document() -> Document:
    return Document.new(600, 400)


@pytest.fixture
def layer(document: Document) -> SurfaceId:
    return SurfaceId(document.structure.layers[0].id)


def test_a_new_document_takes_no_memory_whatever_its_size() -> None:
    document = Document.new(16384, 16384)
    assert document.memory == 0 and document.history.memory == 0 and not document.is_modified


def test_a_stroke_is_one_step_that_can_be_undone_and_redone(document: Document, layer: SurfaceId) -> None:
    edit = document.begin("Stroke")
    for x in range(0, 500, 5):
        edit.paint(layer, Bounds.at(x, 250, 10, 10), colour(0.5, 0, 0, 0.5))
    edit.commit()
    painted = np.array(document.surface(layer).read(document.bounds))
    assert document.is_modified and document.undo() == "Stroke"
    assert len(document.surface(layer)) == 0 and not document.is_modified and document.undo() is None
    assert document.redo() == "Stroke" and (document.surface(layer).read(document.bounds) == painted).all()


def test_painting_stays_within_the_selection_and_off_locked_alpha(document: Document, layer: SurfaceId) -> None:
    with document.edit("Prepare") as edit:
        edit.paint(layer, HERE, colour(0, 0, 0.5, 0.5))
        edit.cover(SELECTION, Bounds(0, 0, 4, 10), np.full((1, 10, 4), 0.5, np.float32))
        edit.select()
        edit.change(layer.owner, alpha_locked=True)
        edit.paint(layer, HERE, colour(1, 0, 0, 1))
    assert pixel(document, layer) == [0.25, 0, 0.25, 0.5] and pixel(document, layer, 5) == [0, 0, 0.5, 0.5]
    with document.edit("Free") as edit:
        edit.select(False)
        edit.paint(layer, HERE, colour(1, 1, 1, 1), BlendMode.DST_OUT)
        assert pixel(document, layer, 5)[3] == 0.5, "nothing can be erased while alpha is locked"
        edit.change(layer.owner, alpha_locked=False)
        edit.paint(layer, HERE, colour(1, 1, 1, 1), BlendMode.DST_OUT)
    assert len(document.surface(layer)) == 0 == len(document.surface(SELECTION))


def test_a_stroke_can_be_worked_out_anew_with_every_dab(document: Document, layer: SurfaceId) -> None:
    with document.edit("Wash") as edit:
        for strength in (0.1, 0.2, 0.3):
            edit.paint(layer, HERE, colour(strength, 0, 0, strength), over_original=True)
        assert not edit.original(layer, HERE).any()
    assert pixel(document, layer) == [0.3, 0, 0, 0.3]


@pytest.mark.parametrize("in_group", [False, True])
def test_a_locked_layer_cannot_be_painted_on(document: Document, layer: SurfaceId, in_group: bool) -> None:
    with document.edit("Lock") as edit:
        group = edit.add(GroupLayer(name="held"))
        edit.move(layer.owner, group)
        edit.change(group if in_group else layer.owner, locked=True)
    with pytest.raises(BadValueError, match="locked"), document.edit("Paint") as edit:
        edit.paint(layer, HERE, colour(1, 1, 1, 1))
    with document.edit("Hide") as edit:
        edit.change(layer.owner, visible=False)
    assert document.history.undo_label == "Hide"


def test_an_edit_that_fails_leaves_everything_as_it_was(one_of_each: Make, same: Same) -> None:
    document = one_of_each()
    before, steps = document.snapshot(), document.history.labels
    with pytest.raises(ZeroDivisionError), document.edit("Fail") as edit:
        edit.write(SurfaceId("masked"), Bounds.at(30, 40, 9, 9), np.full((4, 9, 9), 7, np.uint16))
        edit.remove("group")
        edit.crop(Bounds(10, 10, 50, 50))
        raise ZeroDivisionError
    assert same(document, before) and document.history.labels == steps and document.open_edit is None


def test_undo_while_the_pen_is_down_cancels_the_stroke(document: Document, layer: SurfaceId) -> None:
    document.begin("Stroke").paint(layer, HERE, colour(1, 1, 1, 1))
    assert document.undo() == "Stroke" and len(document.surface(layer)) == 0 and document.history.undo_label is None


def test_a_slider_that_is_dragged_is_one_step(document: Document, layer: SurfaceId) -> None:
    for opacity in (0.9, 0.8, 0.7):
        with document.edit("Opacity", merge_key="opacity") as edit:
            edit.change(layer.owner, opacity=opacity)
    with document.edit("Other") as edit:
        edit.change(layer.owner, name="new")
    assert document.history.labels == (("Opacity", "Other"), ())
    document.undo()
    document.undo()
    assert document.structure.layer(layer.owner).opacity == 1


def test_a_group_of_edits_is_one_step(document: Document, layer: SurfaceId) -> None:
    with document.edit("All"):
        with document.edit("First") as edit:
            edit.change(layer.owner, opacity=0.5)
        with document.edit("Second") as edit:
            edit.change(layer.owner, name="b")
    assert document.history.labels == (("All",), ())


def test_an_edit_without_effect_is_no_step(document: Document, layer: SurfaceId) -> None:
    with document.edit("Nothing") as edit:
        edit.write(layer, HERE, np.zeros((4, 10, 10), np.uint16))
        edit.change(layer.owner, opacity=1.0)
    assert document.history.undo_label is None and not document.is_modified


def test_a_snapshot_does_not_change_with_the_document(one_of_each: Make, same: Same) -> None:
    document = one_of_each()
    before, other = document.snapshot(), document.snapshot()
    edit = document.begin("Stroke")
    for _ in range(2):
        edit.write(SurfaceId("masked"), Bounds.at(30, 40, 9, 9), np.full((4, 9, 9), 7, np.uint16))
        during = document.snapshot()
        edit.clear(SurfaceId("masked"))
        assert len(during.surface(SurfaceId("masked"))) and not len(document.surface(SurfaceId("masked")))
    edit.commit()
    assert same(before, other) and not same(before, document)


def test_a_copy_shares_its_pixels_until_it_is_painted_on(one_of_each: Make) -> None:
    document = one_of_each()
    with document.edit("Copy") as edit:
        copy = edit.duplicate("group")
    names = [layer.id for layer in document.structure.layers]
    assert names.index(copy) == names.index("group") + 1 and len(set(names)) == len(names)
    twin = next(layer.id for layer in walk((document.structure.layer(copy),)) if isinstance(layer, RasterLayer))
    assert document.surface(SurfaceId(twin)).tile((0, 0)) is document.surface(SurfaceId("masked")).tile((0, 0))


def test_cropping_moves_layers_selection_and_frame(one_of_each: Make) -> None:
    document = one_of_each()
    area = document.surface(SELECTION).content_bounds()
    with document.edit("Crop") as edit:
        edit.crop(Bounds(5, 6, 105, 56))
    assert document.structure.size == Size(100, 50) and document.structure.frame == Bounds(3, 2, 67, 66)
    assert document.structure.layer("masked").offset == Point(2, -9)
    assert document.surface(SELECTION).content_bounds() == area.moved(Point(-5, -6))


def test_listeners_hear_what_changed_and_where(document: Document, layer: SurfaceId) -> None:
    heard: list[DocumentEvent] = []
    stop = document.listen(heard.append)
    with document.edit("Many") as edit:
        edit.change(layer.owner, offset=Point(100, 0))
        edit.paint(layer, HERE.moved(Point(150, 0)), colour(1, 1, 1, 1))
        new = edit.add(RasterLayer(), index=0)
        edit.move(new)
        edit.set_frame(HERE)
        edit.select()
    assert heard == [
        LayerChanged(layer.owner, Bounds()),
        PixelsChanged(layer, Bounds.at(150, 0, 10, 10)),
        LayerAdded(new, None),
        LayersReordered(Bounds.at(100, 0, 256, 256)),
        FrameChanged(HERE),
        SelectionChanged(Bounds(), True),
        EditCommitted("Many", {layer: ((0, 0),)}),
        HistoryChanged("Many", None),
    ]
    assert document.surface(layer).content_bounds() == Bounds.at(50, 0, 10, 10)
    heard.clear()
    document.undo()
    assert {type(each) for each in heard} >= {LayerRemoved, LayerChanged, FrameChanged, SelectionChanged, PixelsChanged}
    assert LayerRemoved(new, Bounds()) in heard
    stop()
    heard.clear()
    with document.edit("Size") as edit:
        edit.crop(HERE)
    assert not heard
    document.listen(heard.append)
    document.undo()
    assert SizeChanged(Size(600, 400)) in heard


@pytest.mark.parametrize("how", ["remove", "undo"])
def test_listeners_hear_where_a_layer_was(document: Document, how: str) -> None:
    with document.edit("Add") as edit:
        layer = edit.add(RasterLayer(offset=Point(10, 0)))
        edit.write(SurfaceId(layer), HERE, np.full((4, 10, 10), 9, np.uint16))
    heard: list[DocumentEvent] = []
    document.listen(heard.append)
    if how == "undo":
        document.undo()
    else:
        with document.edit("Remove") as edit:
            edit.remove(layer)
    assert LayerRemoved(layer, Bounds.at(-246, 0, 256, 256)) in heard


def test_an_edit_that_is_over_changes_nothing_more(document: Document, layer: SurfaceId) -> None:
    first = document.begin("First")
    first.paint(layer, HERE, colour(1, 1, 1, 1))
    document.undo()
    second = document.begin("Second")
    assert first.commit() is None and document.open_edit is second
    first.cancel()
    with pytest.raises(BadValueError, match="over"):
        first.paint(layer, HERE, colour(1, 1, 1, 1))
    with pytest.raises(BadValueError, match="over"):
        first.set_frame(HERE)
    second.commit()


def test_a_picture_becomes_a_document() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 270, 3), np.uint8)
    document = Document.of_pixels(pixels, "photo.png")
    (layer,) = document.structure.layers
    assert layer.name == "photo.png" and document.structure.size == Size(270, 300) and not document.is_modified
    assert (to_8_bit_pixels(composite(document, document.bounds))[..., :3] == pixels).all()


def test_what_cannot_be_is_said(document: Document, layer: SurfaceId) -> None:
    with document.edit("Group") as edit:
        group = edit.add(GroupLayer())
        with pytest.raises(BadValueError, match="into itself"):
            edit.move(group, group)
        with pytest.raises(BadValueError, match="no group"):
            edit.add(RasterLayer(), layer.owner)
        with pytest.raises(BadValueError, match="has no"):
            edit.change(group, prompt="x")
        with pytest.raises(BadValueError, match="has no pixels"):
            edit.write(SurfaceId(group), HERE, np.zeros((4, 10, 10), np.uint16))
        with pytest.raises(BadValueError, match="do not fit"):
            edit.write(layer, HERE, np.zeros((4, 10, 9), np.uint16))
        with pytest.raises(BadValueError, match="no such layer"):
            edit.remove("nobody")
        with pytest.raises(BadValueError, match="opacity"):
            edit.change(group, opacity=2)
        with pytest.raises(BadValueError, match="there already"):
            edit.add(document.structure.layer(group))
    with pytest.raises(BadValueError, match="cannot be"):
        Document.new(100_000, 5)
    with pytest.raises(BadValueError, match="multiple of 8"):
        GenerativeLayer(request=GenerateRequest("x", width=100))


def test_the_structure_comes_back_from_json(one_of_each: Make) -> None:
    structure = one_of_each().structure
    assert structure_from_json(structure_to_json(structure)) == structure
    with pytest.raises(DocumentFileError):
        structure_from_json({"size": [1, 2], "layers": [{"kind": "raster", "id": "a", "opacity": True}]})


class BackAndForth(RuleBasedStateMachine):
    """Random edits, undo and redo, held to a list of all moments."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(self.temporary()) / "history"
        history = History(memory_budget=20_000, folder=self.folder)
        self.document = Document.new(300, 300, history=history)
        self.moments, self.at = [self.document.snapshot()], 0

    @staticmethod
    def temporary() -> str:
        import tempfile

        return tempfile.mkdtemp(prefix="sfumato-test-")

    def teardown(self) -> None:
        import shutil

        self.document.close()
        assert not self.folder.exists()
        shutil.rmtree(self.folder.parent)

    def layer_ids(self) -> list[str]:
        return [layer.id for layer in walk(self.document.structure.layers)]

    def done(self) -> None:
        self.moments = [*self.moments[: self.at + 1], self.document.snapshot()]
        self.at += 1

    @rule(seed=st.integers(0, 99), x=st.integers(-100, 250), size=st.integers(1, 200))
    @precondition(lambda self: self.document.structure.layers)
    def paint(self, seed: int, x: int, size: int) -> None:
        ids = self.layer_ids()
        planes = np.random.default_rng(seed).integers(1, ONE, (1 + 3 * (seed % 2), size, size), np.uint16)
        with self.document.edit("Paint") as edit:
            edit.write(SurfaceId(ids[seed % len(ids)], "pixels" if seed % 2 else "mask"), Bounds.at(x, x // 2, size, size), planes)
        self.done()

    @rule(seed=st.integers(0, 99))
    def add(self, seed: int) -> None:
        with self.document.edit("Add") as edit:
            edit.add(RasterLayer(offset=Point(seed, -seed)), index=seed % 3)
        self.done()

    @rule(seed=st.integers(0, 99))
    @precondition(lambda self: self.document.structure.layers)
    def remove(self, seed: int) -> None:
        ids = self.layer_ids()
        with self.document.edit("Remove") as edit:
            edit.remove(ids[seed % len(ids)])
        self.done()

    @rule()
    def undo(self) -> None:
        assert (self.document.undo() is None) == (self.at == 0)
        self.at = max(self.at - 1, 0)

    @rule()
    def redo(self) -> None:
        assert (self.document.redo() is None) == (self.at == len(self.moments) - 1)
        self.at = min(self.at + 1, len(self.moments) - 1)

    @invariant()
    def is_the_moment_that_it_should_be(self) -> None:
        moment = self.moments[self.at]
        assert self.document.structure == moment.structure
        for surface in moment.structure.surfaces():
            ours, theirs = self.document.surface(surface), moment.surface(surface)
            assert set(ours.keys()) == set(theirs.keys())
            assert all((ours.tile(key) == theirs.tile(key)).all() for key in set(ours.keys()))


TestBackAndForth = BackAndForth.TestCase
TestBackAndForth.settings = settings(max_examples=12, stateful_step_count=12, deadline=None)


def test_the_structure_says_where_surfaces_lie() -> None:
    structure = Structure(size=Size(5, 5), layers=(RasterLayer(id="a", offset=Point(3, 4)),))
    assert structure.offset_of(SurfaceId("a")) == Point(3, 4) and structure.offset_of(SELECTION) == Point()
