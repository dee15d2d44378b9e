"""Where boxes stand on a new sheet: in columns by depth, so that every wire leads to the right, and none on another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sfumato.graph import Graph

MARGIN, GAP_X, GAP_Y = 60, 90, 70
"""Pixels around the sheet, between columns, and between boxes of a column (a box's title stands above it)."""


def columns(graph: Graph) -> list[list[str]]:
    """The ids by the longest way from a node without links; along a cycle in some order."""
    depth: dict[str, int] = {}
    for key in graph.order():
        depth[key] = max((depth[link.node] + 1 for _, link in graph.nodes[key].links() if link.node in depth), default=0)
    found: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for key, column in depth.items():
        found[column].append(key)
    return found


def positions(columns: Sequence[Sequence[str]], sizes: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """The left upper corner (x, y) of each box of the given sizes (width, height), in pixels."""
    places: dict[str, tuple[int, int]] = {}
    x = MARGIN
    for column in columns:
        y = MARGIN
        for key in column:
            places[key] = x, y
            y += sizes[key][1] + GAP_Y
        x += max(sizes[key][0] for key in column) + GAP_X
    return places
