"""Congestion control without SACK: RFC 5681, limited transmit: RFC 3042."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.ndisbus.tcp.conformance.ladder import Endpoint

SMSS = 1000


def in_flight(segments: int, **options: Any) -> Endpoint:
    """So many full segments are outstanding and CWnd is full; more is queued."""
    end = Endpoint.established(c_wnd=segments * SMSS, **options)
    end.send(60_000)
    end.expect_data(*range(1, segments * SMSS, SMSS))
    end.expect_nothing()
    return end


def test_slow_start_adds_a_segment_per_ack() -> None:
    """RFC5681-3.1-SS, RFC9293-MUST-19: while CWND is below SSTHRESH, by at most SMSS per ACK of new data.

    R-RFC-01, R-RFC-02: slow start, RFC 2581.
    """
    end = in_flight(2)
    end.gets("A", ack=1001)
    assert end.delegated.c_wnd == 3 * SMSS
    end.expect_data(2001, 3001)
    end.expect_nothing()
    end.gets("A", ack=2001)
    assert end.delegated.c_wnd == 4 * SMSS


def test_slow_start_counts_bytes_not_acks() -> None:
    """RFC5681-3.1-SS: min(N, SMSS): many ACKs of little data are worth what they acknowledge."""
    end = in_flight(2)
    for ack in range(101, 1002, 100):
        end.gets("A", ack=ack)
    assert end.delegated.c_wnd == 3 * SMSS


def test_slow_start_adds_no_more_than_a_segment_for_a_large_ack() -> None:
    """RFC5681-3.1-SS: the bound is SMSS also where one ACK covers many segments."""
    end = in_flight(8)
    end.gets("A", ack=8001)
    assert end.delegated.c_wnd <= 9 * SMSS


def test_congestion_avoidance_adds_a_segment_per_round_trip() -> None:
    """RFC5681-3.1-CA, RFC9293-MUST-19: at SSTHRESH and above, about SMSS per window and never more.

    R-RFC-01, R-RFC-02: congestion avoidance, RFC 2581.
    """
    end = in_flight(10, ss_thresh=10 * SMSS)
    for number in range(10):
        end.gets("A", ack=1001 + number * SMSS)
    assert 10 * SMSS + SMSS // 2 <= end.delegated.c_wnd <= 11 * SMSS


def test_congestion_avoidance_with_an_ack_per_two_segments() -> None:
    """RFC5681-3.1-CA: delayed ACKs do not make it grow faster either."""
    end = in_flight(10, ss_thresh=10 * SMSS)
    for number in range(5):
        end.gets("A", ack=2001 + number * 2 * SMSS)
    assert end.delegated.c_wnd <= 11 * SMSS


def test_congestion_avoidance_does_grow() -> None:
    """RFC5681-3.1-CA: a formula that yields 0 is rounded up to a byte."""
    end = Endpoint.established(c_wnd=50_000, ss_thresh=10_000)
    end.send(1)
    end.gets("A")
    assert end.delegated.c_wnd > 50_000


def test_a_timeout_makes_the_loss_window() -> None:
    """RFC5681-3.1-LW, RFC5681-3.1-SSTHRESH, RFC9293-MUST-19.

    CWND = one segment, SSTHRESH = half the flight.
    """
    end = in_flight(8)
    end.wait(1000)
    assert end.delegated.c_wnd == SMSS
    assert end.delegated.ss_thresh == 4 * SMSS
    end.expect_data(1)
    end.expect_nothing()


def test_ssthresh_is_two_segments_at_least() -> None:
    """RFC5681-3.1-SSTHRESH: max(FlightSize / 2, 2*SMSS)."""
    end = Endpoint.established()
    end.send(1000)
    end.wait(1000)
    assert end.delegated.ss_thresh == 2 * SMSS


def test_ssthresh_comes_from_flight_size_not_cwnd() -> None:
    """RFC5681-3.1-SSTHRESH: an application that sends little has no claim to half of a large CWND."""
    end = Endpoint.established(c_wnd=50_000)
    end.send(8000)
    end.wait(1000)
    assert end.delegated.ss_thresh == 4 * SMSS


def test_ssthresh_is_held_when_a_retransmission_times_out() -> None:
    """RFC5681-3.1-HELD: the second timeout of the same segment says nothing new."""
    end = in_flight(8)
    end.wait(1000)
    end.wait(2000)
    assert end.delegated.ss_thresh == 4 * SMSS
    assert end.delegated.c_wnd == SMSS


def test_after_a_timeout_slow_start_runs_to_ssthresh() -> None:
    """RFC5681-3.1-AFTER: from one segment, and what was outstanding is sent again as ACKs permit."""
    end = in_flight(8)
    end.wait(1000)
    end.expect_data(1)
    end.gets("A", ack=1001)
    assert end.delegated.c_wnd == 2 * SMSS
    end.expect_data(1001, 2001)
    end.expect_nothing()


def test_fast_retransmit_with_the_third_duplicate() -> None:
    """RFC5681-3.2-FR, RFC5681-3.2-2, RFC5681-3.2-3: SND.UNA at once, SSTHRESH halved, CWND = SSTHRESH + 3.

    R-RFC-01, R-RFC-02: fast retransmit, RFC 2581.
    """
    end = in_flight(8)
    end.gets("A", ack=1)
    end.gets("A", ack=1)
    end.drop_sent()  # limited transmit
    end.gets("A", ack=1)
    end.expect_data(1)
    end.expect_nothing()
    assert end.delegated.ss_thresh == 4 * SMSS  # limited transmit's segments are not counted
    assert end.delegated.c_wnd == 4 * SMSS + 3 * SMSS


def test_no_retransmission_with_the_second_duplicate() -> None:
    """RFC5681-3.2-FR: two may come from reordering."""
    end = in_flight(8)
    end.gets("A", ack=1)
    end.gets("A", ack=1)
    assert all(end.relative_out(sent.segment.seq) > 1 for sent in end.sent)


def test_the_threshold_is_the_parameter() -> None:
    """RFC5681-3.2-FR: TcpDuplicateAckThreshold, 3 by default."""
    end = in_flight(8, parameters={"tcp_duplicate_ack_threshold": 5})
    for _ in range(4):
        end.gets("A", ack=1)
        assert all(end.relative_out(sent.segment.seq) > 1 for sent in end.drop_sent())
    end.gets("A", ack=1)
    end.expect_data(1)


def test_each_further_duplicate_inflates_the_window() -> None:
    """RFC5681-3.2-4, RFC5681-3.2-5: by SMSS; new data goes out once CWND covers it."""
    end = in_flight(8)
    for _ in range(3):
        end.gets("A", ack=1)
    end.drop_sent()
    outstanding = end.in_flight
    assert outstanding == 10 * SMSS  # with limited transmit's two
    for number in range(1, 4):
        end.gets("A", ack=1)
        assert end.delegated.c_wnd == (7 + number) * SMSS
        end.expect_nothing()
    end.gets("A", ack=1)
    end.expect_data(10_001)
    end.gets("A", ack=1)
    end.expect_data(11_001)


def test_the_window_is_deflated_by_the_ack_of_new_data() -> None:
    """RFC5681-3.2-6: CWND = SSTHRESH at most, and recovery is over."""
    end = in_flight(8)
    for _ in range(5):
        end.gets("A", ack=1)
    end.drop_sent()
    end.gets("A")  # all that was sent
    assert end.delegated.c_wnd <= end.delegated.ss_thresh == 4 * SMSS


@pytest.mark.parametrize(
    "change",
    [{"size": 1}, {"window": 50_000}, {"ack": 1001}],
    ids=["data", "window", "new"],
)
def test_what_is_no_duplicate_ack(change: dict[str, int]) -> None:
    """RFC5681-2-DUP: data, another window, or another number make it none."""
    end = in_flight(8)
    end.gets("A", ack=1)
    end.gets("A", ack=1)
    end.drop_sent()
    end.gets("A", **{"ack": 1, **change})
    assert not [s for s in end.drop_sent() if end.relative_out(s.segment.seq) < 8001 and s.segment.payload]


def test_only_duplicates_in_a_row_count() -> None:
    """RFC5681-3.2-FR, RFC5681-2-DUP: an ACK of new data in between starts the count again."""
    end = in_flight(8)
    end.gets("A", ack=1)
    end.gets("A", ack=1)
    end.gets("A", ack=1001)
    end.drop_sent()
    end.gets("A", ack=1001)
    end.gets("A", ack=1001)
    assert not [s for s in end.drop_sent() if end.relative_out(s.segment.seq) == 1001]
    end.gets("A", ack=1001)
    end.expect_data(1001)


def test_duplicates_without_anything_outstanding_are_none() -> None:
    """RFC5681-2-DUP: (a) the receiver of the ACK has outstanding data."""
    end = Endpoint.established()
    for _ in range(10):
        end.gets("A", ack=1)
    end.expect_nothing()
    assert end.delegated.c_wnd == 10_000


def test_limited_transmit_sends_new_data_for_two_duplicates() -> None:
    """RFC3042-2-SEND, RFC5681-3.2-1, RFC3042-2-CWND: one segment each, CWND is not changed.

    R-RFC-05: limited transmit.
    """
    end = in_flight(4)
    end.gets("A", ack=1)
    end.expect_data(4001)
    end.expect_nothing()
    end.gets("A", ack=1)
    end.expect_data(5001)
    end.expect_nothing()
    assert end.delegated.c_wnd == 4 * SMSS


def test_limited_transmit_keeps_to_the_receivers_window() -> None:
    """RFC3042-2-RWND: no new segment if the remote end's window does not take it."""
    end = in_flight(4, send_window=4000)
    end.gets("A", ack=1)
    end.gets("A", ack=1)
    end.expect_nothing()


