"""What flows through MODEL, CLIP, VAE and CONTROL_NET sockets: handles that name weights and carry patches, copy-on-write.

A node that changes a model returns `replace(handle, ...)`; the weights themselves are shared and never touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from sfumato.engine.patches import Patch
from sfumato.engine.residency import Weights

if TYPE_CHECKING:
    from sfumato.engine.loop import Extension
    from sfumato.engine.model_sampling import ModelSampling
    from sfumato.engine.protocols import AfterGuidance, Combine, LatentCodec, Network, TextEncoder
    from sfumato.models import ModelFile


@dataclass(frozen=True)
class LatentFormat:
    """How latents of a family are laid out. The network works on `samples * scale`; LATENT values hold `samples`."""

    channels: int = 4
    downscale: int = 8
    scale: float = 0.18215
    rgb: tuple[tuple[float, float, float], ...] = (
        (0.298, 0.207, 0.208),
        (0.187, 0.286, 0.173),
        (-0.158, 0.189, 0.264),
        (-0.184, -0.271, -0.473),
    )
    """One row a channel: a linear guess at the colour (-1..1) of a scaled latent pixel, for previews."""

    def into_model(self, samples: torch.Tensor) -> torch.Tensor:
        return samples * self.scale

    def out_of_model(self, x: torch.Tensor) -> torch.Tensor:
        return x / self.scale


@dataclass(frozen=True)
class ModelHandle:
    """MODEL: a denoising network of some family."""

    name: str
    family: str
    network: Network
    weights: Weights
    sampling: ModelSampling
    latent: LatentFormat
    dtype: torch.dtype
    file: ModelFile | None = None
    """Where it came from, for what a picture carries."""
    patches: tuple[Patch, ...] = ()
    combine: Combine | None = None
    after_guidance: tuple[AfterGuidance, ...] = ()
    extensions: tuple[Callable[[], Extension], ...] = ()
    masking: Callable[[torch.Tensor], Extension] | None = None
    """Makes the extension that paints inside a mask [B,1,h,w]; None: `MaskedDenoise`."""

    def patched(self, *patches: Patch) -> ModelHandle:
        """The same model with more weight patches on top."""
        return replace(self, patches=self.patches + patches)


@dataclass(frozen=True)
class ClipHandle:
    """CLIP: a text encoder (or several) with its tokenizer."""

    name: str
    encoder: TextEncoder
    weights: Weights
    patches: tuple[Patch, ...] = ()
    skip: int = 0
    """How many of the last layers are left out: 0 or 1 none, 2 the last one (ComfyUI's `stop_at_clip_layer` -2)."""

    def patched(self, *patches: Patch) -> ClipHandle:
        return replace(self, patches=self.patches + patches)


@dataclass(frozen=True)
class VaeHandle:
    """VAE: turns pictures into latents and back."""

    name: str
    codec: LatentCodec
    weights: Weights
    dtype: torch.dtype


@dataclass(frozen=True)
class ControlHandle:
    """CONTROL_NET: a network that steers another by a picture."""

    name: str
    unit: Any
    weights: Weights
    dtype: torch.dtype
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Control:
    """A control net at work on an entry of the conditioning. `hint` is float32 [B,3,H,W], 0..1."""

    handle: ControlHandle
    hint: torch.Tensor
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    previous: Control | None = None

    def chain(self) -> list[Control]:
        """This and the controls applied before it, first one first."""
        before = self.previous.chain() if self.previous else []
        return [*before, self]
