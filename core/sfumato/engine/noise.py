"""Where noise comes from: always the CPU and a private generator, so that a seed means one picture on every device.

Nothing here reads or moves torch's global generator. Draws are float32 and converted afterwards: a seed means the same
noise in every dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sfumato.errors import BadValueError

SEEDS = 2**64
DIGITS = 6
"""The Brownian path tells levels apart to so many places after the point."""


def generator(seed: int) -> torch.Generator:
    """A CPU generator that starts at `seed` (0..2^64-1) as `torch.manual_seed` would; raises BadValueError outside."""
    if not 0 <= seed < SEEDS:
        raise BadValueError(f"seed {seed} is out of range", "seed", "Use a whole number from 0 to 18446744073709551615.")
    return torch.Generator("cpu").manual_seed(seed)


def initial_noise(shape: Sequence[int], seed: int, dtype: torch.dtype = torch.float32, batch_index: Sequence[int] | None = None) -> Tensor:
    """Standard normal noise [B, ...] on the CPU, the start of a run.

    Without `batch_index` the whole batch is one draw. With it (as long as the batch) item `i` gets the noise of place
    `batch_index[i]`: places are drawn one after the other, so that a picture taken out of a batch can be made again alone.
    Both follow ComfyUI; they agree where an item's number of elements is a multiple of 16, which latents are.
    """
    source = generator(seed)
    if batch_index is None:
        return torch.randn(tuple(shape), generator=source).to(dtype)
    if len(batch_index) != shape[0] or min(batch_index, default=0) < 0:
        raise BadValueError(
            f"batch_index {list(batch_index)} does not fit a batch of {shape[0]}",
            "batch_index",
            "It needs one place, 0 or more, for each latent of the batch.",
        )
    drawn: dict[int, Tensor] = {}
    for place in range(max(batch_index, default=-1) + 1):
        draw = torch.randn((1, *shape[1:]), generator=source)
        if place in batch_index:
            drawn[place] = draw
    return torch.cat([drawn[place] for place in batch_index]).to(dtype)


def varied_noise(noise: Tensor, variation_seed: int, strength: float) -> Tensor:
    """`noise` [B, ...] turned towards the noise of another seed; `strength` 0 keeps it, 1 replaces it.

    Spherical interpolation, one angle an item (Shoemake 1985): the result keeps the norm that noise has, where a
    weighted mean would shrink it.
    """
    other = initial_noise(noise.shape, variation_seed).to(noise)
    flat, flat_other = noise.flatten(1).double(), other.flatten(1).double()
    cosine = (flat * flat_other).sum(1) / (flat.norm(dim=1) * flat_other.norm(dim=1))
    angle = cosine.clamp(-1, 1).acos().reshape(-1, *[1] * (noise.ndim - 1))
    if bool((angle < 1e-6).any()):
        return torch.lerp(noise, other, strength)
    weights = torch.sin((1 - strength) * angle) / torch.sin(angle), torch.sin(strength * angle) / torch.sin(angle)
    return (weights[0] * noise.double() + weights[1] * other.double()).to(noise)


class WhiteNoise:
    """Independent standard normal draws for the steps of a stochastic sampler.

    Its generator starts at `seed + 1`: the initial latent was drawn from `seed`, and the two must not be the same numbers.
    """

    def __init__(self, seed: int) -> None:
        self._generator = generator((seed + 1) % SEEDS)

    def __call__(self, x: Tensor) -> Tensor:
        """The next draw, of the shape, dtype and device of `x`."""
        return torch.randn(x.shape, generator=self._generator).to(x)


class BrownianNoise:
    """Increments of one Brownian path over sigma, each scaled to unit variance.

    The path is a function of the seed alone: a finer schedule reads the same path at more places, so that the picture
    of an SDE sampler converges when steps are added (Li et al. 2020, arXiv:2001.01328; torchsde's `BrownianTree`).
    """

    def __init__(self, x: Tensor, sigma_min: float, sigma_max: float, seed: int) -> None:
        import torchsde  # half a second, for the samplers that use it

        generator(seed)  # refuses a bad seed in our words
        self._like = x
        self._low, self._high = round(sigma_min, DIGITS), round(sigma_max, DIGITS)
        start = torch.zeros(x.shape, dtype=torch.float32)
        self._tree: Any = torchsde.BrownianTree(self._low, start, self._high, entropy=seed, tol=10.0**-DIGITS)

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        """The increment from `sigma` to `sigma_next` over the square root of their distance, like `x`."""
        low, high = (min(max(s, self._low), self._high) for s in sorted((sigma, sigma_next)))
        increment: Tensor = self._tree(low, high) / abs(sigma_next - sigma) ** 0.5
        return (increment if sigma < sigma_next else -increment).to(self._like)
