"""Results kept from one run to the next: by what was asked for, not by which node asked.

The key of a node is a digest of its class, its fingerprint, its constants and the keys of the nodes it is linked to. A graph
whose nodes were renumbered therefore finds all its results again. The node's id enters only where a class says that
running it twice with the same inputs is not the same (`idempotent=False`).
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections import OrderedDict
from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sfumato.graph import Link, Node
from sfumato.nodes import NodeObject, NodeType

Key = bytes


@dataclass(frozen=True)
class Kept:
    """What a node left behind: one list of values per output, and what it showed."""

    outputs: tuple[list[Any], ...]
    shown: Mapping[str, Any] | None = None


def node_key(node_type: NodeType, node_id: str, node: Node, fingerprint: Any, parents: Mapping[str, Key]) -> Key:
    """The key of `node`, 16 bytes. `parents` holds the keys of the nodes it is linked to.

    Constants that cannot be compared by content (a tensor, an object, NaN) give a key that never comes again.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(_encoded((node_type.name, fingerprint, "" if node_type.idempotent else node_id)))
    for name in sorted(node.inputs):
        value = node.inputs[name]
        if isinstance(value, Link) and value.node in parents:
            digest.update(b"L" + _encoded(name) + parents[value.node] + struct.pack("<q", value.slot))
        else:
            digest.update(b"C" + _encoded(name) + _encoded(value))
    return digest.digest()


def _encoded(value: Any) -> bytes:
    """Bytes that are equal exactly where the values are equal in type and content (1, 1.0 and True differ)."""
    if value is None:
        return b"n"
    if isinstance(value, bool):
        return b"t" if value else b"f"
    if isinstance(value, int):
        return _sized(b"i", hex(value).encode())
    if isinstance(value, float):
        return b"d" + struct.pack("<d", value) if value == value else _never_again()
    if isinstance(value, str):
        return _sized(b"s", value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes):
        return _sized(b"b", value)
    if isinstance(value, (list, tuple)):
        return _sized(b"l", b"".join(map(_encoded, value)))
    if isinstance(value, (set, frozenset)):
        return _sized(b"e", b"".join(sorted(map(_encoded, value))))
    if isinstance(value, Mapping):
        return _sized(b"m", b"".join(sorted(_encoded(k) + _encoded(v) for k, v in value.items())))
    return _never_again()


def _sized(tag: bytes, content: bytes) -> bytes:
    return tag + struct.pack("<Q", len(content)) + content


def _never_again() -> bytes:
    return b"u" + os.urandom(16)


class Cache(Protocol):
    """Keeps results between runs. One run at a time uses it.

    `owner` is the key of the node of the user's graph on whose behalf a node of a sub-graph ran; elsewhere it is the key itself.
    """

    def begin(self, keys: Collection[Key]) -> None:
        """A run of a graph with these `keys` begins: the moment to let go of what it cannot use."""

    def get(self, key: Key, owner: Key) -> Kept | None:
        """What was kept under `key`."""

    def put(self, key: Key, owner: Key, kept: Kept) -> None:
        """Keep a result."""

    def clear(self) -> None:
        """Let go of everything."""


class ClassicCache:
    """Keeps what the last run's graph could use, and nothing else."""

    def __init__(self) -> None:
        self._kept: dict[Key, Kept] = {}
        self._owners: dict[Key, set[Key]] = {}

    def begin(self, keys: Collection[Key]) -> None:
        alive = frozenset(keys)
        for key in [k for k, owners in self._owners.items() if alive.isdisjoint(owners)]:
            del self._kept[key], self._owners[key]

    def get(self, key: Key, owner: Key) -> Kept | None:
        kept = self._kept.get(key)
        if kept is not None:
            self._owners[key].add(owner)
        return kept

    def put(self, key: Key, owner: Key, kept: Kept) -> None:
        self._kept[key] = kept
        self._owners.setdefault(key, set()).add(owner)

    def clear(self) -> None:
        self._kept.clear()
        self._owners.clear()

    def __len__(self) -> int:
        return len(self._kept)


class LruCache:
    """Keeps the `size` results used last. Results of the graph that runs are never thrown out while it runs."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._kept: OrderedDict[Key, Kept] = OrderedDict()
        self._in_use: set[Key] = set()

    def begin(self, keys: Collection[Key]) -> None:
        self._in_use = set(keys)
        for key in keys:
            if key in self._kept:
                self._kept.move_to_end(key)
        self._shrink()

    def get(self, key: Key, owner: Key) -> Kept | None:
        kept = self._kept.get(key)
        if kept is not None:
            self._touch(key)
        return kept

    def put(self, key: Key, owner: Key, kept: Kept) -> None:
        self._kept[key] = kept
        self._touch(key)
        self._shrink()

    def clear(self) -> None:
        self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)

    def _touch(self, key: Key) -> None:
        self._in_use.add(key)
        self._kept.move_to_end(key)

    def _shrink(self) -> None:
        while len(self._kept) > self.size and (oldest := next(iter(self._kept))) not in self._in_use:
            del self._kept[oldest]


class NoCache:
    """Keeps nothing: every run does everything, and values are let go as soon as nobody in the run needs them."""

    def begin(self, keys: Collection[Key]) -> None:
        """Nothing to let go of."""

    def get(self, key: Key, owner: Key) -> Kept | None:
        return None

    def put(self, key: Key, owner: Key, kept: Kept) -> None:
        """Not kept."""

    def clear(self) -> None:
        """Nothing is kept."""


class NodeObjects:
    """One object for each node id and class, so that state on `self` survives between runs."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[NodeType, NodeObject, str]] = {}

    def get(self, node_id: str, node_type: NodeType, root: str) -> NodeObject:
        """The object of the node `node_id`; a new one if there is none or its class has changed.

        `root` is the node of the user's graph that it stands for.
        """
        known = self._objects.get(node_id)
        if known is None or known[0] is not node_type:
            known = self._objects[node_id] = (node_type, node_type.make(), root)
        return known[1]

    def keep_only(self, roots: Container[str]) -> None:
        """Let go of the objects of nodes that are not in the user's graph any more."""
        self._objects = {key: value for key, value in self._objects.items() if value[2] in roots}
