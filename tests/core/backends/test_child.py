"""The backend in a child process, with the real child: the same as in this process, and alive after whatever happens to a run."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfumato import errors
from sfumato.app import App
from sfumato.backends.child import ChildBackend
from sfumato.backends.in_process import InProcessBackend
from sfumato.errors import BadValueError, CancelledError, NodeError, SfumatoError, UsageError, WorkflowError
from sfumato.events import NodeDone, NodeProgressed, NodeStarted, RunProgressed, RunStarted
from sfumato.graph import Graph, Link, Node
from sfumato.images.writing import write_image
from sfumato.pixels import as_array
from sfumato.progress import CancelFlag
from sfumato.recipes import picture_of
from sfumato.request import GenerateRequest


def one(type: str, **inputs: Any) -> Graph:
    """A graph of one node, "1"."""
    return Graph({"1": Node(type, inputs)})


@pytest.fixture
def process(child: ChildBackend) -> Any:
    """The engine's process must be the same one before and after."""
    before = child.run(one("Process"), ["1"]).value("1")
    yield before
    assert child.run(one("Process"), ["1"]).value("1") == before, "the engine died"


@pytest.fixture(scope="session")
def painting(app: App) -> tuple[Graph, Link]:
    """A graph that paints a small picture, and where that comes out."""
    graph = app.graph_for(GenerateRequest("a red circle", width=64, height=64, steps=2, seed=7))
    return graph, picture_of(graph)


@pytest.mark.slow
def test_a_picture_is_the_same_to_the_bit_as_in_this_process_and_so_are_the_events(
    app: App, child: ChildBackend, painting: tuple[Graph, Link]
) -> None:
    graph, link = painting
    here: list[Any] = []
    there: list[Any] = []
    expected = app.backend().run(graph, [link.node], on_event=here.append)
    found = child.run(graph, [link.node], on_event=there.append)
    pixels = found.value(link.node, link.slot)
    assert isinstance(pixels, np.ndarray)
    assert pixels.dtype == np.float32
    assert not pixels.flags.writeable
    np.testing.assert_array_equal(pixels, as_array(expected.value(link.node, link.slot)))
    assert [_told(each) for each in there if not isinstance(each, RunProgressed)] == [_told(each) for each in here]
    assert (found.executed, found.cached, found.faults, found.rung) == (expected.executed, expected.cached, (), "full")


def _told(event: Any) -> Any:
    """An event without its preview, which is made in another way."""
    if isinstance(event, NodeProgressed):
        return event.node_id, event.display_id, event.step.what, event.step.done, event.step.total
    return event


def test_previews_of_a_model_are_arrays_of_8_bits(child: ChildBackend, app: App) -> None:
    graph = app.graph_for(GenerateRequest("a tree", width=64, height=64, steps=1, seed=8))
    events: list[Any] = []
    child.run(graph, [picture_of(graph).node], on_event=events.append)
    previews = [each.step.preview() for each in events if isinstance(each, NodeProgressed) and each.step.preview is not None]
    assert previews
    assert all(each.dtype == np.uint8 and each.ndim == 4 and each.shape[-1] == 3 for each in previews)


def test_events_arrive_in_order_in_the_thread_that_called(child: ChildBackend) -> None:
    events: list[tuple[int, Any]] = []
    graph = Graph({"1": Node("Number", {"value": 3}), "2": Node("Show", {"value": Link("1", 0)})})
    result = child.run(graph, on_event=lambda event: events.append((threading.get_ident(), event)))
    assert {ident for ident, _ in events} == {threading.get_ident()}
    told = [event for _, event in events if not isinstance(event, RunProgressed)]
    assert [type(each) for each in told] == [RunStarted, NodeStarted, NodeDone, NodeStarted, NodeDone]
    assert told[-1] == NodeDone("2", "Show", "2", {"text": ["3"]})
    assert result.shown == {"2": {"text": ["3"]}}


def test_no_step_is_lost_and_previews_come_about_ten_times_a_second_with_the_last_one(child: ChildBackend) -> None:
    events: list[Any] = []
    child.run(one("Count", steps=300, seconds=0.6), ["1"], on_event=events.append)
    steps = [each.step for each in events if isinstance(each, NodeProgressed)]
    assert [each.done for each in steps] == list(range(1, 301))
    shown = [each for each in steps if each.preview is not None]
    assert 3 <= len(shown) <= 30
    assert shown[-1].done == 300
    last = shown[-1].preview()  # type: ignore[misc]
    assert last.shape == (1, 4, 6, 3)
    assert last.dtype == np.uint8
    assert last[0, 0, 0, 0] == 299 % 256


def test_nobody_listens_and_no_preview_is_made(child: ChildBackend) -> None:
    assert child.run(one("Count", steps=20, seconds=0.0), ["1"]).value("1") == 0


