"""Random graphs against a plain recursive evaluation, with every cache, run again after changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sfumato.caching import Cache, ClassicCache, LruCache, NoCache
from sfumato.graph import Graph, Link, Node

Spec = tuple[str, dict[str, Any]]
"""A node of a random graph: its type, and its inputs; ("link", place) leads to a node before it."""

KINDS: dict[str, tuple[str, ...]] = {
    "Number": ("value",),
    "Add": ("a", "b"),
    "Numbers": ("count",),
    "Sum": ("values",),
    "FirstTrue": ("a", "b", "c"),
    "Double": ("value",),
    "CountDown": ("n",),
    "Later": ("a",),
}


@st.composite
def specs(draw: st.DrawFn) -> list[Spec]:
    """Up to a dozen nodes, each linked to some before it."""
    made: list[Spec] = []
    for place in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(sorted(KINDS)))
        inputs: dict[str, Any] = {}
        for name in KINDS[kind]:
            # Loops and lists take constants only, or they would grow without end.
            may_link = place > 0 and kind not in ("Numbers", "CountDown", "Number")
            inputs[name] = ("link", draw(st.integers(0, place - 1))) if may_link and draw(st.booleans()) else draw(st.integers(0, 3))
        made.append((kind, inputs))
    return made


def graph_of(made: list[Spec]) -> Graph:
    def value(given: Any) -> Any:
        return Link(str(given[1]), 0) if isinstance(given, tuple) else given

    return Graph({str(place): Node(kind, {name: value(v) for name, v in inputs.items()}) for place, (kind, inputs) in enumerate(made)})


def expected(made: list[Spec], place: int) -> list[int]:
    """What the node gives, worked out by recursion and by hand."""
    kind, inputs = made[place]
    lists = {name: expected(made, v[1]) if isinstance(v, tuple) else [v] for name, v in inputs.items()}
    if kind == "Sum":
        return [sum(lists["values"])]
    if kind == "Numbers":
        return list(range(lists["count"][0]))
    if kind == "CountDown":
        return [sum(range(lists["n"][0] + 1))]
    asked = lists
    if kind == "FirstTrue":  # an input that is never asked for counts as one value that is not there
        asked = {name: [0] for name in lists}
        for name in "abc":
            asked[name] = lists[name]
            if not lists[name] or all(
                any(asked[n][min(i, len(asked[n]) - 1)] for n in "abc"[: "abc".index(name) + 1]) for i in range(longest(asked))
            ):
                break
    if any(not values for values in asked.values()):
        return []
    rows = [{name: values[min(i, len(values) - 1)] for name, values in asked.items()} for i in range(longest(asked))]
    each: dict[str, Callable[..., int]] = {
        "Number": lambda value: value,
        "Add": lambda a, b: a + b,
        "FirstTrue": lambda a, b, c: a or b or c,
        "Double": lambda value: 2 * value,
        "Later": lambda a: a + 1,
    }
    return [each[kind](**row) for row in rows]


def longest(lists: dict[str, list[Any]]) -> int:
    return max(len(values) for values in lists.values())


@pytest.mark.parametrize("make_cache", [ClassicCache, NoCache, lambda: LruCache(3)], ids=["classic", "none", "lru"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(made=specs(), changes=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 3)), max_size=3), data=st.data())
def test_a_random_graph_gives_what_a_plain_evaluation_gives(
    make_cache: Callable[[], Cache], made: list[Spec], changes: list[tuple[int, int]], data: st.DataObject, make_bench: Any
) -> None:
    bench = make_bench(make_cache())
    for place, constant in [(0, -1), *changes]:
        if constant >= 0:  # change a constant and run again with what the cache kept
            kind, inputs = made[place % len(made)]
            made = [*made]
            made[place % len(made)] = (kind, {name: v if isinstance(v, tuple) else constant for name, v in inputs.items()})
        targets = data.draw(st.lists(st.integers(0, len(made) - 1), min_size=1, max_size=3, unique=True))
        result = bench.run(graph_of(made), [str(target) for target in targets])
        assert {target: result.outputs[str(target)][0] for target in targets} == {target: expected(made, target) for target in targets}
