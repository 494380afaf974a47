"""The ACK field and the window field of an arriving segment (RFC 9293 3.10.7.4 fifth)."""

from __future__ import annotations

from ndisbus.net.segment import FIN, Segment
from ndisbus.tcp.congestion import on_ack
from ndisbus.tcp.connection import TcpConnection
from ndisbus.tcp.ending import close, fin_wait_2, note, progress, time_wait
from ndisbus.tcp.events import EventKind
from ndisbus.tcp.states import CLOSING, FIN_OWED, FIN_WAIT_1, FIN_WAIT_2, LAST_ACK
from ndisbus.tcp.timestamps import round_trip

__all__ = ["acknowledge", "advance"]


def acknowledge(m: TcpConnection, segment: Segment, now: int) -> None:
    """Act on the ACK and the window of a segment that has passed all checks."""
    d = m.delegated
    una = d.snd_una
    acked = (segment.ack - una) & 0xFFFFFFFF
    outstanding = (d.snd_max - una) & 0xFFFFFFFF
    if acked > outstanding:
        return  # an old ACK that a newer one has overtaken
    reported = 0
    if m.sacking and (segment.sack or m.recovery.board is not None):
        reported = m.recovery.report(segment)
    window = segment.window << m.snd_scale
    if acked:
        advance(m, segment, acked, now)
        if reported:
            m.recovery.duplicate(m.mss)  # new SACK information makes it a duplicate, too (RFC 6675 2)
    elif outstanding:
        same = not segment.payload and not segment.flags & FIN and window == d.snd_wnd
        if reported or (same and window and not m.sacking):
            m.recovery.duplicate(m.mss)
    _window(m, segment, window, acked > 0, now)


def advance(m: TcpConnection, segment: Segment, acked: int, now: int) -> None:
    """Act on the first acknowledgement of ``acked`` sequence numbers from SndUna on."""
    d = m.delegated
    ack = segment.ack
    data = len(m.sending)
    bytes_acked = acked if acked <= data else data
    if 0 < (ack - m.rtt.segment) & 0xFFFFFFFF < 0x80000000:
        _measure(m, segment, now)
    if d.dup_ack_count:
        m.recovery.acknowledged(ack, bytes_acked, m.mss)
    elif d.c_wnd <= d.max_snd_wnd:
        # A CWnd above the largest window that the remote end ever offered has no meaning.
        on_ack(d, bytes_acked, m.mss)
    d.snd_una = ack
    # Skip a retransmission that is not needed any more: SndNxt is never before SndUna.
    if (ack - d.snd_nxt) & 0xFFFFFFFF < 0x80000000:
        d.snd_nxt = ack
    if bytes_acked:
        m.sending.acked(bytes_acked)
        note(m, EventKind.SENT, bytes_acked)
    m.timer.acknowledged(ack == d.snd_max, now)
    if m.progress_at != now:
        progress(m, now)
    if m.snd_up is not None and (ack - m.snd_up) & 0xFFFFFFFF < 0x80000000:
        m.snd_up = None
    if acked > bytes_acked:
        _fin_acknowledged(m, now)


def _measure(m: TcpConnection, segment: Segment, now: int) -> None:
    """Take a round trip sample from an ACK if it gives one: by timestamp, or of the timed segment."""
    rtt = m.rtt
    m.recovery.passed(segment.ack)
    if not m.stamped:
        if rtt.timed(now):
            m.timer.measured()
        return
    if segment.ts_val is not None and rtt.echoed(round_trip(now, m.timestamps.delta, segment.ts_ecr)):
        m.timer.measured()
    rtt.expect_after((m.delegated.snd_max - 1) & 0xFFFFFFFF)


def _fin_acknowledged(m: TcpConnection, now: int) -> None:
    state = m.delegated.state
    if state is FIN_WAIT_1:
        m.delegated.state = FIN_WAIT_2
        fin_wait_2(m, now)
    elif state is CLOSING:
        time_wait(m, now)
    elif state is LAST_ACK:
        close(m)


def _window(m: TcpConnection, segment: Segment, window: int, newer: bool, now: int) -> None:
    """Take SND.WND from segments that are not older than the one that it was last taken from.

    SND.WL2 is not kept: it is never beyond SND.UNA, and ``segment`` acknowledges at least SND.UNA. ``newer``:
    the segment acknowledges more than any segment before. Then it counts as new even if its number is old,
    because the remote end sends something again. With the old window, its right edge would move with SND.UNA.
    """
    d = m.delegated
    if (segment.seq - d.send_wl1) & 0xFFFFFFFF < 0x80000000:
        d.send_wl1 = segment.seq
    elif not newer:
        return
    if window != d.snd_wnd:
        d.snd_wnd = window
        if window > d.max_snd_wnd:
            d.max_snd_wnd = window
    if window:
        m.timer.window_opened(now)
    else:
        m.timer.zero_window(len(m.sending) > 0 or d.state in FIN_OWED, now)
