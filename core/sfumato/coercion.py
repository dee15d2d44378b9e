"""Turns a constant of a workflow into the value that an input takes, or says why that cannot be."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from typing import Any

from sfumato.faults import plain, shown
from sfumato.nodes import Input

_ONLY_LINKED = {
    "IMAGE", "MASK", "LATENT", "CONDITIONING", "SIGMAS", "MODEL", "CLIP", "VAE", "CONTROL_NET", "UPSCALE_MODEL", "NOISE", "SAMPLER",
    "GUIDER",
}  # fmt: skip
"""Types whose values no one can write down in a workflow."""


_COMPARED = 2000
"""So many choices are compared with a wrong one, to find those much like it."""


class BadValue(Exception):
    """The constant does not fit. `type` is ComfyUI's word for it; `info` goes into the fault's extra_info."""

    def __init__(self, type: str, message: str, details: str, remedy: str = "", **info: Any) -> None:
        super().__init__(message)
        self.type, self.message, self.details, self.remedy, self.info = type, message, details, remedy, info


def coerced(socket: Input, value: Any) -> Any:
    """`value` as the type of `socket`: INT, FLOAT, STRING and BOOLEAN take what can be read as such.

    The words "true" and "false" are read as what they say. Raises BadValue.
    """
    if socket.type in _ONLY_LINKED and (value is None or isinstance(value, (bool, int, float, str))):
        details = f"{socket.type} comes from another node, and here stands {shown(value)}"
        raise BadValue("bad_linked_input", "a link is needed", details, received_value=plain(value))
    if socket.type not in _READERS:
        return value
    try:
        return _READERS[socket.type](value)
    except (TypeError, ValueError, OverflowError) as error:
        details = f"{shown(value)} cannot be read as {socket.type}"
        raise BadValue(
            "invalid_input_type", "wrong type", details, received_value=plain(value), exception_message=plain(str(error))
        ) from error


def check_bounds(socket: Input, value: Any) -> None:
    """Raises BadValue if a number is outside the bounds of `socket`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    low, high = socket.options.get("min"), socket.options.get("max")
    if low is not None and value < low:
        raise BadValue("value_smaller_than_min", "too small", f"{shown(value)}, at least {low} is needed", received_value=plain(value))
    if high is not None and value > high:
        raise BadValue("value_bigger_than_max", "too large", f"{shown(value)}, at most {high} is possible", received_value=plain(value))


def check_choice(value: Any, choices: Sequence[Any], suggest: bool) -> None:
    """Raises BadValue if `value` is none of `choices`; `suggest` looks for names much like it, which takes time."""
    if value in choices:
        return
    names = [choice for choice in choices[:_COMPARED] if isinstance(choice, str)]
    near = difflib.get_close_matches(value[:100], names, 3) if suggest and isinstance(value, str) else []
    if near:
        remedy = "Did you mean " + " or ".join(map(repr, near)) + "?"
    elif not choices:
        remedy = "There is nothing to choose from: the folder that this list is made of is empty."
    else:
        more = f" and {len(choices) - 10} more" if len(choices) > 10 else ""
        remedy = f"It may be one of {', '.join(map(shown, choices[:10]))}{more}."
    raise BadValue("value_not_in_list", "no such choice", shown(value), remedy, received_value=plain(value))


def _integer(value: Any) -> int:
    _refuse_collections(value)
    return int(value)


def _finite(value: Any) -> float:
    _refuse_collections(value)
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def _text(value: Any) -> str:
    _refuse_collections(value)
    return str(value)


def _truth(value: Any) -> bool:
    _refuse_collections(value)
    said = {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else None
    return bool(value) if said is None else said


def _refuse_collections(value: Any) -> None:
    if not isinstance(value, (bool, int, float, str)):
        raise TypeError(f"it is {shown(value)}")


_READERS = {"INT": _integer, "FLOAT": _finite, "STRING": _text, "BOOLEAN": _truth}
