"""Adams-Bashforth weights for uneven steps: the integral of the polynomial through the last slopes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from sfumato.errors import BadValueError

NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)
"""Gauss-Legendre quadrature on -1..1, exact for polynomials up to degree 31."""


def identity(sigma: float) -> float:
    """The polynomial is one in sigma itself."""
    return sigma


def weights(past: Sequence[float], start: float, end: float, variable: Callable[[float], float] = identity) -> list[float]:
    """One weight for each level of `past` (distinct, newest first): the integral over sigma from `start` to `end` of the
    Lagrange polynomial in `variable(sigma)` that is 1 there and 0 at the others."""
    half, middle = (end - start) / 2, (end + start) / 2
    places = [variable(middle + half * node) for node in NODES]
    known = [variable(level) for level in past]
    return [half * sum(w * _lagrange(known, j, place) for w, place in zip(WEIGHTS, places, strict=True)) for j in range(len(known))]


def combined(coefficients: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    """The sum of `slopes` times `coefficients`, as many of each, at least one."""
    total = coefficients[0] * slopes[0]
    for coefficient, slope in zip(coefficients[1:], slopes[1:], strict=True):
        total = total + coefficient * slope
    return total


def _lagrange(known: Sequence[float], j: int, place: float) -> float:
    """The j-th Lagrange polynomial of the places `known`, at `place`."""
    product = 1.0
    for k, other in enumerate(known):
        if k != j:
            product *= (place - other) / (known[j] - other)
    return product


def checked_order(order: int, highest: int) -> int:
    """`order`, or BadValueError outside 1..`highest`."""
    if not 1 <= order <= highest:
        raise BadValueError(f"a multistep sampler cannot have order {order}", "sampler", f"Use an order from 1 to {highest}.")
    return order
