"""JSON from strangers: read, or refused with one kind of error."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.bounded_json import JsonFault, read_json

texts = st.text(st.characters(), max_size=10)  # lone surrogates, too
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=15,
)


@settings(max_examples=150, deadline=None)
@given(value=values)
def test_json_reads_back_as_it_was(value: Any) -> None:
    assert read_json(json.dumps(value)) == value
    assert read_json(json.dumps(value).encode()) == value


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=30) | st.text('[]{}",:\\u01aétfn -.e', max_size=40) | st.binary(max_size=30))
def test_no_text_does_more_than_be_refused(text: str | bytes) -> None:
    try:
        read_json(text)
    except JsonFault as fault:
        assert str(fault)


@pytest.mark.parametrize("bracket", ["[", '{"a":', "[{", '["\\"[",['])
def test_deep_nesting_is_refused_before_it_is_parsed(bracket: str) -> None:
    text = bracket * 100_000
    start = time.process_time()
    with pytest.raises(JsonFault, match="levels deep"):
        read_json(text)
    assert time.process_time() - start < 1


def test_depth_is_counted_as_it_is() -> None:
    assert read_json("[" * 8 + "]" * 8, most_depth=8) == [[[[[[[[]]]]]]]]
    with pytest.raises(JsonFault, match="more than 7 levels"):
        read_json("[" * 8 + "]" * 8, most_depth=7)
    assert read_json('{"a": "[[[[{{{{", "b": "\\\\"}', most_depth=1) == {"a": "[[[[{{{{", "b": "\\"}
    assert read_json("[[],[],[[]],{}]", most_depth=3)


def test_a_fault_says_line_and_column() -> None:
    with pytest.raises(JsonFault, match="line 2, column 7"):
        read_json('{"a": 1,\n "b": x}')


def test_too_many_bytes_and_too_many_digits_are_refused() -> None:
    with pytest.raises(JsonFault, match="more than the 10"):
        read_json("[" + " " * 20 + "]", most_bytes=10)
    with pytest.raises(JsonFault):
        read_json("9" * 5000)


def test_a_byte_order_mark_is_no_fault() -> None:
    assert read_json(b"\xef\xbb\xbf[1]") == [1]