def test_limited_transmit_needs_new_data() -> None:
    """RFC3042-2-UNSENT: nothing old is sent for the first two duplicates."""
    end = Endpoint.established(c_wnd=4000)
    end.send(4000)
    end.drop_sent()
    end.gets("A", ack=1)
    end.gets("A", ack=1)
    end.expect_nothing()


def test_after_idling_the_window_is_the_restart_window() -> None:
    """RFC5681-4.1-IDLE: more than an RTO without sending: CWND is no larger than the initial window."""
    end = Endpoint.established(c_wnd=40_000)
    end.send(1000)
    end.gets("A")
    end.wait(5000)
    end.drop_sent()
    end.send(30_000)
    assert len(end.drop_sent()) == 4  # IW for an SMSS of 1000


def test_no_restart_within_an_rto() -> None:
    """RFC5681-4.1-IDLE: a shorter pause costs nothing."""
    end = Endpoint.established(c_wnd=20_000)
    end.send(1000)
    end.gets("A")
    end.wait(900)
    end.drop_sent()
    end.send(30_000)
    assert len(end.drop_sent()) >= 20


def test_the_loss_of_a_retransmission_lowers_the_window_again() -> None:
    """RFC5681-4.3-TWICE: two losses of the same window, two reductions."""
    end = in_flight(16)
    for _ in range(3):
        end.gets("A", ack=1)
    end.drop_sent()
    assert end.delegated.ss_thresh == 8 * SMSS
    end.wait(1000)
    assert end.delegated.c_wnd == SMSS
    assert end.delegated.ss_thresh <= 9 * SMSS


def test_the_receivers_window_bounds_the_sender() -> None:
    """RFC5681-2-LIMIT: the minimum of CWND and RWND."""
    end = Endpoint.established(c_wnd=50_000, send_window=5000)
    end.send(60_000)
    assert sum(len(s.segment.payload) for s in end.drop_sent()) == 5000
