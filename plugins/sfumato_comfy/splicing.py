"""Puts one value into a JSON text and leaves every other character as it was."""

from __future__ import annotations

import json
import re
from typing import Any

from sfumato.workflow_json import JsonPath

# Numbers are passed over, never needed: read as texts they cost nothing and have no bounds.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)
_SPACE = re.compile(r"[ \t\n\r\ufeff]*")


def spliced(text: str, path: JsonPath, value: Any) -> str:
    """`text` with `value` at `path` ("$" first), or added there if it is a new name of an object, or one past the end of a list.

    Of equal names the last counts, as in every reader. Raises KeyError if the path leads nowhere, ValueError for a value that is no JSON.
    """
    written = json.dumps(value, ensure_ascii=False, allow_nan=False)
    start = _past_space(text, 0)
    for depth, part in enumerate(path[1:], 2):
        found, end, count = _entry(text, start, part)
        if found is None:
            is_object = text[start] == "{"
            if depth < len(path) or not (is_object or part == count):
                raise KeyError(part)
            name = f"{json.dumps(part, ensure_ascii=False)}: " if is_object else ""
            return f"{text[:end]}{', ' if count else ''}{name}{written}{text[end:]}"
        start = found
    return text[:start] + written + text[_value_end(text, start) :]


def _entry(text: str, start: int, part: Any) -> tuple[int | None, int, int]:
    """(where the entry `part` of the object or list at `start` begins, or None; where its last entry ends; how many there are)."""
    is_object = text[start] == "{"
    if text[start] not in "{[" or is_object != isinstance(part, str):
        raise KeyError(part)
    found, number = None, 0
    end = start + 1
    place = _past_space(text, end)
    while text[place] not in "}]":
        place = _past_space(text, place + 1) if text[place] == "," else place
        key: Any = number
        if is_object:
            key, place = _DECODER.raw_decode(text, place)
            place = _past_space(text, _past_space(text, place) + 1)
        found = place if key == part else found
        end = _value_end(text, place)
        place, number = _past_space(text, end), number + 1
    return found, end, number


def _value_end(text: str, start: int) -> int:
    return _DECODER.raw_decode(text, start)[1]


def _past_space(text: str, start: int) -> int:
    found = _SPACE.match(text, start)
    return found.end() if found else start
