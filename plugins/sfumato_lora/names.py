"""How LoRA dialects name the parts of a network: tables from a file's names to the network's own.

A `Table` is keyed by names in which every dot is an underscore: that is how kohya's scripts write them, and no two parts of
a network differ only by that. Stable Diffusion UNets also answer to the names of the original code (`input_blocks...`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

Parameters: TypeAlias = Mapping[str, Mapping[str, Sequence[int]]]
"""Network (`unet`, `text_encoder`) -> parameter name -> shape."""

Target: TypeAlias = tuple[str, str]
"""(network, name of a part of it, without `.weight` or `.bias`)."""

Table: TypeAlias = Mapping[str, Target]

KOHYA_PREFIXES: Mapping[str, Sequence[str]] = {
    "unet": ("lora_unet_",),
    "text_encoder": ("lora_te_text_model_", "lora_te1_text_model_", "lora_te_", "lora_te1_"),
}
DOTTED_PREFIXES: Mapping[str, Sequence[str]] = {
    "unet": ("unet_", "diffusion_model_", ""),
    "text_encoder": ("text_encoder_text_model_", "text_encoder_", "text_encoders_clip_l_transformer_text_model_", "text_model_", ""),
}


def table(networks: Parameters, prefixes: Mapping[str, Sequence[str]]) -> Table:
    """Every name, with each prefix, under which a part of `networks` may appear in a file."""
    found: dict[str, Target] = {}
    for network, parameters in networks.items():
        own = parts(parameters)
        aliases = [(name.removeprefix("text_model."), name) for name in own]
        if network == "unet":
            aliases += original_names(own)
        for prefix in prefixes.get(network, ()):
            for alias, name in aliases:
                found.setdefault(prefix + flat(alias), (network, name))
    return found


def flat(name: str) -> str:
    """The name with underscores for dots."""
    return name.replace(".", "_")


def parts(parameters: Mapping[str, Sequence[int]]) -> list[str]:
    """The parts of a network that have parameters of their own."""
    return list(dict.fromkeys(name.rpartition(".")[0] for name in parameters))


def original_names(own: Sequence[str]) -> list[tuple[str, str]]:
    """(name in the original latent diffusion code, name in diffusers) for the parts of a UNet.

    The original numbers residual blocks, down- and upsamplers straight through; how many there are is read off `own`.
    """
    blocks = dict(_blocks(own))
    result = []
    for name in own:
        for ours, theirs in blocks.items():
            if name.startswith(ours):
                result.append((theirs + _inside(name[len(ours) :]), name))
                break
        else:
            if name in _OUTSIDE:
                result.append((_OUTSIDE[name], name))
    return result


_OUTSIDE = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0", "conv_out": "out.2", "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip

_IN_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip


def _inside(rest: str) -> str:
    """The rest of a name, inside a residual block or an attention (where both codes agree)."""
    return _IN_RESNET.get(rest, rest)


def _blocks(own: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(start of a diffusers name, start of the original name), both with their last dot."""
    has = {prefix for name in own for prefix in _prefixes(name)}
    place = 1
    for block in _count(has, "down_blocks"):
        for layer in _count(has, f"{block}.resnets"):
            yield from _layer(layer, f"input_blocks.{place}")
            place += 1
        if f"{block}.downsamplers" in has:
            yield f"{block}.downsamplers.0.conv", f"input_blocks.{place}.0.op"
            place += 1
    yield "mid_block.resnets.0.", "middle_block.0."
    yield "mid_block.attentions.0.", "middle_block.1."
    yield "mid_block.resnets.1.", "middle_block.2."
    place = 0
    for block in _count(has, "up_blocks"):
        for layer in _count(has, f"{block}.resnets"):
            yield from _layer(layer, f"output_blocks.{place}")
            place += 1
        if f"{block}.upsamplers" in has:
            # The upsampler is the last part of the last block: third where there is an attention, else second.
            last = 2 if f"{block}.attentions" in has else 1
            yield f"{block}.upsamplers.0.conv", f"output_blocks.{place - 1}.{last}.conv"


def _layer(resnet: str, original: str) -> Iterator[tuple[str, str]]:
    yield f"{resnet}.", f"{original}.0."
    yield f"{resnet.replace('.resnets.', '.attentions.')}.", f"{original}.1."


def _count(has: set[str], prefix: str) -> Iterator[str]:
    number = 0
    while f"{prefix}.{number}" in has:
        yield f"{prefix}.{number}"
        number += 1


def _prefixes(name: str) -> Iterator[str]:
    pieces = name.split(".")
    return (".".join(pieces[:end]) for end in range(1, len(pieces) + 1))
