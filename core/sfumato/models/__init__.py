"""Finding, hashing and recognising model files, without torch and without ever running what is in them."""

from __future__ import annotations

from sfumato.models.hashing import ModelHashes
from sfumato.models.library import EMBEDDED, ModelFile, ModelLibrary
from sfumato.models.recognise import recognise, recognise_file
from sfumato.models.recognised import Recognised
from sfumato.models.safetensors_file import Header, TensorInfo, read_header

__all__ = [
    "EMBEDDED",
    "Header",
    "ModelFile",
    "ModelHashes",
    "ModelLibrary",
    "Recognised",
    "TensorInfo",
    "read_header",
    "recognise",
    "recognise_file",
]
