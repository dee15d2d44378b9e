"""Finding, hashing and recognising model files, without torch and without ever running what is in them."""

from __future__ import annotations

from sfumato.models.library import EMBEDDED, ModelFile, ModelLibrary

__all__ = ["EMBEDDED", "ModelFile", "ModelLibrary"]
