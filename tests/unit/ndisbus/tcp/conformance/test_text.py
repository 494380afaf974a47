"""SEGMENT ARRIVES, seventh: the text, and its ACK (RFC 9293 3.10.7.4, 3.8.6.3; RFC 5681 4.2)."""

from __future__ import annotations

import pytest

from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState
from ndisbus.tcp.events import EventKind
from tests.unit.ndisbus.tcp.conformance.ladder import (
    CLOSE_WAIT,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    LAST_ACK,
    SYNCHRONIZED,
    TIME_WAIT,
    Endpoint,
    incoming,
)


@pytest.mark.parametrize("state", [ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2])
def test_data_is_delivered_and_acknowledged(state: TcpOffloadConnectionState) -> None:
    """RFC9293-3.10.7.4-TEXT-1, RFC9293-3.10.7.4-TEXT-2: taken over, told, and acknowledged before long."""
    end = Endpoint.in_state(state)
    end.gets("A", size=500)
    assert sum(event.value for event in end.events(EventKind.DATA)) == 500
    assert end.rcv_nxt == 501
    end.wait(499)
    end.expect_ack(501)
    assert end.read() == incoming(0, 500)


@pytest.mark.parametrize("state", [CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT])
def test_text_after_the_remote_ends_fin_is_ignored(state: TcpOffloadConnectionState) -> None:
    """RFC9293-3.10.7.4-TEXT-6: nothing can follow a FIN."""
    end = Endpoint.in_state(state)
    expected = end.remote_next
    end.gets("A", size=100, ack=1 if state in (CLOSING, LAST_ACK) else None)
    assert end.machine.available == 0
    assert end.rcv_nxt == expected
    end.expect_state(state)


def test_an_ack_waits_for_a_while() -> None:
    """RFC9293-SHLD-18, RFC5681-4.2-1: for a single segment no ACK goes out at once.

    R-RFC-02: delayed ACK.
    """
    end = Endpoint.established()
    end.gets("A", size=1000)
    end.expect_nothing()
    end.wait(500)
    end.expect_ack(1001)
    end.expect_nothing()


