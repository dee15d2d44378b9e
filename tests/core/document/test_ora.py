"""OpenRaster files: what was saved is opened, what others wrote is understood, and what is hostile is refused."""

from __future__ import annotations

import io
import json
import stat
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from sfumato.document.blending import BlendMode
from sfumato.document.compositing import composite
from sfumato.document.document import Document
from sfumato.document.last_save import LastSave
from sfumato.document.layers import (
    PARTS,
    ControlLayer,
    GenerativeLayer,
    GroupLayer,
    Layer,
    MaskLayer,
    RasterLayer,
    RegionLayer,
    SurfaceId,
)
from sfumato.document.ora_reading import Budget, read_ora
from sfumato.document.ora_writing import write_ora
from sfumato.document.picture import Picture, Structure
from sfumato.document.planes import from_pixels, to_8_bit_pixels
from sfumato.document.png import decode_png, encode_png
from sfumato.document.tiles import Tiles
from sfumato.errors import DocumentFileError, SaveError
from sfumato.geometry import Bounds, Point, Size
from sfumato.power_cuts import check_power_cuts
from sfumato.request import GenerateRequest

Make = Callable[[], Document]
Same = Callable[[Picture, Picture], bool]


def noise(seed: int, width: int, height: int, channels: int = 4) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


PNG = io.BytesIO()
Image.fromarray(noise(0, 4, 3)).save(PNG, "png")
STACK = '<image w="8" h="6"><stack><layer name="a" src="data/a.png" x="1" y="2"/></stack></image>'


def make(path: Path, stack: str | bytes = STACK, more: dict[str, bytes] | None = None, mimetype: bytes = b"image/openraster") -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("mimetype", mimetype)
        file.writestr("stack.xml", stack)
        for name, data in ({"data/a.png": PNG.getvalue()} | (more or {})).items():
            file.writestr(name, data)
    return path


def test_a_layer_of_every_kind_comes_back(tmp_path: Path, one_of_each: Make, same: Same) -> None:
    document = one_of_each()
    size = write_ora(tmp_path / "a.ora", document.snapshot(), threads=1)
    opened = read_ora(tmp_path / "a.ora")
    assert size == (tmp_path / "a.ora").stat().st_size
    assert same(opened.document, document) and not opened.warnings and not opened.read_only
    assert not opened.document.is_modified


def test_the_file_is_what_openraster_asks_for(tmp_path: Path, one_of_each: Make) -> None:
    """Read by zipfile, ElementTree and Pillow alone."""
    document = one_of_each()
    write_ora(tmp_path / "a.ora", document.snapshot(), threads=2)
    assert (tmp_path / "a.ora").read_bytes()[30:54] == b"mimetypeimage/openraster"
    with zipfile.ZipFile(tmp_path / "a.ora") as file:
        assert file.testzip() is None and file.namelist()[0] == "mimetype"
        root = ElementTree.fromstring(file.read("stack.xml"))
        merged = np.asarray(Image.open(io.BytesIO(file.read("mergedimage.png"))))
        assert max(Image.open(io.BytesIO(file.read("Thumbnails/thumbnail.png"))).size) <= 256
        assert (merged == to_8_bit_pixels(composite(document, document.bounds))).all()
        names = [layer.get("name") for layer in root.iter("stack")]
        assert names == [None, 'Group "<é>"\n'] and (root.get("w"), root.get("h")) == ("300", "200")
        first = list(root.iter("layer"))[-1]
        picture = Image.open(io.BytesIO(file.read(first.get("src") or "")))
        assert (first.get("x"), first.get("y"), picture.size) == ("-20", "10", (310, 60))
        hidden = [layer.get("src") for layer in root.iter("layer") if layer.get("visibility") == "hidden"]
        assert hidden == ["data/made.png", "data/region.png", "data/control.png"]


