"""Path MTU changes, forward progress, and structures that leave things open."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.tcp.congestion import MAX_CWND
from ndisbus.tcp.events import EventKind
from tests.unit.ndisbus.tcp.conformance.ladder import ESTABLISHED, V6, Endpoint
from tests.unit.ndisbus.tcp.handing import copies, move

# -- path MTU


def sizes(end: Endpoint) -> list[tuple[int, int]]:
    return [(end.relative_out(s.segment.seq), len(s.segment.payload)) for s in end.drop_sent()]


def change_mtu(end: Endpoint, mtu: int) -> None:
    end.machine.path_cached.path_mtu = mtu
    end.machine.path_changed(end.now)
    end.collect()


@pytest.mark.parametrize(
    ("mtu", "options", "mss"),
    [
        (1500, {}, 1460),
        (1500, {"timestamps": True}, 1448),
        (1500, {"addresses": V6}, 1440),
        (1500, {"addresses": V6, "timestamps": True}, 1428),
        (576, {}, 536),
        (9000, {}, 8960),
    ],
)
def test_the_segment_size(mtu: int, options: dict[str, Any], mss: int) -> None:
    """RFC 9293 3.7.1: what the path takes, less the headers and the options that each segment has."""
    end = Endpoint.established(mss=8960, mtu=mtu, c_wnd=60_000, **options)
    end.send(20_000)
    assert {size for _, size in sizes(end)[:-1]} == {mss}


def test_the_remote_ends_mss_limits_it() -> None:
    """RFC 9293 MUST-16: with the remote end's MSS smaller than the path's."""
    end = Endpoint.established(mss=700, mtu=1500)
    end.send(1400)
    assert sizes(end) == [(1, 700), (701, 700)]


def test_a_smaller_mtu_cuts_what_is_outstanding_anew() -> None:
    """R-UPD-08: a path MTU that ICMP told: everything unacknowledged goes out again, in smaller segments."""
    end = Endpoint.established(mss=1460, c_wnd=14_600)
    end.send(4380)
    end.drop_sent()
    change_mtu(end, 1000)
    assert sizes(end) == [(1, 960), (961, 960), (1921, 960), (2881, 960), (3841, 540)]
    assert end.delegated.c_wnd == 14_600
    end.gets("A")
    assert end.machine.queued == 0


def test_what_the_remote_end_reports_is_not_sent_again() -> None:
    """RFC 2018 5.1: bytes that a SACK block covers are passed over."""
    end = Endpoint.established(mss=1460, c_wnd=14_600, sack=True)
    end.send(4380)
    end.drop_sent()
    base = end.iss
    end.gets("A", ack=1, options={"sack": (((base + 1461) & 0xFFFFFFFF, (base + 2921) & 0xFFFFFFFF),)})
    change_mtu(end, 1000)
    assert sizes(end) == [(1, 960), (961, 500), (2921, 960), (3881, 500)]


def test_a_larger_mtu_counts_from_the_next_segment_on() -> None:
    """R-UPD-08: nothing is repeated."""
    end = Endpoint.established(mss=1460, mtu=1000, c_wnd=14_600)
    end.send(960)
    change_mtu(end, 1500)
    assert sizes(end) == [(1, 960)]
    end.send(1460)
    assert sizes(end) == [(961, 1460)]


def test_a_congestion_window_below_the_new_segment_size_grows_to_one() -> None:
    """One segment can always be sent: MTU 576 to 9000 after a timeout."""
    end = Endpoint.established(mss=8960, mtu=576)
    end.send(536)
    end.wait(1000)
    end.gets("A")
    end.drop_sent()
    assert end.delegated.c_wnd < 8960
    change_mtu(end, 9000)
    end.send(8960)
    assert sizes(end) == [(537, 8960)]


def test_an_absurd_mtu_or_mss_is_not_obeyed() -> None:
    """A remote end cannot make us send a header for every byte: 48 bytes are the least."""
    end = Endpoint.established(mss=1)
    end.send(480)
    assert sizes(end)[0] == (1, 48)
    change_mtu(end, 0)
    end.gets("A")
    end.send(480)
    assert {size for _, size in sizes(end)} == {48}


# -- forward progress


def test_what_counts_as_forward_progress() -> None:
    """R-NUD-04: a new acknowledgment and new data, in order or not; nothing old, and no empty segment."""
    end = Endpoint.established()
    end.send(3000)
    end.gets("A", ack=1)
    assert not end.heard_of(EventKind.PROGRESS)
    end.gets("A", ack=1001)
    assert end.heard_of(EventKind.PROGRESS)
    end.wait(1)
    end.gets("A", ack=1001)
    end.gets("A", ack=1)
    assert not end.heard_of(EventKind.PROGRESS)
    end.gets("A", ack=1001, seq=1, size=100)
    assert end.heard_of(EventKind.PROGRESS)
    end.wait(1)
    end.gets("A", ack=1001, seq=1, size=100)
    assert not end.heard_of(EventKind.PROGRESS)
    end.gets("A", ack=1001, seq=201, size=100)
    assert end.heard_of(EventKind.PROGRESS)
    end.wait(1)
    end.gets("A", ack=1001, seq=201, size=100)
    assert not end.heard_of(EventKind.PROGRESS)


def test_progress_is_told_once_in_a_tick() -> None:
    """R-NUD-04: events do not pile up, however many segments come."""
    end = Endpoint.established()
    end.machine.events.clear()
    for _ in range(10):
        end.machine.receive(end.segment("A", size=100), end.now)
    kinds = [event.kind for event in end.machine.events]
    assert sorted(kinds, key=str) == [EventKind.DATA, EventKind.PROGRESS]
    assert next(e.value for e in end.machine.events if e.kind is EventKind.DATA) == 1000


# -- structures of a stack that knew less


def test_a_window_of_zero_congestion_is_filled_in() -> None:
    """CWnd 0 would never send: it becomes what a new connection has."""
    end = Endpoint.established(c_wnd=0, ss_thresh=0)
    assert end.delegated.c_wnd == 4000
    assert end.delegated.ss_thresh == MAX_CWND
    end.send(5000)
    assert len(end.drop_sent()) == 4


def test_the_largest_window_is_at_least_the_present_one() -> None:
    """MaxSndWnd 0 would make every ACK look too old (RFC 5961 5)."""
    end = Endpoint.established()
    end.machine.delegated.max_snd_wnd = 0
    move(end)
    assert end.delegated.max_snd_wnd == 60_000


def test_flags_may_be_enumerations() -> None:
    """The structures hold plain numbers afterwards, which are quick to test."""
    end = Endpoint.established(timestamps=True, nagle=True)
    assert type(end.machine.const.flags) is int
    assert type(end.machine.cached.flags) is int
    end.machine.write_back(end.now)
    assert all(copies(end.machine))
    end.expect_state(ESTABLISHED)
