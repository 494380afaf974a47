"""Text, urgent pointer and FIN of arriving segments (RFC 9293 3.10.7.4, sixth to eighth)."""

from __future__ import annotations

from ndisbus.net.segment import FIN, Segment
from ndisbus.tcp.connection import TcpConnection
from ndisbus.tcp.ending import note, progress, time_wait
from ndisbus.tcp.events import EventKind, TcpEvent
from ndisbus.tcp.reassembly import OutOfOrder
from ndisbus.tcp.states import CLOSE_WAIT, CLOSING, ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, SYN_RCVD

__all__ = ["syn_text", "take", "take_gaps", "urgent"]


def take(m: TcpConnection, segment: Segment, rel: int, now: int) -> None:
    """Take text and FIN of an acceptable segment. ``rel``: its beginning, counted from RcvNxt."""
    d = m.delegated
    state = d.state
    if state is not ESTABLISHED and state is not FIN_WAIT_1 and state is not FIN_WAIT_2:
        return  # the remote end has already sent its FIN
    payload = segment.payload
    fin = segment.flags & FIN
    if rel < 0:
        m.ack_clock.owe()  # all or part of it was received before
        if rel + len(payload) + fin <= 0:
            return
        payload = payload[-rel:]
        rel = 0
    room = d.rcv_wnd - rel
    if len(payload) + fin > room:
        payload = payload[: max(room, 0)]
        fin = 0
        m.ack_clock.owe()
    size = len(payload)
    if not size and not fin:
        return
    if rel == 0 and m.gaps is None:
        progress(m, now)
        if size:
            _deliver(m, payload)
            m.ack_clock.data_taken(now)
        if fin:
            _fin(m, now)
        return
    # Out of order, or it fills a gap: ACK at once (RFC 5681 4.2).
    m.ack_clock.owe()
    if m.gaps is None:
        m.gaps = OutOfOrder()
    seq = (d.rcv_nxt + rel) & 0xFFFFFFFF
    if m.gaps.insert(seq, payload, bool(fin), d.rcv_nxt, (d.rcv_nxt + d.rcv_wnd) & 0xFFFFFFFF) or not rel:
        progress(m, now)
    if rel == 0:
        before = d.rcv_nxt
        take_gaps(m, now)
        if size and d.rcv_nxt == before:
            # The store had no room for it, but in-order data needs no store.
            _deliver(m, payload)
            take_gaps(m, now)


def take_gaps(m: TcpConnection, now: int) -> None:
    """Deliver the data that is in order now."""
    gaps = m.gaps
    if gaps is None:
        return
    pieces, fin = gaps.take(m.delegated.rcv_nxt)
    for piece in pieces:
        _deliver(m, piece)
    if not gaps:
        m.gaps = None
    if pieces or fin:
        m.ack_clock.owe()
    if fin:
        _fin(m, now)


def _deliver(m: TcpConnection, payload: bytes | memoryview) -> None:
    d = m.delegated
    size = len(payload)
    d.rcv_nxt = (d.rcv_nxt + size) & 0xFFFFFFFF
    d.rcv_wnd -= size
    m.received.append(payload)
    note(m, EventKind.DATA, size)


def _fin(m: TcpConnection, now: int) -> None:
    d = m.delegated
    d.rcv_nxt = (d.rcv_nxt + 1) & 0xFFFFFFFF
    if d.rcv_wnd:
        d.rcv_wnd -= 1
    m.gaps = None
    m.ack_clock.owe()
    m.events.append(TcpEvent(EventKind.FIN))
    state = d.state
    if state is ESTABLISHED or state is SYN_RCVD:
        d.state = CLOSE_WAIT
    elif state is FIN_WAIT_1:
        d.state = CLOSING
    elif state is FIN_WAIT_2:
        time_wait(m, now)


def syn_text(m: TcpConnection, segment: Segment, now: int) -> None:
    """Take data and FIN of a SYN: at once if the SYN established the connection, otherwise keep them."""
    payload = segment.payload
    fin = segment.flags & FIN
    if not payload and not fin:
        return
    d = m.delegated
    if d.state is SYN_RCVD:
        m.gaps = OutOfOrder()
        room = max(m.cached.initial_rcv_wnd - len(m.received), 0)
        m.gaps.insert(d.rcv_nxt, payload, bool(fin), d.rcv_nxt, (d.rcv_nxt + room) & 0xFFFFFFFF)
        if not m.gaps:
            m.gaps = None
    else:
        take(m, segment, 0, now)


def urgent(m: TcpConnection, segment: Segment) -> None:
    """Tell the user of urgent data ahead (RCV.UP, RFC 9293 3.10.7.4 sixth). The data stays in line (RFC
    6093).

    The pointer leads to the byte behind the urgent data.
    """
    d = m.delegated
    if d.state is not ESTABLISHED and d.state is not FIN_WAIT_1 and d.state is not FIN_WAIT_2:
        return
    up = (segment.seq + segment.urgent) & 0xFFFFFFFF
    ahead = (up - d.rcv_nxt) & 0xFFFFFFFF
    if not 0 < ahead < 0x80000000:
        return
    if m.rcv_up is not None and (m.rcv_up - up) & 0xFFFFFFFF < 0x80000000:
        return  # known already
    m.rcv_up = up
    m.events.append(TcpEvent(EventKind.URGENT, len(m.received) + ahead))
