"""What goes between this process and an engine's: frames of JSON with arrays beside them, over a stream socket.

A frame is a head (magic, bytes of JSON, bytes of arrays), the JSON, and the arrays that travel in the stream. Larger arrays go
through memory that both processes map, where the system has it (`sfumato.backends.slots`). Nothing is unpickled, and
everything that arrives is measured before it is believed.
"""

from __future__ import annotations

import json
import math
import os
import selectors
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sfumato.backends.slots import Readers, SlotFault, Writers, can_share
from sfumato.bounded_json import JsonFault, read_json
from sfumato.lazy import lazy_module

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_module("numpy")

MAGIC = b"SFW1"
MOST_JSON_BYTES = 64 << 20
MOST_ARRAY_BYTES = 16 << 30
MOST_DEPTH = 400
MOST_ARRAYS = 4096
SMALL_BYTES = 64 << 10
"""Arrays of a message that take no more than this together travel in the stream, which costs less than a slot."""

_HEAD = struct.Struct("!4sIQ")
_DTYPES = ("float32", "uint8", "int32", "int64", "float64", "bool")
_MOST_DIMENSIONS = 8
_SENDING_WAITS = 1.0
"""Seconds that a message which may be left out waits for one that is being sent."""


class WireFault(Exception):
    """What arrived is no message; the connection cannot be used any more."""


class ClosedFault(WireFault):
    """The other side is gone."""


@dataclass(frozen=True)
class Message:
    """`body` is JSON; `arrays` are read-only and belong to the receiver."""

    body: Mapping[str, Any]
    arrays: Sequence[NDArray[Any]] = field(default=())


