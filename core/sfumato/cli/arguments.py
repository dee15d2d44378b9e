"""Forms of arguments that several commands share."""

from __future__ import annotations

import argparse
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.app import App
from sfumato.errors import BadFileError, BadValueError
from sfumato.paths import Folders
from sfumato.settings import Settings, load_settings

_MOST_NAME, _MOST_PATH = 255, 4000
"""Bytes that file systems take for one name, and systems for a whole path."""

PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def with_number(text: str) -> tuple[str, float | None]:
    """`NAME[:NUMBER]`. A colon that no number follows belongs to the name (drives, model repositories)."""
    name, colon, number = text.rpartition(":")
    if colon and name:
        value = _number(number)
        if value is not None:
            return name, value
    return text, None


@dataclass(frozen=True)
class Control:
    """`--control`: the kind of control, the picture, the ControlNet if it is named, and how strongly it counts if that is said."""

    kind: str
    image: str
    model: str = ""
    strength: float | None = None


def control(text: str) -> Control:
    """`KIND[=MODEL]:IMAGE[:STRENGTH]`."""
    kind, colon, rest = text.partition(":")
    if "=" in kind and re.fullmatch(r"[^=]+=[A-Za-z]", kind) and rest[:1] in ("\\", "/"):  # KIND=C:\net.safetensors:IMAGE
        more, colon, rest = rest.partition(":")
        kind = f"{kind}:{more}"
    kind, _, model = kind.partition("=")
    image, strength = with_number(rest)
    if not colon or not kind or not image:
        raise argparse.ArgumentTypeError(f"{text!r} is not KIND[=MODEL]:IMAGE[:STRENGTH], such as canny:edges.png:0.8")
    return Control(kind, image, model, strength)


def borders(text: str) -> tuple[int, int, int, int]:
    """`L,T,R,B` in pixels."""
    parts = text.split(",")
    if len(parts) != 4 or not all(re.fullmatch(r"[0-9]{1,6}", part.strip()) and int(part) % 8 == 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not L,T,R,B in multiples of 8 pixels, such as 0,0,64,0")
    left, top, right, bottom = (int(part) for part in parts)
    return left, top, right, bottom


def add_settings_option(parser: argparse.ArgumentParser, default: Any = False) -> None:
    """For every command that reads the settings."""
    parser.add_argument("--ignore-settings", action="store_true", default=default, help="do as if there were no settings.toml")


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """How the engine runs; counts more than the settings."""
    parser.add_argument("--cpu", action="store_true", help="do not use a graphics card")
    parser.add_argument("--precision", choices=PRECISIONS, help="the number format of networks")
    add_settings_option(parser)


def add_backend_option(parser: argparse.ArgumentParser) -> None:
    """Where graphs run, for commands that run one."""
    words = "where it runs: in-process, child (a process of its own), or one that a plugin brings"
    parser.add_argument("--backend", default="in-process", metavar="NAME", help=words)


def app_of(options: argparse.Namespace) -> App:
    """The kernel that a command's options ask for."""
    folders = Folders.of_user()
    try:
        settings = Settings() if options.ignore_settings else load_settings(folders.settings_file)
    except BadFileError as error:
        error.remedy = f"{error.remedy} Or go on without it: --ignore-settings."
        raise
    return App.make(folders, settings=settings, cpu=getattr(options, "cpu", False), precision=getattr(options, "precision", None))


def path_of(text: str) -> Path:
    """A path as the user typed it, `~` understood. Raises BadValueError for what no file can be called."""
    path = Path(text)
    if "\0" in text or len(os.fsencode(text)) > _MOST_PATH or any(len(os.fsencode(part)) > _MOST_NAME for part in path.parts):
        shown = repr(text if len(text) <= 100 else text[:100] + "…")
        raise BadValueError(f"no file can be called {shown}", "path", "Use a shorter name, of ordinary characters.")
    try:
        return path.expanduser()
    except RuntimeError:  # `~somebody` whom the system does not know
        return path


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
