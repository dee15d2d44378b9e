"""Pictures are written whole, in the format of their ending, rounded as documented."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from PIL import Image

from sfumato.errors import BadValueError, SaveError
from sfumato.images import encode_image, read_image, to_8_bits, write_image
from sfumato.power_cuts import check_power_cuts

RNG = np.random.default_rng(5)
shapes = st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([3, 4]))


@example(pixels=np.ones((1, 1, 4), np.float32), ending=".webp")  # WebP leaves out an alpha channel that is opaque everywhere
@settings(max_examples=60, deadline=None)
@given(
    pixels=st_numpy.arrays(np.float32, shapes, elements=st.floats(-0.5, 1.5, width=32)), ending=st.sampled_from([".png", ".webp", ".PNG"])
)
def test_lossless_formats_keep_every_eight_bit_value(tmp_path_factory: pytest.TempPathFactory, pixels: Any, ending: str) -> None:
    path = tmp_path_factory.getbasetemp() / f"picture{ending}"
    written = write_image(path, pixels)
    assert written.path == path and written.size == path.stat().st_size and written.warnings == ()
    read, wanted = to_8_bits(read_image(path)), to_8_bits(pixels)
    assert np.array_equal(read[..., :3], wanted[..., :3])
    if wanted.shape[2] == 4:
        assert np.array_equal(read[..., 3] if read.shape[2] == 4 else np.full(read.shape[:2], 255, np.uint8), wanted[..., 3])


@settings(max_examples=100, deadline=None)
@given(value=st.floats(-10, 10, width=32))
def test_rounding_is_to_the_nearest_within_bounds(value: float) -> None:
    exact = min(max(value, 0), 1) * 255
    assert abs(int(to_8_bits(np.array([value]))[0]) - exact) <= 0.5 + 1e-4


def test_every_byte_survives_the_way_through_floats() -> None:
    every = np.arange(256, dtype=np.uint8)
    assert np.array_equal(to_8_bits(every.astype(np.float32) / np.float32(255)), every)
    assert np.array_equal(to_8_bits(every.astype(np.float64) / 255), every) and to_8_bits(every) is every


def test_what_is_no_number_is_black_and_told() -> None:
    pixels = np.array([[[np.nan, np.inf, -np.inf]]], np.float32)
    encoded = encode_image(pixels, "png")
    assert np.asarray(Image.open(io.BytesIO(encoded.data))).tolist() == [[[0, 255, 0]]]
    assert encoded.warnings == ("3 values of the picture are no finite numbers",)


@pytest.mark.parametrize(("ending", "format"), [("png", "PNG"), ("webp", "WEBP"), ("jpg", "JPEG"), ("jpeg", "JPEG"), ("JPG", "JPEG")])
def test_the_ending_chooses_the_format(tmp_path: Path, ending: str, format: str) -> None:
    write_image(tmp_path / f"a.{ending}", RNG.random((8, 9, 3)))
    with Image.open(tmp_path / f"a.{ending}") as picture:
        assert picture.format == format and picture.size == (9, 8)


def test_a_jpeg_is_near_and_better_quality_is_nearer() -> None:
    pixels = np.stack(np.broadcast_arrays(np.linspace(0, 1, 64), np.linspace(0, 1, 48)[:, None], 0.5), 2)
    errors = [np.abs(read_image(encode_image(pixels, "jpeg", quality=q).data) - pixels).mean() for q in (30, 95)]
    assert errors[1] < 0.005 < errors[0] + 0.005 and errors[1] < errors[0]
    noise = RNG.random((64, 64, 3))
    assert len(encode_image(noise, "webp", lossless=False, quality=30).data) < len(encode_image(noise, "webp").data)


def test_a_jpeg_lays_transparency_on_white_and_says_so() -> None:
    pixels = np.zeros((8, 8, 4), np.float32)
    encoded = encode_image(pixels, "jpeg")
    assert np.allclose(read_image(encoded.data), 1, atol=0.01) and "transparency" in encoded.warnings[0]


def test_grey_pictures_are_written(tmp_path: Path) -> None:
    grey = RNG.random((5, 6))
    write_image(tmp_path / "a.png", grey)
    assert np.array_equal(to_8_bits(read_image(tmp_path / "a.png")), np.repeat(to_8_bits(grey)[..., None], 3, 2))


@pytest.mark.parametrize("shape", [(3,), (4, 4, 2), (1, 4, 4, 3), (0, 4, 3), (4, 0, 3), (4, 4, 5)])
def test_what_is_no_picture_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(BadValueError, match="no picture"):
        write_image(tmp_path / "a.png", np.zeros(shape))


@pytest.mark.parametrize("name", ["a", "a.gif", "a.ora", ".png", "a.png.txt"])
def test_an_ending_that_is_unknown_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadValueError, match="no known picture format") as caught:
        write_image(tmp_path / name, np.zeros((4, 4, 3)))
    assert ".webp" in caught.value.remedy and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("ending", "side"), [("webp", 16384), ("jpg", 65501)])
def test_a_side_that_the_format_cannot_hold_is_refused(tmp_path: Path, ending: str, side: int) -> None:
    with pytest.raises(SaveError, match="too many") as caught:
        write_image(tmp_path / f"a.{ending}", np.zeros((1, side, 3), np.uint8))
    assert ".png" in caught.value.remedy


def test_a_place_that_cannot_be_written_keeps_the_old_picture(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SaveError):
        write_image(tmp_path / "file" / "a.png", np.zeros((4, 4, 3)))
    write_image(tmp_path / "new" / "a.png", np.zeros((4, 4, 3)), make_parents=True)
    assert (tmp_path / "new" / "a.png").exists()


@pytest.mark.parametrize("ending", ["png", "webp", "jpg"])
def test_writing_survives_power_cuts(tmp_path: Path, ending: str) -> None:
    def write(path: Path, system: Any) -> None:
        write_image(path, np.full((8, 8, 3), 0.5 * path.exists()), file_system=system)

    assert check_power_cuts(write, tmp_path / f"a.{ending}") > 5


def test_the_same_picture_gives_the_same_bytes() -> None:
    pixels = RNG.random((20, 20, 3))
    assert all(encode_image(pixels, f).data == encode_image(pixels.copy(), f).data for f in ("png", "webp", "jpeg"))
