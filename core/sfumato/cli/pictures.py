"""Pictures that the user names on the command line: handed to the run under plain names, measured without decoding."""

from __future__ import annotations

from sfumato.app import App
from sfumato.cli.arguments import path_of
from sfumato.errors import ImageFileError
from sfumato.images.containers import open_container
from sfumato.images.exif import read_exif
from sfumato.images.reading import read_source
from sfumato.images.text import writable


def adopt(app: App, text: str) -> str:
    """Let runs read the picture at the path `text`; returns the name that the graph uses. Raises ImageFileError if there is none."""
    path = path_of(text).absolute()
    if not path.is_file():
        raise ImageFileError("there is no such picture", text, "Check the path.")
    stem, number = writable(path.stem), 1
    name = stem + path.suffix
    while app.pictures.get(name, path) != path:
        number += 1
        name = f"{stem}-{number}{path.suffix}"
    app.pictures[name] = path
    return name


def size_of(app: App, name: str) -> tuple[int, int]:
    """(width, height) of an adopted picture as it is seen, turned upright. Raises ImageFileError for what is no picture."""
    where, data = read_source(app.pictures[name])
    container = open_container(data, where)
    width, height = container.size
    return (height, width) if read_exif(container.exif).orientation >= 5 else (width, height)
