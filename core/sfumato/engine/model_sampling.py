"""What a noise level means to a network: the table of sigmas, the time it is told, and how its output becomes a picture.

A noisy latent is ``x = alpha(sigma) * latent + sigma * noise``. Two families exist here:

* `Discrete`: Stable Diffusion 1.x, 2.x and XL. `alpha = 1` ("variance exploding"): the network's own variable is
  ``x / sqrt(1 + sigma^2)``, and its time an index into a table of 1000 levels (Ho et al. 2020, arXiv:2006.11239).
* `Flow`: rectified flow (Liu et al. 2022, arXiv:2209.03003; Esser et al. 2024, arXiv:2403.03206). `alpha = 1 - sigma`.

In both, the probability-flow ODE is ``dx/dsigma = (x - denoised) / sigma``: a sampler that integrates it serves both.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from sfumato.errors import BadValueError

Prediction = Literal["eps", "v", "x0"]
Sigma: TypeAlias = float | Tensor
"""A noise level: a number, a 0-d tensor, or one value an item of the batch, of shape [B]."""

NOTHING_BUT_NOISE = 999999999.9
"""The level that stands for "before the first step" where the table has no upper end (ComfyUI's convention)."""

LAST_ALPHA_CUMPROD = 4.8973451890853435e-08
"""Stands for the exact zero at the end of a rescaled table, whose sigma would be infinite (ComfyUI's value: sigma 4518.7)."""


class ModelSampling(Protocol):
    """The contract of `Discrete` and `Flow`: all that samplers, schedules and the loop may ask about a model's levels."""

    is_flow: bool
    prediction: Prediction
    sigmas: Tensor
    """float32 [N], ascending, on the CPU."""

    @property
    def sigma_min(self) -> Tensor:
        """The lowest level of the table, 0-d float32."""

    @property
    def sigma_max(self) -> Tensor:
        """The highest level of the table, 0-d float32."""

    def timestep(self, sigma: Sigma) -> Tensor:
        """What the network is told for a level; the shape of `sigma`."""

    def sigma(self, timestep: Sigma) -> Tensor:
        """The level at a (fractional) time of the table; float32, the shape of `timestep`."""

    def percent_to_sigma(self, percent: float) -> float:
        """The level after the share `percent` (0..1) of the way from noise to picture."""

    def scale_input(self, x: Tensor, sigma: Sigma) -> Tensor:
        """`x` [B, ...] as the network wants to see it."""

    def denoised(self, x: Tensor, sigma: Sigma, output: Tensor) -> Tensor:
        """The picture that the network's `output` [B, ...] means, for the noisy `x` [B, ...] at `sigma`."""

    def add_noise(self, sigma: Sigma, noise: Tensor, latent: Tensor, max_denoise: bool) -> Tensor:
        """`latent` [B, ...] under `noise` [B, ...]. `max_denoise`: the run starts at the table's highest level."""

    def finish(self, sigma: Sigma, latent: Tensor) -> Tensor:
        """The inverse of `add_noise` at the level where a run stopped, with the noise left in."""

    def alpha(self, sigma: float) -> float:
        """The share of the picture in `x` at `sigma`."""

    def half_log_snr(self, sigma: float) -> float:
        """lambda = log(alpha / sigma), of a level above 0 (and, for flow, below 1)."""

    def sigma_at(self, half_log_snr: float) -> float:
        """The inverse of `half_log_snr`."""


def broadcast(sigma: Sigma, x: Tensor) -> Sigma:
    """`sigma` so that it multiplies `x` [B, ...]: [B] becomes [B, 1, ...] on the device of `x`; a scalar stays as it is."""
    if not isinstance(sigma, Tensor) or sigma.ndim == 0:
        return sigma
    return sigma.to(x.device).reshape(-1, *[1] * (x.ndim - 1))


class Discrete:
    """The levels of a network trained on a table of `alphas_cumprod` (1-D, descending, in 0..1), usually 1000 of them.

    `prediction`: "eps" the noise, "v" the velocity (Salimans & Ho 2022, arXiv:2202.00512), "x0" the picture.
    `zero_terminal_snr`: shift and scale the table so that its last level is pure noise (Lin et al. 2023, arXiv:2305.08891).

    The order of the operations in `scale_input` and `denoised` is part of the contract: with it, Euler steps in float32
    give the bits of diffusers' `EulerDiscreteScheduler` on the same sigmas and the same network.
    """

    is_flow = False

    def __init__(self, alphas_cumprod: Tensor, prediction: Prediction = "eps", *, zero_terminal_snr: bool = False) -> None:
        table = alphas_cumprod.detach().to("cpu", torch.float64)
        if table.ndim != 1 or len(table) < 2 or bool((table.diff() >= 0).any()) or not 0 <= table[-1] < table[0] < 1:
            raise BadValueError(
                f"alphas_cumprod must be one descending row of at least 2 values between 0 and 1, not {tuple(table.shape)}",
                "model sampling",
                "The checkpoint's scheduler_config.json holds betas that no network can have been trained on.",
            )
        table = _zero_terminal(table) if zero_terminal_snr else table
        exact = ((1 - table) / table) ** 0.5
        self.prediction: Prediction = prediction
        self.sigmas = exact.float()
        self._log_sigmas = exact.log().float()

    @classmethod
    def from_betas(cls, betas: Tensor, prediction: Prediction = "eps", *, zero_terminal_snr: bool = False) -> Discrete:
        """The table of the variances `betas` (1-D, ascending in time, each in 0..1) that each training step adds."""
        alphas_cumprod = torch.cumprod(1 - betas.detach().to("cpu", torch.float64), 0)
        return cls(alphas_cumprod, prediction, zero_terminal_snr=zero_terminal_snr)

    @classmethod
    def scaled_linear(
        cls,
        prediction: Prediction = "eps",
        *,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        steps: int = 1000,
        zero_terminal_snr: bool = False,
    ) -> Discrete:
        """The table of Stable Diffusion: the square roots of the betas are evenly spaced."""
        betas = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64) ** 2
        return cls.from_betas(betas, prediction, zero_terminal_snr=zero_terminal_snr)

    @property
    def sigma_min(self) -> Tensor:
        """The lowest level of the table, 0-d float32 (0.0292 for Stable Diffusion)."""
        return self.sigmas[0]

    @property
    def sigma_max(self) -> Tensor:
        """The highest level of the table, 0-d float32 (14.6146 for Stable Diffusion)."""
        return self.sigmas[-1]

    def timestep(self, sigma: Sigma) -> Tensor:
        """The index of the nearest level in log sigma, int64 of the shape of `sigma`; level 0 gives index 0."""
        level = torch.as_tensor(sigma)
        distance = level.float().log().reshape(-1, 1) - self._log_sigmas.to(level.device)
        return distance.abs().argmin(1).reshape(level.shape)

    def sigma(self, timestep: Sigma) -> Tensor:
        """The level at a (fractional) index, linear in log sigma between two entries; beyond the ends, the ends."""
        time = torch.as_tensor(timestep).float().clamp(0, len(self.sigmas) - 1)
        table, low, part = self._log_sigmas.to(time.device), time.floor().long(), time.frac()
        return ((1 - part) * table[low] + part * table[time.ceil().long()]).exp()

    def percent_to_sigma(self, percent: float) -> float:
        """The level at `1 - percent` of the table; at or below 0 a level above all, at or above 1 exactly 0."""
        if percent <= 0:
            return NOTHING_BUT_NOISE
        return 0.0 if percent >= 1 else float(self.sigma((1 - percent) * (len(self.sigmas) - 1)))

    def scale_input(self, x: Tensor, sigma: Sigma) -> Tensor:
        """``x / sqrt(sigma^2 + 1)``: unit variance at every level, for latents of unit variance."""
        sigma = broadcast(sigma, x)
        return x / ((sigma**2 + 1) ** 0.5)

    def denoised(self, x: Tensor, sigma: Sigma, output: Tensor) -> Tensor:
        """The picture: ``x - sigma eps``, or ``x / (sigma^2 + 1) - v sigma / sqrt(sigma^2 + 1)``, or the output itself."""
        sigma = broadcast(sigma, x)
        if self.prediction == "eps":
            return x - sigma * output
        if self.prediction == "v":
            return output * (-sigma / (sigma**2 + 1) ** 0.5) + x / (sigma**2 + 1)
        return output

    def add_noise(self, sigma: Sigma, noise: Tensor, latent: Tensor, max_denoise: bool) -> Tensor:
        """``latent + sigma noise``, at the highest level ``latent + sqrt(1 + sigma^2) noise`` as the network was trained."""
        sigma = broadcast(sigma, noise)
        scale = (sigma**2 + 1) ** 0.5 if max_denoise else sigma
        return noise * scale + latent

    def finish(self, sigma: Sigma, latent: Tensor) -> Tensor:
        """The latent itself: with alpha = 1 the noise left in needs no scaling."""
        return latent

    def alpha(self, sigma: float) -> float:
        """1 at every level."""
        return 1.0

    def half_log_snr(self, sigma: float) -> float:
        """``-log(sigma)``, of a level above 0."""
        return -math.log(sigma)

    def sigma_at(self, half_log_snr: float) -> float:
        """``exp(-lambda)``."""
        return math.exp(-half_log_snr)


