"""Names of the models below a folder, remembered as long as no folder in it has changed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ENDINGS = frozenset({".safetensors", ".sft", ".gguf", ".ckpt", ".pt", ".pt2", ".pth", ".bin"})
"""Endings of model files. Some of these can only be refused when opened, with the reason: better than not being seen."""

_MOST_LEVELS = 12
_SETTLED_NS = 2_000_000_000
"""A folder that changed this recently may change again without a new time stamp (some file systems count in two seconds)."""


@dataclass(frozen=True)
class _Remembered:
    names: tuple[str, ...]
    folders: dict[str, int]  # path -> time of the last change, ns


class Listing:
    """Scans folders for models and remembers what it found. Threads may share one."""

    def __init__(self) -> None:
        self._known: dict[Path, _Remembered] = {}

    def names(self, folder: Path) -> tuple[str, ...]:
        """Models below `folder`, as relative names with `/`; empty if there is no such folder. Unreadable folders are left out."""
        known = self._known.get(folder)
        if known is None or not _is_current(known):
            known = _scan(folder)
            self._known[folder] = known
        return known.names


def _is_current(known: _Remembered) -> bool:
    now = time.time_ns()
    return bool(known.folders) and all(_changed(path) == then and now - then > _SETTLED_NS for path, then in known.folders.items())


def _changed(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116 - many folders, and no need of a Path for each
    except OSError:
        return -1


def _scan(folder: Path) -> _Remembered:
    folders: dict[str, int] = {}
    names = sorted(_walk(str(folder), "", frozenset(), folders))
    return _Remembered(tuple(names), folders)


def _walk(folder: str, prefix: str, above: frozenset[str], folders: dict[str, int]) -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in above or len(above) >= _MOST_LEVELS:  # a link that leads back up
        return
    folders[folder] = _changed(folder)
    for entry in _entries(folder):
        if entry.name.startswith(".") or not _is_text(entry.name):
            continue
        if not _is_folder(entry):
            if os.path.splitext(entry.name)[1].lower() in ENDINGS:  # noqa: PTH122 - as above
                yield prefix + entry.name
        elif _is_model_folder(entry.path):
            folders[entry.path] = _changed(entry.path)
            yield prefix + entry.name
        else:
            yield from _walk(entry.path, f"{prefix}{entry.name}/", above | {real}, folders)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_text(name: str) -> bool:
    """Whether the name can be written down (a file's name may be bytes that are no text)."""
    return name.isprintable()


def _is_model_folder(path: str) -> bool:
    """Whether this is one model in diffusers layout: a pipeline, or a component with its configuration and weights."""
    here = {entry.name for entry in _entries(path)}
    return "model_index.json" in here or ("config.json" in here and any(name.endswith((".safetensors", ".bin")) for name in here))
