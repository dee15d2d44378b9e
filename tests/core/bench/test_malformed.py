"""Malformed workflows by the thousand: none of them gets past the checks as anything but an answer."""

from __future__ import annotations

import json
from itertools import chain

import pytest

from sfumato.app import App
from sfumato.bench.malformed import broken, hostile
from sfumato.errors import WorkflowError
from sfumato.validation import validate
from sfumato.workflow_json import read_api


def test_the_same_seed_gives_the_same_workflows_and_as_many_as_asked_for() -> None:
    assert list(broken(60)) == list(broken(60))
    assert len(list(broken(60, seed=1))) == 60
    assert list(broken(60))[-1] != list(broken(60, seed=1))[-1]


def test_most_are_nearly_good_ones() -> None:
    read = 0
    for _, text in broken(200):
        try:
            read += len(json.loads(text)) > 3
        except ValueError:
            continue
    assert read > 120


@pytest.mark.slow
def test_nothing_but_an_answer_comes_out(app: App) -> None:
    faulty = 0
    for done, text in chain(hostile(), broken(1000)):
        try:
            faulty += bool(validate(read_api(text), app.catalogue).faults)
        except WorkflowError as error:
            assert str(error), done
            faulty += 1
    assert faulty > 950
