"""The dialects of LoRA files: which tensors belong together, and which part of which network they change.

Both dialects share the names of the factors (`methods.FACTORS`); they differ in how they name the parts of a network.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from sfumato.bounded_json import JsonFault, read_json
from sfumato.errors import ModelFileError
from sfumato_lora.methods import FACTORS, Deltas, Part
from sfumato_lora.names import DOTTED_PREFIXES, KOHYA_PREFIXES, Parameters, Table, Target, flat, table

log = logging.getLogger(__name__)

Tensors = Mapping[str, torch.Tensor]


def kohya(tensors: Tensors, networks: Parameters, metadata: Mapping[str, str]) -> dict[str, Deltas] | None:
    """The dialect of kohya's scripts; the contract is `LoraFormatOffer`'s."""
    if not any(name.startswith(("lora_unet_", "lora_te")) for name in tensors):
        return None
    return _Reading(networks, table(networks, KOHYA_PREFIXES), lambda part: part, {}).deltas(tensors)


def diffusers(tensors: Tensors, networks: Parameters, metadata: Mapping[str, str]) -> dict[str, Deltas] | None:
    """The dialects with dotted names, from the first attention processors to peft; the contract is `LoraFormatOffer`'s."""
    if not any(_split(name)[1] for name in tensors):
        return None
    return _Reading(networks, table(networks, DOTTED_PREFIXES), _modern, _adapter_settings(metadata)).deltas(tensors)


@dataclass(frozen=True)
class _Reading:
    """One file being read: the networks it is for, names as the dialect has them, and the settings in its metadata."""

    networks: Parameters
    names: Table
    modern: Callable[[str], str]
    settings: Mapping[str, Any]

    def deltas(self, tensors: Tensors) -> dict[str, Deltas]:
        parts, strangers = self._sorted(tensors)
        if parts and strangers:
            log.info("%d of %d tensors of a LoRA file belong to no part of this model: %s ...", len(strangers), len(tensors), strangers[0])
        result: dict[str, Deltas] = {network: {} for network in self.networks}
        for (network, name), factors in parts.items():
            part = Part(name, factors, partial(self._default_scale, (network, name)))
            result[network] |= part.deltas(self.networks[network])
        return result

    def _sorted(self, tensors: Tensors) -> tuple[dict[Target, dict[str, torch.Tensor]], list[str]]:
        """The factors of every part, and the names that belong to none."""
        parts: dict[Target, dict[str, torch.Tensor]] = {}
        strangers = []
        for name, tensor in tensors.items():
            part, factor = _split(name)
            target = self.names.get(flat(self.modern(part))) if factor else None
            if target is None:
                self._refuse_unknown_method(name)
                strangers.append(name)
            else:
                parts.setdefault(target, {})[factor] = tensor
        return parts, strangers

    def _refuse_unknown_method(self, name: str) -> None:
        """A tensor that changes a part of this model in a way that nobody here knows: without it the picture would be another."""
        pieces = name.split(".")
        for length in range(1, min(4, len(pieces))):
            if flat(self.modern(".".join(pieces[:-length]))) in self.names:
                raise ModelFileError(
                    f"it changes weights by a method that is not known here ({'.'.join(pieces[-length:])!r})",
                    "",
                    "Known are LoRA, LoCon, DoRA, LoHa, LoKr and full differences.",
                )

    def _default_scale(self, target: Target, rank: int) -> float:
        """The scale of a part without an alpha of its own: by peft's settings for the adapter, else 1."""
        network, part = target
        patterns = self.settings.get(f"{network}.alpha_pattern")
        alpha = self.settings.get(f"{network}.lora_alpha")
        for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
            if part == pattern or part.endswith(f".{pattern}"):
                alpha = value
        if not isinstance(alpha, int | float):
            return 1.0
        return alpha / (math.sqrt(rank) if self.settings.get(f"{network}.use_rslora") is True else rank)


def _split(name: str) -> tuple[str, str]:
    """(name of the part, which factor) of a tensor; the factor is empty if it is none that is known."""
    pieces = name.split(".")
    for length in range(1, min(4, len(pieces))):
        factor = FACTORS.get(".".join(pieces[-length:]))
        if factor:
            return ".".join(pieces[:-length]), factor
    for direction in ("up", "down"):  # of the first attention processors: `attn1.processor.to_q_lora.up.weight`
        ending = f"_lora.{direction}.weight"
        if name.endswith(ending):
            return name.removesuffix(ending), direction
    return name, ""


_ATTENTION_OF_CLIP = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


def _modern(part: str) -> str:
    """The name of a part as it is today: the first attention processors and peft's wrappers wrote it differently."""
    part = part.removeprefix("base_model.model.").replace(".processor.", ".")
    owner, _, leaf = part.rpartition(".")
    if owner.endswith("self_attn"):
        leaf = _ATTENTION_OF_CLIP.get(leaf, leaf)
    elif leaf == "to_out":
        leaf = "to_out.0"
    return f"{owner}.{leaf}" if owner else leaf


def _adapter_settings(metadata: Mapping[str, str]) -> Mapping[str, Any]:
    """What peft wrote down about the adapter: `unet.lora_alpha`, `unet.alpha_pattern`, `unet.use_rslora` ..."""
    text = metadata.get("lora_adapter_metadata")
    if text is None:
        return {}
    try:
        found = read_json(text)
    except JsonFault as error:
        raise ModelFileError(f"its metadata (lora_adapter_metadata) cannot be read: {error}", "", "Get the file again.") from error
    return found if isinstance(found, dict) else {}
