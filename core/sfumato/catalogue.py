"""All node types by name, who offered which, and the lists that their choices are taken from."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sfumato.errors import PluginError
from sfumato.nodes import Input, NodeType
from sfumato.sockets import Resolver


@dataclass(frozen=True)
class Duplicate:
    """Two plugins offer a node type of the same name: the first is used."""

    name: str
    used: str
    ignored: str


class Catalogue:
    """Node types by name. Filled when the program starts, and read by many threads after that."""

    def __init__(self, types: Iterable[NodeType] = ()) -> None:
        self._types: dict[str, NodeType] = {}
        self._offered_by: dict[str, str] = {}
        self._sources: dict[str, Resolver] = {}
        self.duplicates: list[Duplicate] = []
        self.add(types)

    def add(self, types: Iterable[NodeType], offered_by: str = "") -> None:
        """Add node types. The first of a name is used; later ones are listed in `duplicates`."""
        for node_type in types:
            used = self._offered_by.get(node_type.name)
            if used is None:
                self._types[node_type.name] = node_type
                self._offered_by[node_type.name] = offered_by
            elif self._types[node_type.name] is not node_type:
                self.duplicates.append(Duplicate(node_type.name, used, offered_by))

    def get(self, name: str) -> NodeType | None:
        """The node type called `name`, if there is one."""
        return self._types.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._types

    def __iter__(self) -> Iterator[NodeType]:
        return iter(self._types.values())

    def __len__(self) -> int:
        return len(self._types)

    def offered_by(self, name: str) -> str:
        """The name of the plugin that offered the node type `name`, or "" if nobody did."""
        return self._offered_by.get(name, "")

    def near(self, name: str, count: int = 3) -> list[str]:
        """Names much like `name`, the likest first; capitals do not matter."""
        by_lower = {known.lower(): known for known in self._types}
        return [by_lower[found] for found in difflib.get_close_matches(name[:100].lower(), by_lower, count)]

    def add_source(self, source: str, resolver: Resolver) -> None:
        """Say who gives the choices of `source` ("samplers"), or of all sources with this word before the colon ("models")."""
        self._sources[source] = resolver

    def resolve(self, source: str) -> Sequence[str]:
        """The choices of `source`, e.g. "samplers" or "models:checkpoints". Raises PluginError if nobody gives them."""
        resolver = self._sources.get(source) or self._sources.get(source.partition(":")[0])
        if resolver is None:
            remedy = "Is the plugin that brings them installed? See `sfumato plugins list`."
            raise PluginError(f"nobody gives the choices {source!r}", remedy=remedy)
        return resolver(source)

    def choices(self, socket: Input) -> Sequence[Any] | None:
        """What may be chosen at `socket`; None if it is no choice."""
        if socket.source is not None:
            return self.resolve(socket.source)
        return socket.choices

    def unresolved(self) -> list[tuple[str, str, str]]:
        """(node type, input, source) of each choice that nobody gives."""
        sockets = ((t.name, i.name, i.source) for t in self for i in t.inputs if i.source is not None)
        return [s for s in sockets if s[2] not in self._sources and s[2].partition(":")[0] not in self._sources]

    def object_info(self, name: str | None = None) -> dict[str, dict[str, Any]]:
        """All node types, or one, in the form of ComfyUI's `/object_info`; {} if there is no node type `name`.

        A choice that nobody gives has no options there; `unresolved` names it, and a graph that uses it is refused with the reason.
        """
        types = list(self) if name is None else [t for t in [self.get(name)] if t]
        missing = {source for _, _, source in self.unresolved()}
        return {t.name: self._info(t, missing) for t in types}

    def _info(self, node_type: NodeType, missing: set[str]) -> dict[str, Any]:
        sockets: dict[str, dict[str, Any]] = {"required": {}}
        for socket in node_type.inputs:
            part = sockets.setdefault("required" if socket.required else "optional", {})
            part[socket.name] = self._socket_info(socket, missing)
        outputs = node_type.outputs
        info = {
            "input": sockets,
            "input_order": {part: list(names) for part, names in sockets.items()},
            "output": [o.type for o in outputs],
            "output_is_list": [o.is_list for o in outputs],
            "output_name": [o.name for o in outputs],
            "name": node_type.name,
            "display_name": node_type.display_name or node_type.name,
            "description": node_type.description,
            "python_module": node_type.module,
            "category": node_type.category,
            "output_node": node_type.is_output,
        }
        if any(o.tooltip for o in outputs):
            info["output_tooltips"] = [o.tooltip for o in outputs]
        marks = {"deprecated": node_type.deprecated, "experimental": node_type.experimental}
        return info | {mark: True for mark, is_set in marks.items() if is_set}

    def _socket_info(self, socket: Input, missing: set[str]) -> list[Any]:
        options = dict(socket.options) | ({"lazy": True} if socket.lazy else {})
        choices = [] if socket.source in missing else self.choices(socket)
        kind = socket.type if choices is None else list(choices)
        return [kind, options] if options else [kind]
