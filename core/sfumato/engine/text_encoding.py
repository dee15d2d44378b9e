"""A CLIP handle at work: weights brought in, LoRA patches on, the text encoded, embeddings found by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sfumato.engine.cancel import cancellable
from sfumato.engine.embeddings import embeddings_of
from sfumato.engine.handles import ClipHandle
from sfumato.engine.patches import applied

if TYPE_CHECKING:
    from sfumato.engine.services import Services
    from sfumato.progress import Progress


def with_skip(clip: ClipHandle, skip: int) -> ClipHandle:
    """The same text encoder without its last `skip - 1` layers."""
    return replace(clip, skip=skip)


def encode_text(services: Services, clip: ClipHandle, text: str, dialect: str, progress: Progress) -> list[Any]:
    """CONDITIONING for `text`; counted in `services.counters` so that a test can see when nothing was encoded."""
    services.counters.texts += 1
    with (
        services.residency.use(clip.weights, progress=progress) as (module,),
        applied(services.residency, clip.weights, module, clip.patches, progress),
        cancellable([module], progress),
    ):
        return clip.encoder.encode(module, text, skip=clip.skip, dialect=dialect, embedding=embeddings_of(services.library))
