"""Graphs, events, errors and results as what may stand in a message between processes, and back again.

What is read here was written by an engine that may have gone mad: whatever does not fit ends in WireFault, and no name is looked
up but those of our own errors and events.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sfumato import errors, events
from sfumato.backends.wire import MOST_DEPTH, Message, WireFault
from sfumato.bounded_json import JsonFault, read_json
from sfumato.errors import BadValueError, NodeError, SfumatoError, WorkflowError
from sfumato.faults import Fault
from sfumato.graph import Graph, Link, Node
from sfumato.lazy import lazy_module
from sfumato.pixels import as_array
from sfumato.progress import Step
from sfumato.runner import LeftBehind, RunResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_module("numpy")

_T = TypeVar("_T")

_MOST_CAUSE = 20_000
"""Characters of a traceback that travel with an error."""


class EngineTraceback(Exception):
    """Stands, as the cause of an error that came from an engine's process, for what it was raised from there."""


# --- What is asked for ---------------------------------------------------------------------------------------------------------


def graph_to_plain(graph: Graph) -> dict[str, Any]:
    """{id: [type, title, {input: [constant] or [node, slot]}]}."""
    return {key: [node.type, node.title, {name: _input(value) for name, value in node.inputs.items()}] for key, node in graph.nodes.items()}


def graph_from_plain(plain: Mapping[str, Any]) -> Graph:
    """The graph again."""
    return Graph({key: Node(type_, dict(map(_input_again, inputs.items())), title) for key, (type_, title, inputs) in plain.items()})


def _input(value: Any) -> list[Any]:
    return [value.node, value.slot] if isinstance(value, Link) else [value]


def _input_again(item: tuple[str, Any]) -> tuple[str, Any]:
    name, value = item
    return name, Link(*value) if len(value) == 2 else value[0]


def checked(what: str, value: Any) -> Any:
    """`value` if it can travel as JSON. Raises BadValueError, which names `what` it was, for anything else."""
    try:
        text = json.dumps(value, ensure_ascii=True)
        read_json(text, most_bytes=1 << 62, most_depth=MOST_DEPTH - 4)
    except (TypeError, ValueError, RecursionError, JsonFault) as error:
        remedy = "Use numbers, texts, lists and tables, or run in this process."
        raise BadValueError(f"{what} cannot be handed to an engine in another process ({error})", "", remedy) from error
    return value


# --- Errors ----------------------------------------------------------------------------------------------------------------


def error_to_plain(error: SfumatoError) -> dict[str, Any]:
    """The class by name, its parts, and in words what it came from."""
    plain: dict[str, Any] = {"class": type(error).__name__, "parts": [error.what, error.where, error.remedy]}
    if isinstance(error, WorkflowError):
        plain["faults"] = [dataclasses.asdict(fault) for fault in error.faults]
    if isinstance(error, NodeError):
        plain["parts"] += [error.node_id, error.node_type]
    if error.__cause__ is not None:
        import traceback

        cause = error.__cause__
        plain["cause"] = "".join(traceback.format_exception(type(cause), cause, cause.__traceback__))[-_MOST_CAUSE:]
    plain["notes"] = list(getattr(error, "__notes__", ()))
    return plain


def error_from_plain(plain: Any) -> SfumatoError:
    """The error again, of the same class; of SfumatoError where the name is none of ours."""

    def read() -> SfumatoError:
        found: Any = getattr(errors, plain["class"], None)
        kind: Any = found if isinstance(found, type) and issubclass(found, SfumatoError) else SfumatoError
        parts = _texts(plain["parts"])[: 5 if issubclass(kind, NodeError) else 3]
        more = [_faults(plain.get("faults", ()))] if issubclass(kind, WorkflowError) else []
        error: SfumatoError = kind(*parts, *more)
        if cause := plain.get("cause"):
            error.__cause__ = EngineTraceback(_text(cause))
        for note in plain.get("notes", ()):
            error.add_note(_text(note))
        return error

    return _believed(read)


def _faults(plain: Any) -> tuple[Fault, ...]:
    return tuple(Fault(**each) for each in plain)


# --- Events ----------------------------------------------------------------------------------------------------------------

_PLAIN_EVENTS = ("RunStarted", "NodeStarted", "NodeCached", "NodeExpanded", "NodeBlocked", "NodeDone")
_TUPLES = ("targets", "children")


def event_to_message(event: Any, preview: NDArray[np.uint8] | None) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """(plain, arrays) of an event of a run; of a step the `preview` travels instead of what would make it."""
    name = type(event).__name__
    if isinstance(event, (events.NodeProgressed, events.RunProgressed)):
        step = event.step
        plain = {"what": step.what, "done": step.done, "total": step.total}
        rest = {"place": _place(event)} if isinstance(event, events.NodeProgressed) else {}
        return {"name": name, "step": plain, **rest}, [] if preview is None else [preview]
    if isinstance(event, events.NodeFailed):
        return {"name": name, "place": _place(event), "error": error_to_plain(event.error)}, []
    if name not in _PLAIN_EVENTS:
        raise WireFault(f"an event {name!r} cannot travel")
    return {"name": name, "fields": {each.name: getattr(event, each.name) for each in dataclasses.fields(event)}}, []


