"""Journals: what was edited is there after any death of the process, and a file cut anywhere gives an earlier whole moment."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.document import journal_file
from sfumato.document.document import Document
from sfumato.document.journal import Journal
from sfumato.document.journal_records import NAME, SIGNATURE, Kind, frame, read_records
from sfumato.document.layers import SELECTION, GenerativeLayer, RasterLayer, SurfaceId
from sfumato.document.ora_reading import read_ora
from sfumato.document.ora_writing import write_ora
from sfumato.document.picture import Picture
from sfumato.document.planes import from_coverage, from_pixels, to_8_bit_pixels
from sfumato.document.recovery import discard, find_orphans, recover
from sfumato.errors import DocumentFileError, SaveError
from sfumato.geometry import Bounds
from sfumato.request import GenerateRequest

Make = Callable[[], Document]
Same = Callable[[Picture, Picture], bool]


@pytest.fixture
def document() -> Document:
    return Document.new(600, 400)


@pytest.fixture
def layer(document: Document) -> SurfaceId:
    return SurfaceId(document.structure.layers[0].id)


def dab(document: Document, layer: SurfaceId, seed: int) -> None:
    with document.edit("Dab") as edit:
        rng = np.random.default_rng(seed)
        x, y = (int(each) for each in rng.integers(0, 300, 2))
        edit.write(layer, Bounds.at(x, y, 20, 20), from_pixels(rng.integers(0, 65536, (20, 20, 4), np.uint16)))


def exactly(a: Picture, b: Picture) -> bool:
    """To all 16 bits."""

    def pixels(of: Picture, surface: SurfaceId, where: Bounds) -> bytes:
        return of.surface(surface).read(where).tobytes()

    areas = {each: a.surface(each).bounds() | b.surface(each).bounds() for each in a.structure.surfaces()}
    return a.structure == b.structure and all(pixels(a, each, area) == pixels(b, each, area) for each, area in areas.items())


def only_orphan(journals: Path) -> Path:
    (orphan,) = find_orphans(journals)
    return orphan.folder


def test_what_was_edited_is_recovered_to_the_last_bit(tmp_path: Path, one_of_each: Make) -> None:
    document = one_of_each()
    journal = Journal.start(tmp_path, document, name="Fish")
    for seed in range(5):
        dab(document, SurfaceId("masked"), seed)
    document.undo()
    with document.edit("Remove") as edit:
        edit.remove("region")
    journal.close(keep=True)
    (orphan,) = find_orphans(tmp_path)
    assert (orphan.name, orphan.path, orphan.edits) == ("Fish", "", 7) and time.time() - orphan.time < 60
    recovered = recover(orphan.folder)
    assert exactly(recovered.document, document) and not recovered.warnings
    discard(orphan.folder)
    assert not find_orphans(tmp_path)


def test_a_journal_is_nobodys_only_when_its_owner_is_gone(tmp_path: Path, document: Document, layer: SurfaceId) -> None:
    journal = Journal.start(tmp_path, document)
    dab(document, layer, 1)
    assert find_orphans(tmp_path) == [] and journal.folder.exists()
    journal.close()
    assert not journal.folder.exists()


def test_an_untouched_document_is_not_offered(tmp_path: Path, document: Document) -> None:
    Journal.start(tmp_path, document).close(keep=True)
    assert find_orphans(tmp_path) == [] and list(tmp_path.iterdir()) == []


def test_only_what_changed_since_the_file_is_written(tmp_path: Path, one_of_each: Make, same: Same) -> None:
    write_ora(tmp_path / "a.ora", one_of_each().snapshot(), threads=1)
    document = read_ora(tmp_path / "a.ora").document
    journal = Journal.start(tmp_path / "journals", document, base=tmp_path / "a.ora")
    size = (journal.folder / NAME).stat().st_size
    assert size < 20_000
    dab(document, SurfaceId("masked"), 1)
    (tmp_path / "a.ora").unlink()
    journal.close(keep=True)
    orphan = only_orphan(tmp_path / "journals")
    recovered = recover(orphan)
    assert exactly(recovered.document, document) and recovered.path == str(tmp_path / "a.ora") and not recovered.warnings


def test_after_a_save_the_journal_begins_anew_and_loses_no_edit(tmp_path: Path, document: Document, layer: SurfaceId) -> None:
    """Edits that were made while the snapshot was being written count."""
    journal = Journal.start(tmp_path / "journals", document)
    with document.edit("Ground") as edit:
        edit.write(layer, Bounds(0, 0, 600, 400), from_pixels(np.random.default_rng(0).integers(0, 256, (400, 600, 3), np.uint8)))
    snapshot = document.snapshot()
    dab(document, layer, 1)
    write_ora(tmp_path / "a.ora", snapshot, threads=1)
    document.saved(str(tmp_path / "a.ora"), snapshot)
    assert document.is_modified
    dab(document, layer, 2)
    journal.close(keep=True)
    assert (journal.folder / NAME).stat().st_size < 900_000
    assert exactly(recover(only_orphan(tmp_path / "journals")).document, document)


def test_edits_between_a_save_and_the_new_journal_are_not_lost(tmp_path: Path, document: Document, layer: SurfaceId) -> None:
    with ThreadPoolExecutor(1, "sfumato-test") as executor:
        journal = Journal.start(tmp_path / "journals", document, executor=executor)
        for seed in range(12):
            dab(document, layer, seed)
            if seed % 3 == 0:
                snapshot = document.snapshot()
                write_ora(tmp_path / "a.ora", snapshot, threads=1)
                document.saved(str(tmp_path / "a.ora"), snapshot)
        executor.submit(int).result()
        journal.close(keep=True)
    recovered = recover(only_orphan(tmp_path / "journals")).document
    found, wanted = (each.surface(layer).read(document.bounds).astype(int) for each in (recovered, document))
    assert np.abs(found - wanted).max() <= 257, "no more than the 8 bits of the file make"


def test_a_stroke_is_written_down_while_the_pen_is_down(tmp_path: Path, document: Document, layer: SurfaceId) -> None:
    journal = Journal.start(tmp_path, document)
    dab(document, layer, 0)
    edit = document.begin("Long stroke")
    edit.write(layer, Bounds.at(100, 100, 9, 9), np.full((4, 9, 9), 7, np.uint16))
    journal.tick()
    now = recover(journal.folder).document
    assert (now.surface(layer).read(Bounds.at(100, 100, 9, 9)) == 7).all()
    size = (journal.folder / NAME).stat().st_size
    journal.tick()
    assert (journal.folder / NAME).stat().st_size == size, "nothing has changed"
    edit.cancel()
    journal.tick()
    assert exactly(recover(journal.folder).document, document)
    journal.close()


def test_a_stroke_that_took_itself_back_is_not_in_the_journal(tmp_path: Path, document: Document, layer: SurfaceId) -> None:
    """What `tick` wrote of it is written over when it ends."""
    journal = Journal.start(tmp_path, document)
    with document.edit("There and back") as edit:
        edit.write(layer, Bounds.at(300, 100, 9, 9), np.full((4, 9, 9), 7, np.uint16))
        journal.tick()
        edit.write(layer, Bounds.at(300, 100, 9, 9), np.zeros((4, 9, 9), np.uint16))
        edit.write(layer, Bounds.at(0, 0, 9, 9), np.full((4, 9, 9), 8, np.uint16))
    assert exactly(recover(journal.folder).document, document)
    journal.close()


def test_results_are_there_with_what_was_asked(tmp_path: Path, document: Document, layer: SurfaceId) -> None:
    journal = Journal.start(tmp_path / "journals", document)
    request = GenerateRequest("a red fish", seed=2**64 - 1)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    journal.record_result(from_pixels(pixels), request, Bounds(8, 8, 40, 32))
    snapshot = document.snapshot()
    write_ora(tmp_path / "a.ora", snapshot, threads=1)
    document.saved(str(tmp_path / "a.ora"), snapshot)
    journal.record_result(from_pixels(255 - pixels), request, Bounds(8, 8, 40, 32))
    journal.close(keep=True)
    (orphan,) = find_orphans(tmp_path / "journals")
    results = recover(orphan.folder).results
    assert orphan.results == 2 and [each.request for each in results] == [request, request] and results[0].frame == Bounds(8, 8, 40, 32)
    assert (to_8_bit_pixels(results[0].tiles.read(results[0].size))[..., :3] == pixels).all()


Story = tuple[bytes, list[Picture]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A journal's bytes, and the document after each of its commits."""
    journals = tmp_path_factory.mktemp("journals")
    document = Document.new(300, 300)
    layer = SurfaceId(document.structure.layers[0].id)
    journal = Journal.start(journals, document)
    moments = [document.snapshot()]
    for seed in range(4):
        dab(document, layer, seed)
        moments.append(document.snapshot())
    with document.edit("Layers") as edit:
        edit.add(RasterLayer(name="new"))
        edit.add(GenerativeLayer(request=GenerateRequest("x")))
        edit.write(SELECTION, Bounds(0, 0, 5, 5), from_coverage(np.ones((5, 5), bool)))
    moments.append(document.snapshot())
    data = (journal.folder / NAME).read_bytes()
    journal.close()
    return data, moments


