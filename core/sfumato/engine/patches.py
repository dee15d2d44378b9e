"""Weight patches: a LoRA stack put on a network for a while and taken off again without a trace.

The patched copies are worked out once for each (network, stack) and live in the residency like any other weights. Putting
them on swaps what a parameter points to; the originals are never written, so taking them off is exact to the bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn

from sfumato.engine.residency import TensorBag, Weights

if TYPE_CHECKING:
    from sfumato.engine.residency import Residency
    from sfumato.progress import Progress


class Delta(Protocol):
    """A change of one weight."""

    def apply(self, weight: torch.Tensor, strength: float) -> torch.Tensor:
        """`weight` (float32, shape as in the network) with `strength` times the change added: a new float32 tensor."""


@dataclass(frozen=True)
class Patch:
    """One file's changes of a network, at a strength. `identity` names the file's content."""

    identity: str
    strength: float
    deltas: Mapping[str, Delta]
    """Parameter name (`down_blocks.0...to_q.weight`) -> change."""


def identity_of(patches: tuple[Patch, ...]) -> str:
    """A short name for a stack: the same files at the same strengths in the same order give the same name."""
    return hashlib.sha256(repr([(p.identity, p.strength) for p in patches]).encode()).hexdigest()[:16]


@contextmanager
def applied(residency: Residency, weights: Weights, module: nn.Module, patches: tuple[Patch, ...], progress: Progress) -> Iterator[None]:
    """`module` (the network of `weights`, in use) carries `patches` until the block ends."""
    active = tuple(p for p in patches if p.strength != 0.0 and p.deltas)
    if not active:
        yield
        return

    def load(how: Progress) -> TensorBag:
        # Not `module`: the copies may outlive it in the residency, and must not keep it alive there.
        assert weights.module is not None
        return _patched_copies(weights.module, active, how)

    copies = residency.add(f"{weights.key}+{identity_of(active)}", load, is_derived=True)
    with residency.use(copies, progress=progress) as (bag,), _swapped(module, bag.tensors()):
        yield


def _patched_copies(module: nn.Module, patches: tuple[Patch, ...], progress: Progress) -> TensorBag:
    names = list(dict.fromkeys(name for patch in patches for name in patch.deltas))
    result = {}
    for place, name in enumerate(names):
        progress.step("applying LoRA", place, len(names))
        original = module.get_parameter(name)
        weight = original.detach().to(torch.float32)
        for patch in patches:
            if name in patch.deltas:
                weight = patch.deltas[name].apply(weight, patch.strength)
        result[name] = weight.to(original.dtype)
    return TensorBag(result)


@contextmanager
def _swapped(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> Iterator[None]:
    originals = {name: module.get_parameter(name).data for name in tensors}
    try:
        for name, tensor in tensors.items():
            module.get_parameter(name).data = tensor
        yield
    finally:
        for name, original in originals.items():
            module.get_parameter(name).data = original
