"""How long it takes to refuse a malformed workflow, from its text to the list of its faults; and that nothing but an answer comes out."""

from __future__ import annotations

import time
from itertools import chain
from typing import Any

from sfumato.bench.figures import Figure, result
from sfumato.bench.kernel import bench_app
from sfumato.bench.malformed import broken, hostile
from sfumato.catalogue import Catalogue
from sfumato.errors import WorkflowError
from sfumato.validation import validate
from sfumato.workflow_json import read_api

WORDS = "1,000 malformed workflows, from the text to the list of faults"
COUNT = 1000


def run(options: Any) -> dict[str, Any]:
    """Each is timed by itself in processor time, twice; of its better times the slowest counts."""
    with bench_app() as app:
        timed: list[tuple[float, str]] = []
        uncaught = faultless = 0
        for done, text in chain(hostile(), broken(COUNT)):
            seconds, verdict = min(_refuse(text, app.catalogue), _refuse(text, app.catalogue))
            timed.append((seconds, done))
            uncaught += verdict not in ("refused", "good")
            faultless += verdict == "good"
    ordered = sorted(second for second, _ in timed)
    figures = [
        Figure("slowest", ordered[-1] * 1000, "ms", 200),
        Figure("median", ordered[len(ordered) // 2] * 1000, "ms"),
        Figure("uncaught errors", uncaught, "", 0),
        Figure("workflows that were good after all", faultless),
    ]
    slowest = sorted(timed, reverse=True)[:3]
    return result(figures, ["slowest: " + "; ".join(f"{done} ({second * 1000:.0f} ms)" for second, done in slowest)])


def _refuse(text: str, catalogue: Catalogue) -> tuple[float, str]:
    """(seconds, what came of it)."""
    begin = time.process_time()
    try:
        verdict = "refused" if validate(read_api(text), catalogue).faults else "good"
    except WorkflowError:
        verdict = "refused"
    except Exception as error:  # noqa: BLE001  that there are none is what is measured
        verdict = f"{type(error).__name__}: {error}"
    return time.process_time() - begin, verdict
