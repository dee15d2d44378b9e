"""How long commands take to start: those that need no engine must not import torch; one that does is told beside it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sfumato.bench.figures import Figure, result
from sfumato.bench.kernel import command, environment

WORDS = "seconds from a command to its answer, each in a process of its own"
TIMES, HEAVY_TIMES = 7, 2
HEAVY = ("torch", "diffusers", "transformers", "PySide6", "cv2", "scipy")


def run(options: Any) -> dict[str, Any]:
    """Best of several, because what else the machine does only ever adds."""
    with tempfile.TemporaryDirectory(prefix="sfumato-bench-") as folder:
        home = Path(folder)
        env = environment(home)
        figures = []
        for words in (["--help"], ["plugins", "list"]):
            name = f"sfumato {' '.join(words)}"
            figures.append(Figure(name, _best([*command(), *words], env, TIMES), "s", 0.35))
            figures.append(Figure(f"{name}: heavy modules imported", len(_imported(words, env)), "", 0))
        picture = ["generate", "a red circle on a blue background", "--seed", "1", "--steps", "20", "-o", str(home / "picture.png")]
        cold = _best([*command(), *picture], env, HEAVY_TIMES)
        torch = _best([sys.executable, "-c", "import torch"], env, HEAVY_TIMES)
        figures += [
            Figure("sfumato generate, embedded model, 20 steps, cold", cold, "s"),
            Figure('python -c "import torch"', torch, "s"),
            Figure("share of import torch in generate", torch / cold),
        ]
    return result(figures, [f"best of {TIMES} (generate and import torch: of {HEAVY_TIMES}), one thread"])


def _best(arguments: Sequence[str], env: Mapping[str, str], times: int) -> float:
    """The least wall time of a command that must end well."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        subprocess.run(arguments, env=env, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _imported(words: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """The heavy modules that a command has imported when it ends."""
    code = (
        "import contextlib, io, sys; from sfumato.cli import main\n"
        f"with contextlib.redirect_stdout(io.StringIO()): main({list(words)!r})\n"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], env=env, check=True, stdout=subprocess.PIPE, text=True)
    return answer.stdout.split()
