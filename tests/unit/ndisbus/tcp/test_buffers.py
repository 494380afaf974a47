"""Send and receive buffers against plain bytes."""

from __future__ import annotations

import sys

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ndisbus.tcp.buffers import ReceiveBuffer, SendBuffer

chunks = st.binary(max_size=12)


class SendModel(RuleBasedStateMachine):
    """A SendBuffer beside one byte string and the places where its pieces end."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = SendBuffer()
        self.bytes = b""
        self.ends: list[int] = []

    @rule(data=chunks)
    def append(self, data: bytes) -> None:
        self.buffer.append(data)
        self.bytes += data
        if data:
            self.ends.append(len(self.bytes))

    @rule(times=st.integers(60, 200), data=st.binary(min_size=1, max_size=2))
    def append_many(self, times: int, data: bytes) -> None:
        for _ in range(times):
            self.append(data)

    @rule(offset=st.integers(0, 400), size=st.integers(0, 60))
    def take(self, offset: int, size: int) -> None:
        data, push = self.buffer.take(offset, size)
        assert data == self.bytes[offset : offset + size]
        assert push is any(offset < e <= offset + size for e in self.ends)

    @rule(share=st.floats(0, 1))
    def acked(self, share: float) -> None:
        n = int(share * len(self.bytes))
        self.buffer.acked(n)
        self.bytes = self.bytes[n:]
        self.ends = [e - n for e in self.ends if e > n]

    @invariant()
    def pieces_and_size(self) -> None:
        assert len(self.buffer) == len(self.bytes)
        pieces = self.buffer.pieces()
        starts = [0, *self.ends]
        assert pieces == [self.bytes[a:b] for a, b in zip(starts, self.ends, strict=False)]


class ReceiveModel(RuleBasedStateMachine):
    """A ReceiveBuffer beside one byte string."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = ReceiveBuffer()
        self.bytes = b""

    @rule(data=chunks)
    def append(self, data: bytes) -> None:
        self.buffer.append(memoryview(data))
        self.bytes += data

    @rule(times=st.integers(60, 200), data=st.binary(min_size=1, max_size=2))
    def append_many(self, times: int, data: bytes) -> None:
        for _ in range(times):
            self.append(data)

    @rule(n=st.integers(-1, 150))
    def read(self, n: int) -> None:
        assert self.buffer.read(n) == self.bytes[: max(n, 0)]
        self.bytes = self.bytes[max(n, 0) :]

    @rule()
    def read_all(self) -> None:
        assert self.buffer.read() == self.bytes
        self.bytes = b""

    @invariant()
    def pieces_and_size(self) -> None:
        assert len(self.buffer) == len(self.bytes)
        assert b"".join(self.buffer.pieces()) == self.bytes
        assert all(self.buffer.pieces())


_few = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestSendModel = SendModel.TestCase
TestSendModel.settings = _few
TestReceiveModel = ReceiveModel.TestCase
TestReceiveModel.settings = _few


@settings(deadline=None)
@given(st.lists(chunks))
def test_a_buffer_made_from_the_pieces_of_another_is_the_same(pieces: list[bytes]) -> None:
    send = SendBuffer(pieces)
    assert SendBuffer(send.pieces()).pieces() == send.pieces() == [p for p in pieces if p]
    receive = ReceiveBuffer(pieces)
    assert ReceiveBuffer(receive.pieces()).read() == b"".join(pieces)


def test_bytes_are_kept_and_given_back_as_they_are() -> None:
    """R-OSD-03: no copy is made of what is sent in one piece."""
    data = bytes(1000)
    send = SendBuffer([data])
    assert send.take(0, 1000)[0] is data
    assert send.pieces()[0] is data
    receive = ReceiveBuffer([data])
    assert receive.read(1000) is data


def test_views_are_copied_so_that_a_frame_may_be_used_again() -> None:
    frame = bytearray(b"abc")
    send = SendBuffer()
    send.append(memoryview(frame))
    receive = ReceiveBuffer()
    receive.append(memoryview(frame))
    frame[:] = b"xyz"
    assert send.take(0, 3)[0] == receive.read() == b"abc"


def test_acknowledged_and_read_bytes_are_let_go_at_once() -> None:
    class Tracked(bytes):
        gone = 0

        def __del__(self) -> None:
            Tracked.gone += 1

    send = SendBuffer()
    receive = ReceiveBuffer()
    send._pieces = [Tracked(b"ab") for _ in range(10)]  # append() would make plain bytes of them
    send._ends = [*range(2, 22, 2)]
    receive._pieces = [Tracked(b"ab") for _ in range(10)]
    receive._size = 20
    send.acked(19)
    assert Tracked.gone == 9
    receive.read(19)
    assert Tracked.gone == 18


def test_empty_buffers_are_small_even_after_use() -> None:
    send = SendBuffer()
    receive = ReceiveBuffer()
    for _ in range(1000):
        send.append(b"abc")
        receive.append(b"abc")
    send.acked(3000)
    receive.read()
    assert sum(map(sys.getsizeof, (send, receive))) <= 128
    for shared in ("_pieces", "_ends"):
        assert getattr(send, shared) is getattr(SendBuffer(), shared)
    assert receive._pieces is ReceiveBuffer()._pieces
