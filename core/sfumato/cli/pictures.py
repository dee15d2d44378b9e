"""Pictures that the user names on the command line: handed to the run under plain names, measured without decoding."""

from __future__ import annotations

from pathlib import Path

from sfumato.app import App
from sfumato.errors import ImageFileError
from sfumato.images.containers import open_container
from sfumato.images.reading import read_source


def adopt(app: App, text: str) -> str:
    """Let runs read the picture at the path `text`; returns the name that the graph uses. Raises ImageFileError if there is none."""
    path = Path(text).expanduser()
    if not path.is_file():
        raise ImageFileError("there is no such picture", text, "Check the path.")
    name, number = path.name, 1
    while app.pictures.get(name, path) != path:
        number += 1
        name = f"{path.stem}-{number}{path.suffix}"
    app.pictures[name] = path
    return name


def size_of(app: App, name: str) -> tuple[int, int]:
    """(width, height) of an adopted picture. Raises ImageFileError for what is no picture."""
    where, data = read_source(app.pictures[name])
    return open_container(data, where).size
