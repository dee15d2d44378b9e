"""Which device work is done on: a value passed in, never a global."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sfumato.errors import BadValueError


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


def named_device(name: str, memory: int = 0) -> Device:
    """The device of a kind (`auto`, `cpu`, `cuda`, `mps`, `xpu`), with at most `memory` bytes of weights on it; 0: what is free.

    Raises BadValueError if there is no such device here.
    """
    device = best_device(prefer_cpu=name == "cpu")
    if name == "xpu" and torch.xpu.is_available():
        device = Device(torch.device("xpu", 0), int(torch.xpu.get_device_properties(0).total_memory * 0.85))
    if name not in ("auto", device.device.type):
        raise BadValueError(f"there is no device {name!r} that works here", "device", f"Use auto, or {device.device.type}.")
    return Device(device.device, min(device.budget, memory)) if memory else device


def facts(device: torch.device) -> dict[str, Any]:
    """What numbers may depend on besides the versions of libraries: the device, its hardware by name, the threads of the CPU."""
    if device.type == "cuda":
        hardware = torch.cuda.get_device_name(device)
    elif device.type == "xpu":
        hardware = torch.xpu.get_device_name(device)
    else:
        hardware = f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}"
    return {"device": device.type, "hardware": hardware, "threads": torch.get_num_threads()}


def _processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _container_limit() -> int | None:
    try:
        with open("/sys/fs/cgroup/memory.max") as file:  # noqa: PTH123 -- a kernel file, not one of ours
            text = file.read().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
