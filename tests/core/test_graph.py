"""Graphs as plain data: JSON, order, cycles."""

from __future__ import annotations

import json
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sfumato.graph import Graph, GraphBuilder, Link, Node
from sfumato.workflow_json import read_api


def graph_of(**parents: str) -> Graph:
    """A graph from names: graph_of(a="bc") links a to b and c."""
    return Graph({key: Node("T", {name: Link(name, 0) for name in names}) for key, names in parents.items()})


def test_json_is_comfyuis_api_format() -> None:
    build = GraphBuilder()
    a = build.node("Number", None, "my number", value=[1, 2])
    build.node("Add", a=a.out(), b=2.5)
    assert build.graph().to_json() == {
        "1": {"class_type": "Number", "inputs": {"value": {"__value__": [1, 2]}}, "_meta": {"title": "my number"}},
        "2": {"class_type": "Add", "inputs": {"a": ["1", 0], "b": 2.5}},
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False) | st.text("ab😀\x00"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "__value__"]), inner, max_size=2),
    max_leaves=5,
)
links = st.builds(Link, st.sampled_from(["1", "2", "a:b"]), st.integers(0, 5))
nodes = st.builds(
    Node, st.sampled_from(["A", "B C"]), st.dictionaries(st.sampled_from(["x", "y"]), json_values | links), st.text("tT", max_size=3)
)
graphs = st.dictionaries(st.sampled_from(["1", "2", "a:b", "ü"]), nodes, min_size=1).map(Graph)


@given(graphs)
def test_what_is_written_reads_back_the_same(graph: Graph) -> None:
    assert read_api(json.dumps(graph.to_json())) == graph


def test_a_builder_counts_ids_and_leaves_out_what_is_none() -> None:
    build = GraphBuilder("p.")
    assert build.node("A", x=None, y=1).id == "p.1"
    assert build.node("B", "named").id == "p.named"
    assert build.graph().nodes["p.1"].inputs == {"y": 1}


def test_ancestors_are_all_that_a_node_needs() -> None:
    graph = graph_of(a="bc", b="d", c="d", d="", e="a")
    assert graph.ancestors(["a"]) == {"a", "b", "c", "d"}
    assert graph.ancestors(["nowhere"]) == set()


def test_order_puts_every_node_after_what_it_needs() -> None:
    order = graph_of(a="bc", b="d", c="d", d="", e="a").order()
    assert all(order.index(before) < order.index(after) for after, before in [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("e", "a")])
    assert graph_of(a="b", b="", c="").order(["a"]) == ["b", "a"]


def test_a_cycle_is_given_in_order() -> None:
    graph = graph_of(a="b", b="c", c="ab", d="a")
    cycle = graph.cycle()
    assert set(cycle) <= set("abc")
    assert all(
        any(link.node == after for _, link in graph.nodes[key].links()) for key, after in zip(cycle, cycle[1:] + cycle[:1], strict=True)
    )
    assert graph_of(a="b", b="c", c="").cycle() == []


def test_a_node_linked_to_itself_is_a_cycle() -> None:
    assert graph_of(a="a").cycles() == [["a"]]


def test_every_knot_of_nodes_gives_a_cycle() -> None:
    assert sorted(map(sorted, graph_of(a="b", b="a", c="d", d="ca", e="").cycles())) == [["a", "b"], ["c", "d"]]


@given(st.dictionaries(st.sampled_from("abcdef"), st.text("abcdefg", max_size=3), min_size=1))
def test_there_is_a_cycle_exactly_where_nodes_cannot_be_put_in_order(parents: dict[str, Any]) -> None:
    graph = graph_of(**parents)
    order = graph.order()
    assert sorted(order) == sorted(parents)
    in_order = all(name not in order or order.index(name) < order.index(key) for key, names in parents.items() for name in names)
    assert bool(graph.cycles()) != in_order


def test_long_chains_need_no_recursion() -> None:
    count = sys.getrecursionlimit() * 20
    chain = Graph({str(i): Node("T", {"x": Link(str(i - 1), 0)}) for i in range(count)})
    assert len(chain.order([str(count - 1)])) == count
    assert chain.cycle() == []
    ring = Graph({str(i): Node("T", {"x": Link(str((i - 1) % count), 0)}) for i in range(count)})
    assert len(ring.cycle()) == count
