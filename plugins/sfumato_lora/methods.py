"""From the factors that a file holds for one part of a network to the changes of its weight and bias."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from sfumato.errors import ModelFileError
from sfumato_lora.deltas import Added, Change, Decomposed, Full, Hadamard, Kronecker, LowRank, Side, shape_of

Deltas: TypeAlias = dict[str, Added | Decomposed]
Shapes: TypeAlias = Mapping[str, Sequence[int]]

FACTORS: Mapping[str, str] = {
    "lora_up.weight": "up", "lora_down.weight": "down", "lora_mid.weight": "mid",
    "lora_B.weight": "up", "lora_A.weight": "down", "lora_B.default.weight": "up", "lora_A.default.weight": "down",
    "lora.up.weight": "up", "lora.down.weight": "down",
    "lora_linear_layer.up.weight": "up", "lora_linear_layer.down.weight": "down",
    "alpha": "alpha", "dora_scale": "dora", "lora_magnitude_vector": "rows", "lora_magnitude_vector.weight": "rows",
    "hada_w1_a": "a1", "hada_w1_b": "b1", "hada_w2_a": "a2", "hada_w2_b": "b2", "hada_t1": "t1", "hada_t2": "t2",
    "lokr_w1": "left", "lokr_w1_a": "left_a", "lokr_w1_b": "left_b",
    "lokr_w2": "right", "lokr_w2_a": "right_a", "lokr_w2_b": "right_b", "lokr_t2": "right_core",
    "diff": "diff", "w_norm": "diff", "diff_b": "diff_bias", "b_norm": "diff_bias",
}  # fmt: skip
"""What follows the name of a part in a file, and which factor of which method it is."""

_OTHER_FAMILY = "The file is damaged, or made for another family of models."
_AGAIN = "The file is damaged: get it again."


@dataclass(frozen=True)
class Part:
    """What a file holds for one part of a network. `default_scale` gives the scale for a rank where the part has no alpha of its own."""

    name: str
    factors: Mapping[str, torch.Tensor]
    default_scale: Callable[[int], float]

    def deltas(self, shapes: Shapes) -> Deltas:
        """The changes by parameter. Raises ModelFileError for factors that are incomplete or fit neither each other nor `shapes`."""
        result: Deltas = {}
        if "diff_bias" in self.factors:
            result[f"{self.name}.bias"] = Added(_fitting(Full(self.factors["diff_bias"]), shapes, f"{self.name}.bias"))
        change = self._change()
        if change is not None:
            weight = f"{self.name}.weight"
            _fitting(change, shapes, weight)
            result[weight] = self._decomposed(change, shapes[weight]) or Added(change)
        return result

    def _change(self) -> Change | None:
        found = self.factors
        if "up" in found or "down" in found:
            up, down = self._need("up", "down")
            return LowRank(up, down, self._scale(down), found.get("mid"))
        if "a1" in found or "a2" in found:
            a1, b1, a2, b2 = self._need("a1", "b1", "a2", "b2")
            return Hadamard(a1, b1, a2, b2, self._scale(b1), found.get("t1"), found.get("t2"))
        if any(name.startswith(("left", "right")) for name in found):
            left, right = self._side("left"), self._side("right")
            inner = left.b if left.b is not None else right.b
            # With both sides whole there is no rank that an alpha could refer to.
            return Kronecker(left, right, 1.0 if inner is None else self._scale(inner))
        return Full(found["diff"]) if "diff" in found else None

    def _side(self, name: str) -> Side:
        if name in self.factors:
            return Side(self.factors[name])
        a, b = self._need(f"{name}_a", f"{name}_b")
        return Side(None, a, b, self.factors.get(f"{name}_core"))

    def _need(self, *names: str) -> list[torch.Tensor]:
        missing = [name for name in names if name not in self.factors]
        if missing:
            raise ModelFileError(f"a factor of {self.name} is missing ({', '.join(missing)})", "", _AGAIN)
        return [self.factors[name] for name in names]

    def _scale(self, inner: torch.Tensor) -> float:
        """alpha / rank; the rank is the first dimension of `inner`."""
        rank = inner.shape[0] if inner.dim() else 0
        alpha = self.factors.get("alpha")
        if rank == 0:
            raise ModelFileError(f"the factors of {self.name} have rank 0", "", _AGAIN)
        if alpha is None:
            return self.default_scale(rank)
        if alpha.numel() != 1:
            raise ModelFileError(f"the alpha of {self.name} is no single number", "", _AGAIN)
        return float(alpha) / rank

    def _decomposed(self, change: Change, shape: Sequence[int]) -> Decomposed | None:
        """With DoRA's magnitudes, if there are any. peft's always belong to outputs; LyCORIS's say by their shape ([out,1...] or
        [1,in...]) what they belong to."""
        magnitude = self.factors.get("rows", self.factors.get("dora"))
        if magnitude is None:
            return None
        by_output = "rows" in self.factors or (magnitude.dim() > 0 and magnitude.shape[0] == shape[0] != 1)
        wanted = shape[0] if by_output else math.prod(shape[1:2])
        if magnitude.numel() != wanted:
            raise ModelFileError(f"{self.name} has {magnitude.numel()} magnitudes instead of {wanted}", "", _OTHER_FAMILY)
        return Decomposed(change, magnitude, by_output)


def _fitting(change: Change, shapes: Shapes, name: str) -> Change:
    try:
        shape = shape_of(change)
    except (RuntimeError, IndexError) as error:
        raise ModelFileError(f"the factors of {name} do not fit together", "", _AGAIN) from error
    wanted = tuple(shapes.get(name, ()))
    if name not in shapes or math.prod(shape) != math.prod(wanted) or shape[:1] != wanted[:1]:
        raise ModelFileError(f"the change of {name} is {list(shape)}, the weight in the model is {list(wanted)}", "", _OTHER_FAMILY)
    return change
