"""The engine's room: what nodes reach through their context. Weights, model files, and everything registered by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from sfumato.engine.devices import Device, best_device, main_memory
from sfumato.engine.dtypes import compute_dtype
from sfumato.engine.loop import Extension, LoopState
from sfumato.engine.patches import Delta
from sfumato.engine.protocols import ModelFamily, Upscaler
from sfumato.engine.residency import Residency
from sfumato.engine.sampling import SamplerChoice
from sfumato.errors import BadValueError, ModelFileError
from sfumato.models import ModelFile, ModelLibrary
from sfumato.models.recognise import recognise_file
from sfumato.models.recognised import Recognised
from sfumato.offers import (
    InpaintFillOffer,
    LoraFormatOffer,
    ModelFamilyOffer,
    Offer,
    PreprocessorOffer,
    SamplerOffer,
    ScheduleOffer,
    UpscalerOffer,
)
from sfumato.progress import Progress


@dataclass(frozen=True)
class Registered:
    """What plugins offer, by name, in the order of their registration."""

    samplers: Mapping[str, SamplerOffer] = field(default_factory=dict)
    schedules: Mapping[str, ScheduleOffer] = field(default_factory=dict)
    preprocessors: Mapping[str, PreprocessorOffer] = field(default_factory=dict)
    lora_formats: Sequence[LoraFormatOffer] = ()
    upscalers: Sequence[UpscalerOffer] = ()
    families: Sequence[ModelFamilyOffer] = ()
    fills: Mapping[str, InpaintFillOffer] = field(default_factory=dict)
    before_step: Callable[..., Any] | None = None
    after_step: Callable[..., Any] | None = None


@dataclass
class Counters:
    """What the engine has done; the benchmark and tests read it."""

    texts: int = 0


@dataclass
class Services:
    """One engine: a device, its residency, the model library, and what plugins registered."""

    library: ModelLibrary
    registered: Registered
    residency: Residency
    precision: str = "auto"
    memory: Path | None = None
    """Where the measurement of the CPU's bfloat16 is remembered."""
    counters: Counters = field(default_factory=Counters)
    rungs: list[str] = field(default_factory=list)
    """Rungs of the memory ladder used since it was last cleared, the highest last."""
    tiled_vae: bool = False
    """Pictures that do not fit into the smallest tile are always decoded in tiles."""

    @classmethod
    def make(
        cls,
        library: ModelLibrary,
        registered: Registered,
        *,
        cpu: bool = False,
        precision: str = "auto",
        memory: Path | None = None,
        device: Device | None = None,
        tiled_vae: bool = False,
    ) -> Services:
        """An engine on the best device there is, or on the CPU, or on `device`, whose budget on a CPU is that of main memory."""
        device = device or best_device(prefer_cpu=cpu)
        residency = Residency(device, device.budget if device.is_cpu else int(main_memory() * 0.7))
        return cls(library, registered, residency, precision, memory, tiled_vae=tiled_vae)

    @property
    def device(self) -> torch.device:
        return self.residency.device.device

    def dtype_for(self, parameters: int) -> torch.dtype:
        """The number format for a network of so many parameters."""
        return compute_dtype(self.device, parameters, self.precision, self.memory)

    def sampler(self, name: str) -> SamplerChoice:
        """The sampler called `name`. Raises BadValueError with the near names."""
        return SamplerChoice(name, _named(self.registered.samplers, name, "sampler").load())

    def schedule(self, name: str) -> Callable[[Any, int], torch.Tensor]:
        """The schedule called `name`: (model_sampling, steps) -> sigmas."""
        found: Callable[[Any, int], torch.Tensor] = _named(self.registered.schedules, name, "schedule").load()
        return found

    def preprocessor(self, name: str) -> PreprocessorOffer:
        return _named(self.registered.preprocessors, name, "preprocessor")

    def recognise(self, file: ModelFile) -> Recognised:
        """What `file` is, from its header alone."""
        return recognise_file(file.path, [offer.load_recogniser() for offer in self.registered.families if offer.recognise])

    def family_of(self, file: ModelFile) -> ModelFamily:
        """What loads `file`. Raises ModelFileError if no family knows it.

        A VAE or text encoder by itself serves several families and tells none: the first one loads it, or says why it cannot.
        """
        recognised = self.recognise(file)
        is_shared = recognised.kind in ("vae", "clip") and not recognised.family
        for offer in self.registered.families:
            if is_shared or offer.name == recognised.family:
                family: ModelFamily = offer.load()
                return family
        known = ", ".join(offer.name for offer in self.registered.families) or "none"
        raise ModelFileError(
            f"no installed model family can load this: {recognised.reason}", str(file.path), f"Families that are installed: {known}."
        )

    def lora(
        self,
        tensors: Mapping[str, torch.Tensor],
        networks: Mapping[str, Mapping[str, Sequence[int]]],
        metadata: Mapping[str, str],
        where: str,
    ) -> dict[str, dict[str, Delta]]:
        """The changes in a LoRA file, by network and parameter: the first registered dialect that understands it reads it.

        `networks`: network (`unet`, `text_encoder`) -> parameter name -> shape; `metadata`: the texts in the file's header.
        """
        try:
            for offer in self.registered.lora_formats:
                deltas: dict[str, dict[str, Delta]] | None = offer.load()(tensors, networks, metadata)
                if deltas is not None:
                    return deltas
        except ModelFileError as error:
            raise ModelFileError(error.what, error.where or where, error.remedy) from error
        raise ModelFileError("no installed LoRA format understands this file", where, "`sfumato models info` says what the file holds.")

    def upscaler(self, file: ModelFile, progress: Progress) -> Upscaler:
        """The upscaler in `file`: the first registered reader that understands it."""
        for offer in self.registered.upscalers:
            found: Upscaler | None = offer.load()(file.path, self, progress)
            if found is not None:
                return found
        raise ModelFileError("no installed upscaler format understands this file", str(file.path), "Use an ESRGAN-like safetensors file.")

    def step_extensions(self) -> list[Extension]:
        """The plugins' step hooks, as an extension of the loop."""
        before, after = self.registered.before_step, self.registered.after_step
        return [_StepHooks(before, after)] if before and after else []


class _StepHooks(Extension):
    """Calls the hooks `before_step` and `after_step`."""

    def __init__(self, before: Callable[..., Any], after: Callable[..., Any]) -> None:
        self._before, self._after = before, after

    def before_step(self, state: LoopState) -> None:
        self._before(step=state.step, total=state.steps, sigma=float(state.sigmas[state.step]), x=state.x)

    def after_step(self, state: LoopState) -> None:
        sigma = float(state.sigmas[state.step])
        self._after(step=state.step, total=state.steps, sigma=sigma, x=state.x, denoised=state.denoised)


_Offer = TypeVar("_Offer", bound=Offer)


def _named(offers: Mapping[str, _Offer], name: str, what: str) -> _Offer:
    if name in offers:
        return offers[name]
    near = difflib.get_close_matches(name, offers, 3)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(offers)}."
    raise BadValueError(f"unknown {what} {name!r}", what, hint)