class Channel:
    """One end of the connection. Any thread may send; one thread at a time receives."""

    def __init__(self, connection: socket.socket, *, share: bool = True) -> None:
        """`share` False: all arrays go through the stream."""
        self._socket = connection
        connection.setblocking(True)
        self._shares = can_share(connection)
        self._may_write_slots = share and self._shares
        self._writers, self._readers = Writers(), Readers()
        self._arrived: list[int] = []
        self._sending = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._selector.register(connection, selectors.EVENT_READ)

    # --- Sending -------------------------------------------------------------------------------------------------------

    def send(self, body: Mapping[str, Any], arrays: Sequence[NDArray[Any]] = (), *, may_skip: bool = False) -> None:
        """Send a message whole; waits while the other side does not read. Raises ClosedFault, and WireFault for one too large.

        `may_skip`: give up after a second if another message is stuck on its way, so that whoever calls is never held up for long.
        """
        total = sum(each.nbytes for each in arrays)
        if total > MOST_ARRAY_BYTES or len(arrays) > MOST_ARRAYS:
            raise WireFault(f"{len(arrays)} arrays of {total:,} bytes are too much for one message")
        entries: list[dict[str, Any]] = [{"dtype": str(each.dtype), "shape": each.shape} for each in arrays]
        frame: dict[str, Any] = {"body": body, "arrays": entries}
        descriptors: list[int] = []
        if self._may_write_slots and total > SMALL_BYTES:
            try:
                placed = self._writers.place(arrays)
            except SlotFault as fault:
                raise ClosedFault(str(fault)) from fault
            frame["slot"], descriptors = placed.to_json(), placed.descriptors
            arrays = ()
        self._send_frame(frame, arrays, descriptors, _SENDING_WAITS if may_skip else -1)

    def _send_frame(self, frame: Mapping[str, Any], arrays: Sequence[NDArray[Any]], descriptors: Sequence[int], waits: float) -> None:
        try:
            text = json.dumps(frame, ensure_ascii=True, default=_named, separators=(",", ":")).encode()
        except (ValueError, TypeError, RecursionError) as error:
            raise WireFault(f"a message cannot be written as JSON ({error})") from error
        if len(text) > MOST_JSON_BYTES:
            raise WireFault(f"{len(text):,} bytes of JSON are too much for one message")
        head = _HEAD.pack(MAGIC, len(text), sum(each.nbytes for each in arrays))
        if not self._sending.acquire(timeout=waits):
            return
        try:
            self._send_bytes(head + text, descriptors)
            for each in arrays:
                self._socket.sendall(_bytes_of(np.ascontiguousarray(each)))
        except OSError as error:
            raise ClosedFault(f"nothing can be sent ({error.strerror})") from error
        finally:
            self._sending.release()

    def _send_bytes(self, data: bytes, descriptors: Sequence[int]) -> None:
        sent = socket.send_fds(self._socket, [data], list(descriptors)) if descriptors else 0
        self._socket.sendall(memoryview(data)[sent:])

    # --- Receiving -----------------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> bool:
        """Whether something can be received (the end, too), after waiting for it at most so long."""
        return bool(self._selector.select(seconds))

    def is_ended(self) -> bool:
        """Whether the other side has ended the connection and nothing is left to be received."""
        try:
            return self.wait(0) and not self._socket.recv(1, socket.MSG_PEEK)
        except (OSError, ValueError):
            return True

    def receive(self) -> Message:
        """The next message. Raises ClosedFault at the end, WireFault for what is no message."""
        while True:
            frame, following = self._receive_head()
            released = frame.get("release")
            if released is None:
                return self._take(frame, following)
            if not self._writers.release(released):
                raise WireFault("a slot was released that is not in use")

    def _receive_head(self) -> tuple[dict[str, Any], int]:
        head = bytearray(_HEAD.size)
        self._read(head)
        magic, length, following = _HEAD.unpack(head)
        if magic != MAGIC:
            raise WireFault(f"a message begins with {magic!r}")
        if length > MOST_JSON_BYTES or following > MOST_ARRAY_BYTES:
            raise WireFault(f"a message of {length:,} bytes of JSON and {following:,} of arrays is too large")
        text = bytearray(length)
        self._read(text)
        try:
            frame = read_json(bytes(text), most_bytes=MOST_JSON_BYTES, most_depth=MOST_DEPTH + 4)
        except (JsonFault, RecursionError) as fault:
            raise WireFault(str(fault)) from fault
        if not isinstance(frame, dict):
            raise WireFault("a message is no JSON object")
        return frame, following

    def _take(self, frame: Mapping[str, Any], following: int) -> Message:
        body, slot = frame.get("body"), frame.get("slot")
        layouts = [_layout(entry) for entry in _few(frame.get("arrays"))]
        if not isinstance(body, dict):
            raise WireFault("a message has no body")
        in_stream = 0 if slot is not None else sum(_size(*layout) for layout in layouts)
        if in_stream != following:
            raise WireFault(f"{following:,} bytes of arrays follow where {in_stream:,} were announced")
        arrived, self._arrived = self._arrived, []
        if slot is None:
            if arrived:
                _close(arrived)
                raise WireFault("memory came that was not announced")
            return Message(body, [self._read_array(*layout) for layout in layouts])
        try:
            arrays = self._readers.copies(slot, arrived, layouts)
        except SlotFault as fault:
            raise WireFault(str(fault)) from fault
        with suppress(ClosedFault):  # what has arrived counts, even if it was the last
            self._send_frame({"release": slot["id"]}, (), (), -1)
        return Message(body, arrays)

    def _read_array(self, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        made = np.empty(shape, dtype)
        if made.nbytes:
            self._read(_bytes_of(made))
        made.flags.writeable = False
        return made

    def _read(self, into: bytearray | memoryview) -> None:
        """Fill `into`. File descriptors that come along are kept for the frame at work."""
        view = memoryview(into)
        while view.nbytes:
            try:
                count = self._read_some(view)
            except OSError as error:
                raise ClosedFault(f"nothing can be received ({error.strerror})") from error
            if not count:
                raise ClosedFault("the connection was closed")
            view = view[count:]

    def _read_some(self, view: memoryview) -> int:
        if not self._shares:
            return self._socket.recv_into(view)
        room = socket.CMSG_SPACE(8 * 4)
        count, ancillary, flags, _ = self._socket.recvmsg_into([view], room, socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._arrived += struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4])
        if flags & socket.MSG_CTRUNC or len(self._arrived) > 1:
            _close(self._arrived)
            raise WireFault("more memory came than one message may bring")
        return count

    def close(self) -> None:
        """Ends the connection; whoever waits in `receive` or `send` is woken by ClosedFault. A second time changes nothing."""
        with suppress(OSError):  # the other side has closed it, or we have
            self._socket.shutdown(socket.SHUT_RDWR)
        self._writers.close()

    def free(self) -> None:
        """Gives everything back. Only when no thread uses the channel any more."""
        self.close()
        self._selector.close()
        self._socket.close()
        self._readers.close()
        _close(self._arrived)


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


def _named(value: Any) -> str:
    """What stands for a value that JSON does not have: never the value itself."""
    return f"<{type(value).__name__}>"


def _bytes_of(made: NDArray[Any]) -> memoryview:
    return memoryview(made.reshape(-1).view(np.uint8).data)


def _few(entries: Any) -> list[Any]:
    if not isinstance(entries, list) or len(entries) > MOST_ARRAYS:
        raise WireFault("a message has no list of its arrays, or too long a one")
    return entries


def _layout(entry: Any) -> tuple[str, tuple[int, ...]]:
    """(dtype, shape) as far as they may be believed."""
    dtype, shape = (entry.get("dtype"), entry.get("shape")) if isinstance(entry, dict) else (None, None)
    if dtype not in _DTYPES or not isinstance(shape, list) or len(shape) > _MOST_DIMENSIONS:
        raise WireFault("an array is of no known type or shape")
    if any(type(side) is not int or side < 0 for side in shape) or _size(dtype, shape) > MOST_ARRAY_BYTES:
        raise WireFault("an array is of no possible size")
    return dtype, tuple(shape)


def _size(dtype: str, shape: Sequence[int]) -> int:
    return math.prod(shape) * int(np.dtype(dtype).itemsize)