def test_others_see_the_mask_of_a_layer_and_we_get_its_pixels_back(tmp_path: Path, one_of_each: Make) -> None:
    """Without our folder the picture stays the same."""
    document = one_of_each()
    write_ora(tmp_path / "a.ora", document.snapshot(), threads=1)
    with zipfile.ZipFile(tmp_path / "a.ora") as file, zipfile.ZipFile(tmp_path / "b.ora", "w") as plain:
        for name in file.namelist():
            if not name.startswith("sfumato/"):
                plain.writestr(name, file.read(name))
    opened = read_ora(tmp_path / "b.ora")
    here = document.bounds
    difference = composite(opened.document, here).astype(int) - composite(document, here)
    assert not opened.warnings and np.abs(difference).max() < 2 * 257


def test_what_another_program_changed_counts(tmp_path: Path, one_of_each: Make) -> None:
    write_ora(tmp_path / "a.ora", one_of_each().snapshot(), threads=1)
    with zipfile.ZipFile(tmp_path / "a.ora") as file, zipfile.ZipFile(tmp_path / "b.ora", "w") as other:
        for name in file.namelist():
            data = file.read(name)
            other.writestr(name, data.replace(b'opacity="0.1"', b'opacity="0.3"') if name == "stack.xml" else data)
    opened = read_ora(tmp_path / "b.ora").document
    group = next(each for each in opened.structure.layers if isinstance(each, GroupLayer))
    assert group.opacity == 0.3
    write_ora(tmp_path / "c.ora", opened.snapshot(), threads=1)
    with zipfile.ZipFile(tmp_path / "c.ora") as file:
        assert not [name for name in file.namelist() if "made" in name], "nothing is left of what no layer refers to"


def test_parts_that_are_not_ours_are_kept_byte_for_byte(tmp_path: Path) -> None:
    more = {"krita/settings.xml": b"<x/>", "sfumato/future.bin": bytes(range(256)), "data/notes.txt": b"hello"}
    opened = read_ora(make(tmp_path / "a.ora", more=more))
    write_ora(tmp_path / "b.ora", opened.document.snapshot(), threads=1)
    with zipfile.ZipFile(tmp_path / "b.ora") as file:
        assert {name: file.read(name) for name in more} == more
        assert "data/a.png" not in file.namelist()


def described(one_of_each: Make, path: Path, change: object) -> Path:
    """A saved document with another description."""
    write_ora(path, one_of_each().snapshot(), threads=1)
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    data = json.loads(parts["sfumato/document.json"])
    change(data)  # type: ignore[operator]
    parts["sfumato/document.json"] = json.dumps(data).encode()
    with zipfile.ZipFile(path, "w") as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return path


def test_a_newer_format_opens_for_reading_and_says_why(tmp_path: Path, one_of_each: Make) -> None:
    opened = read_ora(described(one_of_each, tmp_path / "a.ora", lambda data: data.update(format=2)))
    assert "newer version" in opened.read_only
    assert [layer.id for layer in opened.document.structure.layers][1:] == ["group", "control", "region", "made", "empty"]


def test_settings_that_are_not_known_are_written_again(tmp_path: Path, one_of_each: Make) -> None:
    def change(data: dict[str, dict[str, object]]) -> None:
        data["structure"]["tomorrow"] = [1]
        data["structure"]["layers"][0]["glow"] = {"a": 2}  # type: ignore[index]

    opened = read_ora(described(one_of_each, tmp_path / "a.ora", change))
    write_ora(tmp_path / "b.ora", opened.document.snapshot(), threads=1)
    with zipfile.ZipFile(tmp_path / "b.ora") as file:
        structure = json.loads(file.read("sfumato/document.json"))["structure"]
    assert structure["tomorrow"] == [1] and structure["layers"][0]["glow"] == {"a": 2} and not opened.read_only


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("structure"),
        lambda data: data["structure"].update(size=[1, -1]),
        lambda data: data["structure"]["layers"][1].update(opacity=float("nan")),
        lambda data: data["structure"]["layers"][1].update(id="../../etc"),
        lambda data: data["structure"]["layers"][1].update(kind="spell"),
        lambda data: data["structure"]["layers"][1].update(id="made"),
        lambda data: data["surfaces"][0].update(x=1e9),
        lambda data: data.update(surfaces=7),
    ],
)
def test_a_description_that_is_damaged_costs_no_layer(tmp_path: Path, change: object, one_of_each: Make) -> None:
    opened = read_ora(described(one_of_each, tmp_path / "a.ora", change))
    assert "masks and prompts are missing" in opened.warnings[0] and opened.read_only
    assert len(opened.document.structure.layers) == 6


