"""Hashes of model files, remembered: SHA-256 of the whole file, and the first ten digits that A1111 and Civitai (AutoV2) write."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from sfumato.bounded_json import JsonFault, read_json
from sfumato.errors import ModelFileError, SaveError
from sfumato.files import write_atomically
from sfumato.models.folders import read_config
from sfumato.progress import Progress

SHORT = 10
"""Digits of a short hash."""

_CHUNK = 4 << 20
_MOST_REMEMBERED = 20_000
_MOST_CACHE_BYTES = 16 << 20


class ModelHashes:
    """Hashes by path, size, time of the last change and inode; a file is read again only when one of them has changed.

    They are kept in `hashes.json` in the cache folder. That file may be missing, damaged or not writable: it only saves time.
    """

    def __init__(self, cache: Path) -> None:
        self._file = cache / "hashes.json"

    def sha256(self, path: Path, progress: Progress | None = None) -> str:
        """The SHA-256 of a model, 64 hexadecimal digits: of a file's bytes, or for a folder as `folder_hash` says.

        Raises ModelFileError if a file cannot be read or changes meanwhile, CancelledError if the user says stop.
        """
        files = [path] if not path.is_dir() else weight_files(path)
        known = self._read()
        hashes, fresh = [], {}
        for file in files:
            key = _key(file)
            if key not in known:
                known[key] = fresh[key] = _hash(file, progress or Progress.silent())
                if _key(file) != key:
                    raise ModelFileError("the file changed while it was read", str(file), "Wait until it is written, then try again.")
            hashes.append(known[key])
        if fresh:
            self._remember(fresh)
        return folder_hash(path, dict(zip(files, hashes, strict=True))) if path.is_dir() else hashes[0]

    def short(self, path: Path, progress: Progress | None = None) -> str:
        """The first ten digits: `Model hash` of A1111, AutoV2 of Civitai."""
        return self.sha256(path, progress)[:SHORT]

    def recheck(self, path: Path, progress: Progress | None = None) -> bool:
        """Read every byte again: False if they are not those that were remembered although the file's date and size are the same.

        A disk that rots does that. What was not known is remembered now. Raises as `sha256` does.
        """
        known, fresh = self._read(), {}
        is_same = True
        for file in [path] if not path.is_dir() else weight_files(path):
            key, digest = _key(file), _hash(file, progress or Progress.silent())
            is_same = is_same and known.get(key, digest) == digest
            if key not in known:
                fresh[key] = digest
        if fresh:
            self._remember(fresh)
        return is_same

    def _read(self) -> dict[str, str]:
        try:
            if self._file.stat().st_size > _MOST_CACHE_BYTES:
                return {}
            value = read_json(self._file.read_bytes(), most_depth=4)
        except (OSError, JsonFault):
            return {}
        pairs = value.items() if isinstance(value, dict) else ()
        return {key: each for key, each in pairs if isinstance(each, str) and len(each) == 64}

    def _remember(self, fresh: Mapping[str, str]) -> None:
        known = {**self._read(), **fresh}  # read anew: another process may have written meanwhile
        newest = dict(list(known.items())[-_MOST_REMEMBERED:])
        with suppress(SaveError):
            write_atomically(self._file, json.dumps(newest, indent=0).encode("ascii"), make_parents=True)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model in diffusers layout: of the components that its index names, or its own. Sorted.

    Raises ModelFileError if there are none.
    """
    parts = [folder]
    if (folder / "model_index.json").is_file():
        index = read_config(folder / "model_index.json")
        parts = [folder / name for name, entry in index.items() if isinstance(entry, list) and Path(name).name == name]
    files = sorted(file for part in parts for file in part.glob("*.safetensors"))
    if not files:
        raise ModelFileError("the folder holds no safetensors files", str(folder), "The model folder is not complete: get it again.")
    return files


def folder_hash(folder: Path, hashes: Mapping[Path, str]) -> str:
    """The SHA-256 of lines `hash, two spaces, relative path with /`, sorted by path: what `sha256sum` would print for the weight files."""
    lines = sorted((file.relative_to(folder).as_posix(), digest) for file, digest in hashes.items())
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in lines).encode()).hexdigest()


def _key(path: Path) -> str:
    try:
        facts = path.stat()
    except OSError as error:
        raise ModelFileError(f"the file cannot be read ({error.strerror})", str(path)) from error
    return f"{path.absolute()}|{facts.st_size}|{facts.st_mtime_ns}|{facts.st_ino}"


def _hash(path: Path, progress: Progress) -> str:
    digest, done = hashlib.sha256(), 0
    try:
        total = path.stat().st_size
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                done += len(chunk)
                progress.step(f"hashing {path.name}", done, total)
    except OSError as error:
        raise ModelFileError(f"the file cannot be read ({error.strerror})", str(path)) from error
    return digest.hexdigest()
