"""SEGMENT ARRIVES, fifth check: the ACK field (RFC 9293 3.10.7.4; RFC 5961 section 5)."""

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
    incoming,
)


@pytest.mark.parametrize("state", SYNCHRONIZED)
def test_a_segment_without_ack_is_dropped(state: TcpOffloadConnectionState) -> None:
    """RFC9293-3.10.7.4-ACK-1: not even its text or its FIN counts."""
    end = Endpoint.in_state(state)
    expected = end.remote_next
    end.gets("F", data=b"x" * 100)
    end.wait(1000 if state in (ESTABLISHED, FIN_WAIT_2, CLOSE_WAIT, TIME_WAIT) else 500)
    end.expect_nothing()
    end.expect_state(state)
    assert end.rcv_nxt == expected
    assert end.machine.available == 0


@pytest.mark.parametrize("state", [ESTABLISHED, CLOSE_WAIT])
def test_an_ack_of_new_data_releases_it(state: TcpOffloadConnectionState) -> None:
    """RFC9293-3.10.7.4-ACK-EST-1, RFC9293-3.10.7.4-ACK-CLOSE-WAIT.

    SND.UNA moves, the user is told how far.
    """
    end = Endpoint.in_state(state)
    end.send(3000)
    end.expect_data(1, 1001, 2001)
    end.gets("A", ack=2001)
    assert end.snd_una == 2001
    assert sum(event.value for event in end.events(EventKind.SENT)) == 2000
    assert end.machine.queued == 1000
    end.gets("A", ack=3001)
    assert sum(event.value for event in end.events(EventKind.SENT)) == 1000
    assert end.machine.queued == 0


def test_an_ack_may_end_inside_a_segment() -> None:
    """RFC9293-3.10.7.4-ACK-EST-1: half a segment acknowledged leaves the other half to be retransmitted."""
    end = Endpoint.established()
    end.send(1000)
    end.expect_data(1)
    end.gets("A", ack=401)
    end.wait(1000)
    end.expect("A", seq=401, length=600)


def test_a_duplicate_ack_changes_nothing() -> None:
    """RFC9293-3.10.7.4-ACK-EST-2: SEG.ACK =< SND.UNA is ignored, the segment's data is not."""
    end = Endpoint.established()
    end.send(2000)
    end.expect_data(1, 1001)
    end.gets("A", ack=2001)
    end.gets("A", ack=1001, size=10)
    assert end.snd_una == 2001
    assert end.read() == incoming(0, 10)


@pytest.mark.parametrize("state", SYNCHRONIZED)
def test_an_ack_of_something_not_sent_is_answered_and_dropped(state: TcpOffloadConnectionState) -> None:
    """RFC9293-3.10.7.4-ACK-EST-3, RFC5961-5.2-1, RFC5961-5.2-2.

    <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK> goes back.
    """
    end = Endpoint.in_state(state)
    expected, seq = end.remote_next, end.seen
    end.gets("A", ack=seq + 1, data=b"x")
    end.expect_ack(expected, seq=seq)
    end.expect_nothing()
    end.expect_state(state)
    assert end.rcv_nxt == expected
    assert end.machine.available == 0


def test_an_ack_far_below_snd_una_is_answered_and_dropped() -> None:
    """RFC5961-5.2-1, RFC5961-5.2-2, RFC9293-MAY-12, RFC9293-3.10.7.4-ACK-2.

    Older than SND.UNA - MAX.SND.WND.
    """
    end = Endpoint.established(send_window=5000)
    end.gets("A", ack=1 - 5001, size=100)
    end.expect_ack(1)
    end.expect_nothing()
    assert end.machine.available == 0
    assert end.rcv_nxt == 1


def test_an_ack_just_within_the_largest_window_counts() -> None:
    """RFC5961-5.2-1, RFC5961-5.2-3.

    SND.UNA - MAX.SND.WND itself is acceptable, whatever the window is now.
    """
    end = Endpoint.established(send_window=5000)
    end.gets("A", window=100)
    end.gets("A", ack=1 - 5000, size=100)
    assert end.read() == incoming(0, 100)


