"""CWnd, SsThresh and DupAckCount by RFC 5681, RFC 6582 and RFC 3042."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndisbus.state.tcp import TcpOffloadStateDelegated
from ndisbus.tcp import congestion

MSS = 1000


def state(c_wnd: int, ss_thresh: int = congestion.MAX_CWND, dup: int = 0) -> TcpOffloadStateDelegated:
    return TcpOffloadStateDelegated(c_wnd=c_wnd, ss_thresh=ss_thresh, dup_ack_count=dup)


@pytest.mark.parametrize(
    ("mss", "segments"), [(536, 4), (1095, 4), (1096, 3), (1460, 3), (2190, 3), (8960, 2)]
)
def test_initial_window(mss: int, segments: int) -> None:
    """RFC 5681 3.1, equation (1)."""
    assert congestion.initial_window(mss) == segments * mss
    d = state(0, 0, 7)
    congestion.start(d, mss)
    assert (d.c_wnd, d.ss_thresh, d.dup_ack_count) == (segments * mss, congestion.MAX_CWND, 0)


def test_a_lost_syn_means_one_segment() -> None:
    """RFC 5681 3.1."""
    d = state(0)
    congestion.start(d, MSS, syn_lost=True)
    assert d.c_wnd == MSS


@settings(deadline=None)
@given(st.integers(1, 5 * MSS), st.integers(MSS, 100 * MSS))
def test_slow_start_grows_by_what_is_acknowledged_but_at_most_a_segment(acked: int, c_wnd: int) -> None:
    """RFC 5681 3.1, equation (2): tiny ACKs gain nothing."""
    d = state(c_wnd)
    congestion.on_ack(d, acked, MSS)
    assert d.c_wnd == c_wnd + min(acked, MSS)


def test_slow_start_doubles_in_a_round_trip_and_ends_at_ss_thresh() -> None:
    d = state(4 * MSS, 16 * MSS)
    for expected in (8 * MSS, 16 * MSS):
        for _ in range(d.c_wnd // MSS):
            congestion.on_ack(d, MSS, MSS)
        assert d.c_wnd == expected
    congestion.on_ack(d, MSS, MSS)
    assert d.c_wnd < 17 * MSS


@settings(deadline=None)
@given(st.integers(2, 200), st.integers(100, 2 * MSS))
def test_avoidance_adds_a_segment_in_a_round_trip(segments: int, acked: int) -> None:
    """RFC 5681 3.1: at most SMSS per round trip, however many bytes each ACK covers."""
    window = segments * MSS
    d = state(window, 2 * MSS)
    left = window
    while left > 0:
        congestion.on_ack(d, min(acked, left), MSS)
        left -= acked
    acks = -(-window // acked)
    assert window + MSS * 0.5 - acks <= d.c_wnd <= window + MSS + acks


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 2**31), st.integers(0, 2**30), st.integers(1, 65535))
def test_no_window_outgrows_what_scaling_allows(flight: int, acked: int, c_wnd: int, mss: int) -> None:
    d = state(max(c_wnd, mss), c_wnd // 2)
    congestion.on_ack(d, acked, mss)
    assert mss <= d.c_wnd <= congestion.MAX_CWND
    congestion.dup_ack(d, mss)
    assert mss <= d.c_wnd <= congestion.MAX_CWND
    congestion.partial_ack(d, acked, mss)
    assert mss <= d.c_wnd <= congestion.MAX_CWND
    congestion.enter_recovery(d, min(flight, congestion.MAX_CWND), mss)
    congestion.full_ack(d, flight, mss)
    assert mss <= d.c_wnd <= max(congestion.MAX_CWND, 2 * mss)
    d.pack()


def test_fast_retransmit_and_fast_recovery() -> None:
    """RFC 5681 3.2 and RFC 6582 3.2: halve, inflate by three, inflate, deflate, end."""
    d = state(20 * MSS, dup=3)
    congestion.enter_recovery(d, 20 * MSS, MSS)
    assert (d.c_wnd, d.ss_thresh) == (13 * MSS, 10 * MSS)
    congestion.dup_ack(d, MSS)
    assert d.c_wnd == 14 * MSS
    congestion.partial_ack(d, 3 * MSS, MSS)
    assert d.c_wnd == 12 * MSS
    congestion.partial_ack(d, MSS // 2, MSS)
    assert d.c_wnd == 12 * MSS - MSS // 2
    congestion.full_ack(d, 4 * MSS, MSS)
    assert (d.c_wnd, d.dup_ack_count) == (5 * MSS, 0)
    d.c_wnd = 15 * MSS
    congestion.full_ack(d, 30 * MSS, MSS)
    assert d.c_wnd == 10 * MSS


def test_with_sack_the_window_is_not_inflated() -> None:
    """RFC 6675 5 (4.2): SsThresh = CWnd = FlightSize / 2."""
    d = state(20 * MSS)
    congestion.enter_recovery(d, 20 * MSS, MSS, sack=True)
    assert d.c_wnd == d.ss_thresh == 10 * MSS


def test_ss_thresh_is_at_least_two_segments() -> None:
    """RFC 5681 3.1, equation (4)."""
    d = state(2 * MSS)
    congestion.enter_recovery(d, MSS, MSS)
    assert d.ss_thresh == 2 * MSS


def test_timeout() -> None:
    """RFC 5681 3.1: loss window of one segment; SsThresh holds while it times out again."""
    d = state(20 * MSS, dup=5)
    congestion.on_timeout(d, 20 * MSS, MSS)
    assert (d.c_wnd, d.ss_thresh, d.dup_ack_count) == (MSS, 10 * MSS, 0)
    congestion.on_timeout(d, MSS, MSS, again=True)
    assert (d.c_wnd, d.ss_thresh) == (MSS, 10 * MSS)


def test_restart_after_idle() -> None:
    """RFC 5681 4.1: RW = min(IW, cwnd)."""
    d = state(100 * MSS)
    congestion.after_idle(d, MSS)
    assert d.c_wnd == congestion.initial_window(MSS)
    d.c_wnd = 2 * MSS
    congestion.after_idle(d, MSS)
    assert d.c_wnd == 2 * MSS


def test_limited_transmit() -> None:
    """RFC 3042: a segment for each of the first two duplicate ACKs, none once recovery begins."""
    allowed = [congestion.limited_transmit(state(0, dup=n), MSS, 3) for n in range(5)]
    assert allowed == [0, MSS, 2 * MSS, 0, 0]
    assert [congestion.limited_transmit(state(0, dup=n), MSS, 5) for n in range(6)] == [
        0,
        MSS,
        2 * MSS,
        2 * MSS,
        2 * MSS,
        0,
    ]
