"""Forms of arguments that several commands share."""

from __future__ import annotations

import argparse
import math
from pathlib import Path


def with_number(text: str) -> tuple[str, float | None]:
    """`NAME[:NUMBER]`. A colon that no number follows belongs to the name (drives, model repositories)."""
    name, colon, number = text.rpartition(":")
    if colon and name:
        value = _number(number)
        if value is not None:
            return name, value
    return text, None


def control(text: str) -> tuple[str, str, float | None]:
    """`KIND:IMAGE[:STRENGTH]`."""
    kind, colon, rest = text.partition(":")
    image, strength = with_number(rest)
    if not colon or not kind or not image:
        raise argparse.ArgumentTypeError(f"{text!r} is not KIND:IMAGE[:STRENGTH], such as canny:edges.png:0.8")
    return kind, image, strength


def borders(text: str) -> tuple[int, int, int, int]:
    """`L,T,R,B` in pixels."""
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not L,T,R,B in whole pixels, such as 0,0,64,0")
    left, top, right, bottom = (int(part) for part in parts)
    return left, top, right, bottom


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """How the engine runs."""
    parser.add_argument("--cpu", action="store_true", help="do not use a graphics card")
    parser.add_argument(
        "--precision", default="auto", choices=("auto", "float32", "bfloat16", "float16"), help="the number format of networks"
    )


def existing_file(text: str) -> Path:
    """A path to a file that is there."""
    path = Path(text).expanduser()
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text!r}")
    return path


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
