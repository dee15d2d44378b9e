"""What is wrong with a workflow, one record for each thing, and how a list of them is put into words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sfumato.errors import WorkflowError

_NAMED = 5
"""So many faults are named in a message; the rest are counted."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a workflow. `type` is ComfyUI's word for it, e.g. "value_not_in_list".

    `message` says what is wrong in general and `details` in this case; `extra_info` holds plain values for programs.
    """

    node_id: str
    node_type: str
    type: str
    message: str
    details: str = ""
    extra_info: Mapping[str, Any] = field(default_factory=dict)
    input_name: str = ""
    title: str = ""
    remedy: str = ""

    @property
    def place(self) -> str:
        """The node and the input, as a user knows them."""
        title = f" {shown(self.title)}" if self.title and self.title != self.node_type else ""
        name = f" ({label(self.node_type)}{title})" if self.node_type else ""
        node = f"node {label(self.node_id)}{name}" if self.node_id else ""
        return ", ".join(part for part in (node, f"input {shown(self.input_name)}" if self.input_name else "") if part)

    def __str__(self) -> str:
        words = f"{self.message}: {self.details}" if self.details else self.message
        return printable(f"{self.place}: {words}" if self.place else words)


def workflow_error(faults: Sequence[Fault], where: str = "") -> WorkflowError:
    """All `faults` as one error: the first named, the rest counted. `where` is the file."""
    named = faults[:_NAMED]
    remedy = "\n  ".join(dict.fromkeys(printable(fault.remedy) for fault in named if fault.remedy))
    if len(faults) == 1:
        return WorkflowError(str(faults[0]), where, remedy, tuple(faults))
    rest = [f"and {len(faults) - _NAMED} more"] if len(faults) > _NAMED else []
    lines = [f"the workflow has {len(faults)} faults", *(str(fault) for fault in named), *rest]
    return WorkflowError("\n  - ".join(lines), where, remedy, tuple(faults))


def label(name: str) -> str:
    """An id or a type's name as it may stand in a message: as it is where that is readable."""
    return name if name.isprintable() and len(name) <= 80 else shown(name)


def shown(value: Any) -> str:
    """A value from a workflow as it may stand in a message: short, printable, in quotes if it is a text."""
    if isinstance(value, str):
        return repr(printable(value if len(value) <= 80 else value[:77] + "..."))
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return f"a number of {value.bit_length()} bits"
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    return f"a {type(value).__name__}"


def plain(value: Any) -> Any:
    """A value as it may stand in `extra_info`: numbers and short texts as they are, everything else in words."""
    if isinstance(value, float):
        return value if value - value == 0 else repr(value)
    if value is None or isinstance(value, bool) or (isinstance(value, int) and value.bit_length() <= 200):
        return value
    return printable(value[:200]) if isinstance(value, str) else shown(value)


def printable(text: str) -> str:
    """The text without lone surrogates, which no terminal and no file takes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
