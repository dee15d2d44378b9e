"""The prompt grammar: what each mark means in either dialect, and that no text at all is too odd for it."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.engine.prompts import (
    STAGE_LIMIT,
    WEIGHT_LIMIT,
    ChunkBreak,
    Dialect,
    Embedding,
    Piece,
    Stage,
    Text,
    parse,
)
from sfumato.errors import BadValueError

DIALECTS: tuple[Dialect, ...] = ("sfumato", "comfy")
DOWN = 1 / 1.1


def pieces(text: str, dialect: Dialect = "sfumato") -> list[Piece]:
    """The pieces of a prompt without a schedule; weights rounded so that 1.1 * 1.3 may be written as 1.43."""
    (stage,) = parse(text, dialect).stages()
    assert (stage.start, stage.end) == (0.0, 1.0)
    return [piece if isinstance(piece, ChunkBreak) else rounded(piece) for piece in stage.pieces]


def rounded(piece: Text | Embedding) -> Text | Embedding:
    weight = round(piece.weight, 9)
    return Text(piece.text, weight) if isinstance(piece, Text) else Embedding(piece.name, weight)


def schedule(text: str) -> list[tuple[float, float, str]]:
    """The stages of a prompt, each as its start, its end and its words."""
    return [(stage.start, stage.end, words(stage)) for stage in parse(text).stages()]


def words(stage: Stage) -> str:
    return "".join(piece.text for piece in stage.pieces if isinstance(piece, Text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a red circle", [Text("a red circle")]),
        ("a (red) circle", [Text("a "), Text("red", 1.1), Text(" circle")]),
        ("((red))", [Text("red", 1.21)]),
        ("[red]", [Text("red", round(DOWN, 9))]),
        ("([red])", [Text("red", 1.0)]),
        ("(red:1.3)", [Text("red", 1.3)]),
        ("(red: .5 )", [Text("red", 0.5)]),
        ("(red:-1)", [Text("red", -1.0)]),
        ("(red:1e-1)", [Text("red", 0.1)]),
        ("(red (big:2):1.5)", [Text("red ", 1.5), Text("big", 3.0)]),
        ("((red):1.3)", [Text("red", 1.43)]),
        ("(16:9:1.2)", [Text("16:9", 1.2)]),
        ("a: b", [Text("a: b")]),
        ("()", []),
        ("(:1.3)", [Text(":1.3", 1.1)]),
        (r"\(a\) \[b\] \: \\", [Text("(a) [b] : \\")]),
        (r"(a\:1.3)", [Text("a:1.3", 1.1)]),
        (r"(\(a\):1.3)", [Text("(a)", 1.3)]),
        (r"c:\new", [Text(r"c:\new")]),
        ("sky BREAK sea", [Text("sky "), ChunkBreak(), Text(" sea")]),
        ("(sky BREAK sea:1.2)", [Text("sky ", 1.2), ChunkBreak(), Text(" sea", 1.2)]),
        ("BREAKFAST, break", [Text("BREAKFAST, break")]),
        ("a embedding:cat, sits", [Text("a "), Embedding("cat"), Text(", sits")]),
        ("(embedding:sub/cat-1.safetensors:0.8)", [Embedding("sub/cat-1.safetensors", 0.8)]),
        (r"embedding:cat\(2\)", [Embedding("cat(2)")]),
        (r"embedding\:cat", [Text("embedding:cat")]),
        ("myembedding:cat embedding: x", [Text("myembedding:cat embedding: x")]),
    ],
)
def test_each_mark_of_our_dialect_means_what_its_table_says(text: str, expected: list[Piece]) -> None:
    assert pieces(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a (red) circle", [Text("a "), Text("red", 1.1), Text(" circle")]),
        ("(red:1.3)", [Text("red", 1.3)]),
        ("((red:1.5):2)", [Text("red", 1.5)]),
        ("((red):2)", [Text("red", 2.2)]),
        ("(red (big:0.5) (old):2)", [Text("red ", 2.0), Text("big", 0.5), Text(" ", 2.0), Text("old", 2.2)]),
        ("[red] [a:b:0.5] a BREAK b", [Text("[red] [a:b:0.5] a BREAK b")]),
        (r"\(a\) \[b\] \: \\", [Text(r"(a) \[b\] \: \\")]),
        ("a embedding:cat, sits", [Text("a "), Embedding("cat"), Text(", sits")]),
        (r"(embedding:sub\cat:1.2)", [Embedding(r"sub\cat", 1.2)]),
        ("a,embedding:cat", [Text("a,embedding:cat")]),
    ],
)
def test_comfyui_s_dialect_knows_only_round_brackets_and_embeddings(text: str, expected: list[Piece]) -> None:
    assert pieces(text, "comfy") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a (red", [Text("a (red")]),
        ("a) red", [Text("a) red")]),
        ("a) (red)", [Text("a) "), Text("red", 1.1)]),
        ("(a (red)", [Text("(a "), Text("red", 1.1)]),
        ("(a [b:1.3) c", [Text("a [b", 1.3), Text(" c")]),
        ("[a (b] c)", [Text("a (b", round(DOWN, 9)), Text(" c)")]),
        (":-) smile (wide:1.2)", [Text(":-) smile "), Text("wide", 1.2)]),
    ],
)
def test_a_bracket_without_its_partner_is_text(text: str, expected: list[Piece]) -> None:
    assert pieces(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a) (red)", [Text("a) (red)")]),
        ("a) (b) (c)", [Text("a) (b) (c)")]),
        ("a) ( (b)", [Text("a) ( "), Text("b", 1.1)]),
        ("(a (red) b", [Text("(a (red) b")]),
        ("(a (red)", [Text("a (red", 1.1)]),
        ("(a (red:1.2)", [Text("a (red", 1.2)]),
        ("(a (b (c) d)", [Text("a (b (c) d", 1.1)]),
        ("(a (b (c))", [Text("a ", 1.1), Text("b (c", 1.21)]),
        ("(a (b (c):1.3)", [Text("a ", 1.3), Text("b (c", 1.43)]),
        ("(a (b) (c:1.3)", [Text("a ", 1.3), Text("b", 1.43), Text(" (c", 1.3)]),
        ("((a)", [Text("(a", 1.1)]),
    ],
)
def test_loose_brackets_in_a_comfyui_prompt_mean_what_they_mean_there(text: str, expected: list[Piece]) -> None:
    assert pieces(text, "comfy") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a [cat:dog:0.5] sits", [(0, 0.5, "a cat sits"), (0.5, 1, "a dog sits")]),
        ("a [cat:0.25]", [(0, 0.25, "a "), (0.25, 1, "a cat")]),
        ("a [cat::.75]", [(0, 0.75, "a cat"), (0.75, 1, "a ")]),
        ("[:cat:0.5]", [(0, 0.5, ""), (0.5, 1, "cat")]),
        ("[un::0.5]happy", [(0, 0.5, "unhappy"), (0.5, 1, "happy")]),
        ("[a:[b:c:0.8]:0.2]", [(0, 0.2, "a"), (0.2, 0.8, "b"), (0.8, 1, "c")]),
        ("[a:[b:c:0.2]:0.8]", [(0, 0.8, "a"), (0.8, 1, "c")]),
        ("[a:b:0.5][c:d:0.5]", [(0, 0.5, "ac"), (0.5, 1, "bd")]),
        ("[a:b:0] [c:d:1]", [(0, 1, "b c")]),
        ("[a:a:0.5]", [(0, 1, "a")]),
        ("[a:b:7]", [(0, 1, "a:b:7")]),
        ("[a:b:c:0.5]", [(0, 1, "a:b:c:0.5")]),
        (r"[a\:b:c:0.5]", [(0, 0.5, "a:b"), (0.5, 1, "c")]),
    ],
)
def test_a_schedule_says_other_words_in_other_parts_of_the_sampling(text: str, expected: list[tuple[float, float, str]]) -> None:
    assert schedule(text) == expected


def test_a_schedule_and_an_emphasis_may_lie_within_each_other() -> None:
    first, second = parse("([a:(b:2):0.5]:1.5)").stages()
    assert (first.pieces, second.pieces) == ((Text("a", 1.5),), (Text("b", 3.0),))


def test_a_schedule_may_change_an_embedding() -> None:
    first, second = parse("[embedding:day:embedding:night:0.5]").stages()
    assert (first.pieces, second.pieces) == ((Embedding("day"),), (Embedding("night"),))


def test_two_words_in_brackets_of_their_own_stay_two_words() -> None:
    assert pieces("(red)(blue)") == [Text("red", 1.1), Text("blue", 1.1)]


def test_more_stages_than_the_text_encoder_should_run_are_refused_with_their_number() -> None:
    many = "".join(f"[a:b:{i / 1000}]" for i in range(1, STAGE_LIMIT + 1))
    with pytest.raises(BadValueError, match=f"changes {STAGE_LIMIT} times"):
        parse(many).stages()
    assert len(parse(many.removesuffix(f"[a:b:{STAGE_LIMIT / 1000}]")).stages()) == STAGE_LIMIT


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("number", ["nan", "inf", "-infinity", "1_0", "1.2.3", "٣", "1" * 31, "", "+", "0x1"])
def test_what_is_no_plain_number_is_no_weight_but_text(number: str, dialect: Dialect) -> None:
    assert pieces(f"(a:{number})", dialect) == [Text(f"a:{number}", 1.1)]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_weights_end_at_the_limit(dialect: Dialect) -> None:
    assert pieces("(a:1e999) (b:-1e999)", dialect) == [Text("a", WEIGHT_LIMIT), Text(" "), Text("b", -WEIGHT_LIMIT)]
    assert pieces("(" * 500 + "a" + ")" * 500, dialect) == [Text("a", WEIGHT_LIMIT)]


marks = st.sampled_from([*"()[]:\\, ab0.51-e\n", "BREAK", "embedding:", "x:0.5]", ":1.3)"])
syntax = st.lists(marks, max_size=40).map("".join)


@given(text=st.one_of(st.text(), syntax), dialect=st.sampled_from(DIALECTS))
def test_any_text_parses_to_finite_weights_and_spans_within_the_sampling(text: str, dialect: Dialect) -> None:
    for span in parse(text, dialect).spans:
        assert 0.0 <= span.start < span.end <= 1.0
        if not isinstance(span.piece, ChunkBreak):
            assert math.isfinite(span.piece.weight)
            assert abs(span.piece.weight) <= WEIGHT_LIMIT


@given(text=st.one_of(st.text(), syntax), dialect=st.sampled_from(DIALECTS))
def test_the_stages_cover_the_sampling_without_a_gap(text: str, dialect: Dialect) -> None:
    stages = parse(text, dialect).stages()
    assert stages[0].start == 0.0
    assert stages[-1].end == 1.0
    assert all(one.end == two.start for one, two in itertools.pairwise(stages))


@given(text=st.text(st.characters(exclude_characters="()[]:\\"), min_size=1).filter(lambda text: "BREAK" not in text))
def test_text_without_marks_stays_as_it_is(text: str) -> None:
    for dialect in DIALECTS:
        assert parse(text, dialect).stages() == (Stage(0.0, 1.0, (Text(text),)),)


@given(text=st.text(min_size=1).filter(lambda text: "BREAK" not in text))
def test_text_whose_marks_are_all_escaped_is_itself(text: str) -> None:
    escaped = "".join(f"\\{character}" if character in "()[]:\\" else character for character in text)
    assert parse(escaped).stages() == (Stage(0.0, 1.0, (Text(text),)),)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("opening", "unit"),
    [
        *[("", unit) for unit in ("(", ")", "([)]", "[a:b:0.5]", "embedding:", "\\")],
        *[("(" * 50_000, unit) for unit in (")", ":1)")],
        ("[(a:" * 12_500, ":.5)]"),
    ],
)
def test_a_hundred_thousand_characters_take_less_than_a_second(opening: str, unit: str, dialect: Dialect) -> None:
    text = opening + unit * ((100_000 - len(opening)) // len(unit))
    assert any(seconds_to_parse(text, dialect) < 1.0 for _ in range(3))  # a busy machine may spoil one measurement


def seconds_to_parse(text: str, dialect: Dialect) -> float:
    before = time.process_time()
    parse(text, dialect)
    return time.process_time() - before


def test_the_parser_imports_no_torch() -> None:
    code = "import sys, sfumato.engine.prompts; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
