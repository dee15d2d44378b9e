"""Which weights lie where: every weight of every model belongs to the `Residency`, and nobody else moves one.

A `Weights` entry knows how to load itself and how large it is. `use` brings entries to a device, pins them while the
caller works, and makes room by moving out whatever was used longest ago. Loading is serialised behind one lock, because
diffusers and accelerate patch process-wide state while they build a network.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import nn

from sfumato.engine.devices import Device
from sfumato.progress import Progress

Loader = Callable[[Progress], nn.Module]
CPU = torch.device("cpu")


@dataclass(eq=False)
class Weights:
    """One network's weights: loaded at first use, dropped and loaded again when memory wants it."""

    key: str
    load: Loader
    module: nn.Module | None = None
    bytes: int = 0
    pins: int = 0
    last_used: int = 0
    expected: int = 0
    """Bytes it is going to take, as far as known before it is loaded: room is made first."""
    is_derived: bool = False
    """Worked out from other weights: forgotten altogether when it is dropped, because `load` holds what it is made of."""

    @property
    def device(self) -> torch.device | None:
        """Where the weights lie now, or None while they are only on disk."""
        if self.module is None:
            return None
        first = next(chain(self.module.parameters(), self.module.buffers()), None)
        return CPU if first is None else first.device


@dataclass
class Counters:
    """What the residency has done since it was made; tests and the benchmark read it."""

    loads: int = 0
    moves: int = 0
    evictions: int = 0


@dataclass(eq=False)
class Residency:
    """All weights of one process. `main_budget` bounds the bytes in main memory, `device.budget` those on the device."""

    device: Device
    main_budget: int
    counters: Counters = field(default_factory=Counters)
    _entries: dict[str, Weights] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _clock: int = 0

    def add(self, key: str, load: Loader, *, expected: int = 0, is_derived: bool = False) -> Weights:
        """The entry called `key`; made with `load` if it is new. Nothing is loaded yet. The rest: see `Weights`."""
        with self._lock:
            return self._entries.setdefault(key, Weights(key, load, expected=expected, is_derived=is_derived))

    @contextmanager
    def use(self, *entries: Weights, progress: Progress | None = None, device: torch.device | None = None) -> Iterator[list[Any]]:
        """The networks of `entries`, on `device` (default: the main one), pinned until the block ends."""
        progress = progress or Progress.silent()
        pinned: list[Weights] = []
        try:
            with self._lock:
                for entry in entries:
                    entry.pins += 1
                    pinned.append(entry)
                    self._entries.setdefault(entry.key, entry)
                modules = [self._bring(entry, device or self.device.device, progress) for entry in entries]
            yield modules
        finally:
            with self._lock:
                for entry in pinned:
                    entry.pins -= 1

    def unload(self) -> None:
        """Drop every weight that is not pinned; what is needed again is loaded again."""
        with self._lock:
            for entry in list(self._entries.values()):
                if entry.pins == 0:
                    self._drop(entry)

    def resident_bytes(self, device: torch.device | None = None) -> int:
        """Bytes of weights on `device` (default: everywhere)."""
        with self._lock:
            loaded = [e for e in self._entries.values() if e.module is not None]
            return sum(e.bytes for e in loaded if device is None or e.device == device)

    def _bring(self, entry: Weights, device: torch.device, progress: Progress) -> nn.Module:
        self._clock += 1
        entry.last_used = self._clock
        if entry.module is None:
            progress.check()
            self._make_room(CPU, self.main_budget - entry.expected, entry)
            module = entry.load(progress).eval().requires_grad_(False)
            entry.module, entry.bytes = module, module_bytes(module)
            self.counters.loads += 1
            self._make_room(CPU, self.main_budget, entry)
        if entry.device != device:
            if device.type != "cpu":
                self._make_room(device, self.device.budget - entry.bytes, entry)
            self._move(entry, entry.module, device)
            self.counters.moves += 1
            self._make_room(CPU, self.main_budget, entry)
        return entry.module

    def _move(self, entry: Weights, module: nn.Module, device: torch.device) -> None:
        try:
            module.to(device)
        except BaseException:
            # Some tensors are there already and some are not; memory may not even suffice for the way back.
            self._drop(entry)
            raise

    def _make_room(self, device: torch.device, budget: int, keep: Weights) -> None:
        """Until at most `budget` bytes lie on `device`, move out what was used longest ago. Pinned weights stay."""
        held = [e for e in self._entries.values() if e.device == device and e is not keep]
        held.sort(key=lambda e: e.last_used)
        used = sum(e.bytes for e in held) + (keep.bytes if keep.device == device else 0)
        for entry in held:
            if used <= budget:
                return
            if entry.pins == 0:
                used -= entry.bytes
                self.counters.evictions += 1
                if device.type == "cpu":
                    self._drop(entry)
                elif entry.module is not None:
                    self._move(entry, entry.module, CPU)

    def _drop(self, entry: Weights) -> None:
        entry.module, entry.bytes = None, 0
        if entry.is_derived:
            self._entries.pop(entry.key, None)


def module_bytes(module: nn.Module) -> int:
    """Bytes of a network's parameters and buffers."""
    tensors = [*module.parameters(), *module.buffers()]
    return sum(t.numel() * t.element_size() for t in tensors)


class TensorBag(nn.Module):
    """Loose tensors by name, so that patched copies of weights can live in the residency like any network."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self._names = {name: f"t{place}" for place, name in enumerate(tensors)}
        for name, tensor in tensors.items():
            self.register_buffer(self._names[name], tensor)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors, by the names they were given with."""
        return {name: self.get_buffer(slot) for name, slot in self._names.items()}
