"""Running a graph: order, laziness, lists, sub-graphs, blocked values, asynchronous nodes, failure and cancel."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

from sfumato.backends.in_process import Context
from sfumato.caching import LruCache, NoCache
from sfumato.errors import CancelledError, ModelMissingError, NodeError, UsageError, WorkflowError
from sfumato.events import NodeBlocked, NodeCached, NodeDone, NodeExpanded, NodeFailed, NodeProgressed, NodeStarted, RunStarted
from sfumato.graph import Graph, GraphBuilder, Link
from sfumato.nodes import Blocked
from sfumato.progress import Progress

# --- Plain graphs ----------------------------------------------------------------------------------------------------


def test_a_linear_graph_gives_its_result(bench: Any, build: GraphBuilder) -> None:
    a = build.node("Number", value=3)
    b = build.node("Add", a=a.out(), b=4)
    shown = build.node("Show", value=b.out())
    result = bench.run(build)
    assert result.shown == {shown.id: {"text": ["7"]}}
    assert result.executed == (a.id, b.id, shown.id)
    assert [type(e) for e in bench.events] == [RunStarted, *([NodeStarted, NodeDone] * 3)]


def test_only_what_a_target_needs_is_run(bench: Any, build: GraphBuilder) -> None:
    wanted = build.node("Add", a=build.node("Number", value=1).out(), b=2)
    build.node("Show", value=build.node("Fail", value=1).out())
    assert bench.run(build, [wanted.id]).value(wanted.id) == 3


def test_one_branch_is_finished_before_the_next_begins(bench: Any, build: GraphBuilder) -> None:
    names: dict[str, Any] = {}
    for branch in "ab":
        x = build.node("Number", f"{branch}1", value=len(names))
        y = build.node("Add", f"{branch}2", a=x.out(), b=1)
        names[branch] = build.node("Show", f"{branch}3", value=y.out())
    assert bench.run(build).executed == ("a1", "a2", "a3", "b1", "b2", "b3")


@pytest.mark.slow
def test_a_chain_of_20_000_nodes_runs(bench: Any, build: GraphBuilder) -> None:
    last = build.node("Number", value=0)
    for _ in range(20_000):
        last = build.node("Add", a=last.out(), b=1)
    assert bench.run(build, [last.id]).value(last.id) == 20_000


def test_an_optional_input_left_out_has_its_default(bench: Any, build: GraphBuilder) -> None:
    assert bench.value(build, build.node("Words", text="a", mood="loud")) == ["A"]


def test_a_constant_is_turned_into_the_type_of_its_input(bench: Any, build: GraphBuilder) -> None:
    assert bench.value(build, build.node("Add", a="3", b=4.0)) == [7]


def test_a_link_may_lead_to_any_output(bench: Any, build: GraphBuilder) -> None:
    pair = build.node("Both", a="x", b="y")
    assert bench.value(build, build.node("Words", text=pair.out(1))) == ["y"]


def test_linked_inputs_that_were_not_declared_reach_a_node_that_takes_any(bench: Any, build: GraphBuilder) -> None:
    number = build.node("Number", value=1).out()
    assert bench.value(build, build.node("PickyLater", extra=number, dropped="a constant")) == ["extra"]


def test_a_value_that_is_not_there_is_said_to_be_missing(bench: Any, build: GraphBuilder) -> None:
    shown = build.node("Show", value=1)
    with pytest.raises(UsageError, match=f"no value for output 0 of node {shown.id}"):
        bench.run(build).value(shown.id)


def test_a_graph_without_any_good_target_is_refused_before_anything_runs(bench: Any, build: GraphBuilder) -> None:
    build.node("Show", value=build.node("Nunber").out())
    with pytest.raises(WorkflowError, match="Nunber"):
        bench.run(build)
    assert bench.events == []


def test_a_faulty_output_does_not_stop_a_good_one(bench: Any, build: GraphBuilder) -> None:
    good = build.node("Show", value=1)
    bad = build.node("Show")
    result = bench.run(build)
    assert result.shown == {good.id: {"text": ["1"]}}
    assert [fault.node_id for fault in result.faults] == [bad.id]


# --- Cache -----------------------------------------------------------------------------------------------------------


def test_a_second_run_takes_everything_from_the_cache(bench: Any, build: GraphBuilder) -> None:
    shown = build.node("Show", value=build.node("Number", value=5).out())
    bench.run(build)
    result = bench.run(build)
    assert result.executed == ()
    assert result.shown == {shown.id: {"text": ["5"]}}
    assert [e.shown for e in bench.of(NodeCached)] == [{"text": ["5"]}]


def test_after_a_change_only_what_depends_on_it_runs(bench: Any) -> None:
    def graph(c: int) -> Graph:
        build = GraphBuilder()
        left, right = build.node("Number", "left", value=1), build.node("Number", "right", value=c)
        build.node("Show", "show", value=build.node("Add", "add", a=left.out(), b=right.out()).out())
        return build.graph()

    bench.run(graph(1))
    result = bench.run(graph(2))
    assert set(result.executed) == {"right", "add", "show"}
    assert result.cached == ("left",)


def test_a_graph_with_other_ids_finds_its_results_again(bench: Any) -> None:
    def graph(prefix: str) -> Graph:
        build = GraphBuilder(prefix)
        build.node("Show", value=build.node("Number", value=5).out())
        return build.graph()

    bench.run(graph("a"))
    assert bench.run(graph("b")).executed == ()


def test_two_equal_nodes_run_once(bench: Any, build: GraphBuilder) -> None:
    one, two = build.node("Number", value=1), build.node("Number", value=1)
    both = build.node("Add", a=one.out(), b=two.out())
    result = bench.run(build, [both.id])
    assert result.value(both.id) == 2
    assert len(result.executed) == 2
    assert len(result.cached) == 1


def test_a_failed_node_runs_again_and_those_before_it_do_not(bench: Any, build: GraphBuilder) -> None:
    number = build.node("Number", value=1)
    failing = build.node("Fail", value=number.out())
    for started in ([number.id, failing.id], [failing.id]):
        with pytest.raises(NodeError):
            bench.run(build, [failing.id])
        assert [e.node_id for e in bench.of(NodeStarted)] == started


def test_a_node_whose_fingerprint_changes_runs_again(bench: Any) -> None:
    def executed(mark: str, kind: str = "Stamp") -> tuple[str, ...]:
        build = GraphBuilder()
        stamp = build.node(kind, "1", mark=mark, **({"value": 1} if kind == "Stamp" else {}))
        return tuple(bench.run(build, [stamp.id]).executed)

    assert executed("a") == ("1",)
    assert executed("a") == ()
    assert executed("b") == ("1",)
    assert executed("nan") == executed("nan") == ("1",)
    assert executed("a", "StampLater") == ("1",)
    assert executed("a", "StampLater") == ()
    assert executed("nan", "StampLater") == executed("nan", "StampLater") == ("1",)


def test_a_fingerprint_sees_links_as_none(bench: Any, build: GraphBuilder) -> None:
    stamp = build.node("Stamp", mark="links are None", value=build.node("Number", value=1).out())
    bench.run(build, [stamp.id])
    assert bench.run(build, [stamp.id]).executed == ()


def test_a_fingerprint_that_fails_is_a_failure_of_its_node(bench: Any, build: GraphBuilder) -> None:
    stamp = build.node("Stamp", mark="fail", value=1)
    with pytest.raises(NodeError, match=r"node 1 \(Stamp\): OSError: no such file"):
        bench.run(build, [stamp.id])


def test_a_failing_fingerprint_of_a_node_that_nobody_needs_does_no_harm(bench: Any, build: GraphBuilder) -> None:
    build.node("Stamp", mark="fail", value=1)
    other = build.node("Number", value=1)
    assert bench.run(build, [other.id]).value(other.id) == 1


def test_a_node_object_lives_as_long_as_its_node(bench: Any) -> None:
    def count(step: int, node_id: str = "n") -> int:
        build = GraphBuilder()
        return bench.value(build, build.node("Counter", node_id, step=step))[0]  # type: ignore[no-any-return]

    assert count(1) == 1
    assert count(2) == 3
    assert count(1, "m") == 1
    assert count(3) == 3, "the node was gone for one run, and so is its state"


def test_a_node_that_is_not_idempotent_is_kept_for_its_own_id_only(bench: Any, build: GraphBuilder) -> None:
    one, two = build.node("Counter"), build.node("Counter")
    both = build.node("Both", a=one.out(), b=two.out())
    assert bench.run(build, [both.id]).executed == (one.id, two.id, both.id)
    assert bench.run(build, [both.id]).executed == ()


def test_results_of_other_branches_survive_a_partial_run(bench: Any, build: GraphBuilder) -> None:
    one, two = build.node("Number", value=1), build.node("Number", value=2)
    bench.run(build, [one.id])
    bench.run(build, [two.id])
    assert bench.run(build, [one.id]).executed == ()


def test_without_a_cache_everything_runs_and_values_are_let_go(make_bench: Callable[..., Any], build: GraphBuilder) -> None:
    bench = make_bench(NoCache())
    last = build.node("Number", value=0)
    for _ in range(5):
        last = build.node("Add", a=last.out(), b=last.out())
    for _ in range(2):
        result = bench.run(build, [last.id])
        assert len(result.executed) == 6
        assert set(result.outputs) == {last.id}


def test_an_lru_cache_finds_older_results(make_bench: Callable[..., Any]) -> None:
    bench = make_bench(LruCache(10))
    for value, executed in ((1, 1), (2, 1), (1, 0)):
        build = GraphBuilder()
        number = build.node("Number", value=value)
        assert len(bench.run(build, [number.id]).executed) == executed


def test_forget_lets_go_of_results_and_objects(bench: Any, build: GraphBuilder) -> None:
    counter = build.node("Counter")
    bench.run(build, [counter.id])
    bench.runner.forget()
    assert bench.run(build, [counter.id]).value(counter.id) == 1


# --- Lazy inputs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Choose", "ChooseLater"])
@pytest.mark.parametrize(("which", "expected"), [(True, "left"), (False, "right")])
def test_only_the_lazy_input_that_is_asked_for_is_worked_out(
    bench: Any, build: GraphBuilder, kind: str, which: bool, expected: str
) -> None:
    left, right = build.node("Words", "l", text="left"), build.node("Words", "r", text="right")
    chosen = build.node(kind, "c", which=which, left=left.out(), right=right.out())
    result = bench.run(build, [chosen.id])
    assert result.value(chosen.id) == expected
    assert set(result.executed) == {"c", expected[0]}


@pytest.mark.parametrize(("values", "asked"), [((0, 0, 5), 3), ((0, 4, 5), 2), ((3, 4, 5), 1)])
def test_a_node_may_ask_again_when_it_knows_more(bench: Any, build: GraphBuilder, values: tuple[int, ...], asked: int) -> None:
    sources = [build.node("Add", a=value - place, b=place) for place, value in enumerate(values)]
    first = build.node("FirstTrue", a=sources[0].out(), b=sources[1].out(), c=sources[2].out())
    result = bench.run(build, [first.id])
    assert result.value(first.id) == next(v for v in values if v)
    assert len(result.executed) == asked + 1


def test_a_lazy_input_nobody_needs_may_even_fail(bench: Any, build: GraphBuilder) -> None:
    broken = build.node("Fail", value=1)
    assert bench.value(build, build.node("Choose", which=True, left="fine", right=broken.out())) == ["fine"]


def test_lazy_inputs_are_asked_for_over_all_items_of_a_list(bench: Any, build: GraphBuilder) -> None:
    which = build.node("IsOdd", value=build.node("Numbers", count=2).out())
    left, right = build.node("Words", text="left"), build.node("Words", text="right")
    assert bench.value(build, build.node("Choose", which=which.out(), left=left.out(), right=right.out())) == ["right", "left"]


# --- Lists -----------------------------------------------------------------------------------------------------------


def test_a_node_runs_once_for_each_item_of_a_list(bench: Any, build: GraphBuilder) -> None:
    assert bench.value(build, build.node("Add", a=build.node("Numbers", count=3).out(), b=10)) == [10, 11, 12]


def test_the_shorter_list_repeats_its_last_item(bench: Any, build: GraphBuilder) -> None:
    long, short = build.node("Numbers", count=4), build.node("Numbers", count=2)
    assert bench.value(build, build.node("Add", a=long.out(), b=short.out())) == [0, 2, 3, 4]


def test_a_node_that_takes_lists_runs_once(bench: Any, build: GraphBuilder) -> None:
    assert bench.value(build, build.node("Sum", values=build.node("Numbers", count=5).out())) == [10]


def test_lists_of_lists_become_one(bench: Any, build: GraphBuilder) -> None:
    assert bench.value(build, build.node("Numbers", count=build.node("Numbers", count=4).out())) == [0, 0, 1, 0, 1, 2]


def test_an_empty_list_means_nothing_to_run(bench: Any, build: GraphBuilder) -> None:
    nothing = build.node("Numbers", count=0)
    added = build.node("Add", a=nothing.out(), b=1)
    assert bench.run(build, [added.id]).executed == (nothing.id,)
    assert bench.value(build, build.node("Sum", values=nothing.out())) == [0]


def test_what_the_calls_of_a_node_show_is_put_together(bench: Any, build: GraphBuilder) -> None:
    shown = build.node("Show", value=build.node("Numbers", count=3).out())
    assert bench.run(build).shown[shown.id] == {"text": ["0", "1", "2"]}


def test_a_node_that_returns_another_number_of_values_than_it_declares_fails_clearly(bench: Any, build: GraphBuilder) -> None:
    failing = build.node("Fail", value=1, kind="wrong count")
    with pytest.raises(NodeError, match="returned 3 values and declares 1"):
        bench.run(build, [failing.id])


# --- Sub-graphs ------------------------------------------------------------------------------------------------------


def test_a_node_may_put_a_sub_graph_in_its_place(bench: Any, build: GraphBuilder) -> None:
    double = build.node("Double", value=21)
    assert bench.value(build, double) == [42]
    (expanded,) = bench.of(NodeExpanded)
    assert expanded.children == (f"{double.id}.0.1",)
    assert {e.display_id for e in bench.of(NodeStarted)} == {double.id}


def test_loops_are_made_by_recursion(bench: Any, build: GraphBuilder) -> None:
    assert bench.value(build, build.node("CountDown", n=10)) == [55]


def test_a_long_loop_costs_no_more_for_each_turn(bench: Any, build: GraphBuilder) -> None:
    assert bench.value(build, build.node("CountDown", n=1000)) == [500_500]


def test_a_deep_loop_needs_no_recursion_and_keeps_its_ids_short(bench: Any, build: GraphBuilder) -> None:
    assert bench.value(build, build.node("CountDown", n=300)) == [45150]
    assert max(len(e.node_id) for e in bench.of(NodeStarted)) <= 120


def test_results_of_a_sub_graph_are_cached(bench: Any, build: GraphBuilder) -> None:
    loop = build.node("CountDown", n=10)
    bench.run(build, [loop.id])
    assert bench.run(build, [loop.id]).executed == ()


def test_what_a_sub_graph_had_done_before_it_failed_is_cached(bench: Any, build: GraphBuilder) -> None:
    inner = GraphBuilder()
    number = inner.node("Number", value=1)
    failing = inner.node("Fail", value=number.out())
    # The outer constants cannot be compared, so the outer node runs again; its inner nodes are found by content.
    outer = build.node("Expand", graph=inner.graph(), values=(failing.out(), 0))
    holder = build.node("Number", value=1)
    for _ in range(2):
        with pytest.raises(NodeError):
            bench.run(build, [holder.id, outer.id])
    assert f"{outer.id}.0.{number.id}" not in [e.node_id for e in bench.of(NodeStarted)]


def test_values_beside_links_are_passed_on(bench: Any, build: GraphBuilder) -> None:
    inner = GraphBuilder()
    number = inner.node("Number", value=7)
    outer = build.node("Expand", graph=inner.graph(), values=("plain", number.out()))
    assert bench.run(build, [outer.id]).outputs[outer.id] == (["plain"], [7])


def test_lists_flow_out_of_a_sub_graph(bench: Any, build: GraphBuilder) -> None:
    inner = GraphBuilder()
    numbers = inner.node("Numbers", count=3)
    outer = build.node("Expand", graph=inner.graph(), values=(numbers.out(), 1))
    assert bench.value(build, build.node("Add", a=outer.out(), b=1)) == [1, 2, 3]


def test_each_call_of_a_mapped_node_has_a_sub_graph_of_its_own(bench: Any, build: GraphBuilder) -> None:
    assert bench.value(build, build.node("Double", value=build.node("Numbers", count=3).out())) == [0, 2, 4]


def test_output_nodes_in_a_sub_graph_run_and_show(bench: Any, build: GraphBuilder) -> None:
    inner = GraphBuilder()
    inner.node("Show", value="from inside")
    outer = build.node("Expand", graph=inner.graph(), values=(1, 2))
    result = bench.run(build, [outer.id])
    assert list(result.shown.values()) == [{"text": ["from inside"]}]


def test_what_a_cached_sub_graph_showed_is_shown_again(bench: Any, build: GraphBuilder) -> None:
    outer = build.node("ShowInside", value=4)
    assert list(bench.run(build, [outer.id]).shown.values()) == [{"text": ["4"]}]
    again = bench.run(build, [outer.id])
    assert again.executed == ()
    assert again.shown == {outer.id: {"text": ["4"]}}


def test_a_link_into_the_graph_around_is_followed(bench: Any, build: GraphBuilder) -> None:
    number = build.node("Number", "outside", value=5)
    inner = GraphBuilder()
    added = inner.node("Add", a=number.out(), b=1)
    outer = build.node("Expand", graph=inner.graph(), values=(added.out(), number.out()))
    assert bench.run(build, [outer.id]).outputs[outer.id] == ([6], [5])


def test_a_raw_link_is_handed_over_unresolved(bench: Any, build: GraphBuilder) -> None:
    number = build.node("Number", value=5)
    passes = build.node("Passes", value=number.out())
    assert bench.value(build, passes) == [1005]
    assert bench.of(NodeStarted)[0].node_type == "Passes", "the node runs before what the link leads to"


def test_a_raw_link_that_a_sub_graph_would_take_for_its_own_is_refused(bench: Any, build: GraphBuilder) -> None:
    number = build.node("Number", "1", value=5)
    passes = build.node("Passes", "2", value=number.out(), prefixed=False)
    with pytest.raises(NodeError, match="has a node '1', and so has the graph around it"):
        bench.run(build, [passes.id])


def test_a_faulty_sub_graph_is_the_failure_of_the_node_that_made_it(bench: Any, build: GraphBuilder) -> None:
    inner = GraphBuilder()
    wrong = inner.node("Add", a=1)
    outer = build.node("Expand", graph=inner.graph(), values=(wrong.out(), 1))
    with pytest.raises(NodeError, match=r"node 1 \(Expand\): .*sub-graph.* is faulty: .*input 'b'") as caught:
        bench.run(build, [outer.id])
    assert caught.value.node_id == outer.id


def test_a_cycle_that_only_a_sub_graph_closes_is_found(bench: Any, build: GraphBuilder) -> None:
    inner = GraphBuilder()
    added = inner.node("Add", a=Link("outer", 0), b=1)
    outer = build.node("Expand", "outer", graph=inner.graph(), values=(added.out(), 1))
    with pytest.raises(NodeError, match=r"dependency cycle: .*outer → outer\.0\.1.*") as caught:
        bench.run(build, [outer.id])
    assert caught.value.node_id == "outer"
    assert [e.node_id for e in bench.of(NodeFailed)] == ["outer"]


# --- Blocked values --------------------------------------------------------------------------------------------------


def test_what_depends_on_a_blocked_value_does_not_run(bench: Any, build: GraphBuilder) -> None:
    blocked = build.node("Block", value=1)
    after = build.node("Add", a=blocked.out(), b=1)
    shown = build.node("Show", value=after.out())
    result = bench.run(build)
    assert result.executed == (blocked.id,)
    assert shown.id not in result.shown
    assert bench.of(NodeBlocked) == []


def test_a_message_is_told_by_the_node_that_would_have_run_and_only_by_it(bench: Any, build: GraphBuilder) -> None:
    blocked = build.node("Block", value=1, message="no face was found")
    after = build.node("Add", a=blocked.out(), b=1)
    build.node("Show", value=after.out())
    for _ in range(2):  # told again although the block itself is cached
        bench.run(build)
        assert [(e.node_id, e.message) for e in bench.of(NodeBlocked)] == [(after.id, "no face was found")]


def test_inside_a_list_only_the_blocked_items_are_left_out(bench: Any, build: GraphBuilder) -> None:
    even = build.node("BlockOdd", value=build.node("Numbers", count=4).out())
    added = build.node("Add", a=even.out(), b=10)
    assert bench.value(build, added) == [10, Blocked(), 12, Blocked()]
    assert [e.message for e in bench.of(NodeBlocked)] == ["1 is odd", "3 is odd"]


def test_a_node_that_ran_for_some_items_is_kept(bench: Any, build: GraphBuilder) -> None:
    even = build.node("BlockOdd", value=build.node("Numbers", count=4).out())
    after = build.node("Add", a=build.node("Add", a=even.out(), b=1).out(), b=10)
    assert bench.value(build, after) == [11, Blocked(), 13, Blocked()]
    assert after.id in bench.run(build, [after.id]).cached


def test_a_blocked_item_blocks_a_node_that_takes_the_whole_list(bench: Any, build: GraphBuilder) -> None:
    even = build.node("BlockOdd", value=build.node("Numbers", count=4).out())
    assert bench.value(build, build.node("Sum", values=even.out())) == [Blocked()]


# --- Asynchronous nodes ----------------------------------------------------------------------------------------------


def test_asynchronous_nodes_run_side_by_side(bench: Any, build: GraphBuilder) -> None:
    for value in range(3):
        build.node("Show", value=build.node("Later", f"later{value}", a=value).out())
    bench.run(build)
    order = [(type(e), e.node_id) for e in bench.events if getattr(e, "node_type", "") == "Later"]
    assert [kind for kind, _ in order] == [NodeStarted] * 3 + [NodeDone] * 3


def test_an_asynchronous_node_runs_side_by_side_with_itself_over_a_list(bench: Any, build: GraphBuilder) -> None:
    assert bench.value(build, build.node("Later", a=build.node("Numbers", count=3).out())) == [1, 2, 3]


def test_a_failure_ends_the_asynchronous_nodes_that_still_run(bench: Any, build: GraphBuilder) -> None:
    waits, fails = build.node("Never", a=1), build.node("Fail", value=build.node("Later", a=1).out())
    with pytest.raises(NodeError, match="cannot use 2"):
        bench.run(build, [waits.id, fails.id])


def test_cancel_reaches_a_run_that_only_waits(bench: Any, build: GraphBuilder) -> None:
    waits = build.node("Never", a=1)

    def cancel_soon(event: Any) -> None:
        if isinstance(event, NodeStarted):
            threading.Timer(0.05, bench.cancel.set).start()

    bench.on_event = cancel_soon
    with pytest.raises(CancelledError):
        bench.run(build, [waits.id])


def test_failures_of_several_asynchronous_nodes_at_once_end_in_the_first(
    bench: Any, build: GraphBuilder, caplog: pytest.LogCaptureFixture
) -> None:
    failing = [build.node("FailLater", value=value) for value in range(3)]
    with pytest.raises(NodeError, match=r"cannot use 0"):
        bench.run(build, [each.id for each in failing])
    gc.collect()
    assert caplog.text == "", "asyncio has nothing to complain about"


def test_a_failure_before_all_calls_of_an_asynchronous_node_were_made_leaves_nothing_unawaited(bench: Any, build: GraphBuilder) -> None:
    later = build.node("Later", a=build.node("Numbers", count=3).out())
    checks = 0

    def context_for(node_id: str) -> Context:
        return Context(node_id, StopAfter(4))

    class StopAfter(Progress):
        def __init__(self, count: int) -> None:
            super().__init__()
            self.count = count

        def check(self) -> None:
            nonlocal checks
            checks += 1
            if checks > self.count:
                raise CancelledError

    with pytest.raises(CancelledError):
        bench.runner.run(build.graph(), [later.id], context_for=context_for)
    gc.collect()  # an unawaited coroutine would warn here, and a warning is an error


def test_cancel_before_an_asynchronous_node_has_begun_leaves_nothing_unawaited(bench: Any, build: GraphBuilder) -> None:
    later = build.node("Later", a=1)
    bench.on_event = lambda event: bench.cancel.set() if isinstance(event, NodeStarted) else None
    with pytest.raises(CancelledError):
        bench.run(build, [later.id])
    gc.collect()


def test_inside_an_event_loop_asynchronous_nodes_are_refused_with_the_remedy(bench: Any, build: GraphBuilder) -> None:
    later = build.node("Later", a=1)

    async def main() -> None:
        bench.run(build, [later.id])

    with pytest.raises(UsageError, match="inside an event loop") as caught:
        asyncio.run(main())
    assert "thread of its own" in caught.value.remedy


# --- Failure and cancel ----------------------------------------------------------------------------------------------


def test_an_exception_of_a_node_becomes_an_error_that_names_it_and_keeps_the_cause(bench: Any, build: GraphBuilder) -> None:
    failing = build.node("Fail", value=5)
    with pytest.raises(NodeError) as caught:
        bench.run(build, [failing.id])
    error = caught.value
    assert str(error) == "node 1 (Fail): ValueError: cannot use 5"
    assert (error.node_id, error.node_type) == ("1", "Fail")
    assert isinstance(error.__cause__, ValueError)
    assert [e.error for e in bench.of(NodeFailed)] == [error]


def test_an_error_made_for_users_keeps_its_class_and_says_where(bench: Any, build: GraphBuilder) -> None:
    failing = build.node("Fail", value=5, kind="model")
    with pytest.raises(ModelMissingError) as caught:
        bench.run(build, [failing.id])
    assert caught.value.exit_code == 4
    assert caught.value.where == "node 1 (Fail), checkpoints"
    assert caught.value.remedy == "Add it."


def test_a_node_cannot_end_the_program(bench: Any, build: GraphBuilder) -> None:
    failing = build.node("Fail", value=5, kind="exit")
    with pytest.raises(NodeError, match="SystemExit: 3"):
        bench.run(build, [failing.id])


def test_a_failure_deep_in_a_sub_graph_is_told_once(bench: Any, build: GraphBuilder) -> None:
    inner = GraphBuilder()
    failing = inner.node("Stamp", mark="fail", value=1)
    outer = build.node("Expand", graph=inner.graph(), values=(failing.out(), 1))
    with pytest.raises(NodeError, match=r"^node 1\.0\.1 \(Stamp\): OSError"):
        bench.run(build, [outer.id])
    assert len(bench.of(NodeFailed)) == 1


def test_cancel_ends_the_run_between_two_nodes_and_is_nobodys_failure(bench: Any, build: GraphBuilder) -> None:
    stopped = build.node("Stop", value=1)
    after = build.node("Add", a=stopped.out(), b=1)
    with pytest.raises(CancelledError):
        bench.run(build, [after.id])
    assert bench.of(NodeFailed) == []
    assert [e.node_id for e in bench.of(NodeDone)] == [stopped.id]
    assert bench.run(build, [after.id]).cached == (stopped.id,), "what was done before stays in the cache"


def test_after_a_failure_the_next_run_works(bench: Any, build: GraphBuilder) -> None:
    failing = build.node("Fail", value=build.node("Number", value=1).out())
    with pytest.raises(NodeError):
        bench.run(build, [failing.id])
    good = build.node("Number", value=2)
    assert bench.run(build, [good.id]).value(good.id) == 2


# --- Hooks -----------------------------------------------------------------------------------------------------------


class Witness:
    """Hooks that note what they see."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def before_node(self, node_id: str, node_type: str, inputs: Any) -> None:
        self.seen.append(("before", node_id, inputs))

    def after_node(self, node_id: str, node_type: str, outputs: Any) -> None:
        self.seen.append(("after", node_id, outputs))

    def node_failed(self, node_id: str, node_type: str, error: Any) -> None:
        self.seen.append(("failed", node_id, str(error)))


def test_hooks_see_plain_values_and_lists_where_a_node_runs_several_times(make_bench: Callable[..., Any], build: GraphBuilder) -> None:
    witness = Witness()
    build.node("Add", "add", a=build.node("Numbers", "list", count=2).out(), b=1)
    make_bench(None, witness).run(build, ["add"])
    assert witness.seen == [
        ("before", "list", {"count": 2}),
        ("after", "list", ([0, 1],)),
        ("before", "add", {"a": [0, 1], "b": 1}),
        ("after", "add", ([1, 2],)),
    ]


def test_the_hook_of_failure_hears_of_it(make_bench: Callable[..., Any], build: GraphBuilder) -> None:
    witness = Witness()
    failing = build.node("Fail", value=1)
    with pytest.raises(NodeError):
        make_bench(None, witness).run(build, [failing.id])
    assert witness.seen[-1] == ("failed", "1", "node 1 (Fail): ValueError: cannot use 1")


def test_events_of_progress_are_not_the_runners(bench: Any, build: GraphBuilder) -> None:
    counted = build.node("Steps", count=3)
    bench.run(build, [counted.id])
    assert bench.of(NodeProgressed) == [], "they come from the backend, which makes the contexts"
