"""diffusers' attention layers without what they look up at every call.

Their `forward` inspects the signature of its processor each time, which takes a few per cent of a step of a small network. Without extra
arguments there is nothing to look up.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import nn


class DirectAttention(Attention):  # type: ignore[misc]  # diffusers publishes no types
    """The same layer with the same results; calls with extra arguments go the long way."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **more: Any,
    ) -> torch.Tensor:
        """See `diffusers.models.attention_processor.Attention.forward`."""
        if any(value is not None for value in more.values()):
            return super().forward(hidden_states, encoder_hidden_states, attention_mask, **more)  # type: ignore[no-any-return]
        result: torch.Tensor = self.processor(
            self, hidden_states, encoder_hidden_states=encoder_hidden_states, attention_mask=attention_mask
        )
        return result


def direct(network: nn.Module) -> nn.Module:
    """The network with its attention layers made direct, in place."""
    for layer in network.modules():
        if type(layer) is Attention:
            layer.__class__ = DirectAttention
    return network
