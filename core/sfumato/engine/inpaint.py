"""Painting inside a mask, as extensions of the loop: what lies outside is put back around every call of the model.

`MaskedDenoise` keeps the outside at its own noise level before the model looks, and at its own clean value afterwards; `keep`
takes away what rounding has left there, so that the kept area is exact. A soft mask mixes. `DifferentialMask` makes the mask a
schedule: each place joins in at the step its strength names (Levin & Fried 2023, arXiv:2306.00950).
"""

from __future__ import annotations

import torch
from torch.nn import functional

from sfumato.engine.loop import Extension, LoopState


def latent_mask(mask: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
    """A MASK ([H,W], [B,H,W] or [B,1,H,W]; 1 = paint) at the size of `latent` [B,C,h,w]: float32 [B,1,h,w]."""
    flat = mask.to(latent.device, torch.float32).reshape(-1, 1, *mask.shape[-2:])
    small = functional.interpolate(flat, size=tuple(latent.shape[-2:]), mode="bilinear", align_corners=False)
    times = -(-latent.shape[0] // small.shape[0])
    return small.repeat(times, 1, 1, 1)[: latent.shape[0]].clamp(0, 1)


def keep(result: torch.Tensor, before: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """`result` [B,C,h,w] with the very numbers of `before` where `mask` [B,1,h,w] is 0."""
    return result if mask is None else torch.where(mask == 0, before.to(result), result)


class MaskedDenoise(Extension):
    """Denoises where the mask is 1, keeps the latent where it is 0. `mask` [B,1,h,w] float32."""

    def __init__(self, mask: torch.Tensor) -> None:
        self.mask = mask

    def now(self, state: LoopState, sigma: torch.Tensor) -> torch.Tensor:
        """The mask in force at `sigma`."""
        return self.mask

    def before_model(self, state: LoopState, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        mask = self.now(state, sigma)
        outside = state.sampling.add_noise(sigma, state.noise, state.latent, False)
        return x * mask + outside * (1.0 - mask)

    def after_model(self, state: LoopState, denoised: torch.Tensor, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        mask = self.now(state, sigma)
        return denoised * mask + state.latent * (1.0 - mask)


class DifferentialMask(MaskedDenoise):
    """A mask whose grey tones say when a place joins in: value v joins after the part 1 - v of the way.

    `strength` mixes between the hard steps (1) and the plain soft mask (0).
    """

    def __init__(self, mask: torch.Tensor, strength: float = 1.0) -> None:
        super().__init__(mask)
        self.strength = strength

    def now(self, state: LoopState, sigma: torch.Tensor) -> torch.Tensor:
        time = state.sampling.timestep(sigma).float()
        start = state.sampling.timestep(state.sigmas[0]).float()
        end = state.sampling.timestep(state.sigmas[-1]).float() if float(state.sigmas[-1]) > 0 else torch.zeros(())
        threshold = ((time - end) / (start - end).clamp(min=1e-6)).to(self.mask)
        # What is not to change at all joins in never, not even in the last step, whose threshold may be 0.
        hard = ((self.mask >= threshold) & (self.mask > 0)).to(self.mask)
        return hard if self.strength >= 1.0 else self.strength * hard + (1.0 - self.strength) * self.mask