@pytest.mark.parametrize("how", ["flag", "backend"])
def test_a_run_is_cancelled_and_the_engine_lives_on(child: ChildBackend, process: int, how: str) -> None:
    flag = CancelFlag()
    asked: list[float] = []

    def hear(event: Any) -> None:
        if isinstance(event, NodeProgressed):
            asked.append(time.monotonic())
            threading.Thread(target=flag.set if how == "flag" else child.cancel).start()

    with pytest.raises(CancelledError):
        child.run(one("Wait"), ["1"], cancel=flag, on_event=hear)
    assert time.monotonic() - asked[0] < 2
    assert flag.is_set()


def test_cancel_acts_within_a_block_of_the_network_and_the_next_picture_is_the_same(child: ChildBackend, app: App, process: int) -> None:
    request = GenerateRequest("a blue house", width=64, height=64, steps=3, seed=9)
    graph = app.graph_for(request)
    link, flag = picture_of(graph), CancelFlag()
    after: list[Any] = []

    def hear(event: Any) -> None:
        if flag.is_set():
            after.append(event)
        elif isinstance(event, NodeProgressed) and event.node_type == "KSampler":
            flag.set()

    with pytest.raises(CancelledError):
        child.run(graph, [link.node], cancel=flag, on_event=hear)
    assert not [each for each in after if isinstance(each, NodeDone)]
    found = child.run(graph, [link.node]).value(link.node, link.slot)
    np.testing.assert_array_equal(found, as_array(app.backend().run(graph, [link.node]).value(link.node, link.slot)))


def test_a_run_cancelled_before_it_begins_does_not_begin(child: ChildBackend, process: int) -> None:
    flag = CancelFlag()
    flag.set()
    with pytest.raises(CancelledError):
        child.run(one("Hang"), ["1"], cancel=flag)


def test_cancel_without_a_run_does_nothing(child: ChildBackend, process: int) -> None:
    child.cancel()
    child.cancel(hard=True)
    assert child.run(one("Number", value=1), ["1"]).value("1") == 1


KINDS = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, SfumatoError) and value not in (CancelledError,)
]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_node_fails_with_arrives_as_the_same_class_with_its_parts(child: ChildBackend, kind: type[SfumatoError]) -> None:
    with pytest.raises(SfumatoError) as caught:
        child.run(one("Fail", name=kind.__name__), ["1"])
    assert type(caught.value) is kind
    assert (caught.value.what, caught.value.remedy) == ("it is broken", "Mend it.")
    assert caught.value.where == "node 1 (Fail), here"
    assert caught.value.exit_code == kind.exit_code


@pytest.mark.parametrize("name", ["ValueError", "SystemExit", "RecursionError", "AssertionError"])
def test_any_other_failure_is_a_node_error_that_carries_where_it_was_raised(child: ChildBackend, process: int, name: str) -> None:
    with pytest.raises(NodeError) as caught:
        child.run(one("Fail", name=name), ["1"])
    assert (caught.value.what, caught.value.node_id, caught.value.node_type) == (f"{name}: it is broken", "1", "Fail")
    assert "misbehaving_nodes.py" in str(caught.value.__cause__)


def test_a_faulty_graph_is_refused_with_the_same_faults_as_here(app: App, child: ChildBackend) -> None:
    graph = Graph({"1": Node("NoSuchNode"), "2": Node("SaveImage", {"images": Link("9", 0), "filename_prefix": ["a", "list"]})})
    with pytest.raises(WorkflowError) as here:
        app.backend().run(graph)
    with pytest.raises(WorkflowError) as there:
        child.run(graph)
    assert there.value.faults == here.value.faults
    assert str(there.value) == str(here.value)


def test_a_handle_stays_in_the_engine_and_asking_for_it_says_so(child: ChildBackend) -> None:
    result = child.run(one("Handle"), ["1"])
    with pytest.raises(UsageError, match="output 0 of node 1 is a object, which cannot leave the engine's process"):
        result.value("1")


def test_plain_values_arrive_as_they_are_and_strange_ones_are_named(child: ChildBackend) -> None:
    text = 'half a character \ud800, "quoted", {"$": [1]}'
    result = child.run(one("Numbers", text=text), ["1"])
    assert result.value("1") == {"a": [1, 2.5, None, True], "text": text}
    assert result.value("1", 1) == float("inf")
    assert child.run(one("ShowModel", text="a")).shown == {"1": {"strange": ["<object>"], "text": ["a"]}}


def test_numbers_of_another_format_arrive_as_float32(child: ChildBackend) -> None:
    found = child.run(one("Half", width=3), ["1"]).value("1")
    np.testing.assert_array_equal(found, np.full((1, 3, 3, 3), 0.5, np.float32))


