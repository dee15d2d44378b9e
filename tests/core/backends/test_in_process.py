"""The backend in this process: what nodes are handed, steps as events, cancel."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from sfumato.backends import Backend
from sfumato.backends.in_process import Context, InProcessBackend
from sfumato.catalogue import Catalogue
from sfumato.errors import CancelledError
from sfumato.events import NodeProgressed, NodeStarted
from sfumato.graph import Graph, GraphBuilder, Node
from sfumato.nodes import NodeContext, node
from sfumato.progress import CancelFlag, Step
from sfumato.runner import Runner
from sfumato.sockets import AnyValue


@node("Room", category="test", is_output=True)
def room(ctx: NodeContext) -> AnyValue:
    """What it was handed."""
    return ctx


def test_a_node_is_handed_services_folders_and_what_travels_with_the_run(bench: Any) -> None:
    bench.catalogue.add([room.node_type])  # type: ignore[attr-defined]
    backend = InProcessBackend(bench.runner, services="services", folders="folders")
    context = backend.run(Graph({"7": Node("Room")}), hidden={"prompt": {}}).value("7")
    assert isinstance(context, Context)
    assert (context.node_id, context.services, context.folders, context.hidden) == ("7", "services", "folders", {"prompt": {}})


def test_services_are_made_when_the_first_graph_runs_and_only_once(bench: Any, build: GraphBuilder) -> None:
    made: list[str] = []

    def services() -> str:
        made.append("made")
        return "services"

    backend = InProcessBackend(bench.runner, services)
    assert made == []
    build.node("Show", value=1)
    for _ in range(2):
        backend.run(build.graph())
    assert made == ["made"]


def test_steps_of_a_node_are_events_of_the_run(bench: Any, build: GraphBuilder) -> None:
    counted = build.node("Steps", count=2)
    events: list[Any] = []
    InProcessBackend(bench.runner).run(build.graph(), [counted.id], on_event=events.append)
    assert [e for e in events if isinstance(e, NodeProgressed)] == [
        NodeProgressed("1", "Steps", "1", Step("counting", done, 2)) for done in (1, 2)
    ]


@pytest.mark.parametrize("how", ["flag", "backend"])
def test_a_run_can_be_cancelled_from_another_thread(bench: Any, build: GraphBuilder, how: str) -> None:
    waits, flag = build.node("Never", a=1), CancelFlag()
    backend = InProcessBackend(bench.runner)
    stop = flag.set if how == "flag" else backend.cancel
    timers: list[threading.Timer] = []

    def hear(event: Any) -> None:
        if isinstance(event, NodeStarted):
            timers.append(threading.Timer(0.02, stop))
            timers[0].start()

    with pytest.raises(CancelledError):
        backend.run(build.graph(), [waits.id], cancel=flag, on_event=hear)
    timers[0].join()


def test_cancel_without_a_run_does_nothing(bench: Any, build: GraphBuilder) -> None:
    shown = build.node("Show", value=1)
    backend = InProcessBackend(bench.runner)
    backend.cancel()
    assert shown.id in backend.run(build.graph()).shown


def test_closing_lets_go_of_results(bench: Any, build: GraphBuilder) -> None:
    build.node("Show", value=1)
    backend: Backend = InProcessBackend(bench.runner)
    backend.run(build.graph())
    backend.close()
    assert len(bench.runner.cache) == 0


def test_runs_from_several_threads_wait_for_each_other(bench: Any) -> None:
    backend = InProcessBackend(Runner(Catalogue([room.node_type, bench.catalogue.get("CountDown"), bench.catalogue.get("Add")])))  # type: ignore[attr-defined]
    results: list[int] = []
    graphs = [Graph({"1": Node("CountDown", {"n": n})}) for n in range(1, 9)]
    threads = [threading.Thread(target=lambda g=graph: results.append(backend.run(g, ["1"]).value("1"))) for graph in graphs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [n * (n + 1) // 2 for n in range(1, 9)]
