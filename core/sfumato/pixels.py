"""Pictures as NumPy arrays, wherever a graph ran: torch tensors of this process, arrays from another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sfumato.errors import UsageError
from sfumato.lazy import lazy_module

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_module("numpy")


def as_array(value: Any) -> NDArray[np.float32]:
    """An IMAGE [B,H,W,C] or MASK [B,H,W], in 0..1, as float32 that cannot be written to; shares memory with `value` where it can.

    Raises UsageError for what is neither a tensor nor an array of floating point numbers.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        raise UsageError(f"this is {_kind(value)}, which is no picture")
    array: NDArray[np.float32] = value.astype(np.float32, copy=False).view()
    array.flags.writeable = False
    return array


def _kind(value: Any) -> str:
    return f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a value of the type {type(value).__name__}"
