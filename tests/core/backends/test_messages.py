"""Graphs, errors, events and results that have been JSON are the same again; anything else is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato import errors, events
from sfumato.backends import messages
from sfumato.backends.wire import Message, WireFault
from sfumato.errors import EngineDiedError, NodeError, SfumatoError, UsageError, WorkflowError
from sfumato.faults import Fault
from sfumato.graph import Graph, Link, Node
from sfumato.pixels import as_array
from sfumato.progress import Step
from sfumato.runner import LeftBehind, RunResult

KINDS = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, SfumatoError)]
CONSTANTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
INPUTS = st.dictionaries(st.text(), CONSTANTS | st.builds(Link, st.text(), st.integers(0, 9)), max_size=4)
GRAPHS = st.builds(Graph, st.dictionaries(st.text(), st.builds(Node, st.text(), INPUTS, st.text()), max_size=4))


def through_json(plain: Any) -> Any:
    """What arrives of what was sent."""
    return json.loads(json.dumps(plain))


@settings(deadline=None)
@given(GRAPHS)
def test_a_graph_is_the_same_again(graph: Graph) -> None:
    assert messages.graph_from_plain(through_json(messages.checked("it", messages.graph_to_plain(graph)))) == graph


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_of_the_same_class_again_with_all_its_parts(kind: type[SfumatoError]) -> None:
    error = kind("what", "where", "remedy")
    if isinstance(error, WorkflowError):
        error.faults = (Fault("1", "Add", "bad", "it is bad", extra_info={"low": 1}),)
    if isinstance(error, NodeError):
        error.node_id, error.node_type = "3", "Add"
    error.add_note("and then")
    again = messages.error_from_plain(through_json(messages.error_to_plain(error)))
    assert type(again) is kind
    if kind is not EngineDiedError:
        assert again.__reduce__() == error.__reduce__()
    assert str(again) == str(error)
    assert again.__notes__ == ["and then"]
    assert again.__cause__ is None


@pytest.mark.parametrize("name", ["OSError", "Any", "annotations", "__builtins__", "NoSuchError"])
def test_an_error_of_an_unknown_name_is_a_plain_one_and_nothing_else_is_looked_up(name: str) -> None:
    again = messages.error_from_plain({"class": name, "parts": ["what", "where", "remedy"]})
    assert type(again) is SfumatoError
    assert str(again) == "where: what\n  remedy"


def test_the_cause_of_an_error_travels_in_words() -> None:
    error = NodeError("it failed")
    error.__cause__ = ValueError("deep inside")
    again = messages.error_from_plain(through_json(messages.error_to_plain(error)))
    assert "ValueError: deep inside" in str(again.__cause__)


@pytest.mark.parametrize(
    "plain",
    [
        None,
        [],
        {},
        {"class": "NodeError"},
        {"class": 3, "parts": []},
        {"class": "NodeError", "parts": [1, 2]},
        {"class": "UsageError", "parts": 3},
    ],
)
def test_what_is_no_error_is_refused(plain: Any) -> None:
    with pytest.raises(WireFault):
        messages.error_from_plain(plain)


PLACE = ("1.2", "Add", "1")
EVENTS = [
    events.RunStarted(("1", "2")),
    events.NodeStarted(*PLACE),
    events.NodeCached(*PLACE, {"text": ["a"]}),
    events.NodeProgressed(*PLACE, Step("counting", 1, 2)),
    events.RunProgressed(Step("starting", 0, 1)),
    events.NodeExpanded(*PLACE, ("3", "4")),
    events.NodeBlocked(*PLACE, "no"),
    events.NodeDone(*PLACE, None),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_the_same_again(event: Any) -> None:
    plain, arrays = messages.event_to_message(event, None)
    assert messages.event_from_message(Message({"event": through_json(plain)}, arrays)) == event


def test_every_event_of_a_run_can_travel() -> None:
    kinds = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, (events.NodeEvent,))}
    assert kinds - {events.NodeEvent, events.NodeFailed} <= {type(event) for event in EVENTS}


def test_an_event_of_failure_carries_its_error() -> None:
    event = events.NodeFailed(*PLACE, NodeError("it failed", "node 1", "", "1", "Add"))
    plain, arrays = messages.event_to_message(event, None)
    again = messages.event_from_message(Message({"event": through_json(plain)}, arrays))
    assert (again.node_id, again.error.__reduce__()) == ("1.2", event.error.__reduce__())


@pytest.mark.parametrize(
    "plain",
    [
        {},
        {"name": "JobDone", "fields": {}},
        {"name": "NodeStarted", "fields": {"node_id": "1"}},
        {"name": "NodeStarted", "fields": {"x": 1}},
        {"name": "RunStarted", "fields": {"targets": [1]}},
        {"name": "NodeProgressed", "place": ["1"], "step": {"what": "x", "done": 1, "total": 2}},
        {"name": "NodeProgressed", "place": ["1", "2", "3"], "step": {"what": "x", "done": "1", "total": 2}},
        {"name": "NodeProgressed", "place": ["1", "2", "3"], "step": {"what": "x", "done": float("nan"), "total": 2}},
    ],
)
def test_what_is_no_event_is_refused(plain: Any) -> None:
    with pytest.raises(WireFault):
        messages.event_from_message(Message({"event": plain}))


def test_a_result_keeps_its_pictures_its_plain_values_and_the_names_of_the_rest() -> None:
    picture = np.linspace(0, 1, 12, dtype=np.float32).reshape(1, 2, 2, 3)
    outputs = {"1": ([picture, picture * 0.5], [3, "a", None, {"b": [1.5]}]), "2": ([object()], [(1, 2)], [], [{"samples": picture}])}
    result = RunResult(outputs, {"1": {"text": ["x"]}}, ("1",), ("2",), (Fault("3", "Add", "bad", "it is bad"),), "tiled VAE")
    plain, arrays = messages.result_to_message(result)
    again = messages.result_from_message(Message({"result": through_json(plain)}, arrays))
    assert [each.tolist() for each in again.outputs["1"][0]] == [picture.tolist(), (picture * 0.5).tolist()]
    assert again.outputs["1"][1] == [3, "a", None, {"b": [1.5]}]
    assert again.outputs["2"] == ([LeftBehind("object")], [LeftBehind("tuple")], [], [LeftBehind("dict")])
    assert (again.shown, again.executed, again.cached, again.faults, again.rung) == (
        result.shown,
        ("1",),
        ("2",),
        result.faults,
        "tiled VAE",
    )
    with pytest.raises(UsageError, match="is a object, which cannot leave"):
        again.value("2")


@pytest.mark.parametrize("outputs", [{"1": [[{"array": 5}]]}, {"1": [[{"array": -1}]]}, {"1": [[{}]]}, {"1": 3}, []])
def test_what_is_no_result_is_refused(outputs: Any) -> None:
    plain, _ = messages.result_to_message(RunResult({}))
    with pytest.raises(WireFault):
        messages.result_from_message(Message({"result": {**plain, "outputs": outputs}}))


def test_a_preview_of_any_form_is_an_array_of_8_bits() -> None:
    np.testing.assert_array_equal(messages.as_preview(np.array([0.0, 0.5, 1.5])), np.array([0, 128, 255], np.uint8))
    np.testing.assert_array_equal(messages.as_preview(np.array([7], np.uint8)), np.array([7], np.uint8))
    assert messages.as_preview("a cat") is None


def test_pictures_are_taken_from_arrays_and_tensors_alike() -> None:
    import torch

    values = np.array([[0.25, 0.5]], np.float32)
    found = as_array(values)
    assert np.shares_memory(found, values)
    assert values.flags.writeable
    assert not found.flags.writeable
    tensor = torch.from_numpy(values.copy()).to(torch.float16).requires_grad_()
    np.testing.assert_array_equal(as_array(tensor), values)
    with pytest.raises(UsageError, match="an array of int64, which is no picture"):
        as_array(torch.ones(3, dtype=torch.int64))
    with pytest.raises(UsageError, match="a value of the type str, which is no picture"):
        as_array("x")
