"""The window that is offered to the remote end, and when it needs a segment (RFC 9293 3.8.6.2.2)."""

from __future__ import annotations

from ndisbus.tcp.connection import TcpConnection
from ndisbus.tcp.states import FIN_SEEN, SYN_RCVD, SYN_SENT

__all__ = ["offer", "room", "update_due"]


def room(m: TcpConnection) -> int:
    """Return the free bytes of the receive buffer from RCV.NXT on, as far as a window field can tell."""
    free = m.cached.initial_rcv_wnd - len(m.received)
    largest = 0xFFFF << m.rcv_scale
    return free if free < largest else largest


def offer(m: TcpConnection) -> int:
    """Return the window field of a segment that leaves now, and set RcvWnd to its value.

    The right edge never moves back. It moves forward only by a full segment or half the buffer, so that the
    remote end does not send small segments.
    """
    d = m.delegated
    window = d.rcv_wnd
    free = room(m)
    scale = m.rcv_scale
    gain = free - window
    if gain > 0 and (gain >= m.mss or 2 * gain >= m.cached.initial_rcv_wnd or m.ack_clock.window_owed):
        # Rounded down to a value of the field. That must not move the edge back.
        rounded = free >> scale << scale
        if rounded > window:
            d.rcv_wnd = window = rounded
    elif window & ((1 << scale) - 1):
        rounded = ((window >> scale) + 1) << scale
        if rounded <= free:
            d.rcv_wnd = window = rounded
    field = window >> scale
    return field if field < 0xFFFF else 0xFFFF


def update_due(m: TcpConnection, now: int) -> bool:
    """Return whether the user has read so much that the remote end must be told without asking.

    If the window is small and the gain too, the silly window timer offers it later (R-TMR-28).
    """
    d = m.delegated
    window = d.rcv_wnd
    initial = m.cached.initial_rcv_wnd
    gain = initial - len(m.received) - window
    if gain < m.mss and 2 * gain < initial and window >= m.mss:
        return False
    state = d.state
    if m.unscaled or state in FIN_SEEN or state is SYN_SENT or state is SYN_RCVD:
        return False
    gain = room(m) - window
    if gain < 1 << m.rcv_scale:
        return False
    if window >= m.mss:
        return gain >= 2 * m.mss or 2 * gain >= initial
    if gain >= m.mss or 2 * gain >= initial or m.ack_clock.window_owed:
        return True
    m.ack_clock.window_opened(now)
    return False
