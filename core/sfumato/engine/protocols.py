"""What a model family must give: denoiser, text encoder, latent codec, control unit, upscaler.

An adapter holds no weights: it is handed the network (already on its device) at each call, so that one residency can own
every weight of every family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

if TYPE_CHECKING:
    from sfumato.engine.handles import ClipHandle, ControlHandle, ModelHandle, VaeHandle
    from sfumato.engine.residency import Weights
    from sfumato.engine.services import Services
    from sfumato.models import ModelFile
    from sfumato.progress import Progress


@dataclass(frozen=True)
class Residuals:
    """What control nets add inside a network: one tensor for each skip connection, and one for the middle."""

    down: tuple[torch.Tensor, ...]
    middle: torch.Tensor

    def plus(self, other: Residuals) -> Residuals:
        return Residuals(tuple(a + b for a, b in zip(self.down, other.down, strict=True)), self.middle + other.middle)


@dataclass(frozen=True)
class Call:
    """One call of a network.

    `x` [N,C,h,w] is already scaled, in the network's dtype; `timestep` [] or [N]; `context` [N,T,D] text; `extra` holds what a
    family wants besides (pooled text, size ids), as prepared by its `extra_of`.
    """

    x: torch.Tensor
    timestep: torch.Tensor
    context: torch.Tensor
    extra: Mapping[str, Any]
    residuals: Residuals | None = None


class Network(Protocol):
    """The thin adapter of a family's denoising network."""

    in_channels: int
    """Channels the network takes; more than the latent's means that a mask and a masked picture go in too."""

    def __call__(self, module: nn.Module, call: Call) -> torch.Tensor:
        """The raw output [N,C,h,w] (epsilon, v or flow; `ModelSampling.denoised` gives it a meaning)."""

    def blocks(self, module: nn.Module) -> Sequence[nn.Module]:
        """The blocks before each of which a cancel is looked for."""

    def without_self_attention(self, module: nn.Module) -> AbstractContextManager[None]:
        """While it lasts, self-attention in the middle is the identity (perturbed-attention guidance)."""

    def without_layers(self, module: nn.Module, layers: Sequence[int]) -> AbstractContextManager[None]:
        """While it lasts, the numbered transformer blocks pass their input on (skip-layer guidance)."""


class TextEncoder(Protocol):
    """The adapter of a family's text side."""

    def encode(self, module: nn.Module, text: str, *, skip: int, dialect: str, embedding: Callable[[str], Any]) -> list[Any]:
        """CONDITIONING: a list of [tensor [1,T,D] float32, {"pooled_output": ...}]."""

    def count(self, text: str) -> int:
        """How many tokens `text` takes."""


class LatentCodec(Protocol):
    """The adapter of an autoencoder."""

    downscale: int
    channels: int

    def encode(self, module: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
        """pixels [B,3,H,W] in -1..1 -> latents [B,c,h,w] (unscaled)."""

    def decode(self, module: nn.Module, latents: torch.Tensor) -> torch.Tensor:
        """latents [B,c,h,w] (unscaled) -> pixels [B,3,H,W], about -1..1."""

    def blocks(self, module: nn.Module) -> Sequence[nn.Module]:
        """The blocks before each of which a cancel is looked for."""


class ControlUnit(Protocol):
    """The adapter of a control net."""

    def __call__(self, module: nn.Module, call: Call, hint: torch.Tensor, strength: float) -> Residuals:
        """`hint` [N,3,H,W] in 0..1 at the picture's size."""

    def blocks(self, module: nn.Module) -> Sequence[nn.Module]: ...


class Upscaler(Protocol):
    """UPSCALE_MODEL: a network that enlarges pictures by a whole factor (1 for one that only cleans them)."""

    @property
    def name(self) -> str: ...

    @property
    def scale(self) -> int: ...

    @property
    def weights(self) -> Weights:
        """Of the network that each call is handed."""

    @property
    def cuts_itself(self) -> bool:
        """Whether the network wants the whole picture, because it cuts it up itself or looks at all of it at once."""

    def __call__(self, module: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
        """`pixels` [1,3,h,w] float32, 0..1, on the network's device -> [1,3,h*scale,w*scale], about 0..1; a tile at a time."""


@dataclass(frozen=True)
class Guided:
    """What guidance knows at one step. All [B,C,h,w]; `denoised_*` are estimates of the clean latent."""

    x: torch.Tensor
    sigma: torch.Tensor
    positive: torch.Tensor
    negative: torch.Tensor
    scale: float


Combine = Callable[[Guided], torch.Tensor]
"""How positive and negative estimates become one; the default is classifier-free guidance."""

AfterGuidance = Callable[[Guided, torch.Tensor, "Any"], torch.Tensor]
"""(what guidance knew, its result, `ask(perturb) -> denoised`) -> changed result. `ask` runs the network on the positive
conditioning once more, with a `perturb(network, module)` context around it."""


class ModelFamily(Protocol):
    """What loads the files of a family."""

    def load_checkpoint(self, file: ModelFile, services: Services, progress: Progress) -> tuple[ModelHandle, ClipHandle, VaeHandle]: ...

    def load_unet(self, file: ModelFile, services: Services, progress: Progress) -> ModelHandle: ...

    def load_clip(self, file: ModelFile, services: Services, progress: Progress) -> ClipHandle: ...

    def load_vae(self, file: ModelFile, services: Services, progress: Progress) -> VaeHandle: ...

    def load_control(self, file: ModelFile, services: Services, progress: Progress) -> ControlHandle: ...
