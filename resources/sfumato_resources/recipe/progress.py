"""A progress bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Final, TextIO

_WIDTH: Final = 30
_BAR_EVERY_SECONDS: Final = 0.2
_LINE_EVERY_SECONDS: Final = 30.0


class ProgressBar:
    """Shows how far a stage is. ``quiet`` shows nothing (all processes but the first)."""

    def __init__(self, label: str, total: int, start: int = 0, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._label = label
        self._total = total
        self._start = start
        self._quiet = quiet
        self._stream = stream or sys.stderr
        self._began = time.monotonic()
        self._shown = 0.0

    def show(self, done: int, note: str = "") -> None:
        """Show that ``done`` of the total are done; rare enough to be called at every step."""
        now = time.monotonic()
        terminal = self._stream.isatty()
        pause = _BAR_EVERY_SECONDS if terminal else _LINE_EVERY_SECONDS
        last = done >= self._total
        if self._quiet or (not last and now - self._shown < pause):
            return
        self._shown = now
        self._stream.write(self._line(done, note, now, terminal) + ("\n" if last or not terminal else ""))
        self._stream.flush()

    def _line(self, done: int, note: str, now: float, terminal: bool) -> str:
        share = done / max(1, self._total)
        left = (now - self._began) / max(1, done - self._start) * (self._total - done)
        text = f"{self._label:12s} {done}/{self._total} {left / 60:5.1f} min left  {note}"
        if not terminal:
            return text
        return f"\r\x1b[2K{'█' * round(share * _WIDTH):░<{_WIDTH}} {text}"
