"""Which device work is done on: a value passed in, never a global."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Device:
    """A device, and how many bytes of weights may lie on it."""

    device: torch.device
    budget: int

    @property
    def is_cpu(self) -> bool:
        return self.device.type == "cpu"


def main_memory() -> int:
    """Bytes of main memory of this machine (or of the container that confines this process, if that is less)."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 8 << 30
    limit = _container_limit()
    return min(total, limit) if limit else total


def best_device(*, prefer_cpu: bool = False) -> Device:
    """The first CUDA (or ROCm, MPS) device that works, else the CPU. A driver that fails at start counts as not there."""
    if not prefer_cpu and torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info(0)
        return Device(torch.device("cuda", 0), int(free * 0.85))
    if not prefer_cpu and torch.backends.mps.is_available():
        return Device(torch.device("mps"), int(main_memory() * 0.6))
    return Device(torch.device("cpu"), int(main_memory() * 0.7))


def _container_limit() -> int | None:
    try:
        with open("/sys/fs/cgroup/memory.max") as file:  # noqa: PTH123 -- a kernel file, not one of ours
            text = file.read().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
