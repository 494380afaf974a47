"""SEGMENT ARRIVES (RFC 9293 3.10.7): what a segment does, and a short path for the usual one.

Nothing changes before the last check: verdict.py has the checks, in their order.
"""

from __future__ import annotations

from typing import Final

from ndisbus.ddi.tcp_enums import TcpUploadReason
from ndisbus.net.segment import FIN, SYN, URG, Segment
from ndisbus.state.tcp import TcpOffloadStateDelegated
from ndisbus.tcp import acks, challenge, handshake, text
from ndisbus.tcp.connection import TcpConnection
from ndisbus.tcp.ending import fin_wait_2, note, time_wait, upload
from ndisbus.tcp.events import EventKind
from ndisbus.tcp.sequence import seq_diff
from ndisbus.tcp.states import CLOSED, ESTABLISHED, FIN_WAIT_2, IDLE, LISTEN, SYN_RCVD, SYN_SENT
from ndisbus.tcp.verdict import Verdict, judge

__all__ = ["receive"]

_ACCEPTED: Final = Verdict.ACCEPTED


def receive(m: TcpConnection, segment: Segment, now: int) -> bool:
    """Handle an arriving segment: see TcpMachine.receive."""
    d = m.delegated
    state = d.state
    if (
        state is ESTABLISHED
        and segment.seq == d.rcv_nxt
        # ACK, with or without PSH, and no other flag of interest.
        and segment.flags & 0x37 == 0x10
        and _predicted(m, d, segment, now)
    ):
        return True
    if m.stopped or state is CLOSED or state is LISTEN:
        return False
    if state is SYN_SENT:
        handshake.syn_sent(m, segment, now)
        return False
    return _synchronized(m, segment, now)


def _predicted(m: TcpConnection, d: TcpOffloadStateDelegated, segment: Segment, now: int) -> bool:
    """Handle an in-order segment in ESTABLISHED if nothing about it or the connection is special.

    Does what _synchronized would do. Returns False, with nothing done, if the segment needs _synchronized.
    """
    window = segment.window << m.snd_scale
    if (
        not window
        or not d.snd_wnd
        or d.dup_ack_count
        or m.gaps is not None
        or segment.sack
        or m.recovery.board is not None
        or m.rcv_up is not None
        or m.stopped
    ):
        return False
    una = d.snd_una
    acked = (segment.ack - una) & 0xFFFFFFFF
    if acked > (d.snd_max - una) & 0xFFFFFFFF:
        return False
    payload = segment.payload
    size = len(payload)
    if size > d.rcv_wnd or not (size or acked):
        return False
    if m.stamped:
        ts_val = segment.ts_val
        if ts_val is None or (ts_val - d.ts_recent) & 0xFFFFFFFF >= 0x80000000:
            return False
        if segment.seq == m.ack_clock.last:
            m.timestamps.take(ts_val, now)
    keepalive = m.keepalive
    if keepalive is not None and keepalive.kind != IDLE:
        keepalive.heard(now)
    if acked:
        acks.advance(m, segment, acked, now)
    if window != d.snd_wnd:
        d.snd_wnd = window
        if window > d.max_snd_wnd:
            d.max_snd_wnd = window
    d.send_wl1 = segment.seq
    if size:
        d.rcv_nxt = (segment.seq + size) & 0xFFFFFFFF
        d.rcv_wnd -= size
        m.received.append(payload)
        note(m, EventKind.DATA, size)
        m.ack_clock.data_taken(now)
    if m.progress_at != now:
        m.progress_at = now
        note(m, EventKind.PROGRESS, 0)
    return True


def _synchronized(m: TcpConnection, segment: Segment, now: int) -> bool:
    """Handle a segment in SYN_RCVD and later: act on what verdict.py says, after all its checks."""
    verdict = judge(m, segment, now)
    if verdict is _ACCEPTED:
        _accepted(m, segment, now)
    elif verdict is Verdict.UNACCEPTABLE:
        _answer(m, segment, now)
    elif verdict is Verdict.BAD_ACK:
        challenge.challenge_ack(m, now)
    elif verdict is Verdict.RESET:
        challenge.in_window_reset(m, seq_diff(segment.seq, m.delegated.rcv_nxt), now)
    elif verdict is Verdict.SYN:
        challenge.in_window_syn(m, seq_diff(segment.seq, m.delegated.rcv_nxt), now)
    elif verdict is Verdict.BAD_OPENING_ACK:
        handshake.reset(m, segment, now)
    elif verdict is Verdict.SYN_AGAIN:
        m.delegated.snd_nxt = m.delegated.snd_una
    elif verdict is Verdict.FIN_AGAIN:
        time_wait(m, now)
        m.ack_clock.owe()
    elif verdict is Verdict.URGENT:
        upload(m, TcpUploadReason.ReceivedUrgentData, "urgent data arrived")
    return verdict is _ACCEPTED


def _accepted(m: TcpConnection, segment: Segment, now: int) -> None:
    """Act on a segment that has passed all checks: timestamp, ACK, window, urgent pointer, text, FIN."""
    d = m.delegated
    flags = segment.flags
    syn = flags >> 1 & 1  # of a simultaneous open
    if m.stamped:
        _take_timestamp(m, segment, now)
    if d.state is SYN_RCVD:
        handshake.syn_received(m, segment, now)
    else:
        acks.acknowledge(m, segment, now)
    keepalive = m.keepalive
    if keepalive is not None and keepalive.kind != IDLE:
        keepalive.heard(now)  # the remote end is alive
    state = d.state
    if state is FIN_WAIT_2:
        fin_wait_2(m, now)
    elif state is CLOSED:
        return
    if flags & URG:
        text.urgent(m, segment)
    if segment.payload or flags & FIN:
        # Data that came with the SYN has moved RCV.NXT.
        text.take(m, segment, seq_diff(segment.seq + syn, d.rcv_nxt), now)
    if m.rcv_up is not None and (d.rcv_nxt - m.rcv_up) & 0xFFFFFFFF < 0x80000000:
        m.rcv_up = None


def _take_timestamp(m: TcpConnection, segment: Segment, now: int) -> None:
    """Set TS.Recent from a segment that begins at or before the last ACK sent (RFC 7323 4.3 (2)).

    PAWS has compared it with TS.Recent, except that of a SYN,ACK.
    """
    ts_val = segment.ts_val
    if ts_val is None or (m.ack_clock.last - segment.seq) & 0xFFFFFFFF >= 0x80000000:
        return
    if segment.flags & SYN and (ts_val - m.delegated.ts_recent) & 0xFFFFFFFF >= 0x80000000:
        return
    m.timestamps.take(ts_val, now)


def _answer(m: TcpConnection, segment: Segment, now: int) -> None:
    """Answer an unacceptable segment with an ACK. A target answers each SYN (R-BRA-03)."""
    syn = segment.flags >> 1 & 1
    if syn and m.settings.offloaded:
        m.ack_clock.owe()
    else:
        challenge.acknowledge_again(m, segment.length - syn, now)
