"""The memory ladder: what is tried, rung after rung, when memory runs out, and which rung was needed.

A rung is a whole attempt that starts from nothing, so that a picture made on a lower try is the picture that the same rung
would have made at once, and the next run is not touched by the failure.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

import torch

from sfumato.errors import MemoryExhaustedError

if TYPE_CHECKING:
    from sfumato.engine.services import Services

T = TypeVar("T")

FULL = "full"
SMALLER_TILES = "smaller tiles"
TILED_VAE = "tiled VAE"
UNLOADED_OTHERS = "unloaded others"
RUNGS = (FULL, SMALLER_TILES, TILED_VAE, UNLOADED_OTHERS)
"""From the first to the last."""

_ALLOCATORS = re.compile(
    r"out of memory|not enough memory|can't allocate memory|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED"
    r"|HIPBLAS_STATUS_ALLOC_FAILED|Invalid buffer size",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory, of the machine or of a device, has run out.

    torch's CPU allocator, cuBLAS, cuDNN and MPS say so in a plain RuntimeError, by its words only.
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and _ALLOCATORS.search(str(error)) is not None


def climb(services: Services, attempts: Iterable[tuple[str, Callable[[], T]]], what: str, remedy: str) -> T:
    """The result of the first of the `attempts`, each (rung, work), that memory suffices for; its rung goes to `services.rungs`.

    Errors of other kinds pass. Raises MemoryExhaustedError, with `what` failed and the `remedy`, after the last attempt.
    """
    said = ""
    for rung, work in attempts:
        try:
            result = work()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            said = (str(error).splitlines() or ["no memory is left"])[0]
        else:
            record(services, rung)
            return result
        # Only here, where the error and the frames that it holds are gone, is there anything to give back.
        free_memory()
    raise MemoryExhaustedError(f"there is not enough memory {what} ({said})", "", remedy)


def record(services: Services, rung: str) -> None:
    """Note that a run needed `rung`, unless it is the first; `services.rungs` holds each once, the highest last."""
    if rung != FULL and rung not in services.rungs:
        services.rungs.append(rung)
        services.rungs.sort(key=RUNGS.index)


def free_memory() -> None:
    """Give back what nothing refers to any more, and what torch keeps for later."""
    gc.collect()
    torch.cuda.empty_cache()  # nothing happens where CUDA is not in use
