"""Which number format a network computes in: chosen by what the machine gains from it, measured once and remembered.

On CUDA half precision always gains. On a CPU bfloat16 gains where the processor multiplies it natively (about 1.6 times
with AVX512-bf16) and loses elsewhere, and float16 always loses; so a small measurement decides. Small networks stay in
float32 in any case: they gain nothing, and float32 is what makes a picture the same everywhere.
"""

from __future__ import annotations

import json
import platform
import time
from contextlib import suppress
from pathlib import Path

import torch
from torch.nn import functional

from sfumato.errors import BadValueError, SaveError
from sfumato.files import write_atomically

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
SMALL_NETWORK = 200_000_000
"""Parameters below which a network on a CPU computes in float32."""
WORTHWHILE = 1.2
"""bfloat16 must be this many times faster than float32 to be chosen."""


def compute_dtype(device: torch.device, parameters: int, precision: str, memory: Path | None) -> torch.dtype:
    """The dtype for a network of `parameters` weights on `device`. `precision` is one of PRECISIONS; `memory` is the
    file in which the measurement is remembered (None: measure every time)."""
    if precision not in PRECISIONS:
        raise BadValueError(f"unknown precision {precision!r}", "precision", f"Use one of {', '.join(PRECISIONS)}.")
    if precision != "auto":
        found: torch.dtype = getattr(torch, precision)
        return found
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "mps":
        return torch.float16
    if parameters < SMALL_NETWORK:
        return torch.float32
    return torch.bfloat16 if cpu_gain(memory) >= WORTHWHILE else torch.float32


def cpu_gain(memory: Path | None) -> float:
    """How many times faster bfloat16 is than float32 on this CPU, from memory or measured now."""
    key = f"{platform.processor() or platform.machine()}|torch {torch.__version__}|{torch.get_num_threads()} threads"
    known = _read(memory)
    if key in known:
        return known[key]
    gain = _measure(torch.float32) / _measure(torch.bfloat16)
    if memory is not None:
        with suppress(SaveError):  # it only saves time
            write_atomically(memory, json.dumps({**known, key: gain}, indent=1).encode(), make_parents=True)
    return gain


def _read(memory: Path | None) -> dict[str, float]:
    if memory is None or not memory.exists():
        return {}
    try:
        found = json.loads(memory.read_text())
    except (OSError, ValueError):  # a damaged note is measured anew
        return {}
    return {k: float(v) for k, v in found.items() if isinstance(v, int | float)} if isinstance(found, dict) else {}


def _measure(dtype: torch.dtype) -> float:
    """The least seconds of five runs of what a denoising network mostly does: a convolution and two matrix products."""
    with torch.inference_mode():
        x, kernel = torch.ones(1, 160, 32, 32, dtype=dtype), torch.ones(160, 160, 3, 3, dtype=dtype)
        rows, matrix = torch.ones(1024, 320, dtype=dtype), torch.ones(1280, 320, dtype=dtype)
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            functional.conv2d(x, kernel, padding=1)
            functional.linear(functional.linear(rows, matrix), matrix.T)
            best = min(best, time.perf_counter() - start)
    return best
