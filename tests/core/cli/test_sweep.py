"""`sfumato sweep`: axes, cells and the sheet."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sfumato.cli.axes import MOST_CELLS, NO_AXIS, Axis, axis, cells, swept_options
from sfumato.cli.request_options import add_request_options
from sfumato.cli.sheet import Block, draw, size_of
from sfumato.errors import SfumatoError
from sfumato.images import read_metadata

Call = Callable[..., Any]
Pixels = Callable[[Path], NDArray[np.uint8]]
SMALL = ("--width", "64", "--height", "64", "--steps", "1")


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_request_options(parser)
    return parser.parse_args(["a red circle", *words])


# --- Axes -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steps=5,10", Axis("steps", ("5", "10"))),
        ("--steps = 5, 10", Axis("steps", ("5", "10"))),
        ("clip_skip=1", Axis("clip-skip", ("1",))),
        ("seed=1..4", Axis("seed", ("1", "2", "3", "4"))),
        ("seed=3..1,9", Axis("seed", ("3", "2", "1", "9"))),
        ("prompt=red,blue", Axis("prompt", ("red", "blue"))),
        ('prompt=red,"light green, dark"', Axis("prompt", ("red", "light green, dark"))),
        ("lora=a:0.5,b", Axis("lora", ("a:0.5", "b"))),
        ("steps=5,5", Axis("steps", ("5",))),
    ],
)
def test_an_axis_is_read(text: str, expected: Axis) -> None:
    assert axis(text) == expected


@pytest.mark.parametrize("text", ["steps", "steps=", "=1,2", "", "json=1", "batch=1,2", "cpu=1", "output=a", "warp=1"])
def test_what_is_no_axis_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        axis(text)


def test_everything_that_makes_a_request_can_be_swept() -> None:
    assert {"seed", "steps", "cfg", "sampler", "schedule", "lora", "control", "model", "vae", "strength"} <= set(swept_options())


def test_cells_go_from_left_to_right_and_from_top_to_bottom() -> None:
    grid = cells(options(), (axis("steps=1,2,3"), axis("cfg=4,5"), NO_AXIS))
    assert [[(cell.options.steps, cell.options.cfg) for cell in row] for row in grid[0]] == [
        [(1, 4.0), (2, 4.0), (3, 4.0)],
        [(1, 5.0), (2, 5.0), (3, 5.0)],
    ]


def test_an_option_that_may_stand_several_times_gets_one_more() -> None:
    grid = cells(options("--lora", "base:0.1"), (axis("lora=style:0.5,style:1"), NO_AXIS, NO_AXIS))
    assert [cell.options.lora for cell in grid[0][0]] == [
        [("base", 0.1), ("style", 0.5)],
        [("base", 0.1), ("style", 1.0)],
    ]


def test_words_are_replaced_in_both_prompts() -> None:
    grid = cells(options("--negative", "no red"), (axis("prompt=red,dark blue"), NO_AXIS, NO_AXIS))
    assert [(cell.options.prompt, cell.options.negative) for cell in grid[0][0]] == [
        ("a red circle", "no red"),
        ("a dark blue circle", "no dark blue"),
    ]


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        (("prompt=green,blue", "steps=1"), "does not hold 'green'"),
        (("steps=1", "steps=2"), "two axes sweep the same"),
        (("steps=1,many", "cfg=1"), "many"),
        ((f"seed=1..{MOST_CELLS + 5}", "cfg=1"), "more than"),
    ],
)
def test_axes_that_cannot_be_swept(axes: tuple[str, str], words: str) -> None:
    with pytest.raises(SfumatoError, match=words):
        cells(options(), (axis(axes[0]), axis(axes[1]), NO_AXIS))


# --- The sheet --------------------------------------------------------------------------------------------------------------------


def plain(colour: tuple[int, int, int], height: int = 64, width: int = 96) -> NDArray[np.uint8]:
    return np.full((height, width, 3), colour, np.uint8)


def test_every_picture_is_on_the_sheet_in_its_row_and_column() -> None:
    colours = [[(200, 0, 0), (0, 200, 0)], [(0, 0, 200), (200, 200, 0)]]
    sheet = draw([Block("", ("one", "two"), ("top", "bottom"), [[plain(colour) for colour in row] for row in colours])])
    places = [[np.argwhere((sheet == colour).all(-1)) for colour in row] for row in colours]
    assert all(len(found) == 64 * 96 for row in places for found in row)
    (red, green), (blue, yellow) = [[found.min(0) for found in row] for row in places]
    assert red[0] == green[0] < blue[0] == yellow[0]
    assert red[1] == blue[1] < green[1] == yellow[1]


def test_labels_are_written_above_and_beside() -> None:
    sheet = draw([Block("", ("steps 10",), ("cfg 7",), [[plain((255, 255, 255))]])])
    ink = np.argwhere((sheet < 128).all(-1))
    height, width = sheet.shape[:2]
    assert (ink[:, 0] < height - 64).any()  # above the picture
    assert (ink[:, 1] < width - 96 - 4).any()  # left of it
    without = draw([Block("", ("",), ("",), [[plain((255, 255, 255))]])])
    assert not (without < 128).any()
    assert without.shape[0] <= 64 + 8


def test_blocks_lie_below_each_other_with_their_headings() -> None:
    blocks = [Block(name, ("",), ("",), [[plain(colour)]]) for name, colour in (("cfg 1", (200, 0, 0)), ("cfg 2", (0, 200, 0)))]
    sheet = draw(blocks)
    red, green = (np.argwhere((sheet == colour).all(-1)) for colour in ((200, 0, 0), (0, 200, 0)))
    assert red[:, 0].max() < green[:, 0].min()
    assert (sheet[: red[:, 0].min()] < 128).any()


def test_a_long_label_is_broken_into_lines_and_then_cut() -> None:
    sheet = draw([Block("", ("word " * 200,), ("",), [[plain((255, 255, 255))]])])
    assert sheet.shape[0] < 64 + 100
    assert sheet.shape[1] < 120


def test_pictures_of_several_sizes_share_a_grid() -> None:
    sheet = draw([Block("", ("a", "b"), ("",), [[plain((200, 0, 0), 32, 32), plain((0, 200, 0))]])])
    assert (sheet == (200, 0, 0)).all(-1).sum() == 32 * 32
    assert (sheet == (0, 200, 0)).all(-1).sum() == 64 * 96


def test_no_sheet_is_larger_than_was_foretold() -> None:
    words = "many words " * 40
    for columns, rows, blocks in ((1, 1, 1), (3, 2, 2), (1, 4, 1)):
        row = [plain((1, 2, 3)) for _ in range(columns)]
        sheet = draw([Block(words, (words,) * columns, (words,) * rows, [row] * rows)] * blocks)
        width, height = size_of(columns, rows, blocks, 96, 64)
        assert sheet.shape[0] <= height
        assert sheet.shape[1] <= width


# --- The command -----------------------------------------------------------------------------------------------------------------


def test_a_sweep_is_one_sheet_with_the_pictures_that_generate_makes(sfumato: Call, tmp_path: Path, pixels: Pixels) -> None:
    words = ("a red circle", "--seed", "7", *SMALL)
    ran = sfumato("sweep", *words, "--x", "cfg=1,6", "--y", "prompt=red,blue", "-o", tmp_path / "sheet.png", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["files"] == [str(tmp_path / "sheet.png")]
    assert [(cell["x"], cell["y"], cell["seed"]) for cell in ran.json["cells"]] == [
        ("1", "red", 7),
        ("6", "red", 7),
        ("1", "blue", 7),
        ("6", "blue", 7),
    ]
    assert sfumato("generate", "a blue circle", "--seed", "7", "--cfg", "1", *SMALL, "-o", tmp_path / "one.png").code == 0
    one, sheet = pixels(tmp_path / "one.png"), pixels(tmp_path / "sheet.png")
    assert any(np.array_equal(sheet[top : top + 64, left : left + 64], one) for top, left in _places(sheet))
    record = read_metadata(tmp_path / "sheet.png").record
    assert record["sweep"]["x"] == {"name": "cfg", "values": ["1", "6"]}
    assert record["sweep"]["first"]["seed"] == 7
    refused = sfumato("replay", tmp_path / "sheet.png")
    assert refused.code == 3
    assert "a sheet of many pictures" in refused.err


def _places(sheet: NDArray[np.uint8]) -> list[tuple[int, int]]:
    return [(top, left) for top in range(sheet.shape[0] - 63) for left in range(sheet.shape[1] - 63)]


def test_without_a_seed_all_cells_share_one(sfumato: Call, tmp_path: Path) -> None:
    ran = sfumato("sweep", "x", *SMALL, "--x", "cfg=1,2", "-o", tmp_path / "sheet.png", "--json")
    assert {cell["seed"] for cell in ran.json["cells"]} == {ran.json["seed"]}


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (("--x", "steps=1,0"), "steps: 0"),
        (("--x", "sampler=euler,eulr"), "unknown sampler 'eulr'"),
        (("--x", "warp=1"), "'warp' cannot be swept"),
        (("--x", "cfg=1", "--batch", "2"), "Sweep the seed instead"),
        ((), "--x"),
    ],
)
def test_all_cells_are_checked_before_the_first_is_made(sfumato: Call, tmp_path: Path, words: tuple[str, ...], place: str) -> None:
    ran = sfumato("sweep", "x", *SMALL, *words, "-o", tmp_path / "sheet.png")
    assert ran.code == 2
    assert place in ran.err
    assert not (tmp_path / "sheet.png").exists()


def test_a_sheet_too_large_for_its_format_is_told_after_the_first_picture(sfumato: Call, tmp_path: Path) -> None:
    ran = sfumato("sweep", "x", *SMALL, "--x", "cfg=" + ",".join(f"1.{n:03}" for n in range(300)), "-o", tmp_path / "sheet.webp")
    assert ran.code == 1
    assert "too many for webp" in ran.err
