"""A node is a typed function: `@node` reads its signature once, and everything else is derived from it.

`object_info`, the window's forms, the command line's options and the documentation all come from the `NodeType` made here.

* Inputs are required, except those named in `optional` and those whose default is None (a graph may leave these out).
* `ctx: NodeContext` is handed in and is no socket. A node that needs the machine uses it, and nothing else.
* The return annotation gives the outputs: one value, a `tuple[...]`, or None.
* A class with a method `run` is used where a node needs lazy inputs (`needs`), `fingerprint` or `validate`.
  One object is kept for each node id, so state on `self` survives between runs.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from sfumato.errors import PluginError
from sfumato.graph import Graph
from sfumato.progress import Progress
from sfumato.sockets import Choice, Lazy, ListOf, Options, Range, SocketType, Text

MISSING: Any = inspect.Parameter.empty


@dataclass(frozen=True)
class Input:
    """One input socket. `type` is a socket type's name, or COMBO; `options` holds default, min, max, choices ..."""

    name: str
    type: str
    required: bool = True
    default: Any = MISSING
    choices: tuple[Any, ...] | None = None
    source: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    lazy: bool = False

    @property
    def is_widget(self) -> bool:
        """Whether a form can show it (a number, a text, a choice), rather than only a link."""
        return self.type in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


@dataclass(frozen=True)
class Output:
    """One output socket."""

    name: str
    type: str
    is_list: bool = False
    tooltip: str = ""


@dataclass(frozen=True)
class Result:
    """What a node may return instead of plain values: values, words or files for the user, or a sub-graph in its place.

    `values` has one item per output. In an `expand`ed result, items may be `Link`s into `expand`.
    `shown` goes to the user (ComfyUI's `ui`): e.g. {"images": [{"filename", "subfolder", "type"}], "text": [...]}.
    """

    values: tuple[Any, ...] = ()
    shown: Mapping[str, Any] | None = None
    expand: Graph | None = None


@dataclass(frozen=True)
class Blocked:
    """As a value: whatever depends on it does not run. With `message`, the node that would have run reports it."""

    message: str | None = None


class NodeContext(Protocol):
    """All of the machine that a node may touch: handed in, never global. Its parts are narrow on purpose:
    a node that could reach the queue or the window would one day hold a lock of theirs."""

    @property
    def node_id(self) -> str: ...

    @property
    def progress(self) -> Progress:
        """Reports steps and previews; `progress.check()` raises `CancelledError` when the user said stop."""

    @property
    def services(self) -> Any:
        """The engine's room (`sfumato.engine.services.Services`): models, weights, registered samplers and so on."""

    @property
    def folders(self) -> Any:
        """Where pictures are read and written (`sfumato.paths.Folders`)."""

    @property
    def hidden(self) -> Mapping[str, Any]:
        """What travels with a run: `prompt` (API JSON), `extra_pnginfo`, `record` (our own)."""


class NodeObject(Protocol):
    """A node at work. Each may be async. The last three are optional in effect: their defaults say 'nothing special'."""

    def run(self, ctx: NodeContext, inputs: Mapping[str, Any]) -> Any:
        """The outputs: a tuple with one item per output, a `Result`, or an awaitable of either."""

    def needs(self, inputs: Mapping[str, Any]) -> Any:
        """A sequence with the names of lazy inputs wanted now; `inputs` holds what is known. Asked again until it wants nothing new."""

    def fingerprint(self, ctx: NodeContext, inputs: Mapping[str, Any]) -> Any:
        """A value that changes when the node must run again although its inputs did not; links arrive as None. NaN: always."""

    def validate(self, inputs: Mapping[str, Any]) -> Any:
        """What is wrong with the constants, in words, or None; links arrive as None."""


