"""Pictures by name: inside the folders of a run, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfumato.errors import ImageFileError
from sfumato.run_folders import RunFolders


@pytest.fixture
def where(tmp_path: Path) -> RunFolders:
    """Folders with a few pictures, and a secret beside them."""
    for name in ("input/a.png", "input/sub/b.JPG", "input/notes.txt", "output/a.png", "temp/c.webp", "secret.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return RunFolders(tmp_path / "input", tmp_path / "output", tmp_path / "temp", {"mine.png": tmp_path / "secret.png"})


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a.png", "input/a.png"), ("sub/b.JPG", "input/sub/b.JPG"), ("a.png [output]", "output/a.png"), ("c.webp [temp]", "temp/c.webp"),
        ("a.png [input]", "input/a.png"), ("sub/../a.png", "input/a.png"), ("mine.png", "secret.png"),
    ],
)  # fmt: skip
def test_a_picture_is_found_by_name(where: RunFolders, name: str, file: str) -> None:
    assert where.picture(name).read_text() == file


@pytest.mark.parametrize("name", ["../secret.png", "sub/../../secret.png", "../secret.png [output]", "/etc/hostname", "../input/../x.png"])
def test_nothing_outside_the_folders_can_be_read(where: RunFolders, name: str) -> None:
    with pytest.raises(ImageFileError, match="leads out"):
        where.picture(name)


def test_a_link_that_leads_out_is_refused(where: RunFolders) -> None:
    (where.input / "link.png").symlink_to(where.input.parent / "secret.png")
    with pytest.raises(ImageFileError, match="leads out"):
        where.picture("link.png")


@pytest.mark.parametrize("name", ["no.png", "", "sub", "a.png [secret]", "x" * 5000, "a\0b.png", "\ud800.png", "a.png [output] [output]"])
def test_what_is_not_there_is_told(where: RunFolders, name: str) -> None:
    with pytest.raises(ImageFileError, match="there is no picture") as caught:
        where.picture(name)
    assert caught.value.exit_code == 3


def test_the_names_are_the_users_own_and_the_pictures_of_the_input_folder(where: RunFolders) -> None:
    assert where.names() == ["mine.png", "a.png", "sub/b.JPG"]
    assert RunFolders(Path("/nowhere"), Path("/nowhere"), Path("/nowhere")).names() == []
