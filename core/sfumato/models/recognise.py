"""What a model file is, from its header alone: kind, family, details, and the reason in words.

Families come first, as plugins offer them (`ModelFamilyOffer.recognise` names a function such as `sd1` here); then what is known without
a plugin, so that a file of a family that nothing loads is at least called by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from sfumato.models.families import sd1, stable_diffusion, transformers
from sfumato.models.folders import recognise_folder
from sfumato.models.parts import embedding, lora, text_encoder, upscaler, vae
from sfumato.models.recognised import Recognised
from sfumato.models.safetensors_file import Header, read_header

__all__ = ["Recogniser", "recognise", "recognise_file", "recognise_folder", "sd1"]

Recogniser: TypeAlias = Callable[[Header], Recognised | None]

_KNOWN: tuple[Recogniser, ...] = (lora, stable_diffusion, transformers, vae, text_encoder, upscaler, embedding)


def recognise(header: Header, recognisers: Iterable[Recogniser] = ()) -> Recognised:
    """What the file is; kind "unknown" with the first names as the reason if nothing fits. `recognisers` are asked first."""
    for ask in (*recognisers, *_KNOWN):
        answer = ask(header)
        if answer is not None:
            return answer
    first = ", ".join(repr(name[:60]) for name in list(header.tensors)[:3])
    return Recognised("unknown", "", f"{len(header.tensors)} tensors that fit nothing known, such as {first or 'none at all'}")


def recognise_file(path: Path, recognisers: Iterable[Recogniser] = ()) -> Recognised:
    """As `recognise`, for a safetensors file or a folder in diffusers layout. Raises ModelFileError."""
    return recognise_folder(path) if path.is_dir() else recognise(read_header(path), recognisers)
