"""Any text-to-picture pipeline of diffusers as one node: the way in for models that no family of ours knows yet."""

from __future__ import annotations

from sfumato.hookspecs import hookimpl
from sfumato.nodes import NodeType, node_types
from sfumato_diffusers import nodes


@hookimpl
def register_nodes() -> list[NodeType]:
    """The node `DiffusersPipeline`."""
    return node_types(nodes)
