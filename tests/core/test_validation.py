"""Every fault of a graph is found before anything runs, with ComfyUI's words for it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sfumato.graph import Graph, GraphBuilder, Link, Node
from sfumato.validation import Fault, Validation, validate


def check(bench: Any, graph: Graph | GraphBuilder, targets: list[str] | None = None) -> Validation:
    return validate(graph.graph() if isinstance(graph, GraphBuilder) else graph, bench.catalogue, targets)


def only_fault(bench: Any, type: str, /, **inputs: Any) -> Fault:
    """The one fault of a node with these inputs."""
    (fault,) = check(bench, Graph({"1": Node("Number", {"value": 1}), "2": Node(type, inputs)}), ["2"]).faults
    return fault


def value_of(bench: Any, type: str, name: str, /, **inputs: Any) -> Any:
    """What a constant is turned into."""
    validation = check(bench, Graph({"2": Node(type, inputs)}), ["2"])
    assert validation.faults == ()
    return validation.coerced.nodes["2"].inputs[name]


def test_a_good_graph_has_no_faults(bench: Any, build: GraphBuilder) -> None:
    shown = build.node("Show", value=build.node("Number", value=1).out())
    validation = check(bench, build)
    assert validation.faults == ()
    assert validation.good_targets == (shown.id,)


def test_an_unknown_node_says_its_name_and_those_like_it(bench: Any) -> None:
    fault = only_fault(bench, "Nunber", value=1)
    assert fault.type == "missing_node_type"
    assert "'Nunber'" in str(fault)
    assert "Number" in fault.remedy
    assert fault.extra_info["class_type"] == "Nunber"


def test_an_unknown_node_that_no_output_needs_is_told_too(bench: Any, build: GraphBuilder) -> None:
    good = build.node("Show", value=1)
    build.node("FancyShow", value=1)
    validation = check(bench, build)
    assert [f.type for f in validation.faults] == ["missing_node_type"]
    assert validation.good_targets == (good.id,)


def test_a_workflow_without_outputs_says_so(bench: Any, build: GraphBuilder) -> None:
    build.node("Number", value=1)
    (fault,) = check(bench, build).faults
    assert fault.type == "prompt_no_outputs"


def test_a_target_that_is_not_there_is_a_fault(bench: Any, build: GraphBuilder) -> None:
    number = build.node("Number", value=1)
    validation = check(bench, build, ["nowhere", number.id])
    assert [(f.node_id, f.type) for f in validation.faults] == [("nowhere", "invalid_prompt")]
    assert validation.good_targets == (number.id,)


def test_a_missing_input_is_named(bench: Any) -> None:
    fault = only_fault(bench, "Add", a=1)
    assert (fault.type, fault.input_name) == ("required_input_missing", "b")
    assert fault.extra_info["input_name"] == "b"


@pytest.mark.parametrize(
    ("link", "words"),
    [(Link("9", 0), "no node '9'"), (Link("1", 1), "1 outputs, and none with the number 1"), (Link("1", -1), "number -1")],
)
def test_a_dangling_link_is_a_fault(bench: Any, link: Link, words: str) -> None:
    fault = only_fault(bench, "Add", a=link, b=1)
    assert fault.type == "bad_linked_input"
    assert words in fault.details


def test_a_dangling_link_to_an_undeclared_input_counts_where_the_node_takes_any(bench: Any) -> None:
    assert only_fault(bench, "PickyLater", more=Link("9", 0)).type == "bad_linked_input"


def test_a_link_of_the_wrong_type_is_a_fault(bench: Any) -> None:
    fault = only_fault(bench, "Words", text=Link("1", 0))
    assert fault.type == "return_type_mismatch"
    assert fault.extra_info["received_type"] == "INT"
    assert fault.extra_info["linked_node"] == ["1", 0]


def test_unions_and_any_fit(bench: Any, build: GraphBuilder) -> None:
    number = build.node("Number", value=1)
    either = build.node("Either", value=number.out())
    added = build.node("Add", a=either.out(), b=1)
    assert check(bench, build, [added.id]).faults == ()
    build.node("Show", value=build.node("Either", value=build.node("Words", text="a").out()).out())
    assert [f.type for f in check(bench, build).faults] == ["return_type_mismatch"]


@pytest.mark.parametrize(
    ("type", "name", "given", "expected"),
    [
        ("Number", "value", "12", 12),
        ("Number", "value", 3.7, 3),
        ("Number", "value", True, 1),
        ("Words", "text", 5, "5"),
        ("Words", "text", True, "True"),
        ("Flag", "on", 1, True),
        ("Flag", "on", "", False),
        ("Flag", "on", "false", False),
        ("Flag", "on", "True", True),
    ],
)
def test_constants_are_read_as_the_type_of_their_input(bench: Any, type: str, name: str, given: Any, expected: Any) -> None:
    value = value_of(bench, type, name, **{name: given})
    assert value == expected
    assert value.__class__ is expected.__class__


def test_a_float_is_read_from_a_whole_number(bench: Any, build: GraphBuilder) -> None:
    blurred = build.node("Blur", image=Link("x", 0), radius=2)
    coerced = validate(build.graph(), bench.catalogue, [blurred.id], around={"x": Node("Unknown")}).coerced
    assert coerced.nodes[blurred.id].inputs["radius"].__class__ is float


@pytest.mark.parametrize("given", ["ten", None, [1], {"a": 1}, float("nan"), float("inf"), pytest.param(10**5000, id="huge"), "9" * 5000])
def test_what_cannot_be_read_is_a_fault(bench: Any, given: Any) -> None:
    fault = only_fault(bench, "Number", value=given)
    assert fault.type in ("invalid_input_type", "value_bigger_than_max")
    assert len(str(fault)) < 300


@pytest.mark.parametrize(("value", "type"), [(-1001, "value_smaller_than_min"), (1001, "value_bigger_than_max")])
def test_a_number_outside_its_bounds_is_a_fault(bench: Any, value: int, type: str) -> None:
    fault = only_fault(bench, "Number", value=value)
    assert fault.type == type
    assert str(value) in fault.details
    assert "1000" in fault.details


def test_the_bounds_belong_to_what_is_allowed(bench: Any) -> None:
    assert [value_of(bench, "Number", "value", value=v) for v in (-1000, 1000)] == [-1000, 1000]


def test_a_choice_that_is_not_there_says_which_are_like_it(bench: Any) -> None:
    fault = only_fault(bench, "Words", text="a", mood="lout")
    assert (fault.type, fault.input_name) == ("value_not_in_list", "mood")
    assert "'loud'" in fault.remedy


def test_a_model_that_is_not_there_is_named_with_its_kind(bench: Any) -> None:
    fault = only_fault(bench, "Model", name="tre.safetensors")
    assert fault.type == "value_not_in_list"
    assert fault.extra_info["source"] == "models:checkpoints"
    assert "'tree.safetensors'" in fault.remedy


def test_an_empty_list_of_choices_says_that_it_is_empty(bench: Any) -> None:
    bench.models.clear()
    assert "nothing to choose from" in only_fault(bench, "Model", name="tree.safetensors").remedy


def test_choices_that_nobody_gives_are_a_fault_and_no_crash(bench: Any) -> None:
    bench.catalogue.add_source("models", lambda source: 1 / 0)
    fault = only_fault(bench, "Model", name="tree.safetensors")
    assert fault.type == "exception_during_validation"
    assert "ZeroDivisionError" in fault.details


def test_a_picture_cannot_be_written_down(bench: Any) -> None:
    fault = only_fault(bench, "Blur", image="cat.png", radius=1.0)
    assert fault.type == "bad_linked_input"
    assert "IMAGE comes from another node" in fault.details


def test_an_optional_input_that_is_null_is_as_if_left_out(bench: Any, build: GraphBuilder) -> None:
    blur = Node("Blur", {"image": Link("x", 0), "radius": 1.0, "mask": None})
    validation = validate(Graph({"1": blur}), bench.catalogue, ["1"], around={"x": Node("Unknown")})
    assert validation.faults == ()
    assert "mask" not in validation.coerced.nodes["1"].inputs


def test_undeclared_constants_are_dropped(bench: Any) -> None:
    validation = check(bench, Graph({"2": Node("Number", {"value": 1, "more": 2, "link": Link("9", 0)})}), ["2"])
    assert validation.faults == ()
    assert validation.coerced.nodes["2"].inputs == {"value": 1}


def test_the_nodes_own_check_is_asked(bench: Any) -> None:
    fault = only_fault(bench, "Picky", size=12)
    assert (fault.type, fault.input_name) == ("custom_validation_failed", "size")
    assert "12 is no multiple of 8" in str(fault)


def test_a_check_that_fails_is_a_fault(bench: Any) -> None:
    fault = only_fault(bench, "Picky", size=13)
    assert fault.type == "exception_during_validation"
    assert "RuntimeError: unlucky" in fault.details


def test_what_the_node_checks_itself_is_not_checked_for_bounds(bench: Any) -> None:
    assert value_of(bench, "Picky", "size", size=800) == 800
    assert only_fault(bench, "Picky", size=8, depth=800).type == "value_bigger_than_max"
    assert value_of(bench, "PickyLater", "size", size=800) == 800


def test_the_nodes_own_check_sees_links_as_none(bench: Any, build: GraphBuilder) -> None:
    picky = build.node("Picky", size=build.node("Number", value=13).out())
    assert check(bench, build, [picky.id]).faults == ()


def test_an_asynchronous_check_is_waited_for(bench: Any, build: GraphBuilder) -> None:
    number = build.node("Number", value=1).out()
    picky = build.node("PickyLater", size=1, a=number, b=number)
    assert [f.message for f in check(bench, build, [picky.id]).faults] == ["too many"]


def test_a_node_may_take_over_the_check_of_types(bench: Any) -> None:
    graph = {"1": Node("Number", {"value": 1}), "2": Node("Flag", {"on": True})}
    good = check(bench, Graph({**graph, "3": Node("PickyOfTypes", {"value": Link("1", 0)})}), ["3"])
    bad = check(bench, Graph({**graph, "3": Node("PickyOfTypes", {"value": Link("2", 0)})}), ["3"])
    assert good.faults == ()
    assert [f.message for f in bad.faults] == ["not BOOLEAN"]


def test_a_cycle_is_told_with_its_path(bench: Any) -> None:
    graph = Graph(
        {
            "1": Node("Add", {"a": Link("2", 0), "b": 1}),
            "2": Node("Add", {"a": Link("1", 0), "b": 1}),
            "3": Node("Show", {"value": Link("1", 0)}),
        }
    )
    validation = check(bench, graph)
    assert [f.type for f in validation.faults] == ["dependency_cycle"]
    assert "1 → 2 → 1" in str(validation.faults[0]) or "2 → 1 → 2" in str(validation.faults[0])
    assert validation.good_targets == ()


def test_every_fault_is_found_at_once(bench: Any, build: GraphBuilder) -> None:
    build.node("Show", value=build.node("Add", a="x").out())
    build.node("Show", value=build.node("Number", value=5000).out())
    build.node("Show", value=build.node("Nowhere").out())
    build.node("Show")
    types = sorted(fault.type for fault in check(bench, build).faults)
    assert types == ["invalid_input_type", "missing_node_type", "required_input_missing", "required_input_missing", "value_bigger_than_max"]


def test_one_bad_output_does_not_stop_a_good_one(bench: Any, build: GraphBuilder) -> None:
    shared = build.node("Number", value=1)
    good = build.node("Show", value=shared.out())
    build.node("Show", value=build.node("Add", a=shared.out()).out())
    validation = check(bench, build)
    assert validation.good_targets == (good.id,)
    assert validation.coerced.ancestors([good.id]) == {shared.id, good.id}


def test_faults_of_nodes_that_nothing_needs_are_not_told(bench: Any, build: GraphBuilder) -> None:
    build.node("Show", value=1)
    build.node("Add")
    assert check(bench, build).faults == ()


def test_the_message_names_the_first_faults_and_counts_the_rest(bench: Any, build: GraphBuilder) -> None:
    for place in range(8):
        build.node("Show", None, f"picture {place}")
    error = check(bench, build).error("party.json")
    lines = str(error).splitlines()
    assert lines[0] == "party.json: the workflow has 8 faults"
    assert lines[1] == "  - node 1 (Show 'picture 0'), input 'value': a required input is missing"
    assert lines[-1] == "  - and 3 more"
    assert error.exit_code == 3
    assert len(error.faults) == 8


def test_one_fault_is_one_line_and_its_remedy(bench: Any, build: GraphBuilder) -> None:
    build.node("Show", value=build.node("Words", text="", mood="lout").out())
    assert str(check(bench, build).error()) == "node 1 (Words), input 'mood': no such choice: 'lout'\n  Did you mean 'loud'?"


def test_faults_travel_between_processes(bench: Any, build: GraphBuilder) -> None:
    build.node("Show", value=build.node("Words", text="", mood="lout").out())
    error = check(bench, build).error()
    assert copy.deepcopy(error).faults == error.faults, "by the way of copying that pickling goes, too"


def test_many_unknown_names_are_told_without_comparing_them_all(bench: Any) -> None:
    graph = Graph({str(i): Node(f"Nunber{i}", {}) for i in range(3000)})
    faults = check(bench, graph).faults
    assert len(faults) == 3000
    assert sum("Did you mean" in fault.remedy for fault in faults) <= 10


@pytest.mark.parametrize("name", ["\ud800", "a\nb", "x" * 500])
def test_messages_can_always_be_printed(bench: Any, name: str) -> None:
    graph = Graph({name: Node(name, {}, name), "s": Node("Show", {"value": Link(name, 0)})})
    message = str(check(bench, graph).error())
    assert message.encode("utf-8")
    assert len(message) < 1000
    assert all(line.isprintable() for line in message.splitlines())
