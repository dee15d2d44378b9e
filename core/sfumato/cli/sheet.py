"""Draws the sheet of a sweep: pictures in rows and columns with labels, one block below the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

GAP = 4
"""Pixels between pictures."""
_INK, _PAPER = (20, 20, 20), (255, 255, 255)
_MOST_LINES = 4


@dataclass(frozen=True)
class Block:
    """One value of z: its heading, and the pictures uint8 [H,W,3] by row and column. Labels may be empty."""

    heading: str
    columns: Sequence[str]
    rows: Sequence[str]
    pictures: Sequence[Sequence[NDArray[np.uint8]]]


@dataclass(frozen=True)
class _Layout:
    """Sizes in pixels: of a cell, of the margins for labels, and of the letters."""

    width: int
    height: int
    left: int
    top: int
    heading: int
    letters: int


def size_of(columns: int, rows: int, blocks: int, width: int, height: int) -> tuple[int, int]:
    """(width, height) that a sheet with labels everywhere has at most."""
    letters = _letters(width)
    lines = letters * 2 * _MOST_LINES
    return _left(width) + columns * (width + GAP), blocks * (rows * (height + GAP) + 2 * lines)


def draw(blocks: Sequence[Block]) -> NDArray[np.uint8]:
    """The sheet, uint8 [H,W,3]."""
    layout = _layout(blocks)
    parts = [_drawn(block, layout) for block in blocks]
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def _layout(blocks: Sequence[Block]) -> _Layout:
    pictures = [picture for block in blocks for row in block.pictures for picture in row]
    height, width = max(p.shape[0] for p in pictures), max(p.shape[1] for p in pictures)
    letters = _letters(width)
    left = _left(width) if any(label for block in blocks for label in block.rows) else 0
    font = _font(letters)
    lines = max(len(_lines(label, width, font)) for block in blocks for label in block.columns)
    top = GAP + lines * _line_height(letters) if lines else 0
    return _Layout(width, height, left, top, 2 * _line_height(letters) if any(b.heading for b in blocks) else 0, letters)


def _drawn(block: Block, layout: _Layout) -> NDArray[np.uint8]:
    columns, rows = len(block.columns), len(block.rows)
    size = (layout.left + columns * (layout.width + GAP), layout.heading + layout.top + rows * (layout.height + GAP))
    sheet = Image.new("RGB", size, _PAPER)
    pen, font = ImageDraw.Draw(sheet), _font(layout.letters)
    if block.heading:
        _write(pen, block.heading, (size[0] // 2, 0), size[0], font, layout)
    for column, label in enumerate(block.columns):
        _write(pen, label, (layout.left + column * (layout.width + GAP) + layout.width // 2, layout.heading), layout.width, font, layout)
    for row, label in enumerate(block.rows):
        top = layout.heading + layout.top + row * (layout.height + GAP)
        below = (layout.height - len(_lines(label, layout.left, font)) * _line_height(layout.letters)) // 2
        _write(pen, label, (layout.left // 2, top + max(0, below)), layout.left - GAP, font, layout)
        for column, picture in enumerate(block.pictures[row]):
            place = (layout.left + column * (layout.width + GAP), top)
            sheet.paste(Image.fromarray(np.ascontiguousarray(picture[..., :3])), place)
    return np.asarray(sheet)


def _write(
    pen: ImageDraw.ImageDraw, text: str, place: tuple[int, int], width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, at: _Layout
) -> None:
    """Lines around the middle of `place`, downwards from it."""
    for number, line in enumerate(_lines(text, width, font)):
        pen.text((place[0], place[1] + GAP + number * _line_height(at.letters)), line, fill=_INK, font=font, anchor="ma")


def _lines(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """The text in lines of at most `width` pixels, as far as there is room."""
    lines = list(_broken(text, width, font)) if text else []
    return lines if len(lines) <= _MOST_LINES else [*lines[: _MOST_LINES - 1], lines[_MOST_LINES - 1][:-1] + "…"]


def _broken(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> Iterator[str]:
    line = ""
    for piece in text[:500]:
        if line and font.getlength(line + piece) > width:
            at = line.rfind(" ") + 1
            yield line[:at].rstrip() or line
            line = line[at:] if at else ""
        line += piece
    yield line


def _letters(width: int) -> int:
    return max(10, min(48, width // 14))


def _line_height(letters: int) -> int:
    return round(letters * 1.3)


def _left(width: int) -> int:
    return max(80, width // 2)


def _font(letters: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(letters)
