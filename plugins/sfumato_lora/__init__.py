"""LoRA files: the dialects they are written in, and the nodes that put them on a model."""

from __future__ import annotations

from sfumato.hookspecs import hookimpl
from sfumato.nodes import NodeType, node_types
from sfumato.offers import LoraFormatOffer
from sfumato_lora import nodes


@hookimpl
def register_nodes() -> list[NodeType]:
    """LoraLoader and LoraLoaderModelOnly."""
    return node_types(nodes)


@hookimpl
def register_lora_formats() -> list[LoraFormatOffer]:
    """The two ways in which LoRA files name what they change."""
    return [
        LoraFormatOffer("kohya", "sfumato_lora.formats:kohya", "lora_unet_..., lora_te_...: kohya's scripts, LyCORIS, OneTrainer"),
        LoraFormatOffer("diffusers", "sfumato_lora.formats:diffusers", "dotted names: diffusers, peft, and ComfyUI's own files"),
    ]
