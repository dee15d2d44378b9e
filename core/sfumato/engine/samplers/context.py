"""What a sampler is given besides the picture: the order of steps, noise, and the meaning of a noise level."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Protocol

from torch import Tensor

from sfumato.engine.model_sampling import Discrete, ModelSampling
from sfumato.engine.noise import BrownianNoise, WhiteNoise


class Denoise(Protocol):
    """The model as a sampler sees it: the picture it expects behind a noisy one."""

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        """`x` float [B, ...], `sigma` a 0-d tensor or [B]; gives the denoised picture, shape and dtype of `x`."""


class SamplerContext(Protocol):
    """The loop around a sampler. One context serves one run."""

    @property
    def sampling(self) -> ModelSampling:
        """The levels of the model."""

    def steps(self, sigmas: Tensor) -> Iterator[int]:
        """The numbers 0..n-1 of the steps between n+1 `sigmas`; may raise CancelledError between two of them."""

    def done(self, i: int, x: Tensor, denoised: Tensor) -> None:
        """Step `i` has ended at `x`; `denoised` is the model's last picture in it."""

    def white_noise(self, x: Tensor) -> Tensor:
        """A new standard normal draw, like `x`."""

    def brownian(self, sigma: float, sigma_next: float) -> Tensor:
        """The increment of the run's Brownian path between two levels, scaled to unit variance, like the run's `x`."""


class SimpleContext:
    """A context that counts steps and draws noise, and reports to nobody."""

    def __init__(self, seed: int, x: Tensor, sigmas: Tensor, sampling: ModelSampling | None = None) -> None:
        """`x` gives the shape of the noise, `sigmas` the range of the Brownian path; without `sampling`, Stable Diffusion's."""
        self.seed, self.sampling = seed, sampling if sampling is not None else Discrete.scaled_linear()
        self._like, self._sigmas = x, sigmas

    def steps(self, sigmas: Tensor) -> Iterator[int]:
        """0..n-1."""
        return iter(range(len(sigmas) - 1))

    def done(self, i: int, x: Tensor, denoised: Tensor) -> None:
        """Nothing is told to anybody."""

    def white_noise(self, x: Tensor) -> Tensor:
        """The next draw of `WhiteNoise(seed)`."""
        return self._white(x)

    def brownian(self, sigma: float, sigma_next: float) -> Tensor:
        """An increment of `BrownianNoise(seed)` over the run's positive levels."""
        return self._brownian(sigma, sigma_next)

    @cached_property
    def _white(self) -> WhiteNoise:
        return WhiteNoise(self.seed)

    @cached_property
    def _brownian(self) -> BrownianNoise:
        positive = self._sigmas[self._sigmas > 0]
        return BrownianNoise(self._like, float(positive.min()), float(positive.max()), self.seed)
