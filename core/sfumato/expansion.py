"""A node that puts a sub-graph in its place: the names its nodes get, and the links that follow them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from sfumato.errors import NodeError
from sfumato.graph import Link, Node
from sfumato.nodes import Result

_LONGEST_ID = 120
"""Ids grow by a part with every level of a loop that is made by recursion; longer ones are shortened to a digest."""


def placed(result: Result, parent: str, call: int, root: str, raw_links: Collection[Link]) -> tuple[dict[str, Node], tuple[Any, ...]]:
    """The nodes of `result.expand` and the values of `result`, with the names that they get in the run.

    `parent` is the node that returned it from its call number `call`, `root` the node of the user's graph that it stands for. The
    same sub-graph gets the same names in every run. `raw_links` are those that the node was handed.
    """
    if result.expand is None:
        return {}, result.values
    nodes = result.expand.nodes
    names = {local: _name(local, parent, call, root) for local in nodes}
    for link in raw_links:
        if link.node in nodes:
            raise NodeError(
                f"its sub-graph has a node {link.node!r}, and so has the graph around it, which a link handed to the node leads to",
                remedy='Build the sub-graph with GraphBuilder(f"{ctx.node_id}."), whose ids are its own.',
            )
    renamed = {names[local]: replace(node, inputs={k: _follow(v, names) for k, v in node.inputs.items()}) for local, node in nodes.items()}
    return renamed, tuple(_follow(value, names) for value in result.values)


def _name(local: str, parent: str, call: int, root: str) -> str:
    name = f"{parent}.{call}.{local.removeprefix(f'{parent}.')}"
    if len(name) <= _LONGEST_ID:
        return name
    return f"{root}.~{hashlib.blake2b(name.encode('utf-8', 'surrogatepass'), digest_size=12).hexdigest()}"


def _follow(value: Any, names: Mapping[str, str]) -> Any:
    return Link(names.get(value.node, value.node), value.slot) if isinstance(value, Link) else value
