"""SEGMENT ARRIVES, in the order of RFC 9293 3.10.7.4, and a short path for the usual segment."""

from __future__ import annotations

from ndisbus.ddi.tcp_enums import TcpUploadReason
from ndisbus.net.segment import ACK, FIN, RST, SYN, URG, Segment
from ndisbus.tcp import acks, challenge, handshake, text
from ndisbus.tcp.connection import TcpConnection
from ndisbus.tcp.ending import note, time_wait, upload
from ndisbus.tcp.events import EventKind
from ndisbus.tcp.sequence import seq_diff
from ndisbus.tcp.states import CLOSED, ESTABLISHED, FIN_WAIT_2, IDLE, LISTEN, SYN_RCVD, SYN_SENT, TIME_WAIT

__all__ = ["receive"]


def receive(m: TcpConnection, segment: Segment, now: int) -> None:
    """Handle an arriving segment: see TcpMachine.receive."""
    d = m.delegated
    state = d.state
    if (
        state is ESTABLISHED
        and segment.seq == d.rcv_nxt
        # ACK, with or without PSH, and no other flag of interest.
        and segment.flags & 0x37 == 0x10
        and _predicted(m, segment, now)
    ):
        return
    if m.stopped or state is CLOSED or state is LISTEN:
        return
    if state is SYN_SENT:
        handshake.syn_sent(m, segment, now)
    else:
        _synchronized(m, segment, now)


def _predicted(m: TcpConnection, segment: Segment, now: int) -> bool:
    """Handle an in-order segment in ESTABLISHED if nothing about it or the connection is special.

    Does what _synchronized would do. Returns False, with nothing done, if the segment needs _synchronized.
    """
    d = m.delegated
    window = segment.window << m.snd_scale
    if (
        not window
        or not d.snd_wnd
        or d.dup_ack_count
        or m.gaps is not None
        or segment.sack
        or m.recovery.board is not None
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


def _synchronized(m: TcpConnection, segment: Segment, now: int) -> None:
    """Handle a segment in SYN_RCVD and later: the checks in the RFC's order. Each of them may drop it."""
    d = m.delegated
    flags = segment.flags
    if m.stamped and not flags & (RST | SYN) and not _timestamp_passes(m, segment, now):
        return
    rel = seq_diff(segment.seq, d.rcv_nxt)
    window = d.rcv_wnd
    length = segment.length
    if flags & SYN and d.state is SYN_RCVD and rel == -1 and not flags & RST:
        if not flags & ACK:
            # The remote end repeats its SYN: our answer was lost.
            d.snd_nxt = d.snd_una
            return
        # The SYN,ACK of a simultaneous open. Apart from the SYN it is an ordinary segment.
        rel = 0
        flags &= ~SYN
    elif not _in_window(rel, length, window, flags):
        _unacceptable(m, segment, rel, length, now)
        return
    if segment.ts_val is not None and m.stamped and not flags & RST:
        _take_timestamp(m, segment, segment.ts_val, now)
    if flags & RST:
        challenge.in_window_reset(m, rel, now)
        return
    if flags & SYN:
        challenge.in_window_syn(m, rel, now)
        return
    if not flags & ACK:
        return
    if flags & URG and m.settings.offloaded:
        _urgent_upload(m, segment)
        return
    if d.state is SYN_RCVD:
        if not handshake.syn_received(m, segment, now):
            return
        # Data that came with the SYN has moved RCV.NXT.
        rel = seq_diff(segment.seq + (segment.flags >> 1 & 1), d.rcv_nxt)
    elif not acks.acknowledge(m, segment, now):
        return
    _acceptable(m, now)
    if d.state is CLOSED:
        return
    if flags & URG:
        text.urgent(m, segment)
    if length:
        text.take(m, segment, rel, now)


def _in_window(rel: int, length: int, window: int, flags: int) -> bool:
    """Return whether a segment, ``rel`` beyond RCV.NXT, touches the window (RFC 9293 3.10.7.4 first).

    There are two exceptions. With a zero window, the ACK, RST and URG of a segment that begins at RCV.NXT
    count, though no data is taken. And an empty ACK may lie on the right edge: SND.NXT of the remote end is
    there when a whole window of data was lost.
    """
    if length and window:
        return rel < window and rel + length > 0
    if rel == 0:
        return True
    return not length and (0 < rel < window or (rel == window and not flags & RST))


def _timestamp_passes(m: TcpConnection, segment: Segment, now: int) -> bool:
    """Return whether a segment passes RFC 7323 3.2 (the option must be there) and 5.3 R1 (PAWS)."""
    ts_val = segment.ts_val
    if ts_val is None:
        return False
    if m.timestamps.passes(ts_val, m.settings.parameters.ticks_per_second, now):
        return True
    # An old duplicate. The ACK corrects a remote end whose numbers are wrong.
    challenge.acknowledge_again(m, segment.length, now)
    return False


def _take_timestamp(m: TcpConnection, segment: Segment, ts_val: int, now: int) -> None:
    """Set TS.Recent from a segment that begins at or before the last ACK sent (RFC 7323 4.3 (2))."""
    if (m.ack_clock.last - segment.seq) & 0xFFFFFFFF < 0x80000000:
        m.timestamps.take(ts_val, now)


def _unacceptable(m: TcpConnection, segment: Segment, rel: int, length: int, now: int) -> None:
    """Drop a segment outside the window, and answer it with an ACK unless it is an RST."""
    flags = segment.flags
    if flags & RST:
        return
    if flags & SYN and m.settings.offloaded:
        m.ack_clock.owe()  # every time (R-BRA-03)
        return
    if flags & FIN and m.delegated.state is TIME_WAIT and rel + length == 0:
        # The remote end repeats its FIN: our ACK of it was lost.
        time_wait(m, now)
    challenge.acknowledge_again(m, length - (flags >> 1 & 1), now)


def _acceptable(m: TcpConnection, now: int) -> None:
    """Note that an acceptable segment arrived: the remote end is alive."""
    keepalive = m.keepalive
    if keepalive is not None and keepalive.kind != IDLE:
        keepalive.heard(now)
    if m.delegated.state is FIN_WAIT_2:
        m.timer.fin_wait_2(now)


def _urgent_upload(m: TcpConnection, segment: Segment) -> None:
    """Leave urgent data to the host: check the ACK, ignore the rest, ask for the upload (R-IP-07)."""
    if acks.is_valid(m, segment.ack):
        upload(m, TcpUploadReason.ReceivedUrgentData, "urgent data arrived")
