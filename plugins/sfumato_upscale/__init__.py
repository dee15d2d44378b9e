"""Upscalers: reading their files with spandrel, and the nodes that enlarge pictures with them."""

from __future__ import annotations

from sfumato.hookspecs import hookimpl
from sfumato.nodes import NodeType, node_types
from sfumato.offers import UpscalerOffer
from sfumato_upscale import nodes


@hookimpl
def register_nodes() -> list[NodeType]:
    """UpscaleModelLoader and ImageUpscaleWithModel."""
    return node_types(nodes)


@hookimpl
def register_upscalers() -> list[UpscalerOffer]:
    """Everything that spandrel knows: ESRGAN, SwinIR, HAT, DAT, SPAN, Compact and some thirty more."""
    return [UpscalerOffer("spandrel", "sfumato_upscale.reading:read", "ESRGAN, SwinIR, HAT, DAT, SPAN, Compact ... in safetensors files")]
