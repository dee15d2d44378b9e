"""What commands print: a progress bar on a terminal (nothing elsewhere), and one JSON object as the last line if asked."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sfumato.errors import NodeError, SfumatoError, WorkflowError
from sfumato.events import NodeProgressed, RunProgressed
from sfumato.faults import Fault
from sfumato.progress import CancelFlag, Step

WIDTH = 28


class Bar:
    """Draws the progress of a run on stderr, if that is a terminal."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._length = 0

    def hear(self, event: Any) -> None:
        """Takes any event of a run."""
        if isinstance(event, (NodeProgressed, RunProgressed)):
            self.step(event.step)

    def step(self, step: Step) -> None:
        """Takes one step of any work."""
        if self._on and step.total:
            filled = round(WIDTH * step.done / step.total)
            self._draw(f"{step.what:<20.20} [{'=' * filled}{' ' * (WIDTH - filled)}] {step.done}/{step.total}")

    def clear(self) -> None:
        """Leaves an empty line for what comes next."""
        if self._length:
            self._draw("")

    def _draw(self, text: str) -> None:
        sys.stderr.write("\r" + text.ljust(self._length) + ("\r" if not text else ""))
        sys.stderr.flush()
        self._length = len(text)


@contextmanager
def cancel_on_interrupt() -> Iterator[CancelFlag]:
    """A flag that Ctrl+C sets: the run then ends in order, leaving nothing behind. A second Ctrl+C ends it at once."""
    flag = CancelFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def stop(number: int, frame: Any) -> None:
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def add_json_option(parser: argparse.ArgumentParser, default: Any = False) -> None:
    """For every command that gives a result. `default` is SUPPRESS for a verb whose command has the option, too."""
    parser.add_argument("--json", action="store_true", default=default, help="the last line of stdout is one JSON object")


def print_json(data: Mapping[str, Any]) -> None:
    """One object on one line of stdout. Text that is no valid Unicode is escaped."""
    print(json.dumps(data, ensure_ascii=True, default=str))


def error_json(error: SfumatoError) -> dict[str, Any]:
    """An error as `--json` tells it."""
    found: dict[str, Any] = {"kind": type(error).__name__, "what": error.what, "where": error.where, "remedy": error.remedy}
    found["exit_code"] = error.exit_code
    if isinstance(error, NodeError):
        found |= {"node_id": error.node_id, "node_type": error.node_type}
    if isinstance(error, WorkflowError):
        found["faults"] = [fault_json(fault) for fault in error.faults]
    return found


def fault_json(fault: Fault) -> dict[str, Any]:
    """One fault of a workflow."""
    return {
        "node_id": fault.node_id,
        "node_type": fault.node_type,
        "input_name": fault.input_name,
        "type": fault.type,
        "message": fault.message,
        "details": fault.details,
        "remedy": fault.remedy,
        "extra_info": dict(fault.extra_info),
    }


def note(words: str) -> None:
    """A remark on stderr."""
    print(f"sfumato: {words}", file=sys.stderr)


def peak_bytes() -> int:
    """The most main memory this process has held, or 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
