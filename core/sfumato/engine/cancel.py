"""Cancel inside a network: a look at the flag before every block, taken away again when the work is done."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from sfumato.progress import Progress


@contextmanager
def cancellable(blocks: Sequence[nn.Module], progress: Progress) -> Iterator[None]:
    """While it lasts, a cancel raises CancelledError before the next of `blocks` runs. No hook is left behind.

    Only in the thread that calls this: another run may use the same network at the same time, and is not the one to stop.
    """
    thread = threading.get_ident()

    def look(module: nn.Module, arguments: Any) -> None:
        if threading.get_ident() == thread:
            progress.check()

    handles = [block.register_forward_pre_hook(look) for block in blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
