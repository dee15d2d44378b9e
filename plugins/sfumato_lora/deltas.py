"""The changes that LoRA-like files make to a weight: low-rank, Hadamard, Kronecker and full, with or without DoRA.

Every method gives a matrix; `Added` puts it on a weight. All arithmetic is float32 on the device of the weight.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import torch


class Change(Protocol):
    """What a file adds to one weight at strength 1, made anew at every call from the small factors that the file holds."""

    def matrix(self) -> torch.Tensor:
        """Float32, with as many elements as the weight, in the weight's order."""


@dataclass(frozen=True)
class LowRank:
    """`scale * up @ down` (Hu et al. 2021, arXiv:2106.09685), for convolutions too.

    `up` [out,r] or [out,r,1,1]; `down` [r,in] or [r,in,kh,kw]; with `mid` [r,r,kh,kw] the kernel is in the middle and
    `down` is [r,in,1,1] (CP decomposition).
    """

    up: torch.Tensor
    down: torch.Tensor
    scale: float
    mid: torch.Tensor | None = None

    def matrix(self) -> torch.Tensor:
        up, down = self.up.float().flatten(1), self.down.float().flatten(1)
        if self.mid is None:
            return self.scale * (up @ down)
        return self.scale * torch.einsum("pqkl,op,qi->oikl", self.mid.float(), up, down)


@dataclass(frozen=True)
class Hadamard:
    """`scale * (a1 @ b1) * (a2 @ b2)`, element by element (LoHa: Hyeon-Woo et al. 2021, arXiv:2108.06098).

    `a` [out,r], `b` [r,in*kh*kw]; with cores `t` [r,r,kh,kw] both are [r,out] and [r,in].
    """

    a1: torch.Tensor
    b1: torch.Tensor
    a2: torch.Tensor
    b2: torch.Tensor
    scale: float
    t1: torch.Tensor | None = None
    t2: torch.Tensor | None = None

    def matrix(self) -> torch.Tensor:
        return self.scale * _product(self.a1, self.b1, self.t1) * _product(self.a2, self.b2, self.t2)


@dataclass(frozen=True)
class Kronecker:
    """`scale * kron(left, right)` (LoKr: Yeh et al. 2023, arXiv:2309.14859)."""

    left: Side
    right: Side
    scale: float

    def matrix(self) -> torch.Tensor:
        left, right = self.left.tensor(), self.right.tensor()
        if right.dim() == 4:
            left = left[:, :, None, None]
        return self.scale * torch.kron(left, right)


@dataclass(frozen=True)
class Side:
    """One side of a Kronecker product: `whole`, or `a @ b` ([out,r] @ [r,in...]), or with a `core` as in `Hadamard`."""

    whole: torch.Tensor | None = None
    a: torch.Tensor | None = None
    b: torch.Tensor | None = None
    core: torch.Tensor | None = None

    def tensor(self) -> torch.Tensor:
        if self.whole is not None:
            return self.whole.float()
        assert self.a is not None and self.b is not None
        return _product(self.a, self.b, self.core)


@dataclass(frozen=True)
class Full:
    """The difference itself: a weight, a bias, or a norm's scale."""

    difference: torch.Tensor

    def matrix(self) -> torch.Tensor:
        return self.difference.float()


def _product(a: torch.Tensor, b: torch.Tensor, core: torch.Tensor | None) -> torch.Tensor:
    if core is None:
        return a.float() @ b.float()
    return torch.einsum("pqkl,po,qi->oikl", core.float(), a.float(), b.float())


@dataclass(frozen=True)
class Added:
    """weight + strength * change."""

    change: Change

    def apply(self, weight: torch.Tensor, strength: float) -> torch.Tensor:
        matrix = moved(self.change, weight.device).matrix()
        return torch.add(weight, matrix.reshape(weight.shape), alpha=strength)


@dataclass(frozen=True)
class Decomposed:
    """The changed weight with a learnt length for each row or column (DoRA: Liu et al. 2024, arXiv:2402.09353).

    `magnitude` holds one number for each output (`by_output`) or each input of the weight. At a strength other than 1 the
    result is that far along the straight line from the weight to the fully changed one.
    """

    change: Change
    magnitude: torch.Tensor
    by_output: bool

    def apply(self, weight: torch.Tensor, strength: float) -> torch.Tensor:
        changed = Added(self.change).apply(weight, 1.0)
        kept = 0 if self.by_output else 1
        length = torch.linalg.vector_norm(changed, dim=tuple(d for d in range(weight.dim()) if d != kept), keepdim=True)
        magnitude = self.magnitude.to(weight.device, torch.float32).reshape(length.shape)
        # A row that is all zeros has no direction; its length stays 0, whatever was learnt for it.
        target = changed * (magnitude / length.clamp_min(torch.finfo(torch.float32).tiny))
        return torch.lerp(weight, target, strength)


def moved(factors: Any, device: torch.device | str) -> Any:
    """The same change with all its tensors on `device`."""
    values = {field.name: getattr(factors, field.name) for field in fields(factors)}
    placed = {
        name: value.to(device) if isinstance(value, torch.Tensor) else moved(value, device)
        for name, value in values.items()
        if isinstance(value, torch.Tensor | Side)
    }
    return replace(factors, **placed)


def shape_of(change: Change) -> tuple[int, ...]:
    """The shape of a change, without working it out. Raises RuntimeError if its factors do not fit together."""
    return tuple(moved(change, "meta").matrix().shape)
