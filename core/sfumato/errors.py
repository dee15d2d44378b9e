"""Every error that a user may meet; each says what happened, where, and what to do.

::

    SfumatoError                 exit code 1
    ├── UsageError               2   the call itself is wrong
    │   └── BadValueError            one value (a size, a sampler's name, a seed) is wrong
    ├── BadFileError             3   a file that was read is wrong
    │   ├── ImageFileError           a picture
    │   ├── DocumentFileError        a layered document
    │   ├── ModelFileError           a checkpoint, LoRA, embedding ...
    │   └── WorkflowError            a workflow: carries every fault of the graph at once
    ├── ModelMissingError        4   a model that was asked for is not there
    ├── MemoryExhaustedError     5   no rung of the ladder fits
    ├── SaveError                1   a file could not be written; nothing was half-written
    ├── NodeError                1   a node failed while it ran
    ├── EngineDiedError          1   the process in which graphs run has ended in the middle of its work
    ├── PluginError              1   a plugin is broken or asks for what it may not have
    └── CancelledError         130   the user said stop
"""

from __future__ import annotations

from typing import Any, ClassVar


class SfumatoError(Exception):
    """The root: `what` happened, `where` (file, node, key; may be empty), and the `remedy` (may be empty)."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, where: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.remedy = what, where, remedy

    def __str__(self) -> str:
        """One message on one line each: where and what, then what to do."""
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  {self.remedy}" if self.remedy else head

    def __reduce__(self) -> tuple[Any, ...]:
        """Survives the way between processes with its three parts."""
        return type(self), (self.what, self.where, self.remedy)


class UsageError(SfumatoError):
    """The call is wrong: an unknown option, two options that exclude each other."""

    exit_code = 2


class BadValueError(UsageError):
    """One value is wrong: a size that is no multiple of 8, an unknown sampler."""


class BadFileError(SfumatoError):
    """A file that was read is not what it should be."""

    exit_code = 3


class ImageFileError(BadFileError):
    """A picture cannot be read, is too large for the budget, or has the wrong size."""


class DocumentFileError(BadFileError):
    """A layered document, or a journal of one, is corrupt, hostile, or too large for the budget."""


class ModelFileError(BadFileError):
    """A model file is corrupt, of an unknown kind, or could run code if it were opened."""


class WorkflowError(BadFileError):
    """A workflow cannot be run. `faults` lists every one found, as `Fault` records of `sfumato.validation`."""

    def __init__(self, what: str, where: str = "", remedy: str = "", faults: tuple[Any, ...] = ()) -> None:
        super().__init__(what, where, remedy)
        self.faults = faults

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.what, self.where, self.remedy, self.faults)


class ModelMissingError(SfumatoError):
    """A model that was asked for by name is in none of the model folders."""

    exit_code = 4


class MemoryExhaustedError(SfumatoError):
    """Even the last rung of the memory ladder does not fit."""

    exit_code = 5


class SaveError(SfumatoError):
    """A file could not be written. The old file, if there was one, is untouched."""


class NodeError(SfumatoError):
    """A node failed while it ran; the cause is chained. Results of the other nodes stay cached."""

    def __init__(self, what: str, where: str = "", remedy: str = "", node_id: str = "", node_type: str = "") -> None:
        super().__init__(what, where, remedy)
        self.node_id, self.node_type = node_id, node_type

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.what, self.where, self.remedy, self.node_id, self.node_type)


class EngineDiedError(SfumatoError):
    """The process in which graphs run has ended, or could not start. `said` has its last lines on stderr; the next run starts a new one."""

    def __init__(self, what: str, where: str = "", remedy: str = "", said: str = "") -> None:
        super().__init__(what, where, remedy)
        self.said = said

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.what, self.where, self.remedy, self.said)


class PluginError(SfumatoError):
    """A plugin failed to import, misspelt a hook, or declared something impossible."""


class CancelledError(SfumatoError):
    """The user said stop; nothing of the run is left behind."""

    exit_code = 130

    def __init__(self, what: str = "cancelled", where: str = "", remedy: str = "") -> None:
        super().__init__(what, where, remedy)
