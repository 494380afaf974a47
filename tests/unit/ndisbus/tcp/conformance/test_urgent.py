"""SEGMENT ARRIVES, sixth check: URG (RFC 9293 3.10.7.4, 3.8.5)."""

from __future__ import annotations

import pytest

from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState
from ndisbus.tcp.events import EventKind
from tests.unit.ndisbus.tcp.conformance.ladder import (
    CLOSE_WAIT,
    CLOSED,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    LAST_ACK,
    TIME_WAIT,
    Endpoint,
    incoming,
    outgoing,
)


def urgent(
    end: Endpoint, pointer: int, *, seq: int | None = None, size: int = 0, ack: int | None = None
) -> None:
    segment = end.segment("AU", seq=seq, size=size, ack=ack)
    segment.urgent = pointer
    end.gets_all([segment])


@pytest.mark.parametrize("state", [ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2])
def test_urgent_data_is_announced(state: TcpOffloadConnectionState) -> None:
    """RFC9293-MUST-30, RFC9293-MUST-32, RFC9293-MUST-33, RFC9293-3.10.7.4-URG-1: an event, with how much."""
    end = Endpoint.in_state(state)
    urgent(end, 10, size=10)
    (event,) = end.events(EventKind.URGENT)
    assert event.value == 10
    assert end.read() == incoming(0, 10)


def test_the_pointer_is_one_past_the_last_urgent_byte() -> None:
    """RFC9293-MUST-62: SEG.SEQ plus the field is the number of the byte that follows the urgent data."""
    end = Endpoint.established()
    urgent(end, 3, size=10)
    (event,) = end.events(EventKind.URGENT)
    assert event.value == 3


def test_urgent_data_may_be_announced_before_it_comes() -> None:
    """RFC9293-MUST-31, RFC9293-MUST-33: the pointer may lie far beyond the segment that carries it."""
    end = Endpoint.established(receive_window=65_000)
    urgent(end, 50_000, size=10)
    (event,) = end.events(EventKind.URGENT)
    assert event.value == 50_000


def test_the_same_urgent_data_is_announced_once() -> None:
    """RFC9293-3.10.7.4-URG-2: no second signal for what was signalled, one more when the pointer moves on."""
    end = Endpoint.established()
    urgent(end, 100, size=10)
    assert len(end.events(EventKind.URGENT)) == 1
    urgent(end, 90, size=10)  # the same pointer, seen from ten bytes further on
    urgent(end, 90, seq=11, size=10)
    assert not end.events(EventKind.URGENT)
    urgent(end, 500, size=10)
    assert len(end.events(EventKind.URGENT)) == 1


@pytest.mark.parametrize("since", [1000, 0x7FFF_0000, 0x8000_0000, 0xC000_0000, 0xFFFF_FF00])
def test_an_urgent_pointer_is_forgotten_when_it_is_passed(since: int) -> None:
    """RFC9293-3.10.7.4-URG-4: RCV.UP that lies 2**31 bytes back looks as if it were ahead."""
    end = Endpoint.established()
    urgent(end, 10, size=4)
    assert len(end.events(EventKind.URGENT)) == 1
    end.gets("A", size=10)
    d = end.delegated
    # So many bytes later.
    d.rcv_nxt = (d.rcv_nxt + since) & 0xFFFF_FFFF
    d.send_wl1 = (d.rcv_nxt - 1) & 0xFFFF_FFFF
    end.remote_next += since
    urgent(end, 100)
    assert len(end.events(EventKind.URGENT)) == 1


def test_urgent_data_that_was_read_is_not_announced_again() -> None:
    """RFC9293-3.10.7.4-URG-1: only a pointer in advance of what was consumed is a signal."""
    end = Endpoint.established()
    urgent(end, 10, size=10)
    end.read()
    end.events(EventKind.URGENT)
    urgent(end, 10, seq=1, size=10)
    assert not end.events(EventKind.URGENT)


@pytest.mark.parametrize("state", [CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT])
def test_urg_after_the_remote_ends_fin_is_ignored(state: TcpOffloadConnectionState) -> None:
    """RFC9293-3.10.7.4-URG-3: there can be no more data, urgent or not."""
    end = Endpoint.in_state(state)
    urgent(end, 10, ack=1 if state in (CLOSING, LAST_ACK) else None)
    assert not end.events(EventKind.URGENT)
    end.expect_state(state)


def test_urg_is_seen_while_our_window_is_closed() -> None:
    """RFC9293-MUST-66, RFC9293-3.10.7.4-SEQ-5: URG is processed even when the receive window is zero."""
    end = Endpoint.established(receive_window=2000)
    end.gets("A", size=1000)
    end.gets("A", size=1000)
    end.wait(400)
    assert end.drop_sent()[-1].segment.window == 0
    urgent(end, 5)
    assert len(end.events(EventKind.URGENT)) == 1
    assert end.state is not CLOSED


@pytest.mark.parametrize("pointer", [0, 1, 0xFFFF])
def test_odd_pointers_do_no_harm(pointer: int) -> None:
    """RFC9293-3.8.5-ROBUST: a pointer to the segment's own start or far beyond leaves the stream as it is."""
    end = Endpoint.established()
    urgent(end, pointer, size=10)
    urgent(end, pointer, seq=1, size=10)
    end.gets("A", seq=11, size=10)
    assert end.read() == incoming(0, 20)


def send_urgent(end: Endpoint, size: int) -> None:
    end.machine.send(outgoing(end.queued_out, size), urgent=True)
    end.queued_out += size
    end.collect()


def test_urgent_data_is_sent() -> None:
    """RFC9293-3.10.2-URG, RFC9293-MUST-30, RFC9293-MUST-62.

    URG, and the number of the byte behind the data.
    """
    end = Endpoint.established()
    end.send(50)
    end.expect("A", seq=1)
    send_urgent(end, 100)
    assert end.expect("AU", seq=51, length=100).urgent == 100
    end.gets("A")
    end.send(10)
    end.expect("A", seq=151)


def test_all_segments_up_to_the_urgent_point_carry_it() -> None:
    """RFC9293-3.10.2-URG, RFC9293-MUST-31.

    2500 bytes, three segments, one urgent point; retransmissions too.
    """
    end = Endpoint.established()
    send_urgent(end, 2500)
    assert [end.expect("AU").urgent for _ in range(3)] == [2500, 1500, 500]
    end.wait(1000)
    assert end.expect("AU", seq=1).urgent == 2500


def test_urgent_data_of_any_length() -> None:
    """RFC9293-MUST-31: also more than the field can say: it comes into reach as the stream goes on."""
    end = Endpoint.established(c_wnd=200_000, send_window=65_535)
    send_urgent(end, 100_000)
    pointers = {}
    for _ in range(10):
        for sent in end.drop_sent():
            assert sent.segment.flags & 0x20
            pointers[end.relative_out(sent.segment.seq)] = sent.segment.urgent
        end.gets("A", window=65_535)
    assert end.machine.queued == 0
    for seq, pointer in pointers.items():
        assert pointer == min(100_001 - seq, 0xFFFF)


def test_data_without_urg_after_urgent_data_flows_on() -> None:
    """RFC9293-3.8.5-INLINE: urgent data stays in its place in the stream."""
    end = Endpoint.established()
    end.gets("A", size=10)
    urgent(end, 10, size=10)
    end.gets("A", size=10)
    assert end.read() == incoming(0, 30)
