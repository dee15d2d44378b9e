"""One run of a model: from handles, conditioning and a LATENT to the denoised LATENT.

Everything that NOISE, GUIDER and SAMPLER sockets carry is defined here, and `sample`, which all sampling nodes call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch

from sfumato.engine import loop
from sfumato.engine.cancel import cancellable
from sfumato.engine.conditioning import Entry, prepare
from sfumato.engine.guidance import Counters, Predictor
from sfumato.engine.handles import Control, ModelHandle
from sfumato.engine.inpaint import MaskedDenoise, latent_mask
from sfumato.engine.noise import initial_noise
from sfumato.engine.patches import applied
from sfumato.errors import BadValueError
from sfumato.progress import Progress

if TYPE_CHECKING:
    from sfumato.engine.services import Services


class NoiseSource(Protocol):
    """NOISE: where the initial noise comes from."""

    @property
    def seed(self) -> int: ...

    def generate(self, latent: Mapping[str, Any]) -> torch.Tensor:
        """Noise of the shape of `latent["samples"]`, float32 on the CPU."""


@dataclass(frozen=True)
class RandomNoise:
    """Normal noise from a seed."""

    seed: int

    def generate(self, latent: Mapping[str, Any]) -> torch.Tensor:
        samples = latent["samples"]
        return initial_noise(tuple(samples.shape), self.seed, torch.float32, latent.get("batch_index"))


@dataclass(frozen=True)
class NoNoise:
    """No noise: the latent carries its own (a later part of a split run). `seed` still drives stochastic samplers."""

    seed: int = 0

    def generate(self, latent: Mapping[str, Any]) -> torch.Tensor:
        return torch.zeros(latent["samples"].shape, dtype=torch.float32)


@dataclass(frozen=True)
class SamplerChoice:
    """SAMPLER: a sampler and its options."""

    name: str
    function: Any
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, denoise: Any, x: torch.Tensor, sigmas: torch.Tensor, ctx: Any) -> torch.Tensor:
        result: torch.Tensor = self.function(denoise, x, sigmas, ctx, **self.options)
        return result


@dataclass(frozen=True)
class GuiderChoice:
    """GUIDER: a model with what steers it. Without `negative` there is no classifier-free guidance."""

    model: ModelHandle
    positive: list[Any]
    negative: list[Any] | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class Sampled:
    """The end of a run: LATENT `samples` [B,C,h,w] (unscaled, CPU), the last clean estimate, and what it took."""

    samples: torch.Tensor
    denoised: torch.Tensor
    calls: Counters


def sample(
    services: Services,
    guider: GuiderChoice,
    noise: NoiseSource,
    sampler: SamplerChoice,
    sigmas: torch.Tensor,
    latent: Mapping[str, Any],
    progress: Progress,
) -> Sampled:
    """Run `sampler` along `sigmas` on `latent` (LATENT). Raises BadValueError on a latent that does not fit the model."""
    model = guider.model
    samples = _fitting(latent["samples"], model)
    if len(sigmas) < 2:
        return Sampled(samples, samples, Counters())
    device = services.residency.device.device
    start = model.latent.into_model(samples.to(device, torch.float32))
    drawn = noise.generate({**latent, "samples": samples}).to(device, torch.float32)
    state = loop.LoopState(model.sampling, sigmas.to(device, torch.float32), drawn, start, noise.seed)
    counters = Counters()
    with ExitStack() as stack:
        positive = _prepared(guider.positive, model, start)
        negative = _prepared(guider.negative, model, start) if guider.negative is not None else []
        (module,) = stack.enter_context(services.residency.use(model.weights, progress=progress))
        stack.enter_context(applied(services.residency, model.weights, module, model.patches, progress))
        stack.enter_context(cancellable(model.network.blocks(module), progress))
        controls = _controls(services, stack, [*positive, *negative], progress)
        predict = Predictor(model, module, positive, negative, guider.scale, controls, counters)
        extensions = _extensions(services, model, latent, start, progress)
        with torch.inference_mode():
            result = loop.run(predict, sampler, state, extensions, progress, max_denoise=_is_full(model, sigmas))
    denoised = state.denoised if state.denoised is not None else result
    return Sampled(_out(model, result), _out(model, denoised), counters)


def _out(model: ModelHandle, x: torch.Tensor) -> torch.Tensor:
    # A clone made outside inference mode is an ordinary tensor: nodes of strangers may do what they like with it.
    return model.latent.out_of_model(x).to("cpu").clone()


def _is_full(model: ModelHandle, sigmas: torch.Tensor) -> bool:
    """Whether the run starts from the model's highest noise level (within rounding)."""
    top, first = float(model.sampling.sigma_max), float(sigmas[0])
    return first > top or abs(first - top) <= 1e-5 * top


def _fitting(samples: torch.Tensor, model: ModelHandle) -> torch.Tensor:
    """The samples, with the channels that the model has; an empty latent may have any number of them."""
    channels = model.latent.channels
    if samples.dim() != 4:
        raise BadValueError(f"a latent of shape {list(samples.shape)} is not [batch, channels, height, width]", "latent_image")
    if samples.shape[1] == channels:
        return samples
    if bool((samples == 0).all()):
        return torch.zeros(samples.shape[0], channels, *samples.shape[2:])
    raise BadValueError(
        f"the latent has {samples.shape[1]} channels, the model {model.name!r} works on {channels}",
        "latent_image",
        "Encode the picture with the VAE that belongs to this model.",
    )


def _prepared(conditioning: list[Any], model: ModelHandle, start: torch.Tensor) -> list[Entry]:
    return prepare(conditioning, model.sampling, start, model.latent, model.network.in_channels, model.dtype)


def _controls(services: Services, stack: ExitStack, entries: Sequence[Entry], progress: Progress) -> dict[int, Any]:
    """Every control net of the entries in use, by `id` of its weights."""
    found: dict[int, Control] = {}
    for entry in entries:
        for control in entry.control.chain() if entry.control else []:
            found.setdefault(id(control.handle.weights), control)
    modules = {}
    for key, control in found.items():
        (module,) = stack.enter_context(services.residency.use(control.handle.weights, progress=progress))
        stack.enter_context(cancellable(control.handle.unit.blocks(module), progress))
        modules[key] = module
    return modules


def _extensions(
    services: Services, model: ModelHandle, latent: Mapping[str, Any], start: torch.Tensor, progress: Progress
) -> list[loop.Extension]:
    extensions: list[loop.Extension] = [make() for make in model.extensions]
    if latent.get("noise_mask") is not None:
        extensions.append((model.masking or MaskedDenoise)(latent_mask(latent["noise_mask"], start)))
    extensions.extend(services.step_extensions())
    extensions.append(loop.Reporter(progress, model.latent))
    return extensions
