"""What a plugin offers besides nodes, as plain data: a name, a few words, and where the code is.

The code is named, not imported (`target="package.module:attribute"`, or `"...:TABLE[key]"`): lists and forms never load torch,
and a plugin that runs in a process of its own answers the same way.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sfumato.errors import PluginError


@dataclass(frozen=True)
class Offer:
    """`name` as users and workflows write it; `target` is where the code is."""

    name: str
    target: str
    description: str = ""

    def load(self) -> Any:
        """Import and return the target. Raises PluginError if it is not there."""
        module, _, path = self.target.partition(":")
        attribute, _, key = path.rstrip("]").partition("[")
        try:
            found = getattr(importlib.import_module(module), attribute)
            return found[key] if key else found
        except (ImportError, AttributeError, LookupError) as error:
            raise PluginError(f"{self.name!r} cannot be loaded: {error}", self.target) from error


@dataclass(frozen=True)
class SamplerOffer(Offer):
    """A sampler: `(denoise, x, sigmas, ctx, *, options...) -> x`, see `sfumato.engine.samplers`."""


@dataclass(frozen=True)
class ScheduleOffer(Offer):
    """A schedule: `(model_sampling, steps) -> sigmas`, float32 [steps+1], descending, last one 0."""


@dataclass(frozen=True)
class PreprocessorOffer(Offer):
    """A preprocessor: `(image, **options) -> image`, IMAGE float32 [B,H,W,3] in 0..1 to the same size; `options` are its defaults."""

    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoraFormatOffer(Offer):
    """A LoRA dialect: `(tensors, networks, metadata) -> {network: {parameter: Delta}} | None`, None if it is not this dialect.

    `tensors`: name -> tensor; `networks`: network (`unet`, `text_encoder`) -> parameter -> shape; `metadata`: the header's
    texts. A `Delta` is described in `sfumato.engine.patches`. Empty where nothing in the file belongs to a network.
    """


@dataclass(frozen=True)
class UpscalerOffer(Offer):
    """Upscaler files: `(path, services, progress) -> Upscaler | None` (see `sfumato.engine.protocols`), None if it is not one of these."""


@dataclass(frozen=True)
class ModelFamilyOffer(Offer):
    """A model family. `recognise` names a torch-free `(header: sfumato.models.Header) -> Recognised | None`; `target` names
    the family object with `load_checkpoint`, `load_unet` ... (see `sfumato.engine.protocols.ModelFamily`)."""

    recognise: str = ""

    def load_recogniser(self) -> Any:
        """Import and return the recogniser."""
        return Offer(self.name, self.recognise).load()


@dataclass(frozen=True)
class InpaintFillOffer(Offer):
    """A prefill: `(image [B,H,W,3], mask [B,H,W]) -> image`, something plausible where the mask is 1."""


@dataclass(frozen=True)
class FileFormatOffer(Offer):
    """A file format: `target` names an object with `read(path)` and `write(path, pictures, record)`; `endings` like ".png".

    A format with the ending ".json" is one of workflows; its target is a `sfumato.workflow_formats.WorkflowFormat`.
    """

    endings: tuple[str, ...] = ()
