"""The history's bytes: packed, on the disk where memory is short, bounded in all, and true wherever they are."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from sfumato.document.commands import Patch
from sfumato.document.document import Document
from sfumato.document.history import History
from sfumato.document.layers import SurfaceId
from sfumato.document.planes import Light
from sfumato.document.tiles import TILE
from sfumato.errors import DocumentFileError
from sfumato.geometry import Bounds

MEGABYTE = 1 << 20
AREA = Bounds(0, 0, 1024, 1024)


def soft_dab(size: int) -> Light:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    alpha = np.clip(1 - np.hypot(x, y) / (size / 2), 0, 1) ** 2 * 0.4
    dab: Light = (alpha * np.array([0.8, 0.3, 0.1, 1])[:, None, None]).astype(np.float32)
    return dab


def rough(history: History) -> Document:
    """A document whose pixels cannot be packed well, where strokes of 3 dabs begin."""
    document = Document.new(4096, 4096, history=history)
    ground = np.random.default_rng(0).integers(0, 65536, (4, 200, 200), np.uint16)
    document.own_surface(SurfaceId(document.structure.layers[0].id)).write(Bounds.at(300, 300, 200, 200), ground)
    return document


def stroke(document: Document, seed: int, length: int, start: tuple[int, int] = (300, 3800), size: int = 100) -> None:
    surface, dab = SurfaceId(document.structure.layers[0].id), soft_dab(size)
    rng = np.random.default_rng(seed)
    (x, y), angle = rng.uniform(*start, 2), rng.uniform(0, 6.28)
    edit = document.begin("Stroke")
    for _ in range(length):
        x, y, angle = (x + 30 * np.cos(angle)) % 3900, (y + 30 * np.sin(angle)) % 3900, angle + rng.normal() * 0.1
        edit.paint(surface, Bounds.at(int(x), int(y), size, size), dab)
    edit.commit()


@pytest.mark.slow
def test_100_strokes_at_4096_pixels_take_less_than_64_megabytes(tmp_path: Path) -> None:
    """By its own count, and by what Python has taken for it beyond the picture itself."""
    history = History(folder=tmp_path / "history")
    document = Document.new(4096, 4096, history=history)
    surface = SurfaceId(document.structure.layers[0].id)
    with document.edit("Ground") as edit:
        row = np.random.default_rng(0).integers(0, 65536, (4, TILE, 4096), np.uint16)
        row[3] = 65535
        for top in range(0, 4096, TILE):
            edit.write(surface, Bounds.at(0, top, 4096, TILE), row)
    for seed in range(3):
        stroke(document, seed, 100)
    tracemalloc.start()
    before, picture = tracemalloc.get_traced_memory()[0], document.memory
    for seed in range(100):
        stroke(document, seed, 100)
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert document.memory == picture
    touched = {key for command in history._done[-100:] for key in command.patches[surface]}
    # tiles that were made before tracing began are replaced by traced ones of equal size
    grown = taken - len(touched) * 4 * TILE * TILE * 2
    assert history.memory < 48 * MEGABYTE and grown < 64 * MEGABYTE, (history.memory, grown)
    assert len(history.labels[0]) == 104 and history.stored > 10 * MEGABYTE
    document.close()


def test_steps_that_went_to_the_disk_come_back(tmp_path: Path) -> None:
    document = rough(History(memory_budget=40_000, folder=tmp_path / "history"))
    surface = SurfaceId(document.structure.layers[0].id)
    moments = [document.snapshot()]
    for seed in range(6):
        stroke(document, seed, 3, (320, 330))
        moments.append(document.snapshot())
    assert document.history.memory < 60_000 < document.history.stored
    for moment in reversed(moments[:-1]):
        document.undo()
        assert (document.surface(surface).read(AREA) == moment.surface(surface).read(AREA)).all()
    for moment in moments[1:]:
        document.redo()
        assert (document.surface(surface).read(AREA) == moment.surface(surface).read(AREA)).all()
    document.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_oldest_steps_are_forgotten_when_the_budget_is_used_up(tmp_path: Path, on_disk: bool) -> None:
    history = History(memory_budget=400_000, total_budget=800_000, folder=tmp_path / "history" if on_disk else None)
    document = rough(history)
    for seed in range(12):
        stroke(document, seed, 3, (320, 330))
    assert history.memory + history.stored <= (800_000 if on_disk else 400_000)
    count = len(history.labels[0])
    assert 1 <= count < 12
    while document.undo():
        count -= 1
    assert count == 0
    document.close()


def test_a_disk_that_fails_costs_old_steps_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"in the way")
    document = rough(History(memory_budget=400_000, folder=tmp_path / "file" / "history"))
    for seed in range(8):
        stroke(document, seed, 3, (320, 330))
    assert "cannot be kept" in document.history.trouble and document.history.memory <= 400_000
    while document.undo():
        assert document.history.redo_label == "Stroke"
    document.close()


def test_a_step_whose_file_is_gone_says_so_and_changes_nothing(tmp_path: Path) -> None:
    document = rough(History(memory_budget=0, folder=tmp_path / "history"))
    surface = SurfaceId(document.structure.layers[0].id)
    stroke(document, 1, 2, (320, 330))
    for each in (tmp_path / "history").iterdir():
        each.unlink()
    now = np.array(document.surface(surface).read(AREA))
    with pytest.raises(DocumentFileError, match="gone from the disk"):
        document.undo()
    assert (document.surface(surface).read(AREA) == now).all() and document.history.undo_label == "Stroke"
    document.close()


def test_packing_in_the_background_changes_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1, "sfumato-test") as executor:
        document = rough(History(memory_budget=40_000, folder=tmp_path / "history", executor=executor))
        surface = SurfaceId(document.structure.layers[0].id)
        ground = np.array(document.surface(surface).read(AREA))
        for seed in range(6):
            stroke(document, seed, 3, (320, 330))
            if seed % 2:
                document.undo()
                document.redo()
        painted = np.array(document.surface(surface).read(AREA))
        while document.undo():
            pass
        assert (document.surface(surface).read(AREA) == ground).all()
        while document.redo():
            pass
        assert (document.surface(surface).read(AREA) == painted).all()
    document.close()


def test_a_patch_holds_only_what_differs() -> None:
    before = np.random.default_rng(0).integers(0, 65536, (4, TILE, TILE), np.uint16)
    after = before.copy()
    after[1, 10:12, 20:25] ^= 1
    patch = Patch.between(before, after)
    assert patch is not None and patch.box == Bounds(20, 10, 25, 12) and patch.memory == 4 * 10 * 2
    assert Patch.between(before, before) is None
