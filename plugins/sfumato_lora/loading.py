"""From a LoRA file to patches on the handles of a model and its text encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from sfumato.engine.handles import ClipHandle, ModelHandle
from sfumato.engine.patches import Patch
from sfumato.engine.residency import Weights
from sfumato.engine.services import Services
from sfumato.engine.weights_file import read_tensors
from sfumato.errors import ModelFileError
from sfumato.models import ModelFile
from sfumato.models.safetensors_file import read_header
from sfumato.progress import Progress


def with_lora(
    services: Services,
    file: ModelFile,
    model: ModelHandle,
    clip: ClipHandle | None,
    strength_model: float,
    strength_clip: float,
    progress: Progress,
) -> tuple[ModelHandle, ClipHandle | None]:
    """The handles with the file's changes on top; at strength 0 the very handle that came in.

    Raises ModelFileError when nothing in the file belongs to the model, or when a part of it cannot be applied as it is meant.
    """
    if strength_model == 0.0 and (clip is None or strength_clip == 0.0):
        return model, clip
    networks = {"unet": _shapes(services, model.weights, progress)}
    if clip is not None:
        networks["text_encoder"] = _shapes(services, clip.weights, progress)
    tensors = read_tensors(file.path, progress)
    deltas = services.lora(tensors, networks, read_header(file.path).metadata, str(file.path))
    if not any(deltas.values()):
        raise ModelFileError(
            f"none of its {len(tensors)} tensors belongs to {model.name!r} (the first is {next(iter(tensors), 'none')!r})",
            str(file.path),
            "The LoRA was made for another family of models.",
        )
    identity = _identity(file.path)
    if strength_model != 0.0 and deltas.get("unet"):
        model = model.patched(Patch(identity, strength_model, deltas["unet"]))
    if clip is not None and strength_clip != 0.0 and deltas.get("text_encoder"):
        clip = clip.patched(Patch(identity, strength_clip, deltas["text_encoder"]))
    return model, clip


def _shapes(services: Services, weights: Weights, progress: Progress) -> Mapping[str, tuple[int, ...]]:
    """Parameter -> shape, from the network itself: it is about to be needed anyway."""
    with services.residency.use(weights, progress=progress) as (module,):
        return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


def _identity(path: Path) -> str:
    """Names the content of a file, so that the same LoRA under two names is worked out once."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
