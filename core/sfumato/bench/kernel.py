"""A kernel for benchmarks: on the CPU, in folders that are thrown away afterwards, with one thread unless told otherwise."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sfumato.app import App
from sfumato.paths import HOME_VARIABLE, Folders
from sfumato.settings import Settings


@contextmanager
def bench_app(*, precision: str = "float32", threads: int = 1) -> Iterator[App]:
    """A kernel with the embedded model and nobody's settings."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with tempfile.TemporaryDirectory(prefix="sfumato-bench-") as home:
            yield App.make(Folders.under(Path(home)), settings=Settings(), cpu=True, precision=precision)
    finally:
        torch.set_num_threads(before)


def command() -> list[str]:
    """How `sfumato` is started from this environment: the script that was installed, else the module."""
    script = Path(sys.executable).with_name("sfumato.exe" if os.name == "nt" else "sfumato")
    return [str(script)] if script.is_file() else [sys.executable, "-m", "sfumato.cli"]


def environment(home: Path) -> Mapping[str, str]:
    """The environment of a command that finds nobody's settings and uses one thread."""
    return {**os.environ, HOME_VARIABLE: str(home), "OMP_NUM_THREADS": "1"}