class Flow:
    """The levels of a rectified flow: sigma in (0, 1], moved towards noise by ``shift s: s t / (1 + (s - 1) t)``.

    `multiplier`: the network's time is sigma times this (1000 for SD3, 1 for Flux). `steps`: entries of the table (1000;
    Flux 10000). Flux gives its shift as a logarithm mu: pass `math.exp(mu)`.
    """

    is_flow = True
    prediction: Prediction = "v"

    def __init__(self, shift: float = 1.0, *, multiplier: float = 1000.0, steps: int = 1000) -> None:
        if not (0 < shift < math.inf and 0 < multiplier < math.inf and steps >= 2):
            raise BadValueError(
                f"shift {shift}, multiplier {multiplier} and table length {steps} do not make a flow",
                "model sampling",
                "Shift and multiplier are positive numbers; the table has at least 2 entries.",
            )
        self.shift, self.multiplier = shift, multiplier
        self.sigmas = self.sigma(torch.arange(1, steps + 1, dtype=torch.float32) / steps * multiplier)

    @property
    def sigma_min(self) -> Tensor:
        """The lowest level of the table, 0-d float32."""
        return self.sigmas[0]

    @property
    def sigma_max(self) -> Tensor:
        """1: pure noise; 0-d float32."""
        return self.sigmas[-1]

    def timestep(self, sigma: Sigma) -> Tensor:
        """``sigma * multiplier``. Not the inverse of `sigma()` unless the shift is 1: the network sees the shifted level."""
        return torch.as_tensor(sigma) * self.multiplier

    def sigma(self, timestep: Sigma) -> Tensor:
        """The shifted level at a time in 0..multiplier, float32."""
        time = torch.as_tensor(timestep).float() / self.multiplier
        return time if self.shift == 1 else self.shift * time / (1 + (self.shift - 1) * time)

    def percent_to_sigma(self, percent: float) -> float:
        """The shifted level at `1 - percent`; 1 at or below 0, 0 at or above 1."""
        time = 1 - min(max(percent, 0.0), 1.0)
        return self.shift * time / (1 + (self.shift - 1) * time)

    def scale_input(self, x: Tensor, sigma: Sigma) -> Tensor:
        """`x` itself: a flow has unit variance at both ends."""
        return x

    def denoised(self, x: Tensor, sigma: Sigma, output: Tensor) -> Tensor:
        """``x - sigma v``, where the network predicts the velocity v = noise - picture."""
        return x - broadcast(sigma, x) * output

    def add_noise(self, sigma: Sigma, noise: Tensor, latent: Tensor, max_denoise: bool) -> Tensor:
        """``sigma noise + (1 - sigma) latent``."""
        sigma = broadcast(sigma, noise)
        return noise * sigma + (1 - sigma) * latent

    def finish(self, sigma: Sigma, latent: Tensor) -> Tensor:
        """``latent / (1 - sigma)``, so that `add_noise` without noise at `sigma` gives it back; at sigma 1 nothing can."""
        share = 1 - torch.as_tensor(broadcast(sigma, latent))
        return latent / torch.where(share > 0, share, 1)

    def alpha(self, sigma: float) -> float:
        """``1 - sigma``."""
        return 1.0 - sigma

    def half_log_snr(self, sigma: float) -> float:
        """``log((1 - sigma) / sigma)``, of a level strictly between 0 and 1."""
        return math.log1p(-sigma) - math.log(sigma)

    def sigma_at(self, half_log_snr: float) -> float:
        """The logistic function of -lambda."""
        return 1 / (1 + math.exp(half_log_snr))


def _zero_terminal(alphas_cumprod: Tensor) -> Tensor:
    """The table with sqrt(alphas_cumprod) moved and stretched: first entry kept, last one 0 but for `LAST_ALPHA_CUMPROD`."""
    root = alphas_cumprod.sqrt()
    rescaled = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    rescaled[-1] = LAST_ALPHA_CUMPROD
    return rescaled
