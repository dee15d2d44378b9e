"""One run of one graph: what is waiting, what is ready, what is done."""

from __future__ import annotations

import inspect
from asyncio import Task
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from sfumato.caching import Cache, Kept, NodeObjects, node_key
from sfumato.calls import Lists, blocked_by, calls_for, outputs_of, result_of, shown_by
from sfumato.catalogue import Catalogue
from sfumato.errors import CancelledError, NodeError, SfumatoError
from sfumato.events import NodeBlocked, NodeCached, NodeDone, NodeExpanded, NodeFailed, NodeStarted
from sfumato.expansion import placed
from sfumato.graph import Graph, Link, Node
from sfumato.members import Member, Unfinished
from sfumato.nodes import Blocked, NodeContext, NodeObject, NodeType, Result
from sfumato.tasks import AsyncTasks, close_unawaited
from sfumato.validation import validate

MAX_NODES = 500_000
"""More nodes than this, those of sub-graphs included, and a run is taken for a loop that never ends."""


class RunHooks(Protocol):
    """The moments of a run that plugins may attend; `PluginManager` is one."""

    def before_node(self, node_id: str, node_type: str, inputs: Mapping[str, Any]) -> None: ...

    def after_node(self, node_id: str, node_type: str, outputs: tuple[Any, ...]) -> None: ...

    def node_failed(self, node_id: str, node_type: str, error: SfumatoError) -> None: ...


