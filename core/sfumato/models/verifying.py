"""Whether the models on disk are still good: readable, unchanged since they were first seen, and not there twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from sfumato.errors import ModelFileError
from sfumato.models.hashing import ModelHashes, weight_files
from sfumato.models.library import ModelFile
from sfumato.models.safetensors_file import read_header
from sfumato.progress import Progress

State = Literal["good", "changed", "unusable"]


@dataclass(frozen=True)
class Verified:
    """`changed`: other bytes than were remembered, under the same date and size; `unusable`: `words` say why."""

    file: ModelFile
    state: State
    sha256: str = ""
    words: str = ""


def verify(files: Iterable[ModelFile], hashes: ModelHashes, progress: Progress | None = None) -> Iterator[Verified]:
    """Read every byte of `files`. Raises CancelledError, and nothing else."""
    for file in files:
        try:
            for part in weight_files(file.path) if file.is_folder else [file.path]:
                read_header(part)
            if not hashes.recheck(file.path, progress):
                words = "its bytes have changed though its date has not: the disk may be failing. Get the file again."
                yield Verified(file, "changed", words=words)
            else:
                yield Verified(file, "good", hashes.sha256(file.path, progress))
        except ModelFileError as error:
            yield Verified(file, "unusable", words=f"{error.what}. {error.remedy}".strip())


def duplicates(verified: Iterable[Verified]) -> list[list[ModelFile]]:
    """Models with the same bytes, in groups."""
    groups: dict[str, list[ModelFile]] = {}
    for each in verified:
        if each.sha256:
            groups.setdefault(each.sha256, []).append(each.file)
    return [files for files in groups.values() if len(files) > 1]
