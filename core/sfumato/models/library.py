"""The models that are on disk, by kind and name: listing and finding, without opening a file.

Names are relative to their folder, with `/` on every system. A name from a workflow can never lead out of the model folders;
links that the user has put into them are followed.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import sfumato_resources
from sfumato.errors import ModelMissingError
from sfumato.models.layouts import FOLDER_NAMES, comfyui_folders, kind_of
from sfumato.models.listing import Listing
from sfumato.paths import Folders

EMBEDDED = "embedded"
"""Name of the embedded checkpoint, and the folder in which its companions appear."""


@dataclass(frozen=True)
class ModelFile:
    """A model on disk: a file, or a folder in diffusers layout. `name` is what workflows call it; `kind` as in `FOLDER_NAMES`."""

    kind: str
    name: str
    path: Path

    @property
    def is_folder(self) -> bool:
        return self.path.is_dir()

    @property
    def stem(self) -> str:
        """The name without folders and ending."""
        name = PurePosixPath(self.name).name
        return name if self.is_folder else PurePosixPath(name).stem


class ModelLibrary:
    """What is in the user's model folder, in `extra` folders (kind -> folders), and what ships with Sfumato.

    Where two folders hold the same name, the first wins: the user's own, then the extra ones, then what ships.
    """

    def __init__(self, folders: Folders, extra: Mapping[str, Sequence[Path]] | None = None) -> None:
        self._folders = comfyui_folders(folders.models)
        for kind, more in (extra or {}).items():
            self._folders.setdefault(kind_of(kind), []).extend(more)
        self._listing = Listing()
        self._typed: dict[str, dict[str, ModelFile]] = {}

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(self._folders)

    def folders(self, kind: str) -> tuple[Path, ...]:
        """Where models of this kind are looked for, existing or not; new ones go to the first. Raises ModelMissingError."""
        try:
            return tuple(self._folders[kind_of(kind)])
        except KeyError:
            raise ModelMissingError(f"there is no kind of model called {kind!r}", "", f"Kinds: {', '.join(self._folders)}.") from None

    def names(self, kind: str) -> list[str]:
        """Every model of a kind, sorted without regard to case. Opens no file."""
        return sorted(self._models(kind), key=lambda name: (name.casefold(), name))

    def find(self, kind: str, name: str) -> ModelFile:
        """The model called `name`: exactly, else without ending, folder or case if only one fits (the user's before what ships).

        Raises ModelMissingError with near names and the folders searched.
        """
        models = self._models(kind)
        wanted = name.replace("\\", "/")
        if wanted in models:
            return models[wanted]
        alike = [model for model in models.values() if _is_alike(model, wanted)]
        own = [model for model in alike if not _ships(model)] or alike
        if len(own) == 1:
            return own[0]
        raise self._missing(kind, name, [model.name for model in own])

    def find_path(self, kind: str, text: str) -> ModelFile:
        """As `find`, but `text` may also be a path: for what the user types, never for what a workflow says.

        A file outside the model folders is known under its own name from now on, to `find` and `names` as well.
        """
        path = Path(text)
        with suppress(RuntimeError):  # `~somebody` whom the system does not know
            path = path.expanduser()
        if text not in self._models(kind) and _is_model(path):
            return self.know(kind, path)
        return self.find(kind, text)

    def know(self, kind: str, path: Path, name: str = "") -> ModelFile:
        """Make a file from anywhere known as a model of this kind, for this process, called `name` or else as is still free."""
        kind, path, models = kind_of(kind), path.absolute(), self._models(kind)
        known = next((model for model in models.values() if model.path == path), None)
        if known is not None:
            return known
        names = (name, path.name, f"{path.parent.name}/{path.name}")
        name = next((name for name in names if name and name not in models), path.as_posix())
        return self._typed.setdefault(kind, {}).setdefault(name, ModelFile(kind, name, path))

    @property
    def typed(self) -> tuple[ModelFile, ...]:
        """The files that lie in no model folder, but were named by their path."""
        return tuple(file for files in self._typed.values() for file in files.values())

    def is_typed(self, file: ModelFile) -> bool:
        """Whether the file is in no model folder, but was named by its path."""
        return self._typed.get(file.kind, {}).get(file.name) == file

    def _models(self, kind: str) -> dict[str, ModelFile]:
        kind = kind_of(kind)
        models = _shipped(kind)
        for folder in reversed(self.folders(kind)):
            models |= {name: ModelFile(kind, name, folder / name) for name in self._listing.names(folder)}
        return models | self._typed.get(kind, {})

    def _missing(self, kind: str, name: str, alike: Sequence[str]) -> ModelMissingError:
        shown = repr(name if len(name) <= 200 else name[:200] + "…")
        what = f"no model of the kind {kind_of(kind)!r} is called {shown}"
        if alike:
            return ModelMissingError(f"{what}, and several are alike", "", f"Write one of: {', '.join(sorted(alike)[:10])}.")
        names = self.names(kind)
        near = difflib.get_close_matches(name[:200], names[:5000], n=3, cutoff=0.5)
        hint = (
            f"Did you mean {' or '.join(map(repr, near))}? " if near else f"There is: {', '.join(names)}. " if 0 < len(names) <= 10 else ""
        )
        searched = ", ".join(str(folder) for folder in self.folders(kind))
        return ModelMissingError(what, "", f"{hint}Searched: {searched}. `sfumato models list` shows what there is.")


def _shipped(kind: str) -> dict[str, ModelFile]:
    if kind == "checkpoints":
        return {EMBEDDED: ModelFile(kind, EMBEDDED, sfumato_resources.embedded_model())}
    files = sfumato_resources.embedded_files(kind) if kind in FOLDER_NAMES else {}
    return {f"{EMBEDDED}/{name}": ModelFile(kind, f"{EMBEDDED}/{name}", path) for name, path in files.items()}


def _ships(model: ModelFile) -> bool:
    return model == _shipped(model.kind).get(model.name)


def _is_alike(model: ModelFile, wanted: str) -> bool:
    fold = wanted.casefold()
    whole = PurePosixPath(model.name)
    forms = (str(whole), whole.name) if model.is_folder else (str(whole), whole.name, str(whole.with_suffix("")), whole.stem)
    return fold in (form.casefold() for form in forms)


def _is_model(path: Path) -> bool:
    """Whether this is a file, or a folder in diffusers layout; False for what no file can be called (too long, a NUL)."""
    try:
        return path.is_file() or any((path / name).is_file() for name in ("model_index.json", "config.json"))
    except (OSError, ValueError):
        return False
