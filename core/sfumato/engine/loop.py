"""The denoise loop: one documented state, and named points where extensions change what happens.

::

    before_loop                       once, the state is complete
      before_step                     each step, before the sampler works
        before_model -> x             each call of the model (a sampler may call it twice a step)
        after_model -> denoised
      after_step                      the step's x and denoised are in the state
    after_loop                        once, also when the run was cancelled or failed

Inpainting, differential diffusion, previews, cancel and plugins' step hooks are all extensions of it; the samplers stay
pages of mathematics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from sfumato.engine.handles import LatentFormat
from sfumato.engine.model_sampling import ModelSampling
from sfumato.engine.noise import BrownianNoise, WhiteNoise
from sfumato.progress import Progress


@dataclass
class LoopState:
    """All that a run knows. Tensors are float32 on the run's device unless said otherwise; latents are scaled."""

    sampling: ModelSampling
    sigmas: torch.Tensor
    """[n+1], descending; constant during the run."""
    noise: torch.Tensor
    """[B,C,h,w], the initial noise; constant. Zeros if none was added."""
    latent: torch.Tensor
    """[B,C,h,w], what the run started from; constant."""
    seed: int
    step: int = 0
    """The step now at work, 0..n-1."""
    x: torch.Tensor | None = None
    """[B,C,h,w], the noisy latent after the last finished step."""
    denoised: torch.Tensor | None = None
    """[B,C,h,w], the last estimate of the clean latent."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Room for extensions to talk to each other; keys are named after the extension."""

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1


class Extension:
    """Does nothing at every point of the loop; override the points you need. State of its own lives for one run."""

    def before_loop(self, state: LoopState) -> None: ...

    def before_step(self, state: LoopState) -> None: ...

    def before_model(self, state: LoopState, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return x

    def after_model(self, state: LoopState, denoised: torch.Tensor, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return denoised

    def after_step(self, state: LoopState) -> None: ...

    def after_loop(self, state: LoopState) -> None: ...


class Predict(Protocol):
    """Gives the clean latent for a noisy one."""

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor: ...


class Denoise(Protocol):
    """A sampler with its options filled in, as `SAMPLERS` holds them."""

    def __call__(self, denoise: Predict, x: torch.Tensor, sigmas: torch.Tensor, ctx: Any) -> torch.Tensor: ...


class LoopContext:
    """What a sampler sees of the loop: steps, reports, noise and the meaning of sigmas (its `SamplerContext`)."""

    def __init__(self, state: LoopState, extensions: Sequence[Extension], progress: Progress) -> None:
        self._state, self._extensions, self._progress = state, extensions, progress
        self._white = WhiteNoise(state.seed)
        self._brownian: BrownianNoise | None = None
        self.sampling = state.sampling

    def steps(self, sigmas: torch.Tensor) -> Iterator[int]:
        """The steps' numbers; looks for a cancel before each."""
        for step in range(len(sigmas) - 1):
            self._progress.check()
            self._state.step = step
            for extension in self._extensions:
                extension.before_step(self._state)
            yield step

    def done(self, step: int, x: torch.Tensor, denoised: torch.Tensor) -> None:
        """A step has ended with `x` and the estimate `denoised`."""
        state = self._state
        state.step, state.x, state.denoised = step, x, denoised
        for extension in self._extensions:
            extension.after_step(state)

    def white_noise(self, x: torch.Tensor) -> torch.Tensor:
        """Independent normal noise like `x`, drawn on the CPU from the seed."""
        return self._white(x)

    def brownian(self, sigma: float, sigma_next: float) -> torch.Tensor:
        """The increment of a Brownian path between two sigmas, scaled to unit variance."""
        if self._brownian is None:
            positive = self._state.sigmas[self._state.sigmas > 0]
            low, high = float(positive.min()), float(self._state.sigmas.max())
            self._brownian = BrownianNoise(self._state.noise, low, high, self._state.seed)
        return self._brownian(sigma, sigma_next)


def run(
    predict: Predict,
    sampler: Denoise,
    state: LoopState,
    extensions: Sequence[Extension],
    progress: Progress,
    *,
    max_denoise: bool,
) -> torch.Tensor:
    """Denoise from the state's latent and noise along its sigmas; the result is scaled, [B,C,h,w] float32."""
    if state.steps < 1:
        return state.latent

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        for extension in extensions:
            x = extension.before_model(state, x, sigma)
        denoised = predict(x, sigma)
        for extension in extensions:
            denoised = extension.after_model(state, denoised, x, sigma)
        return denoised

    state.x = state.sampling.add_noise(state.sigmas[0], state.noise, state.latent, max_denoise)
    try:
        for extension in extensions:
            extension.before_loop(state)
        x = sampler(denoise, state.x, state.sigmas, LoopContext(state, extensions, progress))
    finally:
        for extension in extensions:
            extension.after_loop(state)
    return state.sampling.finish(state.sigmas[-1], x)


class Reporter(Extension):
    """Tells the progress of a run, with a small preview made only when somebody looks at it."""

    def __init__(self, progress: Progress, latent: LatentFormat) -> None:
        self._progress, self._latent = progress, latent

    def before_loop(self, state: LoopState) -> None:
        self._progress.step("sampling", 0, state.steps)

    def after_step(self, state: LoopState) -> None:
        denoised = state.denoised
        preview = None if denoised is None else lambda: latent_to_rgb(denoised, self._latent)
        self._progress.step("sampling", state.step + 1, state.steps, preview)


def latent_to_rgb(latent: torch.Tensor, latent_format: LatentFormat) -> torch.Tensor:
    """A guess at the picture, uint8 [B,h,w,3] on the CPU, from a scaled latent [B,C,h,w]: one matrix, no network."""
    factors = torch.tensor(latent_format.rgb, dtype=torch.float32, device=latent.device)
    rgb = torch.einsum("bchw,cr->bhwr", latent.float(), factors)
    return ((rgb + 1) * 127.5).clamp(0, 255).to("cpu", torch.uint8)
