"""How lists flow through a node: which calls a node makes for its inputs, and how their results become its outputs.

Every output of a node is a list of values. A node is called once for each item of its longest input; shorter inputs repeat their last
item. A node that takes lists (`input_is_list`) is called once. An input without any item means that there is nothing to call for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sfumato.errors import NodeError
from sfumato.graph import Link
from sfumato.nodes import Blocked, NodeType, Result

Lists = Mapping[str, list[Any]]
"""The values of each input."""


def calls_for(node_type: NodeType, inputs: Lists) -> list[dict[str, Any]]:
    """The arguments of each call."""
    if node_type.input_is_list:
        return [dict(inputs)]
    if not all(inputs.values()):
        return []
    longest = max(map(len, inputs.values()), default=1)
    return [{name: values[min(place, len(values) - 1)] for name, values in inputs.items()} for place in range(longest)]


def blocked_by(node_type: NodeType, arguments: Mapping[str, Any]) -> Blocked | None:
    """The `Blocked` value among the arguments of a call, if there is one; one with a message comes first."""
    values = [v for each in arguments.values() for v in each] if node_type.input_is_list else arguments.values()
    found = [value for value in values if isinstance(value, Blocked)]
    return next((b for b in found if b.message), found[0] if found else None)


def result_of(node_type: NodeType, answer: Any) -> Result:
    """What a call returned, as a `Result` with one value per output. Raises NodeError if it is something else."""
    if isinstance(answer, Blocked):
        return Result((answer,) * len(node_type.outputs))
    result = answer if isinstance(answer, Result) else Result(tuple(answer) if isinstance(answer, (tuple, list)) else (answer,))
    if isinstance(result.values, Blocked):
        return Result((result.values,) * len(node_type.outputs), result.shown, result.expand)
    if len(result.values) != len(node_type.outputs):
        raise NodeError(f"it returned {len(result.values)} values and declares {len(node_type.outputs)} outputs")
    for output, value in zip(node_type.outputs, result.values, strict=True):
        if output.is_list and not isinstance(value, (list, tuple, Link, Blocked)):
            raise NodeError(f"its output {output.name!r} is declared as a list, and it returned {type(value).__name__}")
    return result


def outputs_of(node_type: NodeType, results: Sequence[Result], linked: Mapping[Link, list[Any]]) -> tuple[list[Any], ...]:
    """One list per output from the results of all calls. `linked` holds the values of links into sub-graphs."""
    outputs: tuple[list[Any], ...] = tuple([] for _ in node_type.outputs)
    for result in results:
        for output, values, value in zip(node_type.outputs, outputs, result.values, strict=True):
            if isinstance(value, Link):
                values.extend(linked[value])
            elif output.is_list and not isinstance(value, Blocked):
                values.extend(value)
            else:
                values.append(value)
    return outputs


def shown_by(parts: Iterable[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """What several calls showed, as one: lists under the same name follow each other."""
    merged: dict[str, Any] = {}
    for part in parts:
        for name, value in (part or {}).items():
            merged[name] = [*merged.get(name, []), *(value if isinstance(value, (list, tuple)) else [value])]
    return merged or None
