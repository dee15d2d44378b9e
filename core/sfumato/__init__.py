"""Sfumato: the door for authors of plugins. What they need is here, and what is here stays; the modules behind may move.

Importing it loads neither torch nor any plugin.
"""

from __future__ import annotations

from typing import Any

from sfumato.errors import (
    BadValueError,
    CancelledError,
    ImageFileError,
    ModelFileError,
    ModelMissingError,
    NodeError,
    PluginError,
    SfumatoError,
)
from sfumato.graph import Graph, GraphBuilder, Link
from sfumato.hookspecs import hookimpl
from sfumato.lazy import lazy_module
from sfumato.nodes import Blocked, NodeContext, NodeType, Result, node, node_types
from sfumato.offers import (
    FileFormatOffer,
    InpaintFillOffer,
    LoraFormatOffer,
    ModelFamilyOffer,
    PreprocessorOffer,
    SamplerOffer,
    ScheduleOffer,
    UpscalerOffer,
)
from sfumato.progress import Progress
from sfumato.sockets import (
    AnyValue,
    Choice,
    Clip,
    Conditioning,
    ControlNet,
    Guider,
    Image,
    Latent,
    Lazy,
    ListOf,
    Mask,
    Model,
    Noise,
    Options,
    Range,
    Sampler,
    Sigmas,
    SocketType,
    Text,
    UpscaleModel,
    Vae,
    tip,
)

__version__: str

__all__ = [
    "AnyValue",
    "BadValueError",
    "Blocked",
    "CancelledError",
    "Choice",
    "Clip",
    "Conditioning",
    "ControlNet",
    "FileFormatOffer",
    "Graph",
    "GraphBuilder",
    "Guider",
    "Image",
    "ImageFileError",
    "InpaintFillOffer",
    "Latent",
    "Lazy",
    "Link",
    "ListOf",
    "LoraFormatOffer",
    "Mask",
    "Model",
    "ModelFamilyOffer",
    "ModelFileError",
    "ModelMissingError",
    "NodeContext",
    "NodeError",
    "NodeType",
    "Noise",
    "Options",
    "PluginError",
    "PreprocessorOffer",
    "Progress",
    "Range",
    "Result",
    "Sampler",
    "SamplerOffer",
    "ScheduleOffer",
    "SfumatoError",
    "Sigmas",
    "SocketType",
    "Text",
    "UpscaleModel",
    "UpscalerOffer",
    "Vae",
    "__version__",
    "hookimpl",
    "lazy_module",
    "node",
    "node_types",
    "tip",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # read only when asked for: it takes longer than all imports above

        return version("sfumato")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
