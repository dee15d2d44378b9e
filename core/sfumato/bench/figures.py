"""What a benchmark has found: figures with their targets, and the table that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One number. It is met if it is at most (or with `at_least` at least) the target; without a target it is only told."""

    what: str
    value: float
    unit: str = ""
    target: float | None = None
    at_least: bool = False

    @property
    def is_met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target


def result(figures: Sequence[Figure], notes: Sequence[str] = ()) -> dict[str, Any]:
    """What a benchmark's `run` gives: plain values."""
    return {"figures": [{**asdict(figure), "met": figure.is_met} for figure in figures], "notes": list(notes)}


def table(name: str, words: str, found: Mapping[str, Any]) -> str:
    """The figures for people."""
    lines = [f"{name}: {words}"]
    for each in found["figures"]:
        target = "" if each["target"] is None else f"{'>=' if each['at_least'] else '<='} {_number(each['target'])}"
        verdict = {None: "", True: "met", False: "MISSED"}[each["met"]]
        lines.append(f"  {each['what']:<58.58}{_number(each['value']):>10} {each['unit']:<5}{target:<10}{verdict}".rstrip())
    return "\n".join([*lines, *(f"  {note}" for note in found["notes"])])


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e9 else f"{value:.4g}"
