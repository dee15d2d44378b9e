"""The figures of benchmarks, and their table."""

from __future__ import annotations

import json

from sfumato.bench.figures import Figure, result, table


def test_a_figure_is_met_by_its_target() -> None:
    assert Figure("time", 0.3, "s", 0.35).is_met is True
    assert Figure("time", 0.35, "s", 0.35).is_met is True
    assert Figure("time", 0.36, "s", 0.35).is_met is False
    assert Figure("share", 0.9, target=0.9, at_least=True).is_met is True
    assert Figure("share", 0.89, target=0.9, at_least=True).is_met is False
    assert Figure("size", 2.0).is_met is None
    assert Figure("nothing", float("nan"), target=1.0).is_met is False


def test_the_table_names_every_miss() -> None:
    found = result(
        [Figure("time to start", 0.4, "s", 0.35), Figure("share", 0.97, target=0.9, at_least=True), Figure("size", 2)], ["a note"]
    )
    lines = table("start", "seconds", found).splitlines()
    assert lines[0] == "start: seconds"
    assert lines[1].split() == ["time", "to", "start", "0.4", "s", "<=", "0.35", "MISSED"]
    assert lines[2].split() == ["share", "0.97", ">=", "0.9", "met"]
    assert lines[3].split() == ["size", "2"]
    assert lines[4].strip() == "a note"


def test_a_result_is_plain_json() -> None:
    found = result([Figure("time", 0.4, "s", 0.35)])
    assert json.loads(json.dumps(found))["figures"][0]["met"] is False
