"""`sfumato sweep PROMPT --x NAME=V1,V2,... -o SHEET`: one picture for each combination of values, on one labelled sheet."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli import arguments, places
from sfumato.cli.axes import NO_AXIS, Axis, Cell, axis, cells
from sfumato.cli.generate import generated
from sfumato.cli.output import add_json_option, note, print_json
from sfumato.cli.request_options import add_request_options, request_of
from sfumato.cli.work import Made, Work
from sfumato.errors import BadValueError, UsageError
from sfumato.images.metadata import PictureMetadata
from sfumato.images.writing import check_size, format_of, to_8_bits
from sfumato.lazy import lazy_module
from sfumato.records import FORMAT, versions
from sfumato.request import GenerateRequest
from sfumato.saving import save_picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sfumato.cli import sheet
else:
    sheet = lazy_module("sfumato.cli.sheet")

NOTES = """
NAME is any option of `sfumato generate` without its dashes (seed, steps, cfg, sampler, schedule, lora, model, strength ...), and the
values are written as there: --x lora=style:0.5,style:1 --y steps=10,20. Whole numbers may be a range: seed=1..4. The axis `prompt`
replaces words: --x prompt=red,blue,"light green" draws the prompt as it is, and with blue and light green for red.

Without --seed all pictures have one random seed. z is drawn as one block below the other. Everything is checked before the first
picture is made; after Ctrl+C nothing is written.
"""
_MOST_PIXELS = 256_000_000


def configure(parser: argparse.ArgumentParser) -> None:
    """The request, its axes and the sheet."""
    parser.epilog = NOTES
    add_request_options(parser)
    parser.add_argument("--x", type=axis, required=True, metavar="NAME=V1,V2,...", help="what changes from left to right")
    parser.add_argument("--y", type=axis, default=NO_AXIS, metavar="NAME=V1,V2,...", help="what changes from top to bottom")
    parser.add_argument("--z", type=axis, default=NO_AXIS, metavar="NAME=V1,V2,...", help="what changes from block to block")
    parser.add_argument("-o", "--output", type=arguments.path_of, required=True, metavar="SHEET", help="a file: png, webp or jpg")
    add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Make all pictures, then the sheet."""
    if options.batch != 1:
        raise UsageError("a sweep makes one picture a cell", "batch", "Sweep the seed instead: --x seed=1..4.")
    app = arguments.app_of(options)
    places.check_picture(options.output)
    options.seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    axes: tuple[Axis, Axis, Axis] = (options.x, options.y, options.z)
    grid = cells(options, axes)
    asked = [[[(cell, request_of(app, cell.options)) for cell in row] for row in block] for block in grid]
    with Work(app) as work:
        made = [[[_made(work, options.output, axes, *each) for each in row] for row in block] for block in asked]
        drawn = sheet.draw(_blocks(axes, made))
        record = {"format": FORMAT, "versions": versions(), "machine": app.machine(), "sweep": _sweep_json(axes, asked[0][0][0][1])}
        for warning in save_picture(options.output, drawn, PictureMetadata(record=record), app.settings.pictures).warnings:
            note(f"{options.output}: {warning}")
        figures = work.figures()
    if options.json:
        done = [_cell_json(*each) for block in asked for row in block for each in row]
        print_json({"files": [str(options.output)], "texts": [], "cells": done, "seed": options.seed, **figures})
    else:
        print(options.output)
    return 0


def _made(work: Work, output: Path, axes: Sequence[Axis], cell: Cell, request: GenerateRequest) -> NDArray[np.uint8]:
    made = generated(work, request)
    if (cell.x, cell.y, cell.z) == tuple(each.values[0] for each in axes):
        _check_sheet(output, axes, made)
    return to_8_bits(made.images[0])


def _check_sheet(output: Path, axes: Sequence[Axis], made: Made) -> None:
    """Whether the sheet can be written: asked after the first picture, because only then its size is known."""
    height, width = made.images.shape[1:3]
    x, y, z = (len(each.values) for each in axes)
    size = sheet.size_of(x, y, z, width, height)
    check_size(size, format_of(output), str(output))
    if size[0] * size[1] > _MOST_PIXELS:
        raise BadValueError(f"a sheet of {size[0]}x{size[1]} pixels is too large", "sweep", "Take fewer values, or smaller pictures.")


def _blocks(axes: tuple[Axis, Axis, Axis], made: Any) -> list[sheet.Block]:
    x, y, z = ([each.label(value) if each is not NO_AXIS else "" for value in each.values] for each in axes)
    return [sheet.Block(heading, x, y, pictures) for heading, pictures in zip(z, made, strict=True)]


def _sweep_json(axes: Sequence[Axis], first: GenerateRequest) -> dict[str, Any]:
    named = {
        place: {"name": each.name, "values": list(each.values)} for place, each in zip("xyz", axes, strict=True) if each is not NO_AXIS
    }
    return {**named, "first": first.to_json()}


def _cell_json(cell: Cell, request: GenerateRequest) -> dict[str, Any]:
    return {"x": cell.x, "y": cell.y, "z": cell.z, "seed": request.seed}