@pytest.mark.parametrize("ticks_per_second", [10, 100, 1000])
def test_an_ack_waits_less_than_half_a_second(ticks_per_second: int) -> None:
    """RFC9293-MUST-40, RFC5681-4.2-2: by default, whatever the clock's granularity."""
    parameters = {"ticks_per_second": ticks_per_second, "tcp_delayed_ack_ticks": ticks_per_second // 5}
    end = Endpoint.established(parameters=parameters)
    end.gets("A", size=1000)
    end.wait(ticks_per_second)
    assert end.sent[0].at * 1000 < 500 * ticks_per_second
    end.expect_ack(1001)


def test_the_first_segment_starts_the_wait() -> None:
    """RFC9293-MUST-40: small segments that keep coming do not put the ACK off."""
    end = Endpoint.established()
    for _ in range(20):
        end.gets("A", size=1)
        end.wait(30)
    assert end.sent[0].at < 500


def test_every_second_full_segment_is_acknowledged_at_once() -> None:
    """RFC9293-SHLD-19, RFC5681-4.2-3: without waiting."""
    end = Endpoint.established()
    for ack in (2001, 4001, 6001):
        end.gets("A", size=1000)
        end.expect_nothing()
        end.gets("A", size=1000)
        end.expect_ack(ack)
    end.expect_nothing()


def test_a_burst_of_segments_draws_one_ack() -> None:
    """RFC9293-MUST-58, RFC9293-MUST-59, RFC5681-4.2-6: what arrived together is acknowledged together."""
    end = Endpoint.established()
    end.gets_all([end.segment("A", size=1000) for _ in range(7)])
    end.expect_ack(7001)
    end.expect_nothing()


def test_an_ack_rides_on_data() -> None:
    """RFC9293-3.10.7.4-TEXT-3: data that goes out anyway carries the ACK, no empty one follows."""
    end = Endpoint.established()
    end.gets("A", size=1000)
    end.send(100)
    end.expect("A", seq=1, ack=1001, length=100)
    end.gets("A")
    end.wait(500)
    end.expect_nothing()


def test_a_segment_beyond_a_gap_is_answered_at_once() -> None:
    """RFC9293-MAY-13, RFC5681-4.2-4, RFC1122-4.2.2.21: a duplicate ACK, for each of them."""
    end = Endpoint.established()
    end.gets("A", seq=1001, size=1000)
    end.expect_ack(1)
    end.gets("A", seq=2001, size=1000)
    end.expect_ack(1)
    end.expect_nothing()


def test_a_segment_that_fills_a_gap_is_acknowledged_at_once() -> None:
    """RFC5681-4.2-5: whether it fills all of it or a part."""
    end = Endpoint.established()
    end.gets("A", seq=1001, size=1000)
    end.gets("A", seq=3001, size=1000)
    end.drop_sent()
    end.gets("A", seq=1, size=500)
    end.expect_ack(501)
    end.gets("A", seq=501, size=500)
    end.expect_ack(2001)
    end.gets("A", seq=2001, size=1000)
    end.expect_ack(4001)
    end.expect_nothing()


def test_no_segment_draws_two_acks() -> None:
    """RFC5681-4.2-6: and a pure ACK draws none."""
    end = Endpoint.established()
    for _ in range(10):
        end.gets("A", size=1000)
        assert len(end.drop_sent()) <= 1
    end.gets("A")
    end.wait(1000)
    assert len(end.drop_sent()) <= 1
    end.gets("A")
    end.wait(1000)
    end.expect_nothing()


@pytest.mark.parametrize("state", SYNCHRONIZED)
def test_an_empty_acceptable_ack_is_never_answered(state: TcpOffloadConnectionState) -> None:
    """RFC9293-3.10.7.4-TEXT-5: two machines would otherwise acknowledge each other for ever."""
    end = Endpoint.in_state(state)
    for _ in range(2):  # a third would be a reason to retransmit
        end.gets("A", ack=end.seen - (state in (FIN_WAIT_1, CLOSING, LAST_ACK)))
    end.expect_nothing()


def test_the_right_edge_does_not_move_back() -> None:
    """RFC9293-SHLD-14, RFC9293-3.10.7.4-TEXT-4: RCV.NXT plus RCV.WND grows or stays, read or unread."""
    end = Endpoint.established(receive_window=10_000)
    edge = 0
    for number in range(60):
        size = 1000 if end.delegated.rcv_wnd >= 1000 else end.delegated.rcv_wnd
        if size:
            end.gets("A", size=size)
        if number % 7 == 6:
            end.read(700)
        if number == 40:
            end.read()
        end.wait(250)
        for sent in end.drop_sent():
            offered = end.relative_in(sent.segment.ack) + sent.segment.window
            assert offered >= edge
            edge = offered
    assert edge > 10_001


@pytest.mark.parametrize("psh", ["", "P"])
def test_data_is_delivered_with_or_without_psh(psh: str) -> None:
    """RFC9293-3.10.7.4-TEXT-1: nothing waits for a PUSH."""
    end = Endpoint.established()
    end.gets("A" + psh, size=10)
    assert end.machine.available == 10


def test_an_ack_carries_rcv_nxt_not_the_end_of_what_is_held() -> None:
    """RFC9293-3.10.7.4-TEXT-2: what lies beyond a gap is not acknowledged."""
    end = Endpoint.established()
    end.gets("A", size=100)
    end.gets("A", seq=201, size=100)
    end.expect_ack(101)


def test_the_window_is_an_unsigned_number() -> None:
    """RFC9293-MUST-1, RFC9293-REC-1: 65535 is a large window, offered as well as received."""
    end = Endpoint.established(send_window=100, c_wnd=100_000, receive_window=65_535)
    end.gets("A", size=1000, window=65_535)
    assert end.delegated.snd_wnd == 65_535
    end.read()
    end.send(80_000)
    assert sum(len(sent.segment.payload) for sent in end.sent) >= 65_000
    assert end.sent[0].segment.window >= 0x8000


def test_the_bits_of_ecn_do_no_harm() -> None:
    """RFC9293-SHLD-8: ECE and CWR are not answered and change nothing, on data and on ACKs."""
    end = Endpoint.established(c_wnd=10_000)
    end.send(2000)
    end.expect_data(1, 1001)
    end.gets("AE", ack=1001, size=10)
    end.gets("AC", size=10)
    assert end.read() == incoming(0, 20)
    assert end.delegated.c_wnd >= 10_000
    end.wait(500)
    for sent in end.drop_sent():
        assert not sent.segment.flags & 0xC0