def event_from_message(message: Message) -> Any:
    """The event again. Its preview, if there is one, gives an array uint8."""

    def read() -> Any:
        plain = message.body["event"]
        name = plain["name"]
        if name in ("NodeProgressed", "RunProgressed"):
            step = _step(plain["step"], message.arrays)
            return events.RunProgressed(step) if name == "RunProgressed" else events.NodeProgressed(*_place_again(plain), step)
        if name == "NodeFailed":
            return events.NodeFailed(*_place_again(plain), error_from_plain(plain["error"]))
        if name not in _PLAIN_EVENTS:
            raise WireFault(f"there is no event {name!r}")
        fields = {key: tuple(_texts(value)) if key in _TUPLES else value for key, value in plain["fields"].items()}
        return getattr(events, name)(**fields)

    return _believed(read)


def _place(event: events.NodeEvent) -> list[str]:
    return [event.node_id, event.node_type, event.display_id]


def _place_again(plain: Mapping[str, Any]) -> tuple[str, str, str]:
    node_id, node_type, display_id = _texts(plain["place"])
    return node_id, node_type, display_id


def _step(plain: Any, arrays: Sequence[NDArray[Any]]) -> Step:
    preview = arrays[0] if arrays else None
    return Step(_text(plain["what"]), _number(plain["done"]), _number(plain["total"]), None if preview is None else lambda: preview)


# --- Results ---------------------------------------------------------------------------------------------------------------


def result_to_message(result: RunResult) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """(plain, arrays). Pictures, masks and plain values travel; of anything else only its kind."""
    arrays: list[NDArray[Any]] = []
    outputs = {key: [[_value(value, arrays) for value in values] for values in slots] for key, slots in result.outputs.items()}
    plain = {
        "outputs": outputs,
        "shown": result.shown,
        "executed": result.executed,
        "cached": result.cached,
        "faults": [dataclasses.asdict(fault) for fault in result.faults],
        "rung": result.rung,
    }
    return plain, arrays


def result_from_message(message: Message) -> RunResult:
    """The result again, its pictures as arrays float32 that cannot be written to."""

    def read() -> RunResult:
        plain, arrays = message.body["result"], message.arrays
        outputs = {
            key: tuple([_value_again(value, arrays) for value in values] for values in slots) for key, slots in plain["outputs"].items()
        }
        executed, cached = tuple(_texts(plain["executed"])), tuple(_texts(plain["cached"]))
        return RunResult(outputs, dict(plain["shown"]), executed, cached, _faults(plain["faults"]), _text(plain["rung"]))

    return _believed(read)


def _value(value: Any, arrays: list[NDArray[Any]]) -> dict[str, Any]:
    if isinstance(value, LeftBehind):
        return {"kept": value.kind}
    if _is_picture(value):
        arrays.append(as_array(value))
        return {"array": len(arrays) - 1}
    return {"plain": value} if _is_plain(value) else {"kept": type(value).__name__}


def _is_picture(value: Any) -> bool:
    return value.is_floating_point() if hasattr(value, "is_floating_point") else isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _is_plain(value: Any, depth: int = 32) -> bool:
    """Whether a value is the same again after it was JSON."""
    if value is None or type(value) in (str, bool, int, float):
        return True
    if depth and type(value) is dict:
        return all(type(key) is str and _is_plain(each, depth - 1) for key, each in value.items())
    return depth > 0 and type(value) is list and all(_is_plain(each, depth - 1) for each in value)


def _value_again(plain: Any, arrays: Sequence[NDArray[Any]]) -> Any:
    if "array" in plain:
        return arrays[_number(plain["array"])]
    return LeftBehind(_text(plain["kept"])) if "kept" in plain else plain["plain"]


def as_preview(made: Any) -> NDArray[np.uint8] | None:
    """A preview as array uint8, whichever form a node gave it; None for one of a form nobody knows.

    Numbers with a fraction are taken to be in 0..1.
    """
    if hasattr(made, "detach"):
        made = made.detach().cpu()
        made = (made.float() if made.is_floating_point() else made).numpy()
    if not isinstance(made, np.ndarray) or made.dtype.kind not in "fui":
        return None
    if made.dtype.kind == "f":
        made = np.rint(np.clip(made, 0.0, 1.0) * 255.0)
    array: NDArray[np.uint8] = np.ascontiguousarray(made, dtype=np.uint8)
    return array


# --- Paths -----------------------------------------------------------------------------------------------------------------


def paths_to_plain(paths: Mapping[str, Iterable[Path]]) -> dict[str, list[str]]:
    """Folders by kind, as texts."""
    return {kind: [str(path) for path in several] for kind, several in paths.items()}


# --- Doubt -----------------------------------------------------------------------------------------------------------------


def _believed(read: Callable[[], _T]) -> _T:
    """What `read` makes of a message; WireFault where the message is not of the form that it expects."""
    try:
        return read()
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise WireFault(f"a message is not of its form ({type(error).__name__}: {error})") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _texts(values: Any) -> list[str]:
    return [_text(value) for value in values]


def _number(value: Any) -> int:
    """A whole number; steps may be counted in other ones, which stay what they are."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise TypeError("no number")
    return value  # type: ignore[return-value]  # floats only from nodes that count in them
