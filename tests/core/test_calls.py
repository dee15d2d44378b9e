"""The rules by which lists flow through a node, alone."""

from __future__ import annotations

import pytest

from sfumato.calls import blocked_by, calls_for, outputs_of, result_of, shown_by
from sfumato.errors import NodeError
from sfumato.graph import Link
from sfumato.nodes import Blocked, NodeType, Output, Result

ONE = NodeType("One", (), (Output("n", "INT"),), object)  # type: ignore[arg-type]
TAKES_LISTS = NodeType("TakesLists", (), (Output("n", "INT"),), object, input_is_list=True)  # type: ignore[arg-type]
TWO = NodeType("Two", (), (Output("n", "INT"), Output("many", "INT", is_list=True)), object)  # type: ignore[arg-type]


def test_a_node_without_inputs_is_called_once() -> None:
    assert calls_for(ONE, {}) == [{}]


def test_the_longest_input_counts_and_the_last_item_repeats() -> None:
    assert calls_for(ONE, {"a": [1, 2, 3], "b": [4, 5], "c": [6]}) == [
        {"a": 1, "b": 4, "c": 6},
        {"a": 2, "b": 5, "c": 6},
        {"a": 3, "b": 5, "c": 6},
    ]


def test_an_input_without_items_means_no_call_except_for_who_takes_lists() -> None:
    assert calls_for(ONE, {"a": [1], "b": []}) == []
    assert calls_for(TAKES_LISTS, {"a": [1], "b": []}) == [{"a": [1], "b": []}]


def test_of_several_blocked_values_one_with_a_message_counts() -> None:
    assert blocked_by(ONE, {"a": Blocked(), "b": Blocked("why"), "c": 1}) == Blocked("why")
    assert blocked_by(TAKES_LISTS, {"a": [1, Blocked()]}) == Blocked()
    assert blocked_by(ONE, {"a": [Blocked()]}) is None, "a list is a value of its own here"


def test_whatever_a_call_returns_becomes_a_result() -> None:
    assert result_of(TWO, (1, [2, 3])) == result_of(TWO, [1, [2, 3]]) == result_of(TWO, Result((1, [2, 3]))) == Result((1, [2, 3]))
    assert result_of(ONE, 5) == Result((5,))
    assert result_of(TWO, Blocked("why")) == Result((Blocked("why"), Blocked("why")))


@pytest.mark.parametrize(
    ("answer", "words"), [((1,), "returned 1 values and declares 2"), ((1, 2), "'many' is declared as a list, and it returned int")]
)
def test_what_does_not_fit_the_declaration_is_refused(answer: object, words: str) -> None:
    with pytest.raises(NodeError, match=words):
        result_of(TWO, answer)


def test_results_follow_each_other_in_each_output() -> None:
    results = [Result((1, [2, 3])), Result((Link("x", 0), Link("x", 1))), Result((Blocked(), Blocked()))]
    linked = {Link("x", 0): [10, 11], Link("x", 1): []}
    assert outputs_of(TWO, results, linked) == ([1, 10, 11, Blocked()], [2, 3, Blocked()])


def test_what_is_shown_is_put_together_by_name() -> None:
    assert shown_by([{"text": ["a"], "n": 1}, None, {"text": ("b", "c")}]) == {"text": ["a", "b", "c"], "n": [1]}
    assert shown_by([None, {}]) is None
