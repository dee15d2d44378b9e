"""Reading upscaler files with spandrel (https://github.com/chaiNNer-org/spandrel), which tells the architecture by the tensors' names.

The tensors themselves come through our own bounded reader; spandrel is handed them and opens no file. Importing it takes
seconds, so that it is imported when a file is first read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sfumato.engine.residency import Weights
from sfumato.engine.services import Services
from sfumato.engine.weights_file import read_tensors
from sfumato.errors import ModelFileError
from sfumato.models.safetensors_file import Header, read_header
from sfumato.progress import Progress


@dataclass(frozen=True)
class SpandrelUpscaler:
    """An upscaler of any architecture that spandrel knows."""

    name: str
    scale: int
    weights: Weights
    cuts_itself: bool

    def __call__(self, module: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
        larger: torch.Tensor = module(pixels)
        return larger


class Network(nn.Module):
    """Spandrel's description of a network as a network: it fits sizes to what the architecture wants, and colours to its channels."""

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.descriptor = descriptor
        self.network = descriptor.model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """[1,3,h,w] in 0..1 -> [1,3,h*scale,w*scale] float32."""
        typed = pixels.to(next(self.network.parameters()).dtype)
        if self.descriptor.input_channels == 1:
            return torch.cat([self._grey(typed[:, place : place + 1]) for place in range(3)], dim=1)
        if self.descriptor.input_channels == 4:
            typed = torch.cat([typed, torch.ones_like(typed[:, :1])], dim=1)
        larger: torch.Tensor = self.descriptor(typed)
        return larger[:, :3].float()

    def _grey(self, channel: torch.Tensor) -> torch.Tensor:
        larger: torch.Tensor = self.descriptor(channel)
        return larger[:, :1].float()


class _NotOursError(Exception):
    """Spandrel knows no architecture with these tensors."""


def read(path: Path, services: Services, progress: Progress) -> SpandrelUpscaler | None:
    """The upscaler in a safetensors file, or None if spandrel does not know its architecture; see `UpscalerOffer`.

    Raises ModelFileError for files that are no safetensors (pickles among them), damaged ones, and networks that are no upscalers.
    """
    header = read_header(path)
    _refuse_wild_numbers(header)
    key = f"{path}:{path.stat().st_mtime_ns}:upscaler"
    weights = services.residency.add(key, lambda how: _load(path, services, how), expected=header.size)
    try:
        with services.residency.use(weights, progress=progress) as (network,):
            descriptor = network.descriptor
            return SpandrelUpscaler(path.stem, descriptor.scale, weights, descriptor.tiling.name == "INTERNAL")
    except _NotOursError:
        return None


def _load(path: Path, services: Services, progress: Progress) -> Network:
    progress.step("loading upscaler", 0, 1)
    tensors = read_tensors(path, progress)
    import spandrel

    try:
        descriptor = spandrel.ModelLoader().load_from_state_dict(tensors)
    except spandrel.UnsupportedModelError as error:
        raise _NotOursError from error
    except Exception as error:  # each of some forty architectures fails in its own way on tensors that it did not expect
        raise ModelFileError(f"the upscaler cannot be built from its tensors ({error})", str(path), "Get the file again.") from error
    if not isinstance(descriptor, spandrel.ImageModelDescriptor) or descriptor.input_channels not in (1, 3, 4):
        raise ModelFileError(
            f"this {descriptor.architecture.name} network is no upscaler of pictures", str(path), "Use an ESRGAN-like file."
        )
    progress.step("loading upscaler", 1, 1)
    return Network(descriptor.to(dtype=_dtype(services, descriptor)))


def _dtype(services: Services, descriptor: Any) -> torch.dtype:
    """float16 on accelerators, whose eleven bits hold every level of a picture (the eight of bfloat16 do not); else float32."""
    if services.device.type != "cpu" and descriptor.supports_half and services.precision in ("auto", "float16"):
        return torch.float16
    return torch.float32


def _refuse_wild_numbers(header: Header) -> None:
    """Architectures count their layers by the highest number in a name: a name with a million would build a million layers."""
    most = 4 * len(header.tensors) + 16
    for name in header.tensors:
        if any(piece.isdecimal() and (len(piece) > 9 or int(piece) > most) for piece in name.split(".")):
            raise ModelFileError(
                f"the tensor {name[:100]!r} counts further than the file has tensors", str(header.path), "Get the file again."
            )
