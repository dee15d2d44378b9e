"""The denoising network of Stable Diffusion 1.x: the thin adapter over diffusers' `UNet2DConditionModel`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from sfumato.engine.protocols import Call


class SdNetwork:
    """One call of the UNet, and what guidance may switch off inside it."""

    def __init__(self, in_channels: int) -> None:
        self.in_channels = in_channels

    def __call__(self, module: nn.Module, call: Call) -> torch.Tensor:
        down = list(call.residuals.down) if call.residuals else None
        middle = call.residuals.middle if call.residuals else None
        output: torch.Tensor = module(
            call.x,
            call.timestep,
            encoder_hidden_states=call.context,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]
        return output

    def blocks(self, module: Any) -> Sequence[nn.Module]:
        """Every residual block and every transformer: the finest grain that is worth a look."""
        found: list[nn.Module] = []
        for block in [*module.down_blocks, module.mid_block, *module.up_blocks]:
            found += [*block.resnets, *(getattr(block, "attentions", None) or [])]
        return found

    @contextmanager
    def without_self_attention(self, module: Any) -> Iterator[None]:
        """Self-attention in the middle block passes its values straight on."""
        layers = [layer.attn1 for a in module.mid_block.attentions for layer in a.transformer_blocks]
        with _processors(layers, _ValuesOnly()):
            yield

    @contextmanager
    def without_layers(self, module: Any, layers: Sequence[int]) -> Iterator[None]:
        """The transformer blocks with these numbers (in the order of the network) give back what they were given."""
        blocks = [b for part in self.blocks(module) for b in getattr(part, "transformer_blocks", ())]
        chosen = [blocks[number] for number in layers if 0 <= number < len(blocks)]
        handles = [b.register_forward_hook(lambda _, given, result: given[0]) for b in chosen]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _ValuesOnly:
    """An attention whose attention map is the identity: out = to_out(to_v(x))."""

    def __call__(self, attention: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        result: torch.Tensor = attention.to_out[1](attention.to_out[0](attention.to_v(hidden_states)))
        return result


@contextmanager
def _processors(layers: Sequence[Any], processor: Any) -> Iterator[None]:
    before = [layer.processor for layer in layers]
    try:
        for layer in layers:
            layer.processor = processor
        yield
    finally:
        for layer, old in zip(layers, before, strict=True):
            layer.processor = old
