"""Events are frozen records in the past tense."""

from __future__ import annotations

import dataclasses
import re

import pytest

from sfumato import events

EVENTS = [value for value in vars(events).values() if dataclasses.is_dataclass(value) and value.__module__ == "sfumato.events"]


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_is_frozen_says_what_it_is_and_is_named_in_the_past_tense(event: type) -> None:
    assert event.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert event.__doc__
    assert not event.__doc__.startswith(f"{event.__name__}("), "a docstring of its own"
    assert event is events.NodeEvent or re.search(r"(ed|Done)$", event.__name__)


def test_events_compare_by_content() -> None:
    assert events.NodeDone("1", "T", "1", {"text": ["a"]}) == events.NodeDone("1", "T", "1", {"text": ["a"]})
    assert events.JobStarted("1") != events.JobStarted("2")
