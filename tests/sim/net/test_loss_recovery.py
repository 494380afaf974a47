"""Two stacks on a path that loses chosen segments: what SACK can repair waits for no timer."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from ndisbus.net.peek import peek
from ndisbus.net.segment import Segment
from ndisbus.net.tcp import parse_frame
from ndisbus.wire.impair import Impairments
from tests.support.net_world import NetWorld

DELAY = Impairments(delay=0.05)
SIZE = 300_000


def tcp_of(frame: bytes) -> Segment | None:
    """The TCP segment in a frame, if it has one."""
    return parse_frame(frame, peek(frame)) if frame[12:14] == b"\x08\x00" else None


def only_the_newest_ack(frames: list[bytes]) -> list[bytes]:
    """Of the empty ACKs that arrive together, let the last one through."""
    empty = [frame for frame in frames if (s := tcp_of(frame)) is not None and not s.length]
    return [frame for frame in frames if frame not in empty[:-1]]


def transfer(lose: Callable[[int], bool], *, stretched: bool) -> tuple[float, list[int]]:
    """Send SIZE bytes, and lose what is said of the data segments.

    ``lose`` gets the number of a segment that is sent the first time, counted from 1. ``stretched``: of all
    ACKs that arrive together, one arrives. Returns the seconds and the sequence numbers sent.
    """
    world = NetWorld()
    a, b = world.host("a", egress=DELAY), world.host("b", egress=DELAY)
    server = b.network.listen((None, 7))
    client = a.network.connect(("10.77.0.2", 7))
    served = server.accept()[0]
    sent: list[int] = []
    lost = 0

    def change(frame: bytes) -> bytes | None:
        nonlocal lost
        segment = tcp_of(frame)
        if segment is None or not segment.payload:
            return frame
        again = segment.seq in sent
        sent.append(segment.seq)
        if not again and lose(len(set(sent))):
            lost += 1
            return None
        return frame

    a.tap.change = change
    if stretched:
        a.tap.thin = only_the_newest_ack
    stream = random.Random(1).randbytes(SIZE)
    begin = world.now()
    client.sendall(stream)
    assert served.recv_exactly(SIZE) == stream
    seconds = world.now() - begin
    world.run(5.0)
    assert lost
    return seconds, sent


@pytest.mark.parametrize("lost", [65, 66, 67, 202, 203, 204])
@pytest.mark.parametrize("stretched", [False, True])
def test_a_hole_among_stretched_acks_needs_no_timeout(lost: int, stretched: bool) -> None:
    """RFC6675-5-DUP: of the ACKs that report the hole one arrives, and it acknowledges something as well."""
    seconds, sent = transfer(lambda number: number == lost, stretched=stretched)
    assert len(sent) == len(set(sent)) + 1
    assert seconds < 2.5


def test_no_segment_is_sent_twice_at_once() -> None:
    """RFC6675-5-4.3: the last hole is sent again once, not as fast retransmission and rescue together."""
    sent = transfer(lambda number: number == SIZE // 1448 - 4, stretched=False)[1]
    assert len(sent) == len(set(sent)) + 1
