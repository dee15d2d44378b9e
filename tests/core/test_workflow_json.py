"""Workflows from strangers: what is wrong with a file is told at once, and nothing in it does harm."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sfumato.errors import WorkflowError
from sfumato.graph import Graph, Link, Node
from sfumato.validation import validate
from sfumato.workflow_json import Budget, is_ui_format, read_api

GOOD: dict[str, Any] = {
    "4": {"class_type": "Number", "inputs": {"value": 3}, "_meta": {"title": "three"}},
    "7:1": {"class_type": "Add", "inputs": {"a": ["4", 0], "b": {"__value__": [1, [2]]}}},
}


def error_of(source: Any, **options: Any) -> WorkflowError:
    with pytest.raises(WorkflowError) as caught:
        read_api(source, **options)
    return caught.value


def faults_of(source: Any) -> list[tuple[str, str]]:
    """(type, JSON path) of each fault."""
    return [(fault.type, fault.extra_info["path"]) for fault in error_of(source).faults]


@pytest.mark.parametrize(
    "source",
    [
        GOOD,
        json.dumps(GOOD),
        json.dumps(GOOD).encode(),
        b"\xef\xbb\xbf" + json.dumps(GOOD).encode(),
        "\ufeff" + json.dumps(GOOD),
        {"prompt": GOOD, "client_id": "x"},
    ],
    ids=["parsed", "text", "bytes", "bytes with a mark", "text with a mark", "body of POST /prompt"],
)
def test_api_format_is_read(source: Any) -> None:
    assert read_api(source) == Graph(
        {"4": Node("Number", {"value": 3}, "three"), "7:1": Node("Add", {"a": Link("4", 0), "b": [1, [2]]})},
    )


def test_ids_of_links_may_be_numbers_and_slots_whole_floats() -> None:
    graph = read_api({"1": {"class_type": "A", "inputs": {"x": [4, 1.0]}}})
    assert graph.nodes["1"].inputs["x"] == Link("4", 1)
    assert isinstance(graph.nodes["1"].inputs["x"], Link)


@pytest.mark.parametrize("source", ["", "{", "nonsense", '{"1": {},}', b"\xff\xfe{", "[1]x", "{'1': 2}"])
def test_what_is_no_json_says_where(source: str | bytes) -> None:
    error = error_of(source, where="party.json")
    assert str(error).startswith("party.json: ")
    assert [fault.type for fault in error.faults] == ["invalid_json"]
    assert error.exit_code == 3


@pytest.mark.parametrize("source", ["null", "5", '"text"', "[]", "{}", "true"])
def test_json_that_is_no_workflow_is_refused(source: str) -> None:
    assert faults_of(source) == [("invalid_prompt", "$")]


def test_the_editors_own_format_is_known_and_the_remedy_named() -> None:
    ui = {"nodes": [{"id": 1, "type": "KSampler"}], "links": [], "version": 0.4}
    assert is_ui_format(ui)
    assert not is_ui_format(GOOD)
    error = error_of(ui)
    assert "Export it in API format" in error.remedy


@pytest.mark.parametrize(
    ("node", "fault"),
    [
        (5, ("invalid_prompt", "$.1")),
        (None, ("invalid_prompt", "$.1")),
        ([], ("invalid_prompt", "$.1")),
        ({"inputs": {}}, ("invalid_prompt", "$.1")),
        ({"class_type": 3}, ("invalid_prompt", "$.1")),
        ({"class_type": ""}, ("invalid_prompt", "$.1")),
        ({"class_type": "A", "inputs": []}, ("invalid_prompt", "$.1.inputs")),
        ({"class_type": "A", "inputs": {"x": [1, 2, 3]}}, ("bad_linked_input", "$.1.inputs.x")),
        ({"class_type": "A", "inputs": {"x": []}}, ("bad_linked_input", "$.1.inputs.x")),
        ({"class_type": "A", "inputs": {"x": ["1", True]}}, ("bad_linked_input", "$.1.inputs.x")),
        ({"class_type": "A", "inputs": {"x": ["1", -1]}}, ("bad_linked_input", "$.1.inputs.x")),
        ({"class_type": "A", "inputs": {"x": ["1", 0.5]}}, ("bad_linked_input", "$.1.inputs.x")),
        ({"class_type": "A", "inputs": {"x": ["1", 1e300]}}, ("bad_linked_input", "$.1.inputs.x")),
        ({"class_type": "A", "inputs": {"x": [None, 0]}}, ("bad_linked_input", "$.1.inputs.x")),
        ({"class_type": "A", "inputs": {"x": [True, 0]}}, ("bad_linked_input", "$.1.inputs.x")),
        ({"class_type": "A", "inputs": {"a b": {"c": [1.0, float("nan")]}}}, ("bad_number", "$.1.inputs['a b'].c[1]")),
        ({"class_type": "A", "inputs": {"x": float("-inf")}}, ("bad_number", "$.1.inputs.x")),
        ({"class_type": "A", "inputs": {"x": 10**50}}, ("bad_number", "$.1.inputs.x")),
        ({"class_type": "A\ud800", "inputs": {}}, ("bad_text", "$.1.class_type")),
        ({"class_type": "A", "inputs": {"\udfff": 1}}, ("bad_text", "$.1.inputs")),
        ({"class_type": "A", "inputs": {"": 1}}, ("bad_text", "$.1.inputs")),
    ],
)
def test_each_fault_has_its_type_and_place(node: Any, fault: tuple[str, str]) -> None:
    assert faults_of({"1": node}) == [fault]
    if node != node or "10000" not in repr(node):
        assert faults_of(json.dumps({"1": node})) == [fault]


def test_values_that_json_does_not_know_are_refused() -> None:
    assert faults_of({"1": {"class_type": "A", "inputs": {"x": object()}}}) == [("invalid_json", "$.1.inputs.x")]
    assert ("bad_text", "$") in faults_of({1: {"class_type": "A", "inputs": {}}})


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", "9" * 41, "-" + "9" * 10_000])
def test_numbers_that_no_node_can_take_are_refused(number: str) -> None:
    assert faults_of(f'{{"1": {{"class_type": "A", "inputs": {{"x": {number}}}}}}}') == [("bad_number", "$.1.inputs.x")]


def test_the_largest_seed_is_no_large_number() -> None:
    assert read_api('{"1": {"class_type": "A", "inputs": {"seed": 18446744073709551615}}}').nodes["1"].inputs["seed"] == 2**64 - 1


def test_a_name_that_stands_twice_is_refused() -> None:
    assert faults_of('{"1": {"class_type": "A", "class_type": "B"}, "1": {"class_type": "A"}}') == [("duplicate_key", "$")]
    assert faults_of('{"1": {"class_type": "A", "class_type": "B"}}') == [("duplicate_key", "$.1")]


def test_every_fault_is_found_at_once() -> None:
    source = {"1": 5, "2": {"inputs": {"x": [1]}}, "3": {"class_type": "A", "inputs": {"y": float("nan"), "z": ["1", True]}}}
    assert sorted(faults_of(source)) == [
        ("bad_linked_input", "$.2.inputs.x"),
        ("bad_linked_input", "$.3.inputs.z"),
        ("bad_number", "$.3.inputs.y"),
        ("invalid_prompt", "$.1"),
        ("invalid_prompt", "$.2"),
    ]


def test_faults_beyond_the_budget_are_not_listed() -> None:
    faults = error_of({str(i): 5 for i in range(5000)}).faults
    assert len(faults) == 1001
    assert faults[-1].type == "too_many_faults"


def nested(depth: int) -> str:
    return '{"1": {"class_type": "A", "inputs": {"x": ' + '{"a": ' * depth + "1" + "}" * depth + "}}}"


def test_nesting_is_bounded() -> None:
    read_api(nested(90))
    assert faults_of(nested(150)) == [("too_deep", "$")]
    assert faults_of("[" * 100_000) == [("too_deep", "$")]
    assert faults_of('{"a":' * 100_000 + "1" + "}" * 100_000) == [("too_deep", "$")]


def test_nesting_of_parsed_values_is_bounded_too() -> None:
    ring: dict[str, Any] = {}
    ring["x"] = ring
    assert ("too_deep", "$") in faults_of({"1": {"class_type": "A", "inputs": ring}})


def test_brackets_in_texts_do_not_count() -> None:
    graph = read_api(json.dumps({"1": {"class_type": "A", "inputs": {"text": '[{"\\' * 500}}}))
    assert graph.nodes["1"].inputs["text"] == '[{"\\' * 500


def test_100_000_nodes_are_one_clear_error() -> None:
    error = error_of(json.dumps({str(i): {"class_type": "A", "inputs": {}} for i in range(100_000)}))
    assert str(error) == "the workflow has too many nodes: 100000, at most 50000 are read"


@pytest.mark.slow
def test_50_000_nodes_are_read() -> None:
    text = json.dumps({str(i): {"class_type": "A", "inputs": {"x": [str(i - 1), 0]}} for i in range(50_000)})
    assert len(read_api(text).nodes) == 50_000


def test_size_and_number_of_values_are_bounded() -> None:
    budget = Budget(bytes=1000, values=100)
    assert [f.type for f in error_of(" " * 2000, budget=budget).faults] == ["too_large"]
    assert [f.type for f in error_of("[" + "1," * 200 + "1]", budget=budget).faults] == ["too_large"]
    assert [f.type for f in error_of({"1": {"class_type": "A", "inputs": {"x": {"__value__": [1] * 200}}}}, budget=budget).faults] == [
        "too_large"
    ]
    read_api(json.dumps({"1": {"class_type": "A", "inputs": {"text": ",[{" * 200}}}), budget=budget)


# --- Whatever is in the file -------------------------------------------------------------------------------------------

odd_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.text(st.characters(categories=["Cs", "Cc", "Lu"]), max_size=3)
    | st.sampled_from([10**60, "4", ["4", 0], ["7", 1], ["4", True], [4, 0], ["nowhere", 0], {"__value__": [1]}]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
types = st.sampled_from(
    ["Number", "Add", "Show", "Words", "Choose", "Picky", "PickyLater", "Model", "Blur", "Flag", "Double", "Nunber", ""]
)
names = st.sampled_from(["value", "a", "b", "text", "mood", "which", "left", "size", "name", "image", "radius", "on", "\ud800", ""])
odd_nodes = st.fixed_dictionaries(
    {},
    optional={
        "class_type": types | odd_values,
        "inputs": st.dictionaries(names, odd_values, max_size=4) | odd_values,
        "_meta": odd_values | st.fixed_dictionaries({"title": st.text(max_size=3)}),
    },
)
odd_workflows = (
    st.dictionaries(st.sampled_from(["1", "4", "7", "7:1", "", "\udc00", "nodes", "prompt"]), odd_nodes | odd_values, max_size=5)
    | odd_values
)


@st.composite
def damaged_texts(draw: st.DrawFn) -> str | bytes:
    """A workflow as a text in which something was cut out, put in twice or changed."""
    text = json.dumps(draw(odd_workflows | st.just(GOOD)))
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 10)))
    put_in = draw(
        st.sampled_from(["", text[start:end] * 2, "[" * 200, '"', "NaN", "\\ud800", "1e999", ",", "\x00", '{"1":1,"1":2}', "9" * 5000])
    )
    damaged = text[:start] + put_in + text[end:]
    return damaged.encode("utf-8", "surrogatepass") if draw(st.booleans()) else damaged


def read_and_check(source: Any, bench: Any) -> None:
    """Everything that happens to a workflow before it runs; WorkflowError is the only way to fail."""
    try:
        graph = read_api(source)
    except WorkflowError as error:
        assert error.faults
        assert str(error).encode("utf-8")
        return
    validation = validate(graph, bench.catalogue)
    if not validation.good_targets:
        assert str(validation.error()).encode("utf-8")


# `bench` is only read. The deadline is wide, because the machine may be busy: `sfumato bench` measures.
_1000 = settings(max_examples=500, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@_1000
@given(source=odd_workflows)
def test_whatever_stands_in_a_workflow_ends_in_a_graph_or_in_one_error(source: Any, bench: Any) -> None:
    read_and_check(source, bench)


@_1000
@given(source=damaged_texts())
def test_however_a_file_is_damaged_it_ends_in_a_graph_or_in_one_error(source: str | bytes, bench: Any) -> None:
    read_and_check(source, bench)
