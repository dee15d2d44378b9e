"""Stable Diffusion 1.x: the family of the embedded model and of thousands of checkpoints."""

from __future__ import annotations

from sfumato.hookspecs import hookimpl
from sfumato.offers import ModelFamilyOffer


@hookimpl
def register_model_families() -> list[ModelFamilyOffer]:
    """One family: checkpoints (single files and diffusers folders), loose UNets, VAEs and text encoders."""
    return [
        ModelFamilyOffer(
            "sd1",
            "sfumato_sd.family:FAMILY",
            "Stable Diffusion 1.x, also with 9 input channels (inpainting)",
            recognise="sfumato.models.recognise:sd1",
        )
    ]
