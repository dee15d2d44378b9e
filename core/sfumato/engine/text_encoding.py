"""A CLIP handle at work: weights brought in, LoRA patches on, the text encoded, embeddings found by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sfumato.engine.cancel import cancellable
from sfumato.engine.embeddings import read_embedding
from sfumato.engine.handles import ClipHandle
from sfumato.engine.patches import applied
from sfumato.errors import ModelMissingError

if TYPE_CHECKING:
    import torch

    from sfumato.engine.services import Services
    from sfumato.progress import Progress


def with_skip(clip: ClipHandle, skip: int) -> ClipHandle:
    """The same text encoder without its last `skip - 1` layers."""
    return replace(clip, skip=skip)


def encode_text(services: Services, clip: ClipHandle, text: str, dialect: str, progress: Progress) -> list[Any]:
    """CONDITIONING for `text`; counted in `services.counters` so that a test can see when nothing was encoded."""
    services.counters.texts += 1
    with services.residency.use(clip.weights, progress=progress) as (module,):
        with applied(services.residency, clip.weights, module, clip.patches, progress), cancellable([module], progress):
            return clip.encoder.encode(module, text, skip=clip.skip, dialect=dialect, embedding=embedding_finder(services))


def embedding_finder(services: Services) -> Callable[[str], torch.Tensor | None]:
    """Finds a textual-inversion embedding by the name in a prompt, or gives None."""

    def find(name: str) -> torch.Tensor | None:
        try:
            file = services.library.find("embeddings", name)
        except ModelMissingError:
            return None
        return read_embedding(file.path)

    return find
