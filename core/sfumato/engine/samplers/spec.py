"""What the rest of the program knows about a sampler: its name, its options, and what may be expected of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from torch import Tensor

from sfumato.engine.samplers.context import Denoise, SamplerContext
from sfumato.errors import BadValueError

Sampler: TypeAlias = Callable[..., Tensor]
"""A function `(denoise, x, sigmas, ctx, *, option=default, ...) -> x`."""


@dataclass(frozen=True)
class SamplerSpec:
    """A sampler and its properties, all of them with its default options."""

    name: str
    function: Sampler
    deterministic: bool
    """It draws no noise: the picture follows from the start alone."""
    order: int
    """Nominal order of convergence on the probability-flow ODE, without noise; 0 for one that solves no ODE."""
    one_step: bool
    """It keeps nothing from step to step: a run may be split between any two steps, and if deterministic gives the same bits."""
    options: Mapping[str, Any]
    """Keyword options by name, with their defaults."""

    @classmethod
    def of(cls, function: Sampler, *, order: int, deterministic: bool = True, one_step: bool = False, name: str = "") -> SamplerSpec:
        """The spec of a sampler function; its options are its keyword-only parameters, its name the function's unless given."""
        parameters = inspect.signature(function).parameters.values()
        options = {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
        return cls(name or function.__name__, function, deterministic, order, one_step, MappingProxyType(options))

    def __call__(self, denoise: Denoise, x: Tensor, sigmas: Tensor, ctx: SamplerContext, **options: Any) -> Tensor:
        """Run the sampler from `x` at `sigmas[0]` to `sigmas[-1]`; raises BadValueError for an option it does not have."""
        for name in options:
            if name not in self.options:
                known = ", ".join(self.options) or "none"
                raise BadValueError(f"the sampler {self.name} has no option {name!r}", "sampler", f"Its options: {known}.")
        return self.function(denoise, x, sigmas, ctx, **options)
