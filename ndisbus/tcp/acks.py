"""The ACK field and the window field of an arriving segment (RFC 9293 3.10.7.4 fifth, RFC 5961 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndisbus.net.segment import FIN, Segment
from ndisbus.tcp import challenge, congestion, persist, recovery, rtt, timers
from ndisbus.tcp.ending import close, note, progress
from ndisbus.tcp.events import EventKind
from ndisbus.tcp.states import CLOSING, FIN_WAIT_1, FIN_WAIT_2, LAST_ACK, OFF, PERSIST, RETRANSMIT
from ndisbus.tcp.timestamps import round_trip

if TYPE_CHECKING:
    from ndisbus.tcp.machine import TcpMachine

__all__ = ["acknowledge", "advance", "is_valid"]


def is_valid(m: TcpMachine, ack: int) -> bool:
    """SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.MAX, RFC 5961 5.2."""
    d = m.delegated
    first = d.snd_una - d.max_snd_wnd
    return (ack - first) & 0xFFFFFFFF <= (d.snd_max - first) & 0xFFFFFFFF


def acknowledge(m: TcpMachine, segment: Segment, rel: int, now: int) -> bool:
    """Act on the ACK and the window of an acceptable segment; False if it is to be dropped."""
    d = m.delegated
    una = d.snd_una
    ack = segment.ack
    acked = (ack - una) & 0xFFFFFFFF
    outstanding = (d.snd_max - una) & 0xFFFFFFFF
    if acked > outstanding:
        if not is_valid(m, ack):
            challenge.challenge_ack(m, now)
            return False
        return True  # an old ACK, overtaken by a newer one
    news = 0
    if m.sacking and (segment.sack or m.scoreboard is not None):
        news = recovery.report(m, segment)
    window = segment.window << m.snd_scale
    if acked:
        advance(m, segment, acked, now)
    elif outstanding:
        same = not segment.payload and not segment.flags & FIN and window == d.snd_wnd
        if news or (same and window and not m.sacking):
            recovery.duplicate(m, now)
    _window(m, segment, window, acked > 0, now)
    return True


def advance(m: TcpMachine, segment: Segment, acked: int, now: int) -> None:
    """``acked`` sequence numbers from SndUna on are acknowledged for the first time."""
    d = m.delegated
    ack = segment.ack
    data = len(m.sending)
    bytes_acked = acked if acked <= data else data
    _measure(m, segment, now)
    if d.dup_ack_count:
        recovery.acknowledged(m, ack, bytes_acked)
    elif d.c_wnd <= d.max_snd_wnd:
        # A CWnd beyond any window that the peer ever offered would mean nothing.
        congestion.on_ack(d, bytes_acked, m.mss)
    d.snd_una = ack
    # A retransmission that has become needless is skipped: SndNxt is never before SndUna.
    if (ack - d.snd_nxt) & 0xFFFFFFFF < 0x80000000:
        d.snd_nxt = ack
    if bytes_acked:
        m.sending.acked(bytes_acked)
        note(m, EventKind.SENT, bytes_acked)
    if m.timer[0] != PERSIST:
        # RFC 6298 (5.2), (5.3)
        d.retransmit_count = d.total_rt = 0
        m.timer = OFF if ack == d.snd_max else (RETRANSMIT, now + rtt.backed_off(d, m.settings, m.backoff))
    if m.progress_at != now:
        progress(m, now)
    if m.snd_up is not None and (ack - m.snd_up) & 0xFFFFFFFF < 0x80000000:
        m.snd_up = None
    if acked > bytes_acked:
        _fin_acknowledged(m, now)


def _measure(m: TcpMachine, segment: Segment, now: int) -> None:
    """One round trip sample per window: by timestamp, or of one segment sent once (Karn's algorithm)."""
    if not 0 < (segment.ack - m.rtt_seq) & 0xFFFFFFFF < 0x80000000:
        return
    d = m.delegated
    if 0 < (segment.ack - m.recover) & 0xFFFFFFFF < 0x80000000:
        # Passed: kept close behind, so that it never lies ahead again when the numbers come round.
        m.recover = (segment.ack - 1) & 0xFFFFFFFF
    if m.stamped:
        if segment.ts_val is not None:
            measured = round_trip(now, m.ts_delta, segment.ts_ecr)
            if 0 <= measured <= m.settings.rto_max:
                rtt.sample(d, measured)
                m.backoff = 0
        m.rtt_seq = (d.snd_max - 1) & 0xFFFFFFFF
    elif m.rtt_at >= 0:
        rtt.sample(d, now - m.rtt_at)
        m.rtt_at = -1
        m.backoff = 0


def _fin_acknowledged(m: TcpMachine, now: int) -> None:
    state = m.delegated.state
    if state is FIN_WAIT_1:
        m.delegated.state = FIN_WAIT_2
        timers.fin_wait_2(m, now)
    elif state is CLOSING:
        timers.time_wait(m, now)
    elif state is LAST_ACK:
        close(m)


def _window(m: TcpMachine, segment: Segment, window: int, newer: bool, now: int) -> None:
    """SND.WND from segments that are not older than the one it was last taken from.

    SND.WL2 is not kept: it never lies beyond SND.UNA, and ``segment`` acknowledges SND.UNA at least.
    ``newer``: it acknowledges more than any segment before. Then it is no old one even if its number is: the
    peer sends something again. With the old window its right edge would move on with SND.UNA.
    """
    d = m.delegated
    if (segment.seq - d.send_wl1) & 0xFFFFFFFF < 0x80000000:
        d.send_wl1 = segment.seq
    elif not newer:
        return
    before = d.snd_wnd
    if window != before:
        d.snd_wnd = window
        if window > d.max_snd_wnd:
            d.max_snd_wnd = window
    if window:
        if m.timer[0] == PERSIST:
            persist.end(m, now)
    else:
        persist.zero_window(m, now)
