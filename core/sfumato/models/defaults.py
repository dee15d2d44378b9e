"""The settings a model is usually run with, where the user has not said."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.bounded_json import JsonFault, read_json
from sfumato.models.library import EMBEDDED, ModelFile
from sfumato.models.recognised import Recognised


@dataclass(frozen=True)
class Defaults:
    """Pixels, steps, guidance scale, names."""

    width: int = 512
    height: int = 512
    steps: int = 20
    cfg: float = 7.0
    sampler: str = "dpmpp_2m"
    schedule: str = "karras"


def defaults_for(file: ModelFile, recognised: Recognised) -> Defaults:
    """The usual settings for a model, by its own configuration if it is a folder, else by its family."""
    if file.is_folder:
        side = _trained_size(file)
        if side:
            return Defaults(side, side, cfg=3.5 if file.name == EMBEDDED else 7.0)
    if recognised.family in ("sdxl", "sd3", "flux"):
        return Defaults(1024, 1024)
    return Defaults(768, 768) if recognised.family == "sd2" else Defaults()


def _trained_size(file: ModelFile) -> int | None:
    """The side in pixels of the pictures it was trained on: `sample_size` latents of 8 pixels."""
    for part in ("unet", "transformer"):
        config = file.path / part / "config.json"
        if config.is_file():
            try:
                found = read_json(config.read_bytes(), most_bytes=1 << 20)
            except (JsonFault, OSError):  # the loader will say what is wrong with it
                return None
            size = found.get("sample_size") if isinstance(found, dict) else None
            return size * 8 if isinstance(size, int) and 2 <= size <= 2048 else None
    return None
