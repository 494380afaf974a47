"""Closing: the CLOSE call, FIN as the eighth check, TIME-WAIT (RFC 9293 3.6, 3.10.4, 3.10.7.4, 3.10.8)."""

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
)

MSL = 30_000


def test_the_normal_close_of_figure_12_as_peer_a() -> None:
    """RFC9293-3.6-FIG12, RFC9293-3.10.4-EST, RFC9293-3.10.7.4-FIN-FW2.

    And RFC9293-MUST-13, RFC9293-3.10.8-TIME-WAIT: two MSL, to the tick.
    R-RFC-01, R-RFC-02: the state machine of RFC 793.
    """
    end = Endpoint.established()
    end.shutdown()
    end.expect("FA", seq=1, ack=1, length=0)
    end.expect_state(FIN_WAIT_1)
    end.gets("A", ack=2)
    end.expect_state(FIN_WAIT_2)
    end.gets("FA", seq=1, ack=2)
    end.expect_ack(2, seq=2)
    end.expect_state(TIME_WAIT)
    end.wait(2 * MSL - 1)
    end.expect_state(TIME_WAIT)
    assert not end.heard_of(EventKind.CLOSED)
    end.wait(1)
    end.expect_state(CLOSED)
    assert end.heard_of(EventKind.CLOSED)
    end.expect_nothing()


def test_the_normal_close_of_figure_12_as_peer_b() -> None:
    """RFC9293-3.6-FIG12, RFC9293-3.10.4-CLOSE-WAIT, RFC9293-3.10.7.4-FIN-EST, RFC1122-4.2.2.13.

    R-RFC-02: the state machine.
    """
    end = Endpoint.established()
    end.gets("FA")
    end.expect_ack(2)
    end.expect_state(CLOSE_WAIT)
    end.shutdown()
    end.expect("FA", seq=1, ack=2, length=0)
    end.expect_state(LAST_ACK)
    end.gets("A", ack=2)
    end.expect_state(CLOSED)


def test_the_simultaneous_close_of_figure_13() -> None:
    """RFC9293-3.6-FIG13, RFC9293-3.10.7.4-FIN-FW1: FIN crosses FIN.

    R-RFC-02: the state machine.
    """
    end = Endpoint.established()
    end.shutdown()
    end.expect("FA", seq=1, ack=1)
    end.gets("FA", seq=1, ack=1)
    end.expect_ack(2, seq=2)
    end.expect_state(CLOSING)
    end.gets("A", seq=2, ack=2)
    end.expect_state(TIME_WAIT)
    end.wait(2 * MSL)
    end.expect_state(CLOSED)


def test_a_fin_that_acknowledges_ours_leads_to_time_wait() -> None:
    """RFC9293-3.10.7.4-FIN-FW1: FIN-WAIT-1 and our FIN acknowledged by the same segment."""
    end = Endpoint.in_state(FIN_WAIT_1)
    end.gets("FA", ack=2)
    end.expect_ack(2, seq=2)
    end.expect_state(TIME_WAIT)


def test_close_waits_for_what_was_sent_before() -> None:
    """RFC9293-3.10.4-EST: the FIN follows the last byte, however long that takes."""
    end = Endpoint.established(c_wnd=2000)
    end.send(3500)
    end.shutdown()
    end.expect_data(1, 1001)
    end.expect_nothing()
    end.gets("A", ack=2001)
    end.expect("A", seq=2001, length=1000)
    end.expect("FA", seq=3001, length=500)
    end.expect_nothing()
    end.expect_state(FIN_WAIT_1)


def test_close_in_close_wait_waits_for_what_was_sent_before() -> None:
    """RFC9293-3.10.4-CLOSE-WAIT: then FIN, then LAST-ACK."""
    end = Endpoint.in_state(CLOSE_WAIT, c_wnd=1000)
    end.send(1500)
    end.shutdown()
    end.expect_data(1)
    end.gets("A", ack=1001)
    end.expect("FA", seq=1001, length=500)
    end.expect_state(LAST_ACK)
    end.gets("A", ack=1502)
    end.expect_state(CLOSED)


@pytest.mark.parametrize("state", [FIN_WAIT_1, FIN_WAIT_2, CLOSING, LAST_ACK, TIME_WAIT])
def test_closing_twice_sends_no_second_fin(state: TcpOffloadConnectionState) -> None:
    """RFC9293-3.10.4-FIN-WAIT, RFC9293-3.10.4-CLOSING: "ok" is the response, and no other FIN is made."""
    end = Endpoint.in_state(state)
    end.shutdown()
    end.expect_nothing()
    end.expect_state(state)
    end.gets("A")
    assert not [sent for sent in end.sent if end.relative_out(sent.segment.seq) > 1]


