"""From the document and the panel to a request, and from the answer to one undoable layer; without Qt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sfumato.document.compositing import composite
from sfumato.document.document import Document
from sfumato.document.layers import SELECTION, GenerativeLayer, SurfaceId
from sfumato.document.planes import ONE, from_pixels, to_float_pixels
from sfumato.errors import BadValueError
from sfumato.geometry import Bounds
from sfumato.images.reading import read_image
from sfumato.recipes import graph_for
from sfumato_desktop.generate import Generate, PanelValues, fitted, working_size

RED = np.full((256, 256, 3), (1.0, 0.0, 0.0), np.float32)


@pytest.fixture
def document() -> Document:
    return Document.new(256, 256)


@pytest.fixture
def generate(tmp_path: Path) -> Generate:
    return Generate(tmp_path, graph_for, lambda model: 128)


def _painted(document: Document) -> None:
    with document.edit("paint") as edit:
        edit.write(SurfaceId(document.structure.layers[0].id), Bounds.at(0, 0, 256, 256), from_pixels(RED))


def _selected(document: Document, bounds: Bounds) -> None:
    with document.edit("select") as edit:
        edit.write(SELECTION, bounds, np.full((1, bounds.height, bounds.width), ONE, np.uint16))
        edit.select()


def test_an_empty_frame_is_words_to_picture(document: Document, generate: Generate) -> None:
    job = generate.job(document, PanelValues("a house", strength=0.5))
    assert (job.request.image, job.request.mask) == (None, None)


def test_a_painted_frame_below_full_strength_starts_from_what_is_seen(document: Document, generate: Generate, tmp_path: Path) -> None:
    _painted(document)
    job = generate.job(document, PanelValues("a house", strength=0.5))
    assert job.request.image is not None
    assert np.array_equal(read_image(tmp_path / job.request.image)[..., :3], RED)


def test_a_selection_becomes_a_mask_and_bounds_what_the_answer_changes(document: Document, generate: Generate, tmp_path: Path) -> None:
    _painted(document)
    _selected(document, Bounds.at(64, 64, 64, 64))
    job = generate.job(document, PanelValues("a house"))
    assert job.request.mask is not None
    mask = read_image(tmp_path / job.request.mask)[..., 0]
    assert mask.sum() == 64 * 64
    generate.accept(document, job, np.zeros((1, 256, 256, 3), np.float32))
    seen = to_float_pixels(composite(document, Bounds.at(0, 0, 256, 256)))[..., :3]
    inside = np.zeros((256, 256), bool)
    inside[64:128, 64:128] = True
    assert not seen[inside].any()
    assert np.array_equal(seen[~inside], RED[~inside])


def test_the_answer_is_one_layer_with_its_request_and_one_undo(document: Document, generate: Generate) -> None:
    with document.edit("frame") as edit:
        edit.set_frame(Bounds.at(64, 0, 128, 128))
    job = generate.job(document, PanelValues("a house on the grass", seed=3))
    layer_id = generate.accept(document, job, np.full((1, 128, 128, 3), 0.5, np.float32))
    layer = document.structure.layer(layer_id)
    assert isinstance(layer, GenerativeLayer)
    assert (layer.request.seed, layer.frame, layer.name) == (3, Bounds.at(64, 0, 128, 128), "a house on the grass")
    assert composite(document, Bounds.at(0, 0, 256, 256))[3][:128, 64:192].min() == ONE
    assert document.undo() == "Generate"
    assert not composite(document, Bounds.at(0, 0, 256, 256)).any()


@pytest.mark.parametrize(
    ("frame", "size"), [((128, 128), (128, 128)), ((512, 512), (128, 128)), ((512, 256), (184, 88)), ((64, 64), (128, 128))]
)
def test_a_frame_is_generated_at_the_size_the_model_was_trained_on(frame: tuple[int, int], size: tuple[int, int]) -> None:
    assert working_size(Bounds.at(0, 0, *frame), 128) == size


def test_the_answer_is_brought_to_the_size_of_the_frame() -> None:
    ramp = np.linspace(0, 1, 64, dtype=np.float32)[None, :, None].repeat(64, 0).repeat(3, 2)
    large = fitted(ramp, Bounds.at(0, 0, 256, 256))
    assert large.shape == (256, 256, 3)
    assert np.abs(large[128, 20:236, 0] - np.linspace(0, 1, 256)[20:236]).max() < 0.02


def test_what_cannot_be_generated_is_said_before_anything_runs(document: Document, generate: Generate) -> None:
    with document.edit("frame") as edit:
        edit.set_frame(Bounds.at(0, 0, 32, 32))
    with pytest.raises(BadValueError, match="too small"):
        generate.job(document, PanelValues("a house"))
    with document.edit("frame") as edit:
        edit.set_frame(Bounds.at(0, 0, 128, 128))
    _selected(document, Bounds.at(200, 200, 20, 20))
    with pytest.raises(BadValueError, match="nothing inside the frame"):
        generate.job(document, PanelValues("a house"))


def test_each_job_has_a_newer_number(document: Document, generate: Generate) -> None:
    first, second = (generate.job(document, PanelValues("a house")) for _ in range(2))
    assert second.number == generate.latest > first.number
