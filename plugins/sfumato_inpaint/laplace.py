"""Laplace's equation on any set of pixels: the smoothest continuation of what lies around it, the membrane of gradient-domain editing.

Conjugate gradients, preconditioned by one V-cycle of smoothed-aggregation multigrid (Vanek, Mandel, Brezina 1996): the number of
iterations hardly grows with the size of the hole, whatever its shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import linalg

from sfumato.errors import BadValueError

Numbers = NDArray[np.float64]

_DIRECT = 1500
"""Unknowns that are solved directly."""
_MOST_ITERATIONS = 200
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))


def continued(values: NDArray[Any], unknown: NDArray[Any], tolerance: float = 1e-5) -> NDArray[np.float32]:
    """`values` [H,W,C] with the pixels where `unknown` [H,W] is true replaced by the solution of Laplace's equation.

    Known neighbours give the boundary values; at the border of the picture nothing flows (Neumann). `tolerance` is relative to the
    right-hand side. Raises BadValueError if nothing is known.
    """
    unknown = np.asarray(unknown, bool)
    result = np.array(values, np.float32)
    if not unknown.any():
        return result
    if unknown.all():
        raise BadValueError("no pixel is kept, there is nothing to continue", "mask", "Keep a part of the picture, or fill it neutrally.")
    rows, columns = (np.flatnonzero(unknown.any(axis)) for axis in (1, 0))
    window = (slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2))
    hole = unknown[window]
    matrix, right, places = _system(np.asarray(values[window], np.float64), hole)
    result[window][hole] = _solve(matrix, right, places, tolerance)
    return result


def _system(values: Numbers, hole: NDArray[np.bool_]) -> tuple[Any, Numbers, NDArray[np.intp]]:
    """(matrix [n,n], right-hand side [n,C], places [n,2]) of the five-point Laplacian over the hole."""
    height, width = hole.shape
    places = np.argwhere(hole)
    number = np.full(hole.shape, -1, np.int64)
    number[hole] = np.arange(len(places))
    mine = number[hole]
    right = np.zeros((len(places), values.shape[-1]))
    degree = np.zeros(len(places))
    rows, columns = [], []
    for dy, dx in _STEPS:
        y, x = places[:, 0] + dy, places[:, 1] + dx
        is_inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        degree += is_inside
        other = np.where(is_inside, number[y.clip(0, height - 1), x.clip(0, width - 1)], -1)
        inner, known = other >= 0, is_inside & (other < 0)
        rows.append(mine[inner])
        columns.append(other[inner])
        right[known] += values[y[known], x[known]]
    row, column = np.concatenate(rows), np.concatenate(columns)
    shape = (len(places), len(places))
    matrix = sparse.diags_array(degree) - sparse.csr_array((np.ones(len(row)), (row, column)), shape)
    return matrix.tocsr(), right, places


@dataclass(frozen=True)
class _Level:
    """One grid of the hierarchy: its matrix, the inverse of its diagonal [n,1], and the way up from the next coarser grid."""

    matrix: Any
    inverse: Numbers
    prolongation: Any


def _hierarchy(matrix: Any, places: NDArray[np.intp]) -> tuple[list[_Level], Any]:
    levels = []
    while matrix.shape[0] > _DIRECT:
        inverse = 1 / matrix.diagonal()
        _, block = np.unique(places[:, 0] // 3 * (1 << 31) + places[:, 1] // 3, return_inverse=True)
        count = int(block.max()) + 1
        plain = sparse.csr_array((np.ones(len(block)), (np.arange(len(block)), block)), (len(block), count))
        smooth = (plain - sparse.diags_array(inverse * (2 / 3)) @ (matrix @ plain)).tocsr()
        levels.append(_Level(matrix, inverse[:, None], smooth))
        matrix = (smooth.T @ matrix @ smooth).tocsr()
        coarser = np.zeros((count, 2), np.intp)
        coarser[block] = places // 3
        places = coarser
    return levels, linalg.splu(matrix.tocsc())


def _cycle(levels: list[_Level], coarsest: Any, right: Numbers) -> Numbers:
    """One V-cycle from zero: a damped Jacobi step down, the coarser grid's correction, the same step up (so that it is symmetric)."""
    if not levels:
        solved: Numbers = coarsest.solve(right)
        return solved
    level, below = levels[0], levels[1:]
    x = 0.7 * level.inverse * right
    x = x + 0.7 * level.inverse * (right - level.matrix @ x)
    x = x + level.prolongation @ _cycle(below, coarsest, level.prolongation.T @ (right - level.matrix @ x))
    x = x + 0.7 * level.inverse * (right - level.matrix @ x)
    return np.asarray(x + 0.7 * level.inverse * (right - level.matrix @ x))


def _solve(matrix: Any, right: Numbers, places: NDArray[np.intp], tolerance: float) -> Numbers:
    """Preconditioned conjugate gradients, every column of `right` by itself with its own step lengths."""
    levels, coarsest = _hierarchy(matrix, places)
    if not levels:
        solved: Numbers = coarsest.solve(right)
        return solved
    goal = tolerance * np.sqrt((right**2).sum(0)) + 1e-12
    x = _cycle(levels, coarsest, right)
    residual = right - matrix @ x
    direction, before = np.zeros_like(right), np.ones(right.shape[1])
    for _ in range(_MOST_ITERATIONS):
        if (np.sqrt((residual**2).sum(0)) <= goal).all():
            break
        conditioned = _cycle(levels, coarsest, residual)
        now = (residual * conditioned).sum(0)
        direction = conditioned + now / np.maximum(before, 1e-300) * direction
        image = matrix @ direction
        step = now / np.maximum((direction * image).sum(0), 1e-300)
        x, residual, before = x + step * direction, residual - step * image, now
    return x