class GraphRun:
    """The state of a run. `work_out` is called once; `shown`, `executed` and `cached` tell afterwards what happened."""

    def __init__(
        self,
        catalogue: Catalogue,
        cache: Cache,
        objects: NodeObjects,
        hooks: RunHooks | None,
        context_for: Callable[[str], NodeContext],
        emit: Callable[[Any], None],
    ) -> None:
        self._catalogue, self._cache, self._objects, self._hooks = catalogue, cache, objects, hooks
        self._context_for, self._emit = context_for, emit
        self._tasks = AsyncTasks()
        self._members: dict[str, Member] = {}
        self._nodes: dict[str, Node] = {}
        self._open: dict[str, Unfinished] = {}
        self._ready: list[str] = []
        self._dependents: dict[str, list[str]] = {}
        self._values: dict[str, tuple[list[Any], ...]] = {}
        self._uses: dict[str, int] = {}
        self._failure: SfumatoError | None = None
        self.shown: dict[str, Mapping[str, Any]] = {}
        self.executed: dict[str, None] = {}
        self.cached: dict[str, None] = {}

    def work_out(self, graph: Graph, targets: Sequence[str]) -> dict[str, tuple[list[Any], ...]]:
        """Run what `targets` need, and return their outputs. `graph` has passed validation."""
        try:
            self._begin(graph, graph.ancestors(targets))
            for target in targets:
                self._uses[target] = self._uses.get(target, 0) + 1
            for target in reversed(targets):
                self._demand(target)
            self._go()
            return {target: self._values[target] for target in targets}
        finally:
            self._tasks.close()

    # --- Who takes part ----------------------------------------------------------------------------------------------

    def _begin(self, graph: Graph, needed: set[str]) -> None:
        self._objects.keep_only(graph.nodes)
        for node_id in graph.order():
            self._join(node_id, graph.nodes[node_id], node_id, node_id in needed)
        self._cache.begin([member.key for member in self._members.values()])

    def _join(self, node_id: str, node: Node, root: str, is_needed: bool = True) -> None:
        node_type = self._catalogue.get(node.type)
        if node_type is None or len(self._members) >= MAX_NODES:
            raise NodeError(f"the run has grown to more than {MAX_NODES} nodes" if node_type else f"there is no node type {node.type!r}")
        parents = {link.node: self._members[link.node].key for _, link in node.links() if link.node in self._members}
        fingerprint = self._fingerprint(node_id, node, node_type, root, is_needed) if node_type.has_fingerprint else None
        self._nodes[node_id] = node
        self._members[node_id] = Member(node, node_type, node_key(node_type, node_id, node, fingerprint, parents), root)

    def _fingerprint(self, node_id: str, node: Node, node_type: NodeType, root: str, is_needed: bool) -> Any:
        constants = {name: None if isinstance(value, Link) else value for name, value in node.inputs.items()}
        ask, context = self._objects.get(node_id, node_type, root).fingerprint, self._context_for(node_id)
        if is_needed:
            with self._blame(node_id, node_type.name, root):
                return self._tasks.now(ask(context, constants))
        try:
            return self._tasks.now(ask(context, constants))
        except Exception:  # noqa: BLE001  nobody asked for this node; it is only looked at to keep its last result
            return float("nan")

    # --- Order -------------------------------------------------------------------------------------------------------

    def _demand(self, wanted: str) -> None:
        """Have `wanted` worked out, and first of all what it needs."""
        todo = [wanted]
        while todo:
            node_id = todo.pop()
            if node_id in self._values or node_id in self._open:
                continue
            member = self._members[node_id]
            if self._serve_from_cache(node_id, member):
                continue
            for used in member.uses():
                self._uses[used] = self._uses.get(used, 0) + 1
            self._open[node_id] = Unfinished()
            todo.extend(self._wait_for(node_id, member.needed()))

    def _wait_for(self, node_id: str, needed: Iterable[str]) -> list[str]:
        """Let `node_id` wait for `needed`, and return what is missing of it. If nothing is, it is ready."""
        missing = [each for each in needed if each not in self._values]
        self._open[node_id].missing.update(missing)
        for each in missing:
            self._dependents.setdefault(each, []).append(node_id)
        if not missing:
            self._ready.append(node_id)
        return missing

    def _go(self) -> None:
        while self._ready or self._tasks:
            while self._ready:
                self._tasks.give_way()
                self._advance(self._ready.pop())
            self._tasks.wait(self._check)
        if self._open:
            raise self._stuck()

    def _check(self) -> None:
        for opened in self._open.values():
            if opened.context is not None:
                opened.context.progress.check()
                return

    def _settle(self, node_id: str, outputs: tuple[list[Any], ...]) -> None:
        """The node is done: whoever waited for it may go on, and what only it needed is let go."""
        if self._uses.get(node_id):
            self._values[node_id] = outputs
        for waiting in reversed(self._dependents.pop(node_id, [])):
            missing = self._open[waiting].missing
            missing.discard(node_id)
            if not missing:
                self._ready.append(waiting)

    def _let_go(self, used: Iterable[str]) -> None:
        for each in used:
            self._uses[each] -= 1
            if not self._uses[each]:
                self._values.pop(each, None)

    def _stuck(self) -> SfumatoError:
        """Nothing can go on: the nodes wait for each other in a circle, which only sub-graphs can close at this point."""
        waits_on = {node_id: Node("", {str(i): Link(m, 0) for i, m in enumerate(o.missing)}) for node_id, o in self._open.items()}
        circle = Graph(waits_on).cycle()
        root = self._members[circle[0]].root
        error = NodeError("dependency cycle: " + " → ".join([*circle, circle[0]]), node_id=root, node_type=self._members[root].type.name)
        return self._failed(root, error.node_type, root, error)

    # --- One node ----------------------------------------------------------------------------------------------------

    def _advance(self, node_id: str) -> None:
        """The node has all it waited for: ask which lazy inputs it wants, run it, or take over what its sub-graph gave."""
        member, opened = self._members[node_id], self._open[node_id]
        with self._blame(node_id, member.type.name, member.root):
            if opened.results is not None:
                self._finish(node_id, member, opened)
                return
            if opened.context is None:
                opened.context = self._context_for(node_id)
            opened.context.progress.check()
            if self._serve_from_cache(node_id, member):
                return
            if any(name not in opened.wanted for name in member.lazy_links()):
                self._ask_needs(node_id, member, opened)
            else:
                self._run(node_id, member, opened)

    def _serve_from_cache(self, node_id: str, member: Member) -> bool:
        kept = self._cache.get(member.key, self._members[member.root].key)
        if kept is None:
            return False
        if kept.shown:
            self.shown[node_id] = kept.shown
        self.cached[node_id] = None
        self._emit(NodeCached(node_id, member.type.name, member.root, kept.shown))
        self._settle(node_id, kept.outputs)
        if self._open.pop(node_id, None):
            self._let_go(member.uses())
        return True

    def _inputs(self, member: Member, wanted: Collection[str]) -> dict[str, list[Any]]:
        """The values of all inputs; those of lazy inputs that nobody wants are None."""
        inputs: dict[str, list[Any]] = {}
        for name, value in member.node.inputs.items():
            if not isinstance(value, Link) or member.is_raw(name):
                inputs[name] = [value]
            elif member.is_lazy(name) and name not in wanted:
                inputs[name] = [None]
            else:
                inputs[name] = self._values[value.node][value.slot]
        return inputs

    def _object(self, node_id: str, member: Member) -> NodeObject:
        return self._objects.get(node_id, member.type, member.root)

    def _ask_needs(self, node_id: str, member: Member, opened: Unfinished) -> None:
        calls = calls_for(member.type, self._inputs(member, opened.wanted))
        node = self._object(node_id, member)
        answers = [node.needs(call) for call in calls if blocked_by(member.type, call) is None]
        self._then(node_id, answers, lambda found: self._hear_needs(node_id, member, opened, found))

    def _hear_needs(self, node_id: str, member: Member, opened: Unfinished, answers: Sequence[Any]) -> None:
        lazy = [name for name in member.lazy_links() if name not in opened.wanted]
        new = [name for name in lazy if any(name in (answer or ()) for answer in answers)]
        if not new:
            self._run(node_id, member, opened)
            return
        opened.wanted.update(new)
        for missing in reversed(self._wait_for(node_id, member.needed(opened.wanted))):
            self._demand(missing)

    def _run(self, node_id: str, member: Member, opened: Unfinished) -> None:
        inputs = self._inputs(member, opened.wanted)
        answers: list[Any] = []
        try:
            for call in calls_for(member.type, inputs):
                blocked = blocked_by(member.type, call)
                answers.append(
                    self._call(node_id, member, opened, inputs, call) if blocked is None else self._block(node_id, member, opened, blocked)
                )
        except BaseException:
            close_unawaited(answers)
            raise
        self._then(node_id, answers, lambda found: self._take_answers(node_id, member, opened, found))

    def _call(self, node_id: str, member: Member, opened: Unfinished, inputs: Lists, call: Mapping[str, Any]) -> Any:
        assert opened.context is not None
        if not opened.has_run:
            opened.has_run = True
            self._emit(NodeStarted(node_id, member.type.name, member.root))
            if self._hooks:
                self._hooks.before_node(node_id, member.type.name, _plain(inputs))
        opened.context.progress.check()
        return self._object(node_id, member).run(opened.context, call)

    def _block(self, node_id: str, member: Member, opened: Unfinished, blocked: Blocked) -> Blocked:
        opened.was_blocked = True
        if blocked.message:
            opened.has_told = True
            self._emit(NodeBlocked(node_id, member.type.name, member.root, blocked.message))
        return Blocked()

    def _then(self, node_id: str, answers: list[Any], go_on: Callable[[Sequence[Any]], None]) -> None:
        """Call `go_on` with the answers: now, or when those that are awaitable are there."""
        if not any(map(inspect.isawaitable, answers)):
            go_on(answers)
            return

        def resume(task: Task[Any]) -> None:
            member = self._members[node_id]
            with self._blame(node_id, member.type.name, member.root):
                if task.cancelled():
                    raise NodeError("its task cancelled itself")
                go_on(task.result())

        self._tasks.start(answers, resume)

    def _take_answers(self, node_id: str, member: Member, opened: Unfinished, answers: Sequence[Any]) -> None:
        results = [result_of(member.type, answer) for answer in answers]
        opened.results = [self._expand(node_id, member, opened, call, result) for call, result in enumerate(results)]
        linked = [value.node for result in opened.results for value in result.values if isinstance(value, Link)]
        opened.inner.extend(linked)
        for each in opened.inner:
            self._uses[each] = self._uses.get(each, 0) + 1
        if not opened.inner:
            self._finish(node_id, member, opened)
            return
        for missing in reversed(self._wait_for(node_id, dict.fromkeys(opened.inner))):
            self._demand(missing)

    def _expand(self, node_id: str, member: Member, opened: Unfinished, call: int, result: Result) -> Result:
        """Let the nodes of the result's sub-graph join the run; returns the result with links that lead there."""
        raw = [link for name, link in member.node.links() if member.is_raw(name)]
        children, values = placed(result, node_id, call, member.root, raw)
        outputs = [key for key, node in children.items() if (kind := self._catalogue.get(node.type)) and kind.is_output]
        targets = [*outputs, *(v.node for v in values if isinstance(v, Link) and v.node in children)]
        if targets:
            validation = validate(Graph(children), self._catalogue, targets, around=self._nodes)
            if validation.faults:
                raise NodeError(f"the sub-graph that it returned is faulty: {validation.error()}")
            needed = validation.coerced.ancestors(targets)
            children = {key: validation.coerced.nodes[key] for key in validation.coerced.order(targets) if key in needed}
            for key, child in children.items():
                self._join(key, child, member.root)
            self._emit(NodeExpanded(node_id, member.type.name, member.root, tuple(children)))
        opened.inner.extend(outputs)
        return Result(values, result.shown)

    def _finish(self, node_id: str, member: Member, opened: Unfinished) -> None:
        results = opened.results or []
        linked = {v: self._values[v.node][v.slot] for result in results for v in result.values if isinstance(v, Link)}
        outputs = outputs_of(member.type, results, linked)
        shown = shown_by(result.shown for result in results)
        if opened.has_run:
            if self._hooks:
                self._hooks.after_node(node_id, member.type.name, _unlisted(member.type, outputs))
            self.executed[node_id] = None
            if shown:
                self.shown[node_id] = shown
            self._emit(NodeDone(node_id, member.type.name, member.root, shown))
        if opened.may_be_kept():
            inner = (self.shown.get(each) for each in dict.fromkeys(opened.inner))
            self._cache.put(member.key, self._members[member.root].key, Kept(outputs, shown_by([shown, *inner])))
        del self._open[node_id]
        self._settle(node_id, outputs)
        self._let_go([*member.uses(), *opened.inner])

    # --- Failure -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _blame(self, node_id: str, node_type: str, root: str) -> Iterator[None]:
        """What fails in here is the failure of this node; cancelling is nobody's failure."""
        try:
            yield
        except CancelledError:
            raise
        except SfumatoError as error:
            raise self._failed(node_id, node_type, root, error) from error.__cause__
        except (Exception, SystemExit) as error:
            failure = NodeError(f"{type(error).__name__}: {error}", node_id=node_id, node_type=node_type)
            raise self._failed(node_id, node_type, root, failure) from error

    def _failed(self, node_id: str, node_type: str, root: str, error: SfumatoError) -> SfumatoError:
        """Say in `error` which node it was, and tell who listens; once, although the nodes around a sub-graph fail with it."""
        if error is self._failure:
            return error
        self._failure = error
        place = f"node {node_id} ({node_type})"
        error.where = f"{place}, {error.where}" if error.where else place
        if isinstance(error, NodeError):
            error.node_id, error.node_type = error.node_id or node_id, error.node_type or node_type
        self._emit(NodeFailed(node_id, node_type, root, error))
        if self._hooks:
            try:
                self._hooks.node_failed(node_id, node_type, error)
            except SfumatoError as second:
                error.add_note(f"and then a hook failed: {second}")
        return error


def _plain(inputs: Lists) -> dict[str, Any]:
    """One value as itself, several as their list."""
    return {name: values[0] if len(values) == 1 else values for name, values in inputs.items()}


def _unlisted(node_type: NodeType, outputs: tuple[list[Any], ...]) -> tuple[Any, ...]:
    return tuple(
        values[0] if len(values) == 1 and not output.is_list else values for output, values in zip(node_type.outputs, outputs, strict=True)
    )
