"""What is written as TOML is what the standard library reads."""

from __future__ import annotations

import datetime
import math
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.toml_writer import toml_line, toml_value

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | texts | st.dates() | st.datetimes() | st.times(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(key=texts, value=values)
def test_a_line_reads_back_as_it_was(key: str, value: Any) -> None:
    read = tomllib.loads(toml_line(key, value))
    assert read == {key: value} and type(read[key]) is type(value)


def test_what_is_no_number_reads_back_as_none() -> None:
    assert math.isnan(tomllib.loads("a = " + toml_value(math.nan))["a"])


def test_a_time_zone_is_kept() -> None:
    when = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=-5)))
    assert tomllib.loads(toml_line("a", when)) == {"a": when}


@pytest.mark.parametrize(("value", "error"), [(None, TypeError), (object(), TypeError), ("\ud800", ValueError)])
def test_what_toml_cannot_hold_is_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        toml_value(value)