def test_fin_wait_2_does_not_last_for_ever() -> None:
    """RFC9293-3.6.1-FW2: if the user has closed both halves, 120 s without an acceptable segment end it."""
    end = Endpoint.in_state(FIN_WAIT_2)
    end.close()
    for _ in range(5):
        end.wait(119_999)
        end.expect_state(FIN_WAIT_2)
        end.gets("A", size=10)
    end.drop_sent()
    end.wait(120_000)
    end.expect_state(CLOSED)


def test_a_half_closed_connection_lasts_as_long_as_its_user_reads() -> None:
    """RFC9293-3.6.1-FW2, RFC9293-3.6.1-HALF: the remote end may be silent for hours before it sends."""
    end = Endpoint.in_state(FIN_WAIT_2)
    for _ in range(3):
        end.wait(7_200_000)
        end.expect_state(FIN_WAIT_2)
        end.gets("A", size=100)
    end.drop_sent()
    assert end.read() == incoming(0, 300)
    end.gets("FA")
    end.expect_state(TIME_WAIT)


@pytest.mark.parametrize("before", [False, True])
def test_closing_both_halves_starts_the_limit_of_fin_wait_2(before: bool) -> None:
    """RFC9293-3.6.1-FW2: it counts from then on, or from our FIN being acknowledged."""
    end = Endpoint.established()
    if before:
        end.close()
    else:
        end.shutdown()
    end.gets("A")
    end.wait(119_000)
    end.close()
    end.wait(999)
    end.expect_state(FIN_WAIT_2)
    end.wait(1 if before else 119_000)
    if not before:
        end.expect_state(FIN_WAIT_2)
        end.wait(1)
    end.expect_state(CLOSED)


def test_a_lost_fin_is_retransmitted() -> None:
    """RFC9293-3.10.8-RETRANSMISSION: FIN is retransmitted as data is, with the data before it."""
    end = Endpoint.established()
    end.send(100)
    end.shutdown()
    end.drop_sent()
    end.wait(1000)
    first = end.sent[0].segment
    assert end.relative_out(first.seq) == 1
    sent = end.drop_sent()
    assert any(
        s.segment.flags & 1 and end.relative_out(s.segment.seq + len(s.segment.payload)) == 101 for s in sent
    )
    end.gets("A", ack=102)
    end.expect_state(FIN_WAIT_2)
    end.wait(10_000)
    end.expect_nothing()


@pytest.mark.parametrize("state", [CLOSE_WAIT, CLOSING, LAST_ACK])
def test_a_retransmitted_fin_is_acknowledged_again(state: TcpOffloadConnectionState) -> None:
    """RFC9293-3.10.7.4-FIN-CLOSE-WAIT, RFC9293-3.10.7.4-FIN-CLOSING: the state remains."""
    end = Endpoint.in_state(state)
    end.gets("FA", seq=1, ack=1)
    end.expect_ack(2)
    end.expect_nothing()
    end.expect_state(state)


def test_a_retransmitted_fin_in_time_wait_starts_2_msl_again() -> None:
    """RFC9293-3.10.7.4-FIN-TIME-WAIT, RFC9293-3.10.7.4-ACK-TIME-WAIT: it is acknowledged, too."""
    end = Endpoint.in_state(TIME_WAIT)
    end.wait(2 * MSL - 10)
    end.gets("FA", seq=1)
    end.expect_ack(2, seq=2)
    end.wait(2 * MSL - 1)
    end.expect_state(TIME_WAIT)
    end.wait(1)
    end.expect_state(CLOSED)


@pytest.mark.parametrize(("flags", "ack"), [("F", 0), ("FA", 50_000), ("FA", -100_000), ("SFA", 2)])
def test_a_forged_fin_in_time_wait_does_not_prolong_it(flags: str, ack: int) -> None:
    """RFC5961-5.2-2, RFC9293-3.10.7.4-ACK-1: only a segment whose ACK counts is the remote end's FIN."""
    end = Endpoint.in_state(TIME_WAIT)
    end.wait(2 * MSL - 10)
    end.gets(flags, seq=1 - flags.count("S"), ack=ack)
    end.drop_sent()
    end.wait(10)
    end.expect_state(CLOSED)


