"""ControlNets of Stable Diffusion 1.x, and the makers of the pictures that they follow."""

from __future__ import annotations

from sfumato.hookspecs import hookimpl
from sfumato.nodes import NodeType, node_types
from sfumato.offers import PreprocessorOffer
from sfumato_control import nodes


@hookimpl
def register_nodes() -> list[NodeType]:
    """ControlNetLoader, ControlNetApply, ControlNetApplyAdvanced, Canny, Preprocess."""
    return node_types(nodes)


@hookimpl
def register_preprocessors() -> list[PreprocessorOffer]:
    """Edges."""
    return [
        PreprocessorOffer(
            "canny", "sfumato_control.edges:canny", "Edges after Canny", options={"low_threshold": 0.4, "high_threshold": 0.8}
        )
    ]
