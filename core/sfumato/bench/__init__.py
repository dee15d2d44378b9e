"""The benchmarks: one module each, with `WORDS` that say what it measures and `run(options)` that measures it.

A benchmark gives {"figures": [...], "notes": [...]} of plain values (see `figures`). Ratios are of two things measured in one run,
turn by turn, so that a busy machine slows both.
"""

from __future__ import annotations

NAMES = ("start", "engine", "loading", "embedded", "validation", "inpaint")
"""In the order in which they are run when none is named: the quick ones first."""
