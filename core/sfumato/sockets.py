"""What may flow between nodes: the socket types, and the marks that turn an annotation into a socket.

Values follow ComfyUI's conventions, so that its packs can handle them. All are read-only: a node returns new ones.

========== ==========================================================================================
IMAGE      float32 tensor [B,H,W,C], 0..1, sRGB, C = 3 (4 with alpha), on the CPU
MASK       float32 tensor [B,H,W], 0..1, 1 = may change
LATENT     {"samples": float32 [B,C,h,w], "noise_mask"?: MASK [B,1,H,W], "batch_index"?: list[int]}
CONDITIONING  list of [tensor [1,T,D], dict] entries
SIGMAS     float32 tensor [n+1], descending, on the CPU
MODEL, CLIP, VAE, CONTROL_NET, UPSCALE_MODEL, NOISE, SAMPLER, GUIDER   opaque handles of the engine
========== ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias


@dataclass(frozen=True)
class SocketType:
    """A kind of value, by the name that workflows use (`IMAGE`, or a union such as `IMAGE,MASK`, or `*`)."""

    name: str

    def accepts(self, other: str) -> bool:
        """Whether an output of the type named `other` may be linked to a socket of this type."""
        mine, theirs = set(self.name.split(",")), set(other.split(","))
        return "*" in mine or "*" in theirs or not mine.isdisjoint(theirs)


@dataclass(frozen=True)
class Range:
    """The bounds of a number, both included, the step of its control, and the step that values are rounded to."""

    min: float
    max: float
    step: float | None = None
    round: float | None = None
    control_after_generate: bool = False


@dataclass(frozen=True)
class Text:
    """How a string is written: in many lines, with `{a|b}` wildcards."""

    multiline: bool = False
    dynamic_prompts: bool = False


@dataclass(frozen=True)
class Choice:
    """One of a list that is known only at run time. `options(folders)` gives it from what is on disk or registered.

    `source` names it: `models:<kind>`, `samplers`, `schedules`, `preprocessors`, `fills`, `images`. The catalogue resolves it.
    `upload` marks a list of pictures that a client may add to.
    """

    source: str
    upload: bool = False


@dataclass(frozen=True)
class Options:
    """More of what a form may show for a socket, kept as it is: `tooltip`, `display`, `advanced` ..."""

    values: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Lazy:
    """The input is worked out only when the node's `needs` asks for it."""


@dataclass(frozen=True)
class ListOf:
    """The output is a list, each item of which flows on by itself."""


def tip(words: str) -> Options:
    """A tooltip."""
    return Options((("tooltip", words),))


if TYPE_CHECKING:
    import torch

    Image: TypeAlias = torch.Tensor
    Mask: TypeAlias = torch.Tensor
    Sigmas: TypeAlias = torch.Tensor
else:
    Image = Annotated[Any, SocketType("IMAGE")]
    Mask = Annotated[Any, SocketType("MASK")]
    Sigmas = Annotated[Any, SocketType("SIGMAS")]

Latent: TypeAlias = Annotated[dict[str, Any], SocketType("LATENT")]
Conditioning: TypeAlias = Annotated[list[Any], SocketType("CONDITIONING")]
Model: TypeAlias = Annotated[Any, SocketType("MODEL")]
Clip: TypeAlias = Annotated[Any, SocketType("CLIP")]
Vae: TypeAlias = Annotated[Any, SocketType("VAE")]
ControlNet: TypeAlias = Annotated[Any, SocketType("CONTROL_NET")]
UpscaleModel: TypeAlias = Annotated[Any, SocketType("UPSCALE_MODEL")]
Noise: TypeAlias = Annotated[Any, SocketType("NOISE")]
Sampler: TypeAlias = Annotated[Any, SocketType("SAMPLER")]
Guider: TypeAlias = Annotated[Any, SocketType("GUIDER")]
AnyValue: TypeAlias = Annotated[Any, SocketType("*")]

MAX_SIZE = 16384
"""Largest width or height of a picture, in pixels."""

Size: TypeAlias = Annotated[int, Range(16, MAX_SIZE, 8)]
Seed: TypeAlias = Annotated[int, Range(0, 0xFFFF_FFFF_FFFF_FFFF, control_after_generate=True)]
Strength: TypeAlias = Annotated[float, Range(0.0, 1.0, 0.01)]
Percent: TypeAlias = Annotated[float, Range(0.0, 1.0, 0.001)]

Resolver: TypeAlias = Callable[[str], Sequence[str]]
"""Gives the options of a `Choice` by its source."""
