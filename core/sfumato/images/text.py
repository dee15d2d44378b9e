"""Text that every reader can take: what no file can hold is replaced, visibly."""

from __future__ import annotations

import re

_UNWRITABLE = re.compile("[\ud800-\udfff\0]")


def writable(text: str) -> str:
    """`text` with lone surrogates and NULs, which neither UTF-8 nor a PNG chunk can hold, replaced by U+FFFD."""
    return _UNWRITABLE.sub("\ufffd", text)
