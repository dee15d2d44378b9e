"""JSON from strangers, read within bounds: size and nesting are checked before the parser sees the text."""

from __future__ import annotations

import json
import re
from typing import Any

MOST_BYTES = 64 << 20
MOST_DEPTH = 256

_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_NOT_BRACKETS = re.compile(r"[^\[\]{}]++")


class JsonFault(ValueError):
    """The text is not JSON that may be read; says what is wrong and, where it is known, on which line and column."""


def read_json(text: str | bytes, *, most_bytes: int = MOST_BYTES, most_depth: int = MOST_DEPTH) -> Any:
    """The value of a JSON text (UTF-8 if bytes). NaN and Infinity are read as Python does; of equal keys the last counts.

    Raises JsonFault, and nothing else, for what is too long, nested too deeply, no JSON or no UTF-8.
    """
    if len(text) > most_bytes:
        raise JsonFault(f"{len(text):,} bytes of JSON, more than the {most_bytes:,} that are read")
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        if _depth(decoded) > most_depth:
            raise JsonFault(f"nested more than {most_depth} levels deep")
        return json.loads(decoded)
    except json.JSONDecodeError as error:
        raise JsonFault(f"no JSON: {error.msg} (line {error.lineno}, column {error.colno})") from error
    except UnicodeDecodeError as error:
        raise JsonFault(f"no JSON: byte {error.start} is no UTF-8") from error
    except ValueError as error:
        raise error if isinstance(error, JsonFault) else JsonFault(f"no JSON: {error}") from error


def _depth(text: str) -> int:
    """The deepest nesting. Strings are taken out first: brackets in them do not count."""
    if text.count("[") + text.count("{") <= 1:
        return 1
    deepest = depth = 0
    for bracket in _NOT_BRACKETS.sub("", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest
