"""What has happened in a run or in the queue, as frozen records in the past tense.

They are made in the worker thread and handed to listeners there; a listener that belongs to another thread passes them on.
`node_id` names the node at work; `display_id` the node of the user's own graph that it stands for (they differ in a sub-graph).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from sfumato.errors import SfumatoError
from sfumato.progress import Step


@dataclass(frozen=True)
class RunStarted:
    """The graph has been checked, and `targets` are about to be worked out."""

    targets: tuple[str, ...]


@dataclass(frozen=True)
class RunProgressed:
    """The run has reported a step that belongs to no node, such as the start of an engine."""

    step: Step


@dataclass(frozen=True)
class NodeEvent:
    """What all events of one node tell."""

    node_id: str
    node_type: str
    display_id: str


@dataclass(frozen=True)
class NodeStarted(NodeEvent):
    """The node has begun to run."""


@dataclass(frozen=True)
class NodeCached(NodeEvent):
    """The node did not run: its result was in the cache. `shown` is what it showed when it ran."""

    shown: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class NodeProgressed(NodeEvent):
    """The node has reported a step, perhaps with a preview."""

    step: Step


@dataclass(frozen=True)
class NodeExpanded(NodeEvent):
    """The node has put a sub-graph in its place; `children` are the ids of its nodes."""

    children: tuple[str, ...]


@dataclass(frozen=True)
class NodeBlocked(NodeEvent):
    """The node was to run with a `Blocked` value that carries a message, and did not run."""

    message: str


@dataclass(frozen=True)
class NodeDone(NodeEvent):
    """The node has run. `shown` goes to the user: {"images": [...], "text": [...]}."""

    shown: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class NodeFailed(NodeEvent):
    """The node has raised `error`; the run has ended. Results of the nodes before it stay in the cache."""

    error: SfumatoError


@dataclass(frozen=True)
class JobQueued:
    """The job waits; `position` 0 is next."""

    job_id: str
    position: int


@dataclass(frozen=True)
class JobStarted:
    """The job has left the queue and runs."""

    job_id: str


@dataclass(frozen=True)
class JobDone:
    """The job has ended well; `result` is the `RunResult`."""

    job_id: str
    result: Any


@dataclass(frozen=True)
class JobFailed:
    """The job has ended with `error`."""

    job_id: str
    error: SfumatoError


@dataclass(frozen=True)
class JobCancelled:
    """The job was cancelled, in the queue or while it ran."""

    job_id: str


@dataclass(frozen=True)
class QueueChanged:
    """Jobs were added, moved, taken out or finished: `waiting` in their order, and those that run."""

    waiting: tuple[str, ...]
    running: tuple[str, ...]


RunEvent: TypeAlias = RunStarted | RunProgressed | NodeEvent
JobEvent: TypeAlias = JobQueued | JobStarted | JobDone | JobFailed | JobCancelled | QueueChanged
