"""Reads a workflow in whatever format it is in: the API format itself, or one that a plugin knows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from sfumato.catalogue import Catalogue
from sfumato.errors import PluginError, WorkflowError
from sfumato.graph import Graph
from sfumato.offers import FileFormatOffer
from sfumato.workflow_json import Budget, parse, read_api

ENDING = ".json"
"""The ending by which a `FileFormatOffer` says that it is a format of workflows; its target is then a `WorkflowFormat`."""


@runtime_checkable
class WorkflowFormat(Protocol):
    """A way to write graphs as JSON. None of its methods runs anything, or needs more than the catalogue."""

    def is_mine(self, value: Any) -> bool:
        """Whether parsed JSON is in this format, as far as its outermost parts tell. Never raises."""

    def read(self, value: Any, catalogue: Catalogue) -> Graph:
        """The graph. Node types that the catalogue does not know keep their names and values. Raises WorkflowError, and nothing else."""

    def write(self, graph: Graph, catalogue: Catalogue) -> Any:
        """The graph as JSON that `read` makes the same graph of."""

    def updated(self, value: Any, graph: Graph, catalogue: Catalogue) -> Any:
        """`value` with the constants of `graph`, everything else as it was; written anew where more has changed than constants."""


def workflow_formats(offers: Iterable[FileFormatOffer]) -> list[WorkflowFormat]:
    """The formats of workflows among what plugins offer, in their order. Raises PluginError for one that is none."""
    found = []
    for offer in offers:
        if ENDING in offer.endings:
            target = offer.load()
            if not isinstance(target, WorkflowFormat):
                raise PluginError(
                    f"the format {offer.name!r} cannot read workflows", offer.target, "It needs is_mine, read, write and updated."
                )
            found.append(target)
    return found


def read_workflow(
    source: str | bytes | Any,
    catalogue: Catalogue,
    formats: Sequence[WorkflowFormat] = (),
    *,
    where: str = "",
    budget: Budget | None = None,
) -> Graph:
    """The graph of a workflow as text, bytes or parsed JSON, in API format or one of `formats`. `where` names the file in messages.

    Raises WorkflowError, and nothing else, with every fault in `faults`; see `read_api`.
    """
    value = parse(source, where=where, budget=budget) if isinstance(source, (str, bytes, bytearray)) else source
    for each in formats:
        if each.is_mine(value):
            try:
                return each.read(value, catalogue)
            except WorkflowError as error:
                error.where = error.where or where
                raise
    return read_api(value, where=where, budget=budget)
