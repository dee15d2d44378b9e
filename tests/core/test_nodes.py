"""What `@node` reads from a signature, and what it refuses at load."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import types
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest

from sfumato.backends.in_process import Context
from sfumato.errors import PluginError
from sfumato.lazy import lazy_module
from sfumato.nodes import MISSING, Blocked, Input, NodeContext, NodeType, Result, node, node_types
from sfumato.progress import Progress
from sfumato.sockets import AnyValue, Choice, Conditioning, Image, Lazy, ListOf, Mask, Options, Range, SocketType, Text, tip

if TYPE_CHECKING:
    from decimal import Decimal


def type_of(target: Any) -> NodeType:
    declared = target.node_type
    assert isinstance(declared, NodeType)
    return declared


def input_of(target: Any, name: str) -> Input:
    found = type_of(target).input(name)
    assert found is not None
    return found


@node("Posterize", category="image/filter", display="Poster", outputs=("picture",), optional=("levels",))
def posterize(
    ctx: NodeContext,
    image: Image,
    levels: Annotated[int, Range(2, 64, 2), tip("how many tones")] = 8,
    *,
    gamma: Annotated[float, Range(0, 4, 0.1, round=0.01)] = 1.0,
    mode: Literal["soft", "hard"] = "soft",
    note: Annotated[str, Text(multiline=True, dynamic_prompts=True)] = "",
    file: Annotated[str, Choice("images", upload=True)],
    mask: Mask | None = None,
    either: int | float = 0,
    anything: AnyValue = None,
    lucky: Annotated[bool, Options((("display", "switch"),))] = False,
    seed: Annotated[int, Range(0, 2**64 - 1, control_after_generate=True)] = 0,
) -> Image:
    """Reduce every channel
    to a few tones."""
    return image


def test_a_functions_annotations_are_its_sockets() -> None:
    kind = type_of(posterize)
    assert (kind.name, kind.display_name, kind.category) == ("Posterize", "Poster", "image/filter")
    assert kind.description == "Reduce every channel\nto a few tones."
    assert kind.module == __name__
    assert [socket.name for socket in kind.inputs] == (
        ["image", "levels", "gamma", "mode", "note", "file", "mask", "either", "anything", "lucky", "seed"]
    )
    assert [socket.type for socket in kind.inputs] == (
        ["IMAGE", "INT", "FLOAT", "COMBO", "STRING", "COMBO", "MASK", "INT,FLOAT", "*", "BOOLEAN", "INT"]
    )
    assert [(output.name, output.type) for output in kind.outputs] == [("picture", "IMAGE")]


def test_inputs_are_required_unless_named_optional_or_without_value() -> None:
    assert [socket.name for socket in type_of(posterize).inputs if not socket.required] == ["levels", "mask", "anything"]


def test_marks_become_options() -> None:
    assert input_of(posterize, "levels").options == {"min": 2, "max": 64, "step": 2, "tooltip": "how many tones", "default": 8}
    assert input_of(posterize, "gamma").options == {"min": 0, "max": 4, "step": 0.1, "round": 0.01, "default": 1.0}
    assert input_of(posterize, "note").options == {"multiline": True, "dynamicPrompts": True, "default": ""}
    assert input_of(posterize, "lucky").options == {"display": "switch", "default": False}
    assert input_of(posterize, "seed").options["control_after_generate"] is True
    assert input_of(posterize, "mode").choices == ("soft", "hard")
    assert (input_of(posterize, "file").source, input_of(posterize, "file").options) == ("images", {"image_upload": True})
    assert input_of(posterize, "image").default is MISSING


def test_widgets_are_what_a_form_can_show() -> None:
    assert [socket.name for socket in type_of(posterize).inputs if not socket.is_widget] == ["image", "mask", "either", "anything"]


def test_a_context_is_handed_in_and_is_no_socket() -> None:
    assert type_of(posterize).input("ctx") is None
    assert type_of(posterize).make().run(None, {"image": "x", "file": "y"}) == ("x",)  # type: ignore[arg-type]


def run(target: Any, **inputs: Any) -> Any:
    return type_of(target).make().run(None, inputs)  # type: ignore[arg-type]


def test_one_value_becomes_a_tuple_of_one_even_if_it_is_a_list() -> None:
    @node("Bare", category="test")
    def bare() -> Conditioning:
        return [["tensor", {}]]

    assert run(bare) == ([["tensor", {}]],)


def test_a_tuple_is_returned_as_it_is() -> None:
    @node("Pair", category="test")
    def pair() -> tuple[int, str]:
        return 1, "a"

    assert run(pair) == (1, "a")
    assert [o.type for o in type_of(pair).outputs] == ["INT", "STRING"]


def test_nothing_returned_is_no_output() -> None:
    @node("Nothing", category="test")
    def nothing() -> None:
        return None

    assert run(nothing) == ()
    assert type_of(nothing).outputs == ()


def test_results_and_blocks_are_no_outputs_of_their_own() -> None:
    @node("Plain", category="test")
    def plain() -> Result:
        return Result(shown={})

    @node("Union", category="test")
    def union() -> tuple[int, str] | Result | Blocked | None:
        return Blocked("no")

    @node("Single", category="test")
    def single() -> int | Result:
        return Result((1,))

    assert type_of(plain).outputs == ()
    assert [o.type for o in type_of(union).outputs] == ["INT", "STRING"]
    assert [o.type for o in type_of(single).outputs] == ["INT"]
    assert run(union) == Blocked("no")
    assert run(single) == Result((1,))


def test_an_output_may_be_a_list() -> None:
    @node("Many", category="test")
    def many() -> tuple[Annotated[list[int], ListOf()], Annotated[Any, SocketType("IMAGE"), ListOf()], Conditioning]:
        return [1], [], []

    assert [(o.type, o.is_list) for o in type_of(many).outputs] == [("INT", True), ("IMAGE", True), ("CONDITIONING", False)]


def test_an_asynchronous_function_gives_an_awaitable_of_the_outputs() -> None:
    @node("Later", category="test")
    async def later() -> int:
        return 1

    async def main() -> Any:
        return await run(later)

    assert asyncio.run(main()) == (1,)


def test_a_class_has_its_own_object_each_time() -> None:
    @node("State", category="test")
    class State:
        """Counts."""

        def __init__(self) -> None:
            self.count = 0

        def run(self) -> int:
            self.count += 1
            return self.count

    one, two = type_of(State).make(), type_of(State).make()
    assert [one.run(None, {}), one.run(None, {}), two.run(None, {})] == [(1,), (2,), (1,)]  # type: ignore[arg-type]
    assert type_of(State).description == "Counts."


def test_a_classs_questions_get_the_inputs_they_name() -> None:
    @node("Asks", category="test", optional=("b",))
    class Asks:
        def needs(self, b: Any = 0) -> list[str]:
            return ["a"] if b else []

        def fingerprint(self, ctx: NodeContext, **inputs: Any) -> Any:
            return ctx, sorted(inputs)

        @staticmethod
        def validate(a: Any) -> str | None:
            return f"a is {a}"

        def run(self, a: Annotated[int, Lazy()], b: int = 1) -> int:
            return a + b

    kind, inputs = type_of(Asks), {"a": 1, "b": 2}
    nobody = Context("1", Progress.silent())
    assert kind.make().needs(inputs) == ["a"]
    assert kind.make().fingerprint(nobody, inputs) == (nobody, ["a", "b"])
    assert kind.make().validate(inputs) == "a is 1"
    assert kind.has_fingerprint
    assert kind.validated_inputs == frozenset("a")
    assert input_of(Asks, "a").lazy


def test_a_plain_function_has_nothing_special_to_answer() -> None:
    made, kind = type_of(posterize).make(), type_of(posterize)
    assert (made.needs({}), made.fingerprint(Context("1", Progress.silent()), {}), made.validate({})) == ((), None, None)
    assert (kind.has_fingerprint, kind.validated_inputs) == (False, frozenset())


def test_what_takes_more_than_it_declares_says_so() -> None:
    @node("Anything", category="test")
    def anything(a: int, **more: Any) -> int:
        return a + len(more)

    assert type_of(anything).takes_any
    assert [s.name for s in type_of(anything).inputs] == ["a"]


# --- Refused at load -----------------------------------------------------------------------------------------------------


def no_annotation(a) -> int:  # type: ignore[no-untyped-def]
    return 1


def no_return(a: int):  # type: ignore[no-untyped-def]
    return 1


def bad_input(a: bytes) -> int:
    return 1


def bad_output(a: int) -> bytes:
    return b""


def bad_default(a: Annotated[int, Range(1, 5)] = 9) -> int:
    return 1


def bad_choice(a: Literal["x", "y"] = "z") -> int:  # type: ignore[assignment]
    return 1


def lazy_without_needs(a: Annotated[int, Lazy()]) -> int:
    return 1


def unreadable(a: Decimal) -> int:
    return 1


class WithoutRun:
    """No node."""


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        (no_annotation, {}, "parameter 'a' of node 'X' has no annotation"),
        (no_return, {}, "no return annotation"),
        (bad_input, {}, "no socket type"),
        (bad_output, {}, "output 0 of node 'X'"),
        (bad_default, {}, "forbids the default 9"),
        (bad_choice, {}, "forbids the default 'z'"),
        (lazy_without_needs, {}, "no method `needs`"),
        (unreadable, {}, "not only under TYPE_CHECKING"),
        (WithoutRun, {}, "no method `run`"),
        (posterize, {"outputs": ("a", "b")}, "names 2 outputs and returns 1"),
        (posterize, {"optional": ("level",)}, "calls 'level' optional"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_impossible_declaration_is_refused_at_load(target: Any, options: Any, words: str) -> None:
    with pytest.raises(PluginError) as caught:
        node("X", category="test", **options)(target)
    assert words in str(caught.value)


# --- Collecting ----------------------------------------------------------------------------------------------------------


def test_the_node_types_of_a_module_come_in_order() -> None:
    module = types.ModuleType("made_up")
    vars(module).update(number=1, posterize=posterize, again=posterize, kind=type_of(posterize))
    assert node_types(module) == [type_of(posterize)]


def test_collecting_does_not_wake_lazy_modules() -> None:
    module = types.ModuleType("made_up")
    vars(module)["heavy"] = lazy_module("a.module.that.does.not.exist")
    assert node_types(module) == []


def test_nodes_load_no_torch() -> None:
    code = "import sfumato, sfumato.runner, sfumato.jobs, sfumato.backends.in_process, sys; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
