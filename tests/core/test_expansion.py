"""The names that the nodes of a sub-graph get."""

from __future__ import annotations

import pytest

from sfumato.errors import NodeError
from sfumato.expansion import placed
from sfumato.graph import Graph, Link, Node
from sfumato.nodes import Result

INNER = Graph({"1": Node("A", {"x": Link("2", 0), "y": Link("outside", 1), "z": 5}), "2": Node("B")})


def test_names_hold_the_parent_and_the_call_and_links_follow() -> None:
    nodes, values = placed(Result((Link("1", 0), Link("outside", 0), "plain"), expand=INNER), "7", 2, "7", ())
    assert nodes == {"7.2.1": Node("A", {"x": Link("7.2.2", 0), "y": Link("outside", 1), "z": 5}), "7.2.2": Node("B")}
    assert values == (Link("7.2.1", 0), Link("outside", 0), "plain")


def test_a_prefix_that_is_there_already_is_not_put_twice() -> None:
    nodes, values = placed(Result((Link("7.1", 0),), expand=Graph({"7.1": Node("A")})), "7", 0, "7", ())
    assert list(nodes) == ["7.0.1"]
    assert values == (Link("7.0.1", 0),)


def test_long_names_are_shortened_and_stay_different_and_the_same_in_every_run() -> None:
    parent = "7" + ".0.1" * 40
    first, again = (placed(Result((), expand=INNER), parent, 0, "7", ())[0] for _ in range(2))
    assert first == again
    assert len(first) == 2
    assert all(name.startswith("7.~") and len(name) < 40 for name in first)


def test_without_a_sub_graph_nothing_changes() -> None:
    assert placed(Result((Link("1", 0),)), "7", 0, "7", ()) == ({}, (Link("1", 0),))


def test_a_handed_link_that_meets_a_node_of_the_same_name_is_refused() -> None:
    with pytest.raises(NodeError, match="has a node '1'") as caught:
        placed(Result((), expand=INNER), "7", 0, "7", [Link("1", 0)])
    assert "GraphBuilder" in caught.value.remedy
