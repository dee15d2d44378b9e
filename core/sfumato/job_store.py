"""What is remembered of the jobs that wait, so that a queue can outlive its program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sfumato.graph import Graph


@dataclass(frozen=True)
class JobRecord:
    """A job as plain data. `targets` None: all output nodes. `hidden` travels to the nodes; `tag` says whose job it is."""

    id: str
    graph: Graph
    targets: tuple[str, ...] | None = None
    hidden: Mapping[str, Any] = field(default_factory=dict)
    tag: str = ""


class JobStore(Protocol):
    """Keeps the records of jobs that have not ended. The queue calls it under its lock, so it must not call back."""

    def save(self, record: JobRecord) -> None:
        """Keep a job that was submitted."""

    def reorder(self, job_ids: tuple[str, ...]) -> None:
        """The jobs that wait, in their new order."""

    def remove(self, job_id: str) -> None:
        """A job has ended, whichever way."""

    def load(self) -> list[JobRecord]:
        """The jobs that had not ended when the program did, in their order."""


class MemoryStore:
    """Keeps records as long as the program lives."""

    def __init__(self) -> None:
        self._records: dict[str, JobRecord] = {}

    def save(self, record: JobRecord) -> None:
        self._records[record.id] = record

    def reorder(self, job_ids: tuple[str, ...]) -> None:
        waiting = {job_id: self._records[job_id] for job_id in job_ids}
        self._records = {key: value for key, value in self._records.items() if key not in waiting} | waiting

    def remove(self, job_id: str) -> None:
        self._records.pop(job_id, None)

    def load(self) -> list[JobRecord]:
        return list(self._records.values())