def test_a_save_copies_what_did_not_change(tmp_path: Path, one_of_each: Make) -> None:
    document, last, path = one_of_each(), LastSave(), tmp_path / "a.ora"
    for step in range(3):
        with document.edit("Dab") as edit:
            edit.write(SurfaceId("control"), Bounds.at(step, 180, 9, 9), from_pixels(noise(step, 9, 9)))
            edit.change("group", opacity=step / 3)
        write_ora(path, document.snapshot(), last, threads=1)
        write_ora(tmp_path / "fresh.ora", document.snapshot(), threads=1)
        assert path.read_bytes() == (tmp_path / "fresh.ora").read_bytes()
    kept = {name for (name, bounds), place in last.places.items() if last.band(name, bounds, place.versions)}
    assert "data/masked.png" in kept
    path.write_bytes(b"another program was here")
    write_ora(path, document.snapshot(), last, threads=1)
    assert path.read_bytes() == (tmp_path / "fresh.ora").read_bytes()


def test_every_power_cut_while_saving_leaves_a_whole_document(tmp_path: Path) -> None:
    document = Document.new(30, 20)

    def save(path: Path, system: object) -> None:
        with document.edit("Dab") as edit:
            edit.write(SurfaceId(document.structure.layers[0].id), Bounds.at(0, 0, 9, 9), from_pixels(noise(int(path.exists()), 9, 9)))
        write_ora(path, document.snapshot(), threads=1, file_system=system)  # type: ignore[arg-type]

    assert check_power_cuts(save, tmp_path / "a.ora") > 30


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are POSIX")
def test_a_full_disk_leaves_the_old_file_and_the_document(tmp_path: Path, one_of_each: Make, same: Same) -> None:
    import resource

    document, last, path = one_of_each(), LastSave(), tmp_path / "a.ora"
    size = write_ora(path, document.snapshot(), last, threads=1)
    old, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in range(0, size, size // 12):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
        try:
            with pytest.raises(SaveError, match="no space") as caught:
                write_ora(path, document.snapshot(), last, threads=1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert str(path) in str(caught.value) and path.read_bytes() == old and [each.name for each in tmp_path.iterdir()] == ["a.ora"]
    write_ora(path, document.snapshot(), last, threads=1)
    assert path.read_bytes() == old and same(document, read_ora(path).document)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path, one_of_each: Make) -> None:
    with pytest.raises(SaveError, match="does not exist"):
        write_ora(tmp_path / "no" / "a.ora", one_of_each().snapshot(), threads=1)


def test_a_file_of_another_program_is_understood(tmp_path: Path) -> None:
    stack = (
        '<image w="8" h="6" version="0.0.3"><stack>'
        '<stack name="g" x="2" y="1" opacity="0.5" isolation="isolate" composite-op="svg:screen">'
        '<layer name="top" src="data/a.png" x="1"/><layer name="under" src="data/a.png" visibility="hidden" composite-op="krita:erase"/>'
        '</stack><layer name="drawing" src="data/a.svg"/></stack></image>'
    )
    opened = read_ora(make(tmp_path / "a.ora", stack, {"data/a.svg": b"<svg/>"}))
    drawing, group = opened.document.structure.layers
    assert isinstance(group, GroupLayer) and (group.opacity, group.blend, group.isolated) == (0.5, "svg:screen", True)
    under, top = group.children
    assert (under.name, under.visible, top.name) == ("under", False, "top") and drawing.name == "drawing"
    assert opened.document.surface(SurfaceId(top.id)).content_bounds() == Bounds.at(3, 1, 4, 3)
    assert len(opened.warnings) == 2 and "krita:erase" in opened.warnings[1] and opened.read_only


def big_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>' + STACK.replace('"a"', '"&b;"')
HOSTILE: dict[str, tuple[dict[str, object], str]] = {
    "entities": ({"stack": LAUGHS}, "document type"),
    "external": ({"stack": '<!DOCTYPE x SYSTEM "file:///etc/passwd">' + STACK}, "document type"),
    "deep": ({"stack": '<image w="8" h="6">' + "<stack>" * 5000}, "too deeply"),
    "groups": ({"stack": '<image w="8" h="6">' + "<stack>" * 80 + "</stack>" * 80 + "</image>"}, "nested more than"),
    "many": ({"stack": '<image w="8" h="6"><stack>' + "<layer/>" * 60_000 + "</stack></image>"}, "too many"),
    "no xml": ({"stack": "{}"}, "no XML"),
    "cut xml": ({"stack": STACK[:-5]}, "no XML"),
    "size": ({"stack": STACK.replace('"8"', '"100000"')}, "cannot be"),
    "not a number": ({"stack": STACK.replace('"8"', '"nan"')}, "no number"),
    "far away": ({"stack": STACK.replace('x="1"', 'x="1e30"')}, "no number"),
    "picture bomb": ({"more": {"data/a.png": big_png(100_000, 100_000)}}, "budget"),
    "short picture": ({"more": {"data/a.png": big_png(1000, 1000)}}, "cannot be decoded"),
    "not a picture": ({"more": {"data/a.png": b"hello"}}, "no picture"),
    "another kind": ({"more": {"data/a.png": b"GIF89a" + bytes(20)}}, "GIF"),
    "missing": ({"stack": STACK.replace("data/a.png", "data/b.png")}, "missing"),
    "outside": ({"stack": STACK.replace("data/a.png", "../a.png")}, "missing"),
    "dots": ({"more": {"data/../../evil": b""}}, "leads out"),
    "absolute": ({"more": {"/etc/passwd": b""}}, "leads out"),
    "drive": ({"more": {"C:/evil": b""}}, "leads out"),
    "mimetype": ({"mimetype": b"application/zip"}, "no OpenRaster"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_with_one_clear_message(tmp_path: Path, name: str) -> None:
    parts, message = HOSTILE[name]
    path = make(tmp_path / "a.ora", **parts)  # type: ignore[arg-type]
    with pytest.raises(DocumentFileError, match=message) as caught:
        read_ora(path)
    assert str(path) in str(caught.value)


def test_links_doubles_and_bombs_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("data/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    for entry, message in ((link, "symbolic link"), (zipfile.ZipInfo("data/a.png"), "twice")):
        path = make(tmp_path / "a.ora")
        with zipfile.ZipFile(path, "a") as file, pytest.warns() if message == "twice" else zipfile.ZipFile(path):
            file.writestr(entry, b"/etc/passwd")
        with pytest.raises(DocumentFileError, match=message):
            read_ora(path)
    path = make(tmp_path / "b.ora", more={"x": b""})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb", bytes(20 << 20))
    opened = read_ora(path, budget=Budget(unknown_bytes=1 << 20))
    assert "lost" in opened.read_only and not opened.document.unknown
    with pytest.raises(DocumentFileError, match="bytes, more than"):
        read_ora(path, budget=Budget(file_bytes=10))
    with pytest.raises(DocumentFileError, match="of memory"):
        read_ora(path, budget=Budget(memory=10))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("ora") / "a.ora"
    document = Document.new(40, 30)
    with document.edit("Dab") as edit:
        edit.write(SurfaceId(document.structure.layers[0].id), Bounds.at(0, 0, 9, 9), from_pixels(noise(1, 9, 9)))
    write_ora(path, document.snapshot(), threads=1)
    return path.read_bytes()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_files_open_or_are_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, good: bytes, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.ora"
    content = bytearray(good[: data.draw(st.integers(0, len(good)))] if data.draw(st.booleans()) else good)
    for at in data.draw(st.lists(st.integers(0, max(len(content) - 1, 0)), max_size=4)):
        if content:
            content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        assert read_ora(path).document.structure.size.area > 0
    except DocumentFileError as error:
        assert error.what and str(path) in str(error)


def pixel_chunks(data: bytes) -> bytes:
    """All IDAT chunks of a PNG together."""
    at, found = 8, b""
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        found += data[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += 12 + length
    return found


points = st.builds(Point, st.integers(-500, 500), st.integers(-500, 500))
common = {
    "name": st.text(max_size=8),
    "opacity": st.floats(0, 1),
    "blend": st.sampled_from(list(BlendMode)),
    "visible": st.booleans(),
    "locked": st.booleans(),
    "alpha_locked": st.booleans(),
    "masked": st.booleans(),
    "offset": points,
}
leaves = st.one_of(
    st.builds(RasterLayer, **common),
    st.builds(MaskLayer, **common),
    st.builds(RegionLayer, prompt=st.text(max_size=8), strength=st.floats(0, 2), **common),
    st.builds(ControlLayer, control=st.sampled_from(["canny", "depth"]), start=st.floats(0, 0.5), end=st.floats(0.5, 1), **common),
    st.builds(GenerativeLayer, request=st.builds(GenerateRequest, st.text(max_size=8), seed=st.integers(0, 2**64 - 1)), **common),
)
trees: st.SearchStrategy[list[Layer]] = st.recursive(
    st.lists(leaves, max_size=3),
    lambda inner: st.lists(
        st.one_of(leaves, st.builds(GroupLayer, children=inner.map(tuple), isolated=st.booleans(), **common)), max_size=3
    ),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None)
@given(tree=trees, seed=st.integers(0, 999))
def test_any_document_comes_back(folder: Path, same: Same, tree: list[Layer], seed: int) -> None:
    structure = Structure(size=Size(20 + seed % 50, 30), frame=Bounds(1, 2, 9, 18), layers=tuple(tree), selection_active=bool(seed % 2))
    surfaces: dict[SurfaceId, Tiles] = {}
    for count, surface in enumerate(structure.surfaces()):
        if (seed + count) % 3:
            channels, background = PARTS[surface.part]
            pixels = np.random.default_rng(seed + count).integers(0, 256, (9, 7, 4), np.uint8)
            surfaces[surface] = Tiles(channels, background)
            planes = from_pixels(pixels)[4 - channels :]
            surfaces[surface].write(Bounds.at(seed - 500, count - 5, 7, 9), planes)
    made = Picture(structure, surfaces)
    write_ora(folder / "any.ora", made, threads=1)
    opened = read_ora(folder / "any.ora")
    assert same(opened.document, made) and not opened.warnings and not opened.read_only


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 300), st.integers(1, 600), st.sampled_from([1, 4]), st.integers(-300, 300))
def test_pngs_are_read_by_others_and_by_us(width: int, height: int, channels: int, top: int) -> None:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 4), np.uint8)
    pixels[..., 3] |= 1
    planes = from_pixels(pixels)[4 - channels :]
    area = Bounds.at(0, top, width, height)
    data = encode_png(lambda band: planes[:, band.top - top : band.bottom - top], area, channels)
    shown = np.asarray(Image.open(io.BytesIO(data)))
    assert (shown == (pixels if channels == 4 else pixels[..., 3])).all()
    assert (decode_png(data, "", channels, Point(0, top)).read(area) == planes).all()
    assert len(zlib.decompress(pixel_chunks(data))) == height * (width * channels + 1), "the stream's own checksum is right"


def test_16_bit_pngs_keep_their_bits() -> None:
    data = io.BytesIO()
    grey = np.arange(600, dtype=np.uint16).reshape(20, 30) * 109
    Image.fromarray(grey).save(data, "png")
    tiles = decode_png(data.getvalue(), "", 4, Point(0, 0))
    assert (tiles.read(Bounds(0, 0, 30, 20))[1] == grey).all()


def test_opening_a_folder_or_nothing_is_said(tmp_path: Path) -> None:
    with pytest.raises(DocumentFileError, match="no such file"):
        read_ora(tmp_path / "a.ora")
    with pytest.raises(DocumentFileError, match="cannot be read"):
        read_ora(tmp_path)