def test_a_window_update_is_taken_from_newer_segments() -> None:
    """RFC9293-3.10.7.4-ACK-EST-4: SND.WL1 < SEG.SEQ."""
    end = Endpoint.established(send_window=2000)
    end.gets("A", size=10, window=5000)
    assert end.delegated.snd_wnd == 5000
    end.gets("A", size=10, window=3000)
    assert end.delegated.snd_wnd == 3000


def test_a_window_update_is_taken_from_a_newer_ack_at_the_same_sequence_number() -> None:
    """RFC9293-3.10.7.4-ACK-EST-4: SND.WL1 = SEG.SEQ and SND.WL2 =< SEG.ACK."""
    end = Endpoint.established(send_window=2000)
    end.gets("A", window=5000)
    assert end.delegated.snd_wnd == 5000
    end.send(1000)
    end.gets("A", window=4000, ack=1001)
    assert end.delegated.snd_wnd == 4000


def test_an_old_segment_updates_no_window() -> None:
    """RFC9293-3.10.7.4-ACK-EST-5: neither an older SEG.SEQ nor an older SEG.ACK."""
    end = Endpoint.established(send_window=20_000)
    end.send(2000)
    end.gets("A", ack=1001, seq=1, size=100, window=30_000)
    end.gets("A", ack=2001, seq=101, size=100, window=40_000)
    assert end.delegated.snd_wnd == 40_000
    end.gets("A", ack=1001, seq=101, size=100, window=100)
    end.gets("A", ack=2001, seq=51, size=100, window=200)
    assert end.delegated.snd_wnd == 40_000


def test_the_window_counts_from_snd_una() -> None:
    """RFC9293-3.10.7.4-ACK-EST-6: SND.WND is an offset from SND.UNA."""
    end = Endpoint.established(c_wnd=50_000)
    end.send(10_000)
    end.drop_sent()
    end.send(10_000)
    end.drop_sent()
    end.gets("A", ack=5001, window=18_000)
    end.send(10_000)
    end.expect_data(20_001, 21_001, 22_001)
    end.expect_nothing()


def test_fin_wait_1_until_our_fin_is_acknowledged() -> None:
    """RFC9293-3.10.7.4-ACK-FIN-WAIT-1: an ACK of the data alone does not do."""
    end = Endpoint.established()
    end.send(1000)
    end.shutdown()
    end.drop_sent()
    end.expect_state(FIN_WAIT_1)
    end.gets("A", ack=1001)
    end.expect_state(FIN_WAIT_1)
    end.gets("A", ack=1002)
    end.expect_state(FIN_WAIT_2)


def test_fin_wait_2_still_receives() -> None:
    """RFC9293-3.10.7.4-ACK-FIN-WAIT-2, RFC9293-3.6.1-HALF: the TCB stays, data still comes in."""
    end = Endpoint.in_state(FIN_WAIT_2)
    end.gets("A", size=1000)
    end.gets("A", size=1000)
    end.expect_ack(2001, seq=2)
    assert end.read() == incoming(0, 2000)
    end.expect_state(FIN_WAIT_2)


def test_closing_until_our_fin_is_acknowledged() -> None:
    """RFC9293-3.10.7.4-ACK-CLOSING: then TIME-WAIT, anything else is ignored."""
    end = Endpoint.in_state(CLOSING)
    end.gets("A", ack=1)
    end.expect_state(CLOSING)
    end.gets("A", ack=2)
    end.expect_state(TIME_WAIT)


def test_last_ack_ends_with_the_ack_of_our_fin() -> None:
    """RFC9293-3.10.7.4-ACK-LAST-ACK: CLOSED, and nothing follows."""
    end = Endpoint.in_state(LAST_ACK)
    end.gets("A", ack=1)
    end.expect_state(LAST_ACK)
    end.drop_sent()
    end.gets("A", ack=2)
    end.expect_state(CLOSED)
    assert end.heard_of(EventKind.CLOSED)
    end.wait(200_000)
    end.expect_nothing()


def test_the_users_close_is_acknowledged_by_all_of_it_being_acknowledged() -> None:
    """RFC9293-3.10.7.4-ACK-FIN-WAIT-2: the bytes before the FIN are reported, the FIN itself is no byte."""
    end = Endpoint.established()
    end.send(1000)
    end.shutdown()
    end.drop_sent()
    end.gets("A", ack=1002)
    assert sum(event.value for event in end.events(EventKind.SENT)) == 1000
    assert end.machine.queued == 0
