"""Small nodes and a bench to run them on, for the tests of the graph at work. They know no picture and no torch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

import pytest

from sfumato.backends.in_process import Context
from sfumato.caching import Cache
from sfumato.catalogue import Catalogue
from sfumato.errors import ModelMissingError
from sfumato.graph import Graph, GraphBuilder, Link
from sfumato.hookspecs import hookimpl
from sfumato.nodes import Blocked, NodeContext, NodeType, Result, node
from sfumato.progress import CancelFlag, Progress
from sfumato.runner import Runner, RunResult
from sfumato.running import RunHooks
from sfumato.sockets import AnyValue, Choice, Image, Lazy, ListOf, Options, Range

Number = Annotated[int, Range(-1000, 1000)]


@node("Number", category="test")
def number(value: Annotated[int, Range(-1000, 1000)] = 1) -> int:
    """A number."""
    return value


@node("Add", category="test")
def add(a: int, b: int) -> int:
    """Their sum."""
    return a + b


@node("Words", category="test", optional=("mood",))
def words(text: str, *, mood: Literal["calm", "loud"] = "calm") -> str:
    """A text."""
    return text.upper() if mood == "loud" else text


@node("Both", category="test", outputs=("first", "second"))
def both(a: AnyValue, b: AnyValue) -> tuple[AnyValue, AnyValue]:
    """Two outputs."""
    return a, b


@node("Numbers", category="test")
def numbers(count: int) -> Annotated[list[int], ListOf()]:
    """0, 1 ... count-1, each for itself."""
    return list(range(count))


@node("Sum", category="test", input_is_list=True)
def total(values: list[int]) -> int:
    """The sum of a list that arrives as one."""
    return sum(values)


@node("Show", category="test", is_output=True)
def show(value: AnyValue) -> Result:
    """Shows a value."""
    return Result(shown={"text": [str(value)]})


@node("ShowAndPass", category="test", is_output=True)
def show_and_pass(value: AnyValue) -> AnyValue | Result:
    """Shows a value and passes it on."""
    return Result((value,), shown={"text": [str(value)]})


@node("Later", category="test")
async def later(a: int) -> int:
    """One more, after a while."""
    await asyncio.sleep(0.02)
    return a + 1


@node("Never", category="test")
async def never(a: int) -> int:
    """Waits for ever."""
    await asyncio.sleep(3600)
    return a


@node("FailLater", category="test")
async def fail_later(value: int) -> int:
    """Fails after a while."""
    await asyncio.sleep(0.01)
    raise ValueError(f"cannot use {value}")


@node("Choose", category="test")
class Choose:
    """Needs only one of its two inputs."""

    def needs(self, which: bool, left: Any, right: Any) -> list[str]:
        return ["left"] if which else ["right"]

    def run(self, which: bool, left: Annotated[AnyValue, Lazy()], right: Annotated[AnyValue, Lazy()]) -> AnyValue:
        return left if which else right


@node("ChooseLater", category="test")
class ChooseLater:
    """The same, and makes up its mind asynchronously."""

    async def needs(self, which: bool, left: Any, right: Any) -> list[str]:
        await asyncio.sleep(0)
        return ["left"] if which else ["right"]

    async def run(self, which: bool, left: Annotated[AnyValue, Lazy()], right: Annotated[AnyValue, Lazy()]) -> AnyValue:
        return left if which else right


@node("FirstTrue", category="test")
class FirstTrue:
    """Asks for its inputs one by one until one is true."""

    def needs(self, a: Any, b: Any, c: Any) -> list[str]:
        for name, value in (("a", a), ("b", b), ("c", c)):
            if value is None:
                return [name]
            if value:
                return []
        return []

    def run(self, a: Annotated[int, Lazy()], b: Annotated[int, Lazy()], c: Annotated[int, Lazy()]) -> int:
        return a or b or c


@node("Fail", category="test", optional=("kind",))
def fail(value: AnyValue, kind: Literal["plain", "model", "exit", "wrong count"] = "plain") -> AnyValue:
    """Fails."""
    if kind == "model":
        raise ModelMissingError("there is no model 'tree'", "checkpoints", "Add it.")
    if kind == "exit":
        raise SystemExit(3)
    if kind == "wrong count":
        return Result((1, 2, 3))
    raise ValueError(f"cannot use {value}")


@node("Block", category="test", optional=("message",))
def block(value: AnyValue, message: str = "") -> AnyValue:
    """Lets nothing pass."""
    return Blocked(message or None)


@node("BlockOdd", category="test")
def block_odd(value: int) -> int | Blocked:
    """Lets even numbers pass."""
    return Blocked(f"{value} is odd") if value % 2 else value


@node("Double", category="test")
def double(ctx: NodeContext, value: int) -> int | Result:
    """Twice the value, by a sub-graph."""
    build = GraphBuilder()
    result = build.node("Add", a=value, b=value)
    return Result((result.out(),), expand=build.graph())


@node("ShowInside", category="test")
def show_inside(value: int) -> int | Result:
    """Shows its value by a node of its sub-graph."""
    build = GraphBuilder()
    build.node("Show", value=value)
    return Result((value,), expand=build.graph())


@node("IsOdd", category="test")
def is_odd(value: int) -> bool:
    """Whether a number is odd."""
    return value % 2 == 1


@node("CountDown", category="test", optional=("total",))
def count_down(n: int, total: int = 0) -> int | Result:
    """The sum of n, n-1 ... 1, by a loop of sub-graphs."""
    if n == 0:
        return total
    build = GraphBuilder()
    more = build.node("Add", a=n, b=total)
    rest = build.node("CountDown", n=n - 1, total=more.out())
    return Result((rest.out(),), expand=build.graph())


@node("Expand", category="test", outputs=("first", "second"))
class Expand:
    """Returns what it was told to: a sub-graph given as a constant."""

    def run(self, graph: AnyValue, values: AnyValue) -> tuple[AnyValue, AnyValue] | Result:
        return Result(tuple(values), expand=graph)


@node("Passes", category="test", optional=("prefixed",))
class Passes:
    """Gets the link itself, and builds on it."""

    def run(self, ctx: NodeContext, value: Annotated[AnyValue, Options((("rawLink", True),))], prefixed: bool = True) -> AnyValue | Result:
        build = GraphBuilder(f"{ctx.node_id}." if prefixed else "")
        build.node("Number", value=100)
        result = build.node("Add", a=value, b=1000)
        return Result((result.out(),), expand=build.graph())


@node("Counter", category="test", optional=("step",), idempotent=False)
class Counter:
    """How often this node has run."""

    def __init__(self) -> None:
        self.count = 0

    def run(self, step: int = 1) -> int:
        self.count += step
        return self.count


@node("Stamp", category="test")
class Stamp:
    """Runs again when its fingerprint says so."""

    def fingerprint(self, mark: Any, value: Any) -> Any:
        if mark == "fail":
            raise OSError("no such file")
        return {"nan": float("nan"), "links are None": value is None}.get(mark, mark)

    def run(self, mark: str, value: AnyValue) -> AnyValue:
        return value


@node("StampLater", category="test")
class StampLater:
    """The same with an asynchronous fingerprint."""

    async def fingerprint(self, mark: Any) -> Any:
        await asyncio.sleep(0)
        return mark if mark != "nan" else float("nan")

    def run(self, mark: str) -> str:
        return mark


@node("Picky", category="test", optional=("depth",))
class Picky:
    """Checks one of its inputs by itself."""

    def validate(self, size: Any) -> Any:
        if size == 13:
            raise RuntimeError("unlucky")
        return f"{size} is no multiple of 8" if size is not None and size % 8 else None

    def run(self, size: Annotated[int, Range(0, 100)], depth: Annotated[int, Range(0, 100)] = 1) -> int:
        return size


@node("PickyLater", category="test", optional=("size",))
class PickyLater:
    """Checks everything, asynchronously, and takes whatever is linked to it."""

    async def validate(self, **inputs: Any) -> Any:
        await asyncio.sleep(0)
        return "too many" if len(inputs) > 2 else None

    def run(self, size: Annotated[int, Range(0, 100)] = 1, **more: Any) -> str:
        return ",".join(sorted(more))


@node("PickyOfTypes", category="test")
class PickyOfTypes:
    """Takes over the check of the types that are linked to it."""

    def validate(self, input_types: Any) -> Any:
        return None if input_types.get("value") in ("INT", None) else f"not {input_types['value']}"

    def run(self, value: str) -> str:
        return str(value)


@node("Model", category="test")
def model(name: Annotated[str, Choice("models:checkpoints")]) -> str:
    """The name of a model."""
    return name


@node("Blur", category="test")
def blur(image: Image, radius: Annotated[float, Range(0.0, 10.0, 0.1)] = 1.0, mask: Image | None = None) -> Image:
    """An input that cannot be written down."""
    return image


@node("Either", category="test")
def either(value: int | float) -> AnyValue:
    """Takes INT and FLOAT."""
    return value


@node("Flag", category="test")
def flag(on: bool) -> bool:
    """A truth value."""
    return on


@node("Stop", category="test")
def stop(ctx: NodeContext, value: AnyValue) -> AnyValue:
    """Does as if the user had said stop meanwhile."""
    ctx.progress.cancel.set()
    return value


@node("Steps", category="test")
def steps(ctx: NodeContext, count: int) -> int:
    """Reports its steps."""
    for step in range(count):
        ctx.progress.step("counting", step + 1, count)
    return count


TYPES = [value.node_type for value in list(globals().values()) if isinstance(getattr(value, "node_type", None), NodeType)]


class Bench:
    """A catalogue of the nodes above, a runner on it, and a record of all events."""

    def __init__(self, cache: Cache | None = None, hooks: RunHooks | None = None) -> None:
        self.catalogue = Catalogue(TYPES)
        self.models = ["tree.safetensors", "house.safetensors"]
        self.catalogue.add_source("models", lambda source: self.models)
        self.runner = Runner(self.catalogue, cache, hooks)
        self.cancel = CancelFlag()
        self.events: list[Any] = []
        self.on_event: Callable[[Any], None] = self.events.append

    def run(self, graph: Graph | GraphBuilder, targets: Iterable[str] | None = None) -> RunResult:
        """Run and record."""
        self.events.clear()
        self.cancel = CancelFlag()
        graph = graph.graph() if isinstance(graph, GraphBuilder) else graph
        return self.runner.run(graph, targets, context_for=self._context_for, on_event=self.on_event)

    def value(self, graph: Graph | GraphBuilder, target: Any) -> Any:
        """The list at a target's output."""
        return self.run(graph, [target.id]).outputs[target.id][0]

    def of(self, kind: type) -> list[Any]:
        """The events of one kind in the last run."""
        return [event for event in self.events if isinstance(event, kind)]

    def _context_for(self, node_id: str) -> Context:
        return Context(node_id, Progress(None, self.cancel))


@pytest.fixture
def bench() -> Bench:
    """A bench with the classic cache."""
    return Bench()


@pytest.fixture
def make_bench() -> Callable[..., Bench]:
    """Makes a bench with another cache or with hooks."""
    return Bench


@pytest.fixture
def build() -> GraphBuilder:
    """An empty graph to be built."""
    return GraphBuilder()


@pytest.fixture
def link() -> type[Link]:
    """`Link`, for tests that write graphs by hand."""
    return Link


class Stranger:
    """A plugin that implements no hook; tests give it some."""


@pytest.fixture
def plugin_of() -> Callable[..., Stranger]:
    """Makes a stranger's plugin out of functions named like hooks."""

    def make(**hooks: Callable[..., Any]) -> Stranger:
        plugin = Stranger()
        for name, function in hooks.items():
            setattr(plugin, name, hookimpl(function))
        return plugin

    return make
