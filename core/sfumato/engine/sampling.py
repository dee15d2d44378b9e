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
from sfumato.engine.conditioning import Entry, prepare, steered_alike
from sfumato.engine.guidance import Counters, Predictor
from sfumato.engine.handles import Control, ModelHandle
from sfumato.engine.inpaint import MaskedDenoise, keep, latent_mask
from sfumato.engine.ladder import FULL, UNLOADED_OTHERS, climb
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


LEFTOVER = "leftover"
"""Key of a LATENT that still holds noise: the same as `samples`, in the model's own scale. Scaling there and back rounds, and
a run in parts would not be the whole run to the bit. It counts only as long as it agrees with `samples`."""


@dataclass(frozen=True)
class Sampled:
    """The end of a run: LATENT `samples` [B,C,h,w] (unscaled, CPU), the last clean estimate, and what it took."""

    samples: torch.Tensor
    denoised: torch.Tensor
    calls: Counters
    leftover: torch.Tensor | None = None
    """`samples` in the model's scale, if noise is left in them."""

    def into(self, latent: Mapping[str, Any]) -> dict[str, Any]:
        """The LATENT that the run started from, with what came out."""
        more = {} if self.leftover is None else {LEFTOVER: self.leftover}
        return {**_without_leftover(latent), "samples": self.samples, **more}

    def denoised_into(self, latent: Mapping[str, Any]) -> dict[str, Any]:
        """The LATENT that the run started from, with the last clean estimate."""
        return {**_without_leftover(latent), "samples": self.denoised}


def _without_leftover(latent: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in latent.items() if key != LEFTOVER}


def sample(
    services: Services,
    guider: GuiderChoice,
    noise: NoiseSource,
    sampler: SamplerChoice,
    sigmas: torch.Tensor,
    latent: Mapping[str, Any],
    progress: Progress,
) -> Sampled:
    """Run `sampler` along `sigmas` on `latent` (LATENT).

    When memory runs out, it is tried once more with all other weights unloaded. Raises BadValueError on a latent that does not
    fit the model, MemoryExhaustedError if even that does not suffice.
    """
    samples = _fitting(latent["samples"], guider.model)
    if len(sigmas) < 2:
        return Sampled(samples, samples, Counters())

    def work() -> Sampled:
        return _run(services, guider, noise, sampler, sigmas, {**latent, "samples": samples}, progress)

    def work_alone() -> Sampled:
        services.residency.unload()
        return work()

    batch, size = samples.shape[0], f"{samples.shape[3]}x{samples.shape[2]}"
    remedy = "Make fewer or smaller pictures at a time, or close other programs."
    return climb(services, [(FULL, work), (UNLOADED_OTHERS, work_alone)], f"to denoise {batch} latents of {size}", remedy)


def _run(
    services: Services,
    guider: GuiderChoice,
    noise: NoiseSource,
    sampler: SamplerChoice,
    sigmas: torch.Tensor,
    latent: Mapping[str, Any],
    progress: Progress,
) -> Sampled:
    model, samples = guider.model, latent["samples"]
    device = services.residency.device.device
    start = _scaled(latent, model).to(device, torch.float32)
    mask = latent_mask(latent["noise_mask"], start) if latent.get("noise_mask") is not None else None
    drawn = noise.generate(latent).to(device, torch.float32)
    state = loop.LoopState(model.sampling, sigmas.to(device, torch.float32), drawn, start, noise.seed)
    counters = Counters()
    with ExitStack() as stack:
        positive = _prepared(guider.positive, model, start)
        against = steered_alike(guider.positive, guider.negative or [])
        negative = _prepared(against, model, start)
        (module,) = stack.enter_context(services.residency.use(model.weights, progress=progress))
        stack.enter_context(applied(services.residency, model.weights, module, model.patches, progress))
        stack.enter_context(cancellable(model.network.blocks(module), progress))
        controls = _controls(services, stack, [*positive, *negative], progress)
        predict = Predictor(model, module, positive, negative, guider.scale, controls, counters)
        extensions = _extensions(services, model, mask, progress)
        with torch.inference_mode():
            result = loop.run(predict, sampler, state, extensions, progress, max_denoise=_is_full(model, sigmas))
    denoised = _out(model, state.denoised if state.denoised is not None else result)
    before, kept = samples.float(), None if mask is None else mask.cpu()
    if float(sigmas[-1]) > 0:
        return Sampled(_out(model, result), keep(denoised, before, kept), counters, result.to("cpu").clone())
    return Sampled(keep(_out(model, result), before, kept), keep(denoised, before, kept), counters)


def _scaled(latent: Mapping[str, Any], model: ModelHandle) -> torch.Tensor:
    """The latent in the model's scale, to the bit as the run before left it if nothing has changed it since."""
    samples: torch.Tensor = latent["samples"]
    leftover: torch.Tensor | None = latent.get(LEFTOVER)
    if leftover is not None and leftover.shape == samples.shape and torch.equal(model.latent.out_of_model(leftover), samples):
        return leftover
    return model.latent.into_model(samples.float())


def _out(model: ModelHandle, x: torch.Tensor) -> torch.Tensor:
    # A clone made outside inference mode is an ordinary tensor: nodes of strangers may do what they like with it.
    return model.latent.out_of_model(x.to("cpu")).clone()


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


def _extensions(services: Services, model: ModelHandle, mask: torch.Tensor | None, progress: Progress) -> list[loop.Extension]:
    extensions: list[loop.Extension] = [make() for make in model.extensions]
    if mask is not None:
        extensions.append((model.masking or MaskedDenoise)(mask))
    extensions.extend(services.step_extensions())
    extensions.append(loop.Reporter(progress, model.latent))
    return extensions
