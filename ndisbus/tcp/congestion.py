"""Congestion control, RFC 5681 and RFC 6582 (NewReno), on CWnd, SsThresh and DupAckCount. All in bytes.

``flight``: bytes outstanding, SndMax - SndUna. ``mss``: SMSS, what one full segment carries. With SACK,
RFC 6675's pipe governs recovery, so CWnd is neither inflated nor deflated: pass ``sack=True``.
"""

from __future__ import annotations

from typing import Final

from ndisbus.state.tcp import TcpOffloadStateDelegated

__all__ = [
    "MAX_CWND",
    "after_idle",
    "dup_ack",
    "enter_recovery",
    "full_ack",
    "initial_window",
    "limited_transmit",
    "on_ack",
    "on_timeout",
    "partial_ack",
    "start",
]

MAX_CWND: Final = 1 << 30
"""The largest window that scaling allows (RFC 7323 2.3). A larger CWnd has no meaning."""


def initial_window(mss: int) -> int:
    """Return IW of RFC 5681 3.1 in bytes: two to four segments."""
    if mss > 2190:
        return 2 * mss
    return 3 * mss if mss > 1095 else 4 * mss


def start(delegated: TcpOffloadStateDelegated, mss: int, *, syn_lost: bool = False) -> None:
    """Set CWnd and SsThresh of a new connection. One segment if a SYN or its ACK was lost (RFC 5681 3.1)."""
    delegated.c_wnd = mss if syn_lost else initial_window(mss)
    delegated.ss_thresh = MAX_CWND
    delegated.dup_ack_count = 0


def on_ack(delegated: TcpOffloadStateDelegated, acked: int, mss: int) -> None:
    """Grow CWnd for ``acked`` new bytes outside recovery: slow start or congestion avoidance."""
    c_wnd = delegated.c_wnd
    if c_wnd < delegated.ss_thresh:
        c_wnd += acked if acked < mss else mss
    else:
        # One segment per window of acknowledged bytes, counted in bytes: no extra counter is needed.
        c_wnd += (mss * (acked if acked < c_wnd else c_wnd)) // c_wnd or 1
    delegated.c_wnd = c_wnd if c_wnd < MAX_CWND else MAX_CWND


def _halve(flight: int, mss: int) -> int:
    """Return SsThresh after a loss, RFC 5681 (4)."""
    half = flight >> 1
    return half if half > 2 * mss else 2 * mss


def enter_recovery(delegated: TcpOffloadStateDelegated, flight: int, mss: int, *, sack: bool = False) -> None:
    """Start fast retransmit at the duplicate ACK threshold: RFC 6582 3.2 step 2 or RFC 6675 5 (4.2)."""
    delegated.ss_thresh = half = _halve(flight, mss)
    delegated.c_wnd = half if sack else half + 3 * mss


def dup_ack(delegated: TcpOffloadStateDelegated, mss: int) -> None:
    """Grow CWnd for one more duplicate ACK in recovery without SACK: a segment has left the network."""
    c_wnd = delegated.c_wnd + mss
    delegated.c_wnd = c_wnd if c_wnd < MAX_CWND else MAX_CWND


def partial_ack(delegated: TcpOffloadStateDelegated, acked: int, mss: int) -> None:
    """Shrink CWnd for an ACK that does not end recovery, without SACK: RFC 6582 3.2 step 3."""
    c_wnd = delegated.c_wnd - acked
    if acked >= mss:
        c_wnd += mss
    delegated.c_wnd = c_wnd if c_wnd > mss else mss


def full_ack(delegated: TcpOffloadStateDelegated, flight: int, mss: int) -> None:
    """End recovery: set CWnd as RFC 6582 3.2 step 3 (1) does to prevent a burst.

    ``flight``: bytes outstanding after this ACK.
    """
    window = (flight if flight > mss else mss) + mss
    delegated.c_wnd = window if window < delegated.ss_thresh else delegated.ss_thresh
    delegated.dup_ack_count = 0


def on_timeout(
    delegated: TcpOffloadStateDelegated,
    flight: int,
    mss: int,
    *,
    again: bool = False,
    recovering: bool = False,
) -> None:
    """Set CWnd to one segment after the retransmission timer expired: RFC 5681 3.1.

    ``flight``: bytes outstanding that the remote end is not known to hold. ``again``: the timer has
    retransmitted this segment before, so SsThresh stays. ``recovering``: a fast retransmission was lost as
    well. That is another sign of congestion (RFC 5681 4.3), which never raises SsThresh.
    """
    if not again:
        half = _halve(flight, mss)
        if not recovering or half < delegated.ss_thresh:
            delegated.ss_thresh = half
    delegated.c_wnd = mss
    delegated.dup_ack_count = 0


def after_idle(delegated: TcpOffloadStateDelegated, mss: int) -> None:
    """Restart from RW = min(IW, CWnd) after nothing was sent for more than an RTO (RFC 5681 4.1)."""
    window = initial_window(mss)
    if delegated.c_wnd > window:
        delegated.c_wnd = window


def limited_transmit(delegated: TcpOffloadStateDelegated, mss: int, threshold: int) -> int:
    """Return the bytes of new data that may leave beyond CWnd for the first duplicate ACKs (RFC 3042)."""
    count = delegated.dup_ack_count
    return 0 if count >= threshold else (count if count < 2 else 2) * mss
