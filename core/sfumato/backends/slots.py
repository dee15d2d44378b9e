"""Memory that two processes map, to pass large arrays without the stream: nameless, sealed against shrinking, used again.

Linux only (`memfd_create`). It has no name that another program could open, it is gone with the last process, and
`F_SEAL_SHRINK` makes a shrink impossible that would end the reader by SIGBUS. One side writes a slot and announces it; the other
copies the arrays out at once and releases it. New memory costs several times as much as memory used again (page faults),
hence the slots are kept, as long as they are not huge.
"""

from __future__ import annotations

import math
import mmap
import os
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sfumato.lazy import lazy_module

if sys.platform == "linux":
    import fcntl

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_module("numpy")

MOST_SLOTS = 2
MOST_BYTES = 16 << 30
KEPT_BYTES = 256 << 20
"""Larger slots are given back after one use."""

_ALIGNMENT = 64
_GRAIN = 1 << 20


class SlotFault(Exception):
    """A slot is not what it was announced as, or the connection has ended while one was waited for."""


def can_share(connection: socket.socket) -> bool:
    """Whether memory can be passed over this connection."""
    return sys.platform == "linux" and connection.family == socket.AF_UNIX and hasattr(os, "memfd_create")


@dataclass
class _Slot:
    id: int
    descriptor: int
    memory: mmap.mmap
    is_free: bool = True

    def close(self) -> None:
        self.memory.close()
        os.close(self.descriptor)


@dataclass(frozen=True)
class Placed:
    """Arrays that lie in a slot at `offsets`; `descriptors` has its memory if the other side does not know it yet, and
    `dropped` are slots that it may forget."""

    id: int
    size: int
    offsets: tuple[int, ...]
    descriptors: list[int]
    dropped: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """What the other side has to know."""
        return {"id": self.id, "size": self.size, "offsets": self.offsets, "new": bool(self.descriptors), "dropped": self.dropped}