@dataclass(frozen=True)
class NodeType:
    """All that is known about a kind of node without running it."""

    name: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    make: Callable[[], NodeObject]
    display_name: str = ""
    category: str = ""
    description: str = ""
    is_output: bool = False
    input_is_list: bool = False
    idempotent: bool = True
    has_fingerprint: bool = False
    validated_inputs: frozenset[str] | None = frozenset()
    """Inputs that `validate` takes over from the built-in range checks; None: all of them."""
    experimental: bool = False
    deprecated: bool = False
    module: str = ""
    takes_any: bool = False
    """Takes linked inputs that it did not declare (ComfyUI's **kwargs)."""

    def input(self, name: str) -> Input | None:
        """The input called `name`, if there is one."""
        return next((i for i in self.inputs if i.name == name), None)


_T = TypeVar("_T")


def node(
    name: str,
    *,
    category: str,
    display: str = "",
    outputs: Sequence[str] | None = None,
    optional: Sequence[str] = (),
    is_output: bool = False,
    input_is_list: bool = False,
    idempotent: bool = True,
    experimental: bool = False,
    deprecated: bool = False,
) -> Callable[[_T], _T]:
    """Declare a function or class as the node `name`; the `NodeType` hangs on it as `node_type`. See the module's docstring.

    Raises PluginError at load if the signature cannot be a node's.
    """

    def declare(target: _T) -> _T:
        function = _function_of(name, target)
        inputs, takes_any = _inputs_of(name, function, optional)
        if any(socket.lazy for socket in inputs) and not hasattr(target, "needs"):
            raise PluginError(f"node {name!r} has lazy inputs and no method `needs` that could ask for them", function.__module__)
        node_type = NodeType(
            name=name,
            inputs=inputs,
            outputs=_outputs_of(name, function, outputs),
            make=_maker(target, function),
            display_name=display or name,
            category=category,
            description=inspect.cleandoc(function.__doc__ or getattr(target, "__doc__", None) or ""),
            is_output=is_output,
            input_is_list=input_is_list,
            idempotent=idempotent,
            has_fingerprint=hasattr(target, "fingerprint"),
            validated_inputs=_validated(target),
            experimental=experimental,
            deprecated=deprecated,
            module=getattr(target, "__module__", ""),
            takes_any=takes_any,
        )
        target.node_type = node_type  # type: ignore[attr-defined]
        return target

    return declare


def node_types(module: Any) -> list[NodeType]:
    """The node types declared in a module, in the order of their definition."""
    # Modules are passed over: to ask a lazy one for a name would import it.
    found = (getattr(value, "node_type", None) for value in vars(module).values() if not isinstance(value, (NodeType, types.ModuleType)))
    return list({t.name: t for t in found if isinstance(t, NodeType)}.values())


class _FunctionNode:
    """A function, or a class with the method `run`, as a node object."""

    def __init__(self, function: Callable[..., Any], target: Any, wants_ctx: bool, is_bare: bool) -> None:
        self._function, self._object = function, target
        self._wants_ctx, self._bare = wants_ctx, is_bare

    def run(self, ctx: NodeContext, inputs: Mapping[str, Any]) -> Any:
        answer = self._function(ctx=ctx, **inputs) if self._wants_ctx else self._function(**inputs)
        return _Later(answer, self._tidy) if inspect.isawaitable(answer) else self._tidy(answer)

    def needs(self, inputs: Mapping[str, Any]) -> Any:
        ask = getattr(self._object, "needs", None)
        return ask(**_taken(ask, inputs)) if ask else ()

    def fingerprint(self, ctx: NodeContext, inputs: Mapping[str, Any]) -> Any:
        ask = getattr(self._object, "fingerprint", None)
        if ask is None:
            return None
        wants_ctx = "ctx" in inspect.signature(ask).parameters
        return ask(**_taken(ask, inputs), **({"ctx": ctx} if wants_ctx else {}))

    def validate(self, inputs: Mapping[str, Any]) -> Any:
        ask = getattr(self._object, "validate", None)
        return ask(**_taken(ask, inputs)) if ask else None

    def _tidy(self, answer: Any) -> Any:
        """One value that is annotated as such becomes a tuple of one; nothing becomes an empty tuple."""
        if isinstance(answer, (Result, Blocked)) or not self._bare:
            return answer
        return () if answer is None else (answer,)


