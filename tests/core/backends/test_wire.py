"""Messages between processes: whole, in order, bounded, and refused where they are not what they should be."""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.backends import slots, wire
from sfumato.backends.wire import Channel, ClosedFault, WireFault

linux = pytest.mark.skipif(sys.platform != "linux", reason="memory without a name")


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    """Two ends of a connection."""
    ours, theirs = (Channel(each) for each in socket.socketpair())
    yield ours, theirs
    ours.free()
    theirs.free()


def across(ours: Channel, theirs: Channel, body: dict[str, Any], *arrays: Any) -> wire.Message:
    """Send and receive, as two processes would."""
    thread = threading.Thread(target=lambda: ours.send(body, arrays))
    thread.start()
    message = theirs.receive()
    thread.join()
    return message


def until_closed(action: Callable[[], Any]) -> None:
    """Do something that the end of the connection ends."""
    with pytest.raises(ClosedFault):
        action()


def open_files() -> int:
    """How many this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (1, 40, 50, 3), (2, 300, 200, 3)])
@pytest.mark.parametrize("dtype", ["float32", "uint8", "int64", "bool"])
def test_arrays_arrive_as_they_were_and_cannot_be_written_to(share: bool, shape: tuple[int, ...], dtype: str) -> None:
    left, right = socket.socketpair()
    ours, theirs = Channel(left, share=share), Channel(right)
    sent = np.random.default_rng(1).integers(0, 2, shape).astype(dtype)
    message = across(ours, theirs, {"a": "\ud800"}, sent, sent[..., None])
    assert message.body == {"a": "\ud800"}
    assert [each.dtype for each in message.arrays] == [sent.dtype] * 2
    np.testing.assert_array_equal(message.arrays[0], sent)
    np.testing.assert_array_equal(message.arrays[1], sent[..., None])
    assert not message.arrays[0].flags.writeable
    ours.free()
    theirs.free()


def test_an_array_that_is_not_contiguous_arrives_in_order(ends: tuple[Channel, Channel]) -> None:
    for size in (4, 400):
        sent = np.arange(size * size, dtype=np.float32).reshape(size, size).T
        np.testing.assert_array_equal(across(*ends, {}, sent).arrays[0], sent)


@linux
def test_a_large_array_does_not_go_through_the_stream() -> None:
    """Of 48 MB, the stream sees a few hundred bytes."""
    left, right = socket.socketpair()
    channel = Channel(left)
    channel.send({"run": 1}, [np.zeros((1, 2000, 2000, 3), np.float32)])
    data, descriptors, _, _ = socket.recv_fds(right, 1 << 20, 4)
    assert len(data) < 400
    assert len(descriptors) == 1
    with pytest.raises(PermissionError):
        os.ftruncate(descriptors[0], 10)
    os.close(descriptors[0])
    right.close()
    channel.free()


@linux
def test_memory_is_used_again_and_larger_memory_takes_its_place(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    numbers = []
    for size in (300, 300, 200, 300, 900, 300, 900, 1500, 900):
        sent = np.full((size, size, 3), size, np.float32)
        np.testing.assert_array_equal(across(ours, theirs, {}, sent).arrays[0], sent)
        ours._socket.setblocking(True)
        while not ours._writers._slots or not all(slot.is_free for slot in ours._writers._slots.values()):
            threading.Thread(target=theirs.send, args=({"go": "on"},)).start()
            ours.receive()
        numbers.append(tuple(ours._writers._slots))
    assert len(numbers[3]) == 1
    assert all(len(each) <= slots.MOST_SLOTS for each in numbers)
    assert set(theirs._readers._slots) <= {*numbers[-1], *numbers[-2]}


@linux
def test_a_sender_waits_while_all_memory_is_in_use_and_is_woken_by_the_end(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    sent = np.ones((200, 200, 3), np.float32)
    for _ in range(slots.MOST_SLOTS):
        ours.send({}, [sent])
    outcomes: list[str] = []

    def work() -> None:
        try:
            ours.send({"last": True}, [sent])
            outcomes.append("sent")
            ours.send({"too many": True}, [sent])
        except ClosedFault:
            outcomes.append("closed")

    thread = threading.Thread(target=work)
    thread.start()
    theirs.receive()  # copies, and gives the memory back
    listener = threading.Thread(target=until_closed, args=(ours.receive,))
    listener.start()
    for _ in range(slots.MOST_SLOTS):
        theirs.receive()
    theirs.receive()
    theirs.close()
    ours.close()
    thread.join()
    listener.join()
    assert outcomes[0] == "sent"


def test_a_message_that_may_be_left_out_does_not_wait_for_one_that_is_stuck() -> None:
    left, right = socket.socketpair()
    channel = Channel(left, share=False)
    thread = threading.Thread(target=until_closed, args=(lambda: channel.send({}, [np.zeros(4_000_000, np.uint8)]),))
    thread.start()
    while not channel._sending.locked():
        pass
    channel.send({"kind": "cancel"}, may_skip=True)
    right.close()
    channel.close()
    thread.join()
    channel.free()


def test_the_end_of_the_other_side_is_told(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    assert not ours.is_ended()
    theirs.close()
    assert ours.is_ended()
    with pytest.raises(ClosedFault):
        ours.receive()
    with pytest.raises(ClosedFault):
        for _ in range(3):
            ours.send({})


def head(length: int, following: int = 0, magic: bytes = wire.MAGIC) -> bytes:
    """The head of a frame."""
    return struct.pack("!4sIQ", magic, length, following)


def framed(frame: Any, following: bytes = b"") -> bytes:
    """A frame with any JSON in it."""
    text = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    return head(len(text), len(following)) + text + following


ARRAY = {"dtype": "float32", "shape": [2]}
SLOT = {"id": 1, "size": 1 << 20, "offsets": [0], "new": True, "dropped": []}

GARBAGE = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    head(wire.MOST_JSON_BYTES + 1),
    head(2, 1 << 60) + b"{}",
    framed(b"not json"),
    framed(b"\xff\xfe"),
    framed(b"[" * 100_000),
    framed([]),
    framed({"arrays": []}),
    framed({"body": [], "arrays": []}),
    framed({"body": {}}),
    framed({"body": {}, "arrays": [{}] * 5000}),
    framed({"body": {}, "arrays": [ARRAY]}),
    framed({"body": {}, "arrays": []}, b"12345678"),
    framed({"body": {}, "arrays": [{"dtype": "object", "shape": [1]}]}, b"12345678"),
    framed({"body": {}, "arrays": [{"dtype": "float32", "shape": [-2]}]}),
    framed({"body": {}, "arrays": [{"dtype": "float32", "shape": [True, True]}]}, b"1234"),
    framed({"body": {}, "arrays": [{"dtype": "float32", "shape": [1 << 40, 1 << 40, 0]}]}, b"1234"),
    framed({"body": {}, "arrays": [{"dtype": "float32", "shape": [1 << 62]}]}),
    framed({"body": {}, "arrays": [{"dtype": "uint8", "shape": [1] * 40}]}, b"1"),
    framed({"body": {}, "arrays": [ARRAY], "slot": SLOT}),
    framed({"body": {}, "arrays": [ARRAY], "slot": {**SLOT, "new": False}}),
    framed({"body": {}, "arrays": [ARRAY], "slot": {**SLOT, "offsets": [-64], "new": False}}),
    framed({"body": {}, "arrays": [ARRAY], "slot": {**SLOT, "dropped": "x"}}),
    framed({"body": {}, "arrays": [ARRAY], "slot": []}),
    framed({"body": {}, "arrays": [], "slot": 7}),
    framed({"release": 1}),
    framed({"release": [1]}),
]


@pytest.mark.parametrize("data", GARBAGE)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    left, right = socket.socketpair()
    channel = Channel(left)
    right.sendall(data)
    right.shutdown(socket.SHUT_WR)
    with pytest.raises(WireFault) as caught:
        channel.receive()
    assert type(caught.value) is WireFault, "it is not merely the end of the stream"
    right.close()
    channel.free()


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_raise_anything_but_a_wire_fault(data: bytes, with_head: bool) -> None:
    left, right = socket.socketpair()
    channel = Channel(left)
    right.sendall(head(len(data)) + data if with_head else data)
    right.shutdown(socket.SHUT_WR)
    with pytest.raises(WireFault):
        channel.receive()
    right.close()
    channel.free()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 1 << 40) | st.text(max_size=6), lambda x: st.lists(x, max_size=4), max_leaves=8
)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["body", "arrays", "slot", "release"]), JSON)
    | st.fixed_dictionaries({"body": st.just({}), "arrays": st.lists(st.fixed_dictionaries({"dtype": JSON, "shape": JSON}), max_size=2)}),
)
def test_no_frame_of_the_right_words_raises_anything_but_a_wire_fault(frame: Any) -> None:
    left, right = socket.socketpair()
    channel = Channel(left)
    right.sendall(framed(frame))
    right.shutdown(socket.SHUT_WR)
    try:
        message = channel.receive()
        assert message.body == {}
    except WireFault:
        pass
    right.close()
    channel.free()


@linux
@pytest.mark.parametrize("kind", ["a file", "unsealed", "too small", "outside", "two"])
def test_memory_that_could_end_the_reader_is_refused_and_closed(kind: str, tmp_path: Any) -> None:
    import fcntl

    size = 1 << 20
    if kind == "a file":
        descriptor = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)
    else:
        descriptor = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size // 2 if kind == "too small" else size)
    if kind not in ("a file", "unsealed"):
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    offsets = [size] if kind == "outside" else [0]
    left, right = socket.socketpair()
    channel = Channel(left)
    before = open_files()
    socket.send_fds(
        right, [framed({"body": {}, "arrays": [ARRAY], "slot": {**SLOT, "offsets": offsets}})], [descriptor] * (2 if kind == "two" else 1)
    )
    with pytest.raises(WireFault):
        channel.receive()
    channel._readers.close()
    assert open_files() == before
    os.close(descriptor)
    right.close()
    channel.free()
