"""SEGMENT ARRIVES, second check: RST (RFC 9293 3.10.7.4, 3.5.3; RFC 5961 section 3)."""

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
    SYNCHRONIZED,
    TIME_WAIT,
    Endpoint,
)


@pytest.mark.parametrize("state", [ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT])
def test_a_reset_at_rcv_nxt_ends_the_connection(state: TcpOffloadConnectionState) -> None:
    """RFC9293-3.10.7.4-RST-2, RFC9293-3.10.7.4-RST-EST, RFC5961-3.2-2, RFC9293-MUST-12: the user is told."""
    end = Endpoint.in_state(state)
    end.gets("R")
    end.expect_state(CLOSED)
    assert end.heard_of(EventKind.RESET)
    assert end.machine.error
    end.wait(300_000)
    end.expect_nothing()


@pytest.mark.parametrize("state", [CLOSING, LAST_ACK, TIME_WAIT])
def test_a_reset_at_rcv_nxt_when_both_have_closed(state: TcpOffloadConnectionState) -> None:
    """RFC9293-3.10.7.4-RST-2, RFC9293-3.10.7.4-RST-CLOSING: CLOSED without another word."""
    end = Endpoint.in_state(state)
    end.gets("R")
    end.expect_state(CLOSED)
    end.wait(300_000)
    end.expect_nothing()


def test_a_reset_flushes_what_was_queued() -> None:
    """RFC9293-3.10.7.4-RST-EST: neither unsent nor unacknowledged data is sent afterwards."""
    end = Endpoint.established(c_wnd=2000)
    end.send(10_000)
    end.expect_data(1, 1001)
    end.gets("RA", ack=1001)
    end.wait(300_000)
    end.expect_nothing()


@pytest.mark.parametrize("state", SYNCHRONIZED)
@pytest.mark.parametrize("ahead", [1, 100, 3000])
def test_a_reset_elsewhere_in_the_window_draws_a_challenge_ack(
    state: TcpOffloadConnectionState, ahead: int
) -> None:
    """RFC9293-3.10.7.4-RST-3, RFC5961-3.2-3: <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>, and nothing changes."""
    end = Endpoint.in_state(state, receive_window=4000)
    end.gets("R", seq=end.remote_next + ahead)
    end.expect_ack(end.remote_next, seq=end.seen)
    end.expect_nothing()
    end.expect_state(state)
    assert not end.heard_of(EventKind.RESET)


@pytest.mark.parametrize("state", SYNCHRONIZED)
@pytest.mark.parametrize("offset", [-1, -5000, 4000, 4001, 100_000])
def test_a_reset_outside_the_window_is_dropped_silently(
    state: TcpOffloadConnectionState, offset: int
) -> None:
    """RFC9293-3.10.7.4-RST-1, RFC5961-3.2-1, RFC9293-3.5.3-VALID: no answer, no effect."""
    end = Endpoint.in_state(state, receive_window=4000)
    end.gets("R", seq=end.remote_next + offset)
    end.expect_nothing()
    end.expect_state(state)


def test_the_answer_to_a_challenge_ends_the_connection() -> None:
    """RFC5961-3.2-4: a remote end that really has no connection answers the challenge with an exact RST."""
    end = Endpoint.established()
    end.gets("R", seq=500)
    challenge = end.expect_ack(1, seq=1)
    end.gets("R", seq=end.relative_in(challenge.ack))
    end.expect_state(CLOSED)
    assert end.heard_of(EventKind.RESET)


def test_a_reset_may_carry_data() -> None:
    """RFC9293-SHLD-2, RFC1122-4.2.2.12: data in an RST does not make it invalid, and is not delivered."""
    end = Endpoint.established()
    end.gets("R", data=b"why")
    end.expect_state(CLOSED)
    assert end.heard_of(EventKind.RESET)
    assert not end.events(EventKind.DATA)


def test_a_reset_counts_while_our_window_is_closed() -> None:
    """RFC9293-MUST-66: RST is processed even when the receive window is zero."""
    end = Endpoint.established(receive_window=2000)
    end.gets("A", size=1000)
    end.gets("A", size=1000)
    end.wait(400)
    assert end.drop_sent()[-1].segment.window == 0
    end.gets("R")
    end.expect_state(CLOSED)


def test_a_reset_needs_no_ack() -> None:
    """RFC9293-3.5.3-VALID: outside SYN-SENT an RST is judged by its sequence number alone."""
    end = Endpoint.established()
    end.send(1000)
    end.expect_data(1)
    end.gets("RA", ack=900_000)
    end.expect_state(CLOSED)


def test_challenges_are_throttled() -> None:
    """RFC5961-7-1, RFC5961-7-2.

    A flood of wrong RSTs does not draw an ACK each; later ones are answered again.
    """
    end = Endpoint.established()
    for _ in range(1000):
        end.gets("R", seq=500)
    assert 1 <= len(end.drop_sent()) <= 100
    end.gets("A", size=1)
    end.wait(10_000)
    end.drop_sent()
    end.gets("R", seq=500)
    end.expect_ack(2)


def test_a_reset_at_rcv_nxt_counts_while_segments_are_held() -> None:
    """RFC5961-3.2-2: RCV.NXT is what counts, not the end of what was received out of order."""
    end = Endpoint.established()
    end.gets("A", seq=1001, size=1000)
    end.expect_ack(1)
    end.gets("R", seq=2001)
    end.expect_ack(1)
    end.expect_state(ESTABLISHED)
    end.gets("R", seq=1)
    end.expect_state(CLOSED)
