"""The nodes of a run: who takes part, and how far those are that are not done."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from sfumato.caching import Key
from sfumato.graph import Node
from sfumato.nodes import NodeContext, NodeType, Result


@dataclass(frozen=True)
class Member:
    """A node that takes part. `root` is the node of the user's graph that it stands for: itself, unless it is inside a sub-graph."""

    node: Node
    type: NodeType
    key: Key
    root: str

    def is_raw(self, name: str) -> bool:
        """Whether the input is handed the link itself (ComfyUI's rawLink)."""
        socket = self.type.input(name)
        return socket is not None and bool(socket.options.get("rawLink"))

    def is_lazy(self, name: str) -> bool:
        """Whether the input is worked out only when the node asks for it."""
        socket = self.type.input(name)
        return socket is not None and socket.lazy

    def needed(self, wanted: Collection[str] = ()) -> list[str]:
        """The nodes that must be done first, given which lazy inputs are wanted."""
        links = ((name, link) for name, link in self.node.links() if not self.is_raw(name))
        return list(dict.fromkeys(link.node for name, link in links if not self.is_lazy(name) or name in wanted))

    def lazy_links(self) -> list[str]:
        """The names of the linked inputs that are worked out only when asked for."""
        return [name for name, _ in self.node.links() if self.is_lazy(name) and not self.is_raw(name)]

    def uses(self) -> list[str]:
        """The nodes whose values may be used, one entry for each link."""
        return [link.node for name, link in self.node.links() if not self.is_raw(name)]


@dataclass
class Unfinished:
    """A member that is not done: what it waits for, and how far it is.

    `wanted` are the lazy inputs it has asked for; `results` what its calls returned, while the nodes of its sub-graphs, `inner`, run.
    """

    missing: set[str] = field(default_factory=set)
    wanted: set[str] = field(default_factory=set)
    context: NodeContext | None = None
    results: list[Result] | None = None
    inner: list[str] = field(default_factory=list)
    has_run: bool = False
    was_blocked: bool = False
    has_told: bool = False

    def may_be_kept(self) -> bool:
        """Whether the result is for the cache. The next run must say a message again, and ask all the way up to where it comes from."""
        return not self.has_told and (self.has_run or not self.was_blocked)
