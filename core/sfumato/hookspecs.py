"""Every hook of the headless half, grouped by moment of life.

A hook implementation takes only the arguments it wants. Arguments are plain values, tensors or opaque handles, so that a
plugin may live in a process of its own. Hooks named `register_*` are called once, when the program starts, in the main
thread, and must not import torch; one that raises makes its plugin broken, and no other. The moments are called in the worker
thread that runs the graph; an exception from one of them fails the node that runs (and says whose hook it was).
Every hook has its page in docs/hooks.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    from sfumato.errors import SfumatoError
    from sfumato.graph import Graph
    from sfumato.nodes import NodeType
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
    from sfumato.request import GenerateRequest

hookspec = pluggy.HookspecMarker("sfumato")
hookimpl = pluggy.HookimplMarker("sfumato")

# --- What there is -------------------------------------------------------------------------------------------------


@hookspec
def register_nodes() -> list[NodeType]:
    """Node types; `sfumato.node_types(module)` collects those that a module declares with `@node`."""


@hookspec
def register_samplers() -> list[SamplerOffer]:
    """Samplers by name. Every sampler works with every schedule and every model family."""


@hookspec
def register_schedules() -> list[ScheduleOffer]:
    """Noise schedules by name."""


@hookspec
def register_preprocessors() -> list[PreprocessorOffer]:
    """Makers of control pictures: canny, depth, pose ..."""


@hookspec
def register_lora_formats() -> list[LoraFormatOffer]:
    """Dialects of LoRA files. The first that understands a file reads it."""


@hookspec
def register_upscalers() -> list[UpscalerOffer]:
    """Readers of upscaler files. The first that understands a file reads it."""


@hookspec
def register_model_families() -> list[ModelFamilyOffer]:
    """Model families: what recognises their files without torch, and what loads them."""


@hookspec
def register_inpaint_fills() -> list[InpaintFillOffer]:
    """Prefills of a hole before it is painted."""


@hookspec
def register_file_formats() -> list[FileFormatOffer]:
    """Readers and writers of picture, document and workflow files, by ending."""


# --- From a request to a graph -------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def recipe_for(request: GenerateRequest) -> Graph | None:
    """The graph that answers `request`, or None to leave it to the next plugin and at last to the built-in recipe."""


# --- Where a graph runs --------------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def backend_for(name: str, app: Any) -> Any:
    """The backend called `name` (a `sfumato.backends.Backend`), or None if this plugin has no such backend."""


@hookspec(firstresult=True)
def serve(app: Any, options: Mapping[str, Any]) -> int | None:
    """Run a server until it is stopped and return the exit code, or None if this plugin serves nothing."""


@hookspec(firstresult=True)
def open_window(app: Any, file: Path | None) -> int | None:
    """Open the window with `file` (or an empty document), wait until it is closed, and return the exit code; None if there is none here."""


# --- While a graph runs --------------------------------------------------------------------------------------------


@hookspec
def before_node(node_id: str, node_type: str, inputs: Mapping[str, Any]) -> None:
    """A node is about to run (cached nodes do not). An input whose list makes the node run several times comes as that list."""


@hookspec
def after_node(node_id: str, node_type: str, outputs: tuple[Any, ...]) -> None:
    """A node has run, with its sub-graph if it returned one. An output that holds several values comes as their list."""


@hookspec
def node_failed(node_id: str, node_type: str, error: SfumatoError) -> None:
    """A node has failed, and the run ends. What was worked out before stays in the cache."""


@hookspec
def before_step(step: int, total: int, sigma: float, x: Any) -> None:
    """A sampling step is about to begin. `x` is the noisy latent [B,C,h,w], to be read, not changed."""


@hookspec
def after_step(step: int, total: int, sigma: float, x: Any, denoised: Any) -> None:
    """A sampling step has ended. `denoised` is the current estimate of the clean latent."""
