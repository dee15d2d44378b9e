"""Where commands write: looked at before the work, because it is better to hear of a missing folder then than after it."""

from __future__ import annotations

from pathlib import Path

from sfumato.errors import UsageError
from sfumato.files import check_writable, make_folder
from sfumato.images.writing import format_of


def check_picture(output: Path) -> None:
    """A file that a picture can be written to. Raises BadValueError for its ending, UsageError and SaveError for its place."""
    format_of(output)
    if not output.absolute().parent.is_dir():
        raise UsageError("there is no such folder", str(output.absolute().parent), "Make it first, or write somewhere else.")
    if output.is_dir():
        raise UsageError("this is a folder, not a file name", str(output), "Give a file name that ends in .png, .webp or .jpg.")
    check_writable(output)


def check_folder(folder: Path) -> None:
    """A folder that the user named, to write into. Raises UsageError and SaveError."""
    if not folder.is_dir():
        what = "this is a file, not a folder" if folder.exists() else "there is no such folder"
        raise UsageError(what, str(folder), "Make the folder first, or name another.")
    check_writable(folder / "picture.png")


def prepare_folder(folder: Path) -> None:
    """The user's own output folder: made if it is not there. Raises SaveError."""
    make_folder(folder)
    check_writable(folder / "picture.png")