class Writers:
    """The slots that this side writes. Threads may share them."""

    def __init__(self) -> None:
        self._slots: dict[int, _Slot] = {}
        self._dropped: list[int] = []
        self._count = 0
        self._closed = False
        self._changed = threading.Condition()

    def place(self, arrays: Sequence[NDArray[Any]]) -> Placed:
        """Copy `arrays` into a slot; waits while all are in use. Raises SlotFault if the connection ends, MemoryError."""
        offsets, size = _offsets([each.nbytes for each in arrays])
        with self._changed:
            slot, is_new = self._slot_for(size)
            slot.is_free = False
            dropped, self._dropped = tuple(self._dropped), []
        for each, offset in zip(arrays, offsets, strict=True):
            if each.size:
                np.frombuffer(slot.memory, each.dtype, each.size, offset).reshape(each.shape)[...] = each
        return Placed(slot.id, len(slot.memory), offsets, [slot.descriptor] if is_new else [], dropped)

    def _slot_for(self, size: int) -> tuple[_Slot, bool]:
        while not self._closed:
            free = sorted((slot for slot in self._slots.values() if slot.is_free), key=lambda slot: len(slot.memory))
            if fitting := next((slot for slot in free if len(slot.memory) >= size), None):
                return fitting, False
            if len(self._slots) < MOST_SLOTS or free:
                if len(self._slots) >= MOST_SLOTS:
                    self._drop(free[0])
                return self._new_slot(size), True
            self._changed.wait()
        raise SlotFault("the connection was closed")

    def _new_slot(self, size: int) -> _Slot:
        size = -(-size // _GRAIN) * _GRAIN
        self._count += 1
        slot = self._slots[self._count] = _Slot(self._count, *_memory(size))
        return slot

    def _drop(self, slot: _Slot) -> None:
        del self._slots[slot.id]
        slot.close()
        self._dropped.append(slot.id)

    def release(self, slot_id: Any) -> bool:
        """The other side has copied the arrays of a slot. False if it was not in use."""
        with self._changed:
            slot = self._slots.get(slot_id) if type(slot_id) is int else None
            if slot is None or slot.is_free:
                return False
            slot.is_free = True
            if len(slot.memory) > KEPT_BYTES:
                self._drop(slot)
            self._changed.notify_all()
            return True

    def close(self) -> None:
        """Gives the memory back and wakes those who wait for a slot. A slot at work stays until the process ends."""
        with self._changed:
            self._closed = True
            for slot in [slot for slot in self._slots.values() if slot.is_free]:
                self._drop(slot)
            self._changed.notify_all()


class Readers:
    """The slots that the other side writes, mapped here to be read."""

    def __init__(self) -> None:
        self._slots: dict[int, mmap.mmap] = {}

    def copies(self, placed: Any, arrived: list[int], layouts: Sequence[tuple[str, tuple[int, ...]]]) -> list[NDArray[Any]]:
        """The arrays of the slot that `placed` announces, as copies of our own, read-only; closes `arrived`.

        Raises SlotFault for what is not as announced.
        """
        try:
            offsets = self._check(placed, len(layouts))
            if placed["new"] is True:
                self._map(placed["id"], placed["size"], arrived)
            elif arrived:
                raise SlotFault("memory came that was not announced")
        finally:
            while arrived:
                os.close(arrived.pop())
        memory = self._slots.get(placed["id"])
        if memory is None:
            raise SlotFault("arrays lie in a slot that nobody has announced")
        return [_copied(memory, offset, *layout) for offset, layout in zip(offsets, layouts, strict=True)]

    def _check(self, placed: Any, count: int) -> Sequence[int]:
        if not isinstance(placed, Mapping) or not {"id", "size", "offsets", "new", "dropped"} <= placed.keys():
            raise SlotFault("a slot is announced by half")
        numbers = [placed["id"], placed["size"], *_list(placed["offsets"]), *_list(placed["dropped"])]
        if any(type(each) is not int or each < 0 for each in numbers) or len(placed["offsets"]) != count:
            raise SlotFault("a slot is announced with impossible numbers")
        for each in placed["dropped"]:
            if memory := self._slots.pop(each, None):
                memory.close()
        return [int(each) for each in placed["offsets"]]

    def _map(self, slot_id: int, size: int, arrived: Sequence[int]) -> None:
        if len(arrived) != 1 or slot_id in self._slots or len(self._slots) >= MOST_SLOTS + 1 or not 0 < size <= MOST_BYTES:
            raise SlotFault("a slot is announced without its memory, twice, or too large")
        if not _is_sealed(arrived[0]) or os.fstat(arrived[0]).st_size != size:
            raise SlotFault("the memory of a slot could be made smaller, or is")
        self._slots[slot_id] = mmap.mmap(arrived[0], size, prot=mmap.PROT_READ)

    def close(self) -> None:
        """Gives the memory back."""
        while self._slots:
            self._slots.popitem()[1].close()


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise SlotFault("a slot is announced by half")
    return value


def _copied(memory: mmap.mmap, offset: int, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    count = math.prod(shape)
    if offset % _ALIGNMENT or offset + count * np.dtype(dtype).itemsize > len(memory):
        raise SlotFault("an array lies outside of its slot")
    copy = np.frombuffer(memory, dtype, count, offset).reshape(shape).copy() if count else np.empty(shape, dtype)
    copy.flags.writeable = False
    return copy


def _offsets(sizes: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """(where each begins, bytes in all), each aligned."""
    offsets, end = [], 0
    for size in sizes:
        offsets.append(end)
        end = -(-(end + size) // _ALIGNMENT) * _ALIGNMENT
    return tuple(offsets), max(end, 1)


def _memory(size: int) -> tuple[int, mmap.mmap]:
    """(descriptor, mapping) of new nameless memory whose size is fixed. Raises MemoryError."""
    if sys.platform != "linux":
        raise MemoryError("this system has no nameless memory")
    descriptor = os.memfd_create("sfumato", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.posix_fallocate(descriptor, 0, size)  # now, because memory that lacks later is a SIGBUS
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return descriptor, mmap.mmap(descriptor, size)
    except (OSError, ValueError) as error:
        os.close(descriptor)
        raise MemoryError(f"no memory for {size:,} bytes of pictures ({error})") from error


def _is_sealed(descriptor: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError:  # an ordinary file, a socket
        return False
    return bool(seals & fcntl.F_SEAL_SHRINK) and bool(seals & fcntl.F_SEAL_GROW)