class _Later:
    """What an awaitable gives, tidied. Unlike a coroutine around a coroutine it can be closed before it has begun."""

    def __init__(self, awaitable: Awaitable[Any], tidy: Callable[[Any], Any]) -> None:
        self._awaitable, self._tidy = awaitable, tidy

    def __await__(self) -> Generator[Any, Any, Any]:
        answer = yield from self._awaitable.__await__()
        return self._tidy(answer)

    def close(self) -> None:
        if inspect.iscoroutine(self._awaitable):
            self._awaitable.close()


def _maker(target: Any, function: Callable[..., Any]) -> Callable[[], NodeObject]:
    wants_ctx = "ctx" in inspect.signature(function).parameters
    is_bare = not _returned(_hints("", function).get("return"))[1]

    def make() -> NodeObject:
        if not inspect.isclass(target):
            return _FunctionNode(target, None, wants_ctx, is_bare)
        made: Any = target()
        return _FunctionNode(made.run, made, wants_ctx, is_bare)

    return make


def _taken(function: Callable[..., Any], inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those of `inputs` that `function` has parameters for."""
    parameters = inspect.signature(function).parameters
    everything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    return inputs if everything else {name: value for name, value in inputs.items() if name in parameters}


def _function_of(name: str, target: Any) -> Callable[..., Any]:
    function = getattr(target, "run", None) if inspect.isclass(target) else target
    if not callable(function):
        raise PluginError(f"the class of node {name!r} has no method `run`", getattr(target, "__module__", ""))
    return function  # type: ignore[no-any-return]


def _validated(target: Any) -> frozenset[str] | None:
    check = getattr(target, "validate", None) if inspect.isclass(target) else None
    if check is None:
        return frozenset()
    parameters = [p for p in inspect.signature(check).parameters.values() if p.name != "self"]
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return None
    return frozenset(p.name for p in parameters)


def _inputs_of(name: str, function: Callable[..., Any], optional: Sequence[str]) -> tuple[tuple[Input, ...], bool]:
    hints = _hints(name, function)
    inputs, takes_any = [], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in ("self", "ctx"):
            continue
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            takes_any = True
        elif parameter.name not in hints:
            raise PluginError(f"parameter {parameter.name!r} of node {name!r} has no annotation", function.__module__)
        else:
            inputs.append(_input(name, parameter, hints[parameter.name], parameter.name not in optional, function.__module__))
    known = {socket.name for socket in inputs}
    if unknown := [each for each in optional if each not in known]:
        raise PluginError(f"node {name!r} calls {unknown[0]!r} optional, and has no such input", function.__module__)
    return tuple(inputs), takes_any


def _input(name: str, parameter: inspect.Parameter, hint: Any, wanted: bool, module: str) -> Input:
    kind, marks, choices = _read_hint(hint)
    if kind is None:
        raise PluginError(f"parameter {parameter.name!r} of node {name!r}: {hint!r} is no socket type", module)
    options: dict[str, Any] = {}
    source = None
    for mark in marks:
        if isinstance(mark, Range):
            whole = kind == "INT"
            options |= {"min": int(mark.min) if whole else mark.min, "max": int(mark.max) if whole else mark.max}
            options |= {"step": int(mark.step) if whole else mark.step} if mark.step is not None else {}
            options |= {"round": mark.round} if mark.round is not None else {}
            options |= {"control_after_generate": True} if mark.control_after_generate else {}
        elif isinstance(mark, Text):
            options |= {"multiline": mark.multiline} if mark.multiline else {}
            options |= {"dynamicPrompts": mark.dynamic_prompts} if mark.dynamic_prompts else {}
        elif isinstance(mark, Choice):
            kind, source = "COMBO", mark.source
            options |= {"image_upload": True} if mark.upload else {}
        elif isinstance(mark, Options):
            options |= dict(mark.values)
    default = parameter.default
    if default is not MISSING and default is not None:
        options["default"] = default
    required = wanted and default is not None
    lazy = any(isinstance(m, Lazy) for m in marks)
    _check_default(name, parameter.name, default, options, choices, module)
    return Input(parameter.name, kind, required, default, choices, source, types.MappingProxyType(options), lazy)


def _check_default(
    name: str,
    parameter: str,
    default: Any,
    options: Mapping[str, Any],
    choices: tuple[Any, ...] | None,
    module: str,
) -> None:
    """The declaration is checked at load, where its author sees it, not when a user meets it."""
    if default is MISSING or default is None:
        return
    low, high = options.get("min"), options.get("max")
    outside = (low is not None and default < low) or (high is not None and default > high)
    if outside or (choices is not None and default not in choices):
        raise PluginError(f"node {name!r}: its own declaration forbids the default {default!r} of {parameter!r}", module)


_PLAIN = {int: "INT", float: "FLOAT", str: "STRING", bool: "BOOLEAN"}


def _read_hint(hint: Any) -> tuple[str | None, list[Any], tuple[Any, ...] | None]:
    """(socket type or None, marks, choices) of an annotation."""
    if hasattr(hint, "__metadata__"):
        kind, marks, choices = _read_hint(hint.__origin__)
        marks = [*marks, *hint.__metadata__]
        named = next((m.name for m in marks if isinstance(m, SocketType)), None)
        return named or kind, marks, choices
    if get_origin(hint) is Literal:
        return "COMBO", [], get_args(hint)
    if get_origin(hint) is list:
        return _read_hint(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        parts = [_read_hint(a) for a in get_args(hint) if a is not type(None)]
        names = [p[0] for p in parts]
        if any(n is None for n in names):
            return None, [], None
        marks = [m for p in parts for m in p[1] if not isinstance(m, SocketType)]
        return ",".join(dict.fromkeys(str(n) for n in names)), marks, parts[0][2] if len(parts) == 1 else None
    return _PLAIN.get(hint), [], None


def _outputs_of(name: str, function: Callable[..., Any], names: Sequence[str] | None) -> tuple[Output, ...]:
    hint = _hints(name, function).get("return", MISSING)
    if hint is MISSING:
        raise PluginError(f"node {name!r} has no return annotation", function.__module__)
    outputs = []
    for place, each in enumerate(_returned(hint)[0]):
        kind, marks, _ = _read_hint(each)
        if kind is None:
            raise PluginError(f"output {place} of node {name!r}: {each!r} is no socket type", function.__module__)
        outputs.append(Output(kind, kind, any(isinstance(m, ListOf) for m in marks)))
    if names is None:
        return tuple(outputs)
    if len(names) != len(outputs):
        raise PluginError(f"node {name!r} names {len(names)} outputs and returns {len(outputs)}", function.__module__)
    return tuple(Output(n, o.type, o.is_list) for n, o in zip(names, outputs, strict=True))


_UNTYPED = (type(None), Result, Blocked)
"""What a node may return besides its outputs, and what therefore is no output in a return annotation."""


def _returned(hint: Any) -> tuple[tuple[Any, ...], bool]:
    """(hint of each output, whether the function returns a tuple of them) of a return annotation."""
    if get_origin(hint) in (Union, types.UnionType):
        parts = [part for part in get_args(hint) if part not in _UNTYPED]
        if len(parts) <= 1:
            return _returned(parts[0]) if parts else ((), False)
    if get_origin(hint) is tuple:
        return tuple(part for part in get_args(hint) if part not in _UNTYPED), True
    return () if hint in _UNTYPED else (hint,), False


def _hints(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        remedy = "Import it where the module is loaded, not only under TYPE_CHECKING: annotations are read at load."
        raise PluginError(f"an annotation of node {name!r} cannot be read: {error}", function.__module__, remedy) from error
