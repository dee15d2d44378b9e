"""Adding a model to the user's folders: looked at first, copied whole or not at all, and read again from where it lies then."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sfumato.errors import BadValueError, ModelFileError, SaveError, UsageError
from sfumato.files import make_folder, write_atomically
from sfumato.models.hashing import ModelHashes, weight_files
from sfumato.models.library import ModelFile, ModelLibrary
from sfumato.models.recognised import Recognised
from sfumato.progress import Progress

_KINDS = {
    "checkpoint": "checkpoints",
    "unet": "diffusion_models",
    "vae": "vae",
    "clip": "text_encoders",
    "controlnet": "controlnet",
    "lora": "loras",
    "embedding": "embeddings",
    "upscaler": "upscale_models",
}
_HARMLESS = frozenset({".safetensors", ".json", ".txt", ".md", ".model", ""})
"""Endings of what is taken along from a folder: weights, configurations, vocabularies, licences. None of them is ever run."""
_CHUNK = 4 << 20
_MOST_FILES = 1000


@dataclass(frozen=True)
class Added:
    """A model in the user's folders. `is_new` is False if it was there already; `left_out` names files that were not taken along."""

    file: ModelFile
    recognised: Recognised
    sha256: str
    is_new: bool
    left_out: tuple[str, ...] = ()


def add_model(
    library: ModelLibrary,
    hashes: ModelHashes,
    source: Path,
    recognise: Callable[[ModelFile], Recognised],
    *,
    kind: str = "",
    name: str = "",
    progress: Progress | None = None,
) -> Added:
    """Copy a safetensors file, or a folder in diffusers layout, to where models of its kind belong.

    `kind` is needed only where the file does not tell. Raises ModelFileError for what is no model or would run code when opened,
    UsageError if another model has this name, SaveError if it cannot be written, CancelledError.
    """
    progress = progress or Progress.silent()
    recognised = recognise(ModelFile(kind, source.name, source))
    kind = kind or _kind_of(source, recognised)
    target = library.folders(kind)[0] / _checked_name(name or source.name, source)
    digest = hashes.sha256(source, progress)
    file = ModelFile(kind, target.name, target)
    if target.exists():
        if hashes.sha256(target, progress) == digest:
            return Added(file, recognised, digest, False)
        raise UsageError("another model of this name is there already", str(target), "Add it under another one: --name NAME.")
    left_out = _copy_folder(source, target, progress) if source.is_dir() else _copy_file(source, target, progress)
    if hashes.sha256(target, progress) != digest:
        raise ModelFileError("the copy is not what was copied", str(target), "Remove it and try again; the disk may be failing.")
    return Added(file, recognised, digest, True, left_out)


def _kind_of(source: Path, recognised: Recognised) -> str:
    if recognised.kind not in _KINDS:
        remedy = f"If you know what it is, say so: --kind {'|'.join(_KINDS.values())}."
        raise ModelFileError(f"it cannot be told what kind of model this is: {recognised.reason}", str(source), remedy)
    return _KINDS[recognised.kind]


def _checked_name(name: str, source: Path) -> str:
    if Path(name).name != name or name.startswith(".") or not name.isprintable():
        raise BadValueError(f"{name!r} cannot be the name of a model", "name", "Use a plain name, without folders.")
    return name if source.is_dir() or Path(name).suffix == source.suffix else name + source.suffix


def _copy_file(source: Path, target: Path, progress: Progress) -> tuple[str, ...]:
    size = source.stat().st_size
    _check_room(target, size)

    def copy(stream: IO[bytes]) -> None:
        done = 0
        with source.open("rb") as read:
            while chunk := read.read(_CHUNK):
                stream.write(chunk)
                done += len(chunk)
                progress.step(f"copying {source.name}", done, size)

    try:
        write_atomically(target, copy, make_parents=True)
    except OSError as error:
        raise ModelFileError(f"the file cannot be read ({error.strerror})", str(source)) from error
    return ()


def _copy_folder(source: Path, target: Path, progress: Progress) -> tuple[str, ...]:
    """Returns what was left out. The folder is filled under a name that nothing lists, then renamed."""
    weight_files(source)  # says so if there are no safetensors
    files = [path for path in sorted(source.rglob("*")) if path.is_file()]
    taken = [path for path in files if path.suffix in _HARMLESS and not any(part.startswith(".") for part in path.parts[-2:])]
    if len(files) > _MOST_FILES:
        raise ModelFileError(f"more than {_MOST_FILES} files", str(source), "Name the folder of one model.")
    _check_room(target, sum(path.stat().st_size for path in taken))
    aside = target.with_name(f".sfumato-{secrets.token_hex(8)}.part")
    try:
        for path in taken:
            _copy_file(path, aside / path.relative_to(source), progress)
        _rename(aside, target)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return _names(source, [path for path in files if path not in taken])


def _rename(aside: Path, target: Path) -> None:
    try:
        aside.rename(target)
    except OSError as error:
        raise SaveError(f"the folder could not be put into its place ({error.strerror})", str(target)) from error


def _names(source: Path, files: Sequence[Path]) -> tuple[str, ...]:
    return tuple(path.relative_to(source).as_posix() for path in files)


def _check_room(target: Path, size: int) -> None:
    make_folder(target.parent)
    free = shutil.disk_usage(target.parent).free
    if size > free:
        raise SaveError(f"no space: {size:,} bytes are needed, {free:,} are free", str(target), "Free some space first.")