def test_a_bare_ack_in_time_wait_does_not_prolong_it() -> None:
    """RFC9293-3.10.7.4-ACK-TIME-WAIT: only the retransmitted FIN does."""
    end = Endpoint.in_state(TIME_WAIT)
    end.wait(2 * MSL - 10)
    end.gets("A")
    end.expect_nothing()
    end.wait(10)
    end.expect_state(CLOSED)


def test_fin_with_data() -> None:
    """RFC9293-3.10.7.4-FIN-1: the user gets all bytes and then the end; RCV.NXT passes the FIN."""
    end = Endpoint.established()
    end.gets("FA", size=300)
    end.expect_ack(302)
    assert end.heard_of(EventKind.FIN)
    assert not end.machine.at_end
    assert end.read() == incoming(0, 300)
    assert end.machine.at_end


def test_fin_is_acknowledged_at_once() -> None:
    """RFC9293-3.10.7.4-FIN-1: without the delay that data may have."""
    end = Endpoint.established()
    end.gets("FA")
    end.expect_ack(2, at=0)


def test_a_fin_ahead_of_a_gap_waits_for_the_gap_to_fill() -> None:
    """RFC9293-3.10.7.4-SEQ-8: a FIN is processed in its place in the sequence."""
    end = Endpoint.established()
    end.gets("FA", seq=1001, size=1000)
    end.expect_ack(1)
    end.expect_state(ESTABLISHED)
    assert not end.heard_of(EventKind.FIN)
    end.gets("A", seq=1, size=1000)
    end.expect_ack(2002)
    end.expect_state(CLOSE_WAIT)
    assert end.heard_of(EventKind.FIN)
    assert end.read() == incoming(0, 2000)


def test_half_closed_by_the_remote_end_we_still_send() -> None:
    """RFC9293-3.6.1-HALF, RFC9293-3.10.2-EST, RFC1122-4.2.2.13.

    CLOSE-WAIT sends, retransmits, is acknowledged.
    R-RFC-02: half-close.
    """
    end = Endpoint.in_state(CLOSE_WAIT)
    end.send(2000)
    end.expect_data(1, 1001)
    end.gets("A", ack=1001)
    end.wait(1000)
    end.expect_data(1001)
    end.gets("A", ack=2001)
    assert end.machine.queued == 0
    end.expect_state(CLOSE_WAIT)


def test_the_user_learns_whether_it_was_closed_or_aborted() -> None:
    """RFC9293-MUST-12: FIN and RST are different events, and only the RST is an error."""
    closed = Endpoint.established()
    closed.gets("FA")
    assert closed.heard_of(EventKind.FIN)
    assert not closed.heard_of(EventKind.RESET)
    assert closed.machine.error is None
    aborted = Endpoint.established()
    aborted.gets("R")
    assert aborted.heard_of(EventKind.RESET)
    assert not aborted.heard_of(EventKind.FIN)
    assert aborted.machine.error is not None


def test_time_wait_turns_the_other_timers_off() -> None:
    """RFC9293-3.10.7.4-FIN-FW2: nothing is sent during TIME-WAIT by itself, keepalive included."""
    end = Endpoint.in_state(TIME_WAIT, keepalive=True, cached={"ka_timeout": 1000})
    end.wait(2 * MSL + 1000)
    end.expect_nothing()
    end.expect_state(CLOSED)


def test_data_that_comes_after_we_closed_is_received() -> None:
    """RFC9293-MAY-1: CLOSE closes one half; the other goes on (negative: no half-duplex close here)."""
    end = Endpoint.in_state(FIN_WAIT_1)
    end.gets("A", size=1000, ack=1)
    assert end.read() == incoming(0, 1000)
    assert not [sent for sent in end.sent if sent.segment.flags & 4]


def test_all_sequence_numbers_of_a_close_cross_2_to_the_32() -> None:
    """RFC9293-3.4-MODULO: FIN's own number may be 0 or 2**32 - 1."""
    for size in (499, 500):  # ISS + 500 is 2**32
        end = Endpoint.established()
        end.send(size - 1)
        end.drop_sent()
        end.shutdown()
        end.expect("FA", seq=size)
        end.gets("A", ack=size + 1)
        end.expect_state(FIN_WAIT_2)
    for size in (299, 300):
        end = Endpoint.established()
        end.gets("FA", size=size - 1)
        end.expect_ack(size + 1)
        end.expect_state(CLOSE_WAIT)