@pytest.mark.parametrize("side", [1024, pytest.param(4096, marks=pytest.mark.slow)])
def test_pictures_of_up_to_16_megapixels_arrive_whole(child: ChildBackend, process: int, side: int) -> None:
    for _ in range(2):
        found = child.run(one("Ramp", width=side, height=side), ["1"]).value("1")
        assert found.shape == (1, side, side, 3)
        places = np.array([0, 1, 12345, found.size - 1])
        np.testing.assert_array_equal(found.reshape(-1)[places], np.float32(places) / np.float32(found.size))


def test_a_result_that_was_kept_is_not_changed_by_the_next_run(child: ChildBackend) -> None:
    first = child.run(one("Ramp", width=512, height=256), ["1"]).value("1")
    copy = first.copy()
    child.run(one("Ramp", width=256, height=512), ["1"])
    np.testing.assert_array_equal(first, copy)


def test_a_listener_that_fails_stops_the_run_and_nothing_of_it_reaches_the_next(child: ChildBackend, process: int) -> None:
    def hear(event: Any) -> None:
        if isinstance(event, NodeProgressed):
            raise RuntimeError("the window is gone")

    with pytest.raises(RuntimeError, match="the window is gone"):
        child.run(one("Wait"), ["1"], on_event=hear)
    events: list[Any] = []
    assert child.run(one("Number", value=5), ["1"], on_event=events.append).value("1") == 5
    assert events == [RunStarted(("1",)), NodeStarted("1", "Number", "1"), NodeDone("1", "Number", "1", None)]


def test_what_cannot_travel_is_refused_before_anything_runs(child: ChildBackend, process: int) -> None:
    with pytest.raises(BadValueError, match="the graph cannot be handed to an engine in another process"):
        child.run(one("Show", value=object()))
    with pytest.raises(BadValueError, match="what travels with the run"):
        child.run(one("Number", value=1), ["1"], hidden={"picture": np.zeros(3)})
    deep: Any = 1
    for _ in range(600):
        deep = [deep]
    with pytest.raises(BadValueError, match="nested"):
        child.run(one("Show", value=deep))


def test_the_users_own_pictures_are_found(app: App, child: ChildBackend, tmp_path: Path) -> None:
    write_image(tmp_path / "mine.png", np.full((4, 4, 3), 1.0, np.float32), None)
    app.pictures["mine"] = tmp_path / "mine.png"
    try:
        found = child.run(one("LoadImage", image="mine"), ["1"]).value("1")
    finally:
        del app.pictures["mine"]
    np.testing.assert_array_equal(found, np.ones((1, 4, 4, 3), np.float32))


def test_runs_from_several_threads_wait_for_each_other(child: ChildBackend) -> None:
    results: list[Any] = []
    threads = [threading.Thread(target=lambda n=n: results.append(child.run(one("Number", value=n), ["1"]).value("1"))) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(6))


def test_the_engine_tells_its_machine(app: App, child: ChildBackend) -> None:
    assert child.machine() == app.machine()


def test_the_backend_is_chosen_by_its_name_and_this_process_needs_no_torch_for_it(app: App, tmp_path: Path) -> None:
    assert isinstance(app.backend("child"), ChildBackend)
    assert isinstance(app.backend(), InProcessBackend)
    with pytest.raises(BadValueError, match="there is no backend 'moon'"):
        app.backend("moon")
    code = (
        "import sys; from pathlib import Path; from sfumato.app import App; from sfumato.paths import Folders\n"
        "backend = App.make(Folders.under(Path(sys.argv[1])), cpu=True).backend('child'); backend.close()\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules), 'heavy'\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_an_event_costs_little(child: ChildBackend) -> None:
    """A thousand steps without previews take a fraction of a second, also on a busy machine."""
    start = time.monotonic()
    child.run(one("Count", steps=1000, seconds=0.0), ["1"])
    assert time.monotonic() - start < 5


@pytest.mark.slow
def test_the_command_line_paints_the_same_picture_with_either_backend(tmp_path: Path) -> None:
    words = "generate 'a red circle' --cpu --steps 1 --width 64 --height 64 --seed 3 --json"
    told = []
    for name in ("in-process", "child", "moon"):
        command = [sys.executable, "-m", "sfumato.cli", *shlex.split(words), "--backend", name, "-o", str(tmp_path / f"{name}.png")]
        ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "SFUMATO_HOME": str(tmp_path)}, check=False)
        told.append((ran.returncode, ran.stderr))
    assert told[:2] == [(0, ""), (0, "")]
    assert told[2][0] == 2
    assert "there is no backend 'moon'" in told[2][1]
    assert (tmp_path / "child.png").read_bytes() == (tmp_path / "in-process.png").read_bytes()
