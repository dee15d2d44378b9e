"""The folders of one run: where its nodes find pictures by name, and where they write."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sfumato.errors import ImageFileError
from sfumato.settings import PictureSettings

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp"})
_ANNOTATED = re.compile(r"^(.*) \[(input|output|temp)\]$", re.DOTALL)


@dataclass(frozen=True)
class RunFolders:
    """`pictures` are files that the user named himself, by the name that the graph uses for them; nothing else outside the
    three folders can be read."""

    input: Path
    output: Path
    temp: Path
    pictures: Mapping[str, Path] = field(default_factory=dict)
    how: PictureSettings = field(default_factory=PictureSettings)
    """How pictures are read and saved."""

    def picture(self, name: str) -> Path:
        """The file of a picture: one the user named, or one in a folder (`name [output]` says which; else input).

        Raises ImageFileError for one that is not there or would lead out of its folder.
        """
        if name in self.pictures:
            return self.pictures[name]
        match = _ANNOTATED.match(name)
        plain, root = (match[1], getattr(self, match[2])) if match else (name, self.input)
        try:
            path = (root / plain).resolve()
            inside = path.is_relative_to(root.resolve())
            found = inside and path.is_file()
        except (OSError, ValueError):  # too long, a NUL, a lone surrogate: nothing is called so
            inside, found = True, False
        if not inside:
            raise ImageFileError(f"{name!r} leads out of the folder", str(root), "Put the picture into the folder and use its plain name.")
        if not found:
            raise ImageFileError(f"there is no picture {name!r}", str(root), "Put it there, or give another name.")
        return Path(path)

    def names(self) -> list[str]:
        """The pictures that a graph may name: the user's own, and those in the input folder."""
        found = []
        if self.input.is_dir():
            found = sorted(
                p.relative_to(self.input).as_posix() for p in self.input.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file()
            )
        return [*self.pictures, *(n for n in found if n not in self.pictures)]
