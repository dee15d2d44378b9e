"""A graph of nodes as plain data: JSON in and out, order, cycles. It knows no node type and runs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Link(NamedTuple):
    """The output number `slot` of the node `node`."""

    node: str
    slot: int


@dataclass(frozen=True)
class Node:
    """A node of the type `type`; each input is a constant (JSON value) or a `Link`."""

    type: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""

    def links(self) -> Iterator[tuple[str, Link]]:
        """(input name, link) of every linked input."""
        return ((name, value) for name, value in self.inputs.items() if isinstance(value, Link))


@dataclass(frozen=True)
class Graph:
    """Nodes by id. Plain data: two graphs with the same nodes are equal."""

    nodes: Mapping[str, Node] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """ComfyUI's API format: {id: {"class_type", "inputs", "_meta"?}}; links are [id, slot], list constants are wrapped."""
        return {key: _node_to_json(node) for key, node in self.nodes.items()}

    def ancestors(self, targets: Iterable[str]) -> set[str]:
        """The ids of `targets` and of everything they depend on (links into nowhere are passed over)."""
        seen: set[str] = set()
        todo = list(targets)
        while todo:
            key = todo.pop()
            if key in seen or key not in self.nodes:
                continue
            seen.add(key)
            todo.extend(link.node for _, link in self.nodes[key].links())
        return seen

    def order(self, targets: Iterable[str] | None = None) -> list[str]:
        """The ids of `targets` (all nodes if None) and of what they depend on, each after what it depends on.

        Nodes along a cycle come in some order; `cycles` finds them. Links into nowhere are passed over.
        """
        placed: dict[str, None] = {}
        entered: set[str] = set()
        for target in self.nodes if targets is None else targets:
            stack = [(target, self._parents(target))] if target in self.nodes and target not in entered else []
            entered.add(target)
            while stack:
                parents = stack[-1][1]
                parent = next((p for p in parents if p in self.nodes and p not in entered), None)
                if parent is None:
                    placed[stack.pop()[0]] = None
                else:
                    entered.add(parent)
                    stack.append((parent, self._parents(parent)))
        return list(placed)

    def cycle(self) -> list[str]:
        """The ids along one cycle, each of which depends on the next, or [] if there is none."""
        return next(iter(self.cycles()), [])

    def cycles(self) -> list[list[str]]:
        """One cycle out of each knot of nodes that depend on each other; ids in order, each depends on the next.

        Tarjan, "Depth-first search and linear graph algorithms", SIAM J. Comput. 1(2), 1972, without its recursion.
        """
        found: list[list[str]] = []
        number: dict[str, int] = {}
        lowest: dict[str, int] = {}
        on_stack: dict[str, None] = {}
        for root in self.nodes:
            path = [(root, self._parents(root))] if root not in number else []
            if path:
                number[root] = lowest[root] = len(number)
                on_stack[root] = None
            while path:
                key, parents = path[-1]
                parent = next(parents, None)
                if parent is None:
                    path.pop()
                    if path:
                        lowest[path[-1][0]] = min(lowest[path[-1][0]], lowest[key])
                    if lowest[key] == number[key]:
                        found += self._cycle_in(_popped_down_to(on_stack, key))
                elif parent in self.nodes and parent not in number:
                    number[parent] = lowest[parent] = len(number)
                    on_stack[parent] = None
                    path.append((parent, self._parents(parent)))
                elif parent in on_stack:
                    lowest[key] = min(lowest[key], number[parent])
        return found

    def _cycle_in(self, knot: set[str]) -> list[list[str]]:
        """A cycle inside a strongly connected set, as a list of one; [] for a single node without a link to itself."""
        walk: dict[str, int] = {}
        key = min(knot)
        while key not in walk:
            walk[key] = len(walk)
            onward = next((parent for parent in self._parents(key) if parent in knot), None)
            if onward is None:
                return []
            key = onward
        return [list(walk)[walk[key] :]]

    def _parents(self, key: str) -> Iterator[str]:
        return iter([link.node for _, link in self.nodes[key].links()])


class GraphBuilder:
    """Builds a graph a node at a time: `out = build.node("VAEDecode", samples=x.out(0), vae=m.out(2))`, then `out.out(0)` is a link."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix, self._nodes = prefix, dict[str, Node]()

    def node(self, type: str, id: str | None = None, title: str = "", /, **inputs: Any) -> _Placed:
        """Add a node; ids count up from 1 unless given. Inputs that are None are left out."""
        key = self._prefix + (id if id is not None else str(len(self._nodes) + 1))
        self._nodes[key] = Node(type, {name: value for name, value in inputs.items() if value is not None}, title)
        return _Placed(key)

    def graph(self) -> Graph:
        """The graph so far."""
        return Graph(dict(self._nodes))


class _Placed(NamedTuple):
    """A node in a builder."""

    id: str

    def out(self, slot: int = 0) -> Link:
        """The link to its output number `slot`."""
        return Link(self.id, slot)


def _popped_down_to(stack: dict[str, None], key: str) -> set[str]:
    """Take everything from the top of `stack` down to `key`."""
    popped = set()
    while key not in popped:
        popped.add(stack.popitem()[0])
    return popped


def _node_to_json(node: Node) -> dict[str, Any]:
    inputs = {name: _value_to_json(value) for name, value in node.inputs.items()}
    meta = {"_meta": {"title": node.title}} if node.title else {}
    return {"class_type": node.type, "inputs": inputs, **meta}


def _value_to_json(value: Any) -> Any:
    if isinstance(value, Link):
        return [value.node, value.slot]
    must_be_wrapped = isinstance(value, (list, tuple)) or (isinstance(value, dict) and value.keys() == {"__value__"})
    return {"__value__": value} if must_be_wrapped else value