def test_every_cut_of_a_journal_gives_the_last_whole_moment(tmp_path: Path, story: Story) -> None:
    data, moments = story
    ends = [record.offset + record.length for record in read_records(io.BytesIO(data)) if record.kind is Kind.COMMIT]
    assert len(ends) == len(moments) and ends[-1] == len(data)
    cuts = sorted({*range(0, len(data), 701), *(each + by for each in ends for by in (-1, 0, 1) if each + by <= len(data)), *range(60)})
    for cut in cuts:
        (tmp_path / NAME).write_bytes(data[:cut])
        whole = sum(end <= cut for end in ends)
        if not whole:
            with pytest.raises(DocumentFileError, match="holds no document"):
                recover(tmp_path)
        else:
            assert exactly(recover(tmp_path).document, moments[whole - 1]), cut


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 10**9), value=st.integers(0, 255))
def test_a_damaged_journal_gives_an_earlier_moment(folder: Path, story: Story, at: int, value: int) -> None:
    data, moments = story
    content = bytearray(data)
    content[at % len(data)] = value
    (folder / NAME).write_bytes(content)
    try:
        found = recover(folder).document
    except DocumentFileError:
        return
    assert any(exactly(found, moment) for moment in moments)


def test_a_journal_is_written_anew_when_most_of_it_is_outdated(
    tmp_path: Path, document: Document, layer: SurfaceId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_file, "COMPACT_BYTES", 50_000)
    journal = Journal.start(tmp_path, document)
    journal.record_result(from_pixels(np.zeros((8, 8, 3), np.uint8)), GenerateRequest("x"), Bounds())
    sizes = []
    for seed in range(30):
        dab(document, layer, seed)
        sizes.append((journal.folder / NAME).stat().st_size)
    assert any(b < a for a, b in pairwise(sizes)) and max(sizes) < 400_000
    journal.close(keep=True)
    recovered = recover(only_orphan(tmp_path))
    assert exactly(recovered.document, document) and len(recovered.results) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are POSIX")
