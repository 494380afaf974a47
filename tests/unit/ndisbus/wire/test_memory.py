"""The segment in memory: a switch between stations of one process."""

from __future__ import annotations

import pytest

from ndisbus.errors import LocalProtocolError
from ndisbus.wire.link import NoLink, innermost
from ndisbus.wire.memory import MemorySegment

A, B, C = (bytes((2, 0, 0, 0, 0, n)) for n in (1, 2, 3))
ALL = b"\xff" * 6


def frame(destination: bytes, source: bytes, payload: bytes = b"x" * 46) -> bytes:
    return destination + source + b"\x08\x00" + payload


def test_frame_to_everybody_reaches_all_others_at_once() -> None:
    segment = MemorySegment()
    a, b, c = (segment.station(n) for n in "abc")
    a.send(frame(ALL, A), 1.0)
    assert b.receive(1.0) == c.receive(1.0) == [frame(ALL, A)]
    assert a.receive(1.0) == []


def test_address_that_was_heard_gets_its_frames_alone() -> None:
    segment = MemorySegment()
    a, b, c = (segment.station(n) for n in "abc")
    a.send(frame(B, A), 0.0)
    assert (b.waiting, c.waiting) == (1, 1), "no station has sent yet: flooded"
    b.send(frame(A, B), 0.0)
    a.send(frame(B, A), 0.0)
    assert (a.waiting, b.waiting, c.waiting) == (1, 2, 1)
    # The address moves to another station, as a machine does that is plugged in elsewhere.
    c.send(frame(A, B), 0.0)
    a.send(frame(B, A), 0.0)
    assert (b.waiting, c.waiting) == (2, 2)


def test_group_address_is_never_learned() -> None:
    segment = MemorySegment()
    a, b, c = (segment.station(n) for n in "abc")
    b.send(frame(A, ALL), 0.0)
    c.receive(0.0)
    a.send(frame(ALL, A), 0.0)
    assert (b.waiting, c.waiting) == (1, 1)


def test_what_is_behind_a_station_that_left_is_flooded_again() -> None:
    segment = MemorySegment()
    a, b, c = (segment.station(n) for n in "abc")
    b.send(frame(A, B), 0.0)
    b.close()
    b.close()
    c.receive(0.0)
    a.send(frame(B, A), 0.0)
    assert c.waiting == 1
    with pytest.raises(LocalProtocolError, match="station b has left memory:memory"):
        b.send(frame(A, B), 0.0)
    again = segment.station("b")
    a.send(frame(ALL, A), 0.0)
    assert again.waiting == 1


def test_two_stations_of_one_name_are_refused() -> None:
    segment = MemorySegment("lan")
    segment.station("a")
    with pytest.raises(LocalProtocolError, match="segment lan already has a station a"):
        segment.station("a")


def test_deadline_and_callback_tell_of_frames_that_wait() -> None:
    segment = MemorySegment()
    a, b = segment.station("a"), segment.station("b")
    told: list[float] = []
    b.on_frame = told.append
    assert b.next_deadline() is None
    a.send(frame(ALL, A), 3.0)
    a.send(frame(ALL, A), 4.0)
    assert b.next_deadline() == 3.0
    assert told == [3.0], "once, until they were taken"
    assert len(b.receive(5.0)) == 2
    assert b.next_deadline() is None
    a.send(frame(ALL, A), 6.0)
    assert told == [3.0, 6.0]
    assert b.fileno() is None


def test_frames_of_wrong_sizes_and_beyond_the_queue_are_dropped_and_counted() -> None:
    segment = MemorySegment(mtu=100, queue=2)
    a, b = segment.station("a"), segment.station("b")
    assert (a.mtu, a.name) == (100, "memory:memory")
    tagged = frame(ALL, A, bytes(104))
    for f in (ALL + A, tagged + b"!", tagged, tagged, tagged):
        a.send(f, 0.0)
    assert a.counters.to_wire() == {
        "Sent": 3,
        "SentBytes": 3 * 118,
        "Received": 0,
        "ReceivedBytes": 0,
        "Dropped": {"too long": 1, "too short": 1},
    }
    assert b.counters.to_wire()["Dropped"] == {"full": 1}
    assert b.receive(0.0) == [tagged, tagged]


def test_addresses_remembered_are_bounded() -> None:
    segment = MemorySegment()
    a, b, c = (segment.station(n) for n in "abc")
    b.send(frame(A, B), 0.0)
    for n in range(5000):
        a.send(frame(A, b"\x02" + n.to_bytes(5, "big")), 0.0)
    assert len(segment._behind) == 4096
    for station in (a, b, c):
        station.receive(0.0)
    c.send(frame(B, C), 0.0)
    assert (a.waiting, b.waiting) == (1, 1), "flooded: B was forgotten"


def test_a_link_that_is_not_plugged_in_drops_everything() -> None:
    link = NoLink()
    link.send(frame(ALL, A), 0.0)
    assert link.receive(0.0) == []
    assert (link.name, link.mtu, link.fileno(), link.next_deadline()) == ("none", 1500, None, None)
    assert link.counters.to_wire()["Dropped"] == {"unplugged": 1}
    link.close()
    assert innermost(link) is link