def test_a_full_disk_is_said_and_what_was_not_written_is_written_later(tmp_path: Path, document: Document, layer: SurfaceId) -> None:
    import resource

    journal = Journal.start(tmp_path, document)
    dab(document, layer, 0)
    before, limits = document.snapshot(), resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (journal.folder / NAME).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 500, limits[1]))
    try:
        dab(document, layer, 1)
        assert "File too large" in journal.trouble
        assert exactly(recover(journal.folder).document, before)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    dab(document, layer, 2)
    assert not journal.trouble and exactly(recover(journal.folder).document, document)
    journal.close()


def test_a_folder_that_takes_no_journal_is_said(tmp_path: Path, document: Document) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SaveError):
        Journal.start(tmp_path / "file", document)


def test_a_base_that_changed_or_is_gone_is_said(tmp_path: Path, document: Document, layer: SurfaceId) -> None:
    write_ora(tmp_path / "a.ora", document.snapshot(), threads=1)
    journal = Journal.start(tmp_path / "journals", document, base=tmp_path / "a.ora")
    dab(document, layer, 1)
    journal.close(keep=True)
    (base,) = journal.folder.glob("base-*.ora")
    os.utime(base, (1, 1))
    assert "has been changed" in recover(journal.folder).warnings[0]
    base.write_bytes(b"")
    recovered = recover(journal.folder)
    assert "cannot be read" in recovered.warnings[-1] and len(recovered.document.surface(layer))


def test_records_of_strangers_are_not_believed() -> None:
    assert list(read_records(io.BytesIO(b"something else"))) == []
    good = SIGNATURE + frame(Kind.COMMIT, {})
    for bad in (b"SfJr" + b"\xff" * 16, frame(Kind.TILE, {}).replace(b"\x03", b"\x09", 1), b"x" * 100):
        assert [each.kind for each in read_records(io.BytesIO(good + bad + good[len(SIGNATURE) :]))] == [Kind.COMMIT]


PAINTER = """
    import sys, time
    from pathlib import Path
    import numpy as np
    from sfumato.document.document import Document
    from sfumato.document.journal import Journal
    from sfumato.document.layers import SurfaceId
    from sfumato.geometry import Bounds

    document = Document.new(512, 512)
    layer = SurfaceId(document.structure.layers[0].id)
    journal = Journal.start(Path(sys.argv[1]), document)
    for step in range(1, 100_000):
        with document.edit("Step") as edit:
            edit.write(layer, Bounds(200, 200, 300, 300), np.full((4, 100, 100), step, np.uint16))
            edit.write(layer, Bounds(10, 10, 20, 20), np.full((4, 10, 10), step, np.uint16))
        journal.tick()
        print(step, flush=True)
"""


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("painter") / "painter.py"
    path.write_text(textwrap.dedent(PAINTER))
    yield path


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
@pytest.mark.parametrize("count", [3, pytest.param(25, marks=pytest.mark.slow)])
def test_after_kill_9_every_step_that_was_reported_is_there(tmp_path: Path, painter: Path, count: int) -> None:
    """What is recovered is one whole step (both of its squares), not older than the last that was reported."""
    moments = random.Random(count)
    for run in range(count):
        journals = tmp_path / str(run)
        with subprocess.Popen([sys.executable, str(painter), str(journals)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(moments.uniform(0, 0.15))
            process.send_signal(signal.SIGKILL)
            reported = [int(line) for line in process.stdout.read().splitlines() if line.strip().isdigit()]
        found = recover(only_orphan(journals)).document
        pixels = found.surface(SurfaceId(found.structure.layers[0].id)).read(found.bounds)
        steps = {int(pixels[3, 15, 15]), int(pixels[3, 250, 299]), int(pixels[0, 299, 200])}
        assert len(steps) == 1 and steps.pop() >= max(reported[:-1], default=1)
