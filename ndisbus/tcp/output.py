"""What leaves: data within the windows, retransmissions, FIN, probes, ACKs and window updates.

RFC 9293 3.8.6 (silly windows, Nagle), RFC 5681 (congestion window), R-SEND-05 (PSH), R-OSD-06 to R-OSD-09.
"""

from __future__ import annotations

from ndisbus.ddi.tcp_enums import TCP_FLAG_NAGLING_ENABLED
from ndisbus.net.segment import ACK, FIN, PSH, RST, URG, Segment
from ndisbus.tcp import handshake, options, windows
from ndisbus.tcp.congestion import limited_transmit
from ndisbus.tcp.connection import TcpConnection
from ndisbus.tcp.keepalive import KeepAlive
from ndisbus.tcp.states import CLOSED, FIN_OWED, NEVER, PERSIST, SYN_RCVD, SYN_SENT

__all__ = ["transmit"]


def transmit(m: TcpConnection, now: int) -> list[Segment]:
    """Return the segments that are owed: see TcpMachine.transmit."""
    out: list[Segment] = []
    if m.replies is not None:
        out += m.replies
        m.replies = None
    d = m.delegated
    state = d.state
    if state is CLOSED or m.stopped:
        if m.reset_owed:
            m.reset_owed = False
            out.append(_reset(m, now))
        return out
    if state is SYN_SENT or state is SYN_RCVD:
        handshake.transmit(m, now, out)
    elif len(m.sending) or state in FIN_OWED:
        if d.snd_wnd:
            if m.recovery.by_sack and m.recovery.active:
                _by_scoreboard(m, now, out)
            else:
                _data(m, now, out)
        elif m.timer.kind != PERSIST:
            m.timer.window_closed(now)
    if m.timer.override:
        m.timer.override_used()
    if m.timer.probe:
        _window_probe(m, now, out)
    if m.keepalive is not None and m.keepalive.probe:
        _keepalive_probe(m, m.keepalive, now, out)
    if m.ack_clock.owed or windows.update_due(m, now):
        acknowledge(m, now, out)
    if m.snd_up is not None:
        _mark_urgent(m, m.snd_up, out)
    return out


def acknowledge(m: TcpConnection, now: int, out: list[Segment]) -> None:
    """Send an ACK without data. The remote end accepts its sequence number even if its window shrank."""
    d = m.delegated
    flight = (d.snd_max - d.snd_una) & 0xFFFFFFFF
    seq = d.snd_max if flight <= d.snd_wnd else (d.snd_una + d.snd_wnd) & 0xFFFFFFFF
    out.append(_segment(m, seq, ACK, b"", now))
    m.ack_clock.sent(d.rcv_nxt)


def _segment(m: TcpConnection, seq: int, flags: int, payload: bytes, now: int) -> Segment:
    """Return a segment with the current ACK, window and options."""
    const = m.const
    segment = Segment(
        seq, m.delegated.rcv_nxt, flags, windows.offer(m), payload, 0, const.local_port, const.remote_port
    )
    if m.stamped:
        segment.ts_val = (now + m.timestamps.delta) & 0xFFFFFFFF
        segment.ts_ecr = m.delegated.ts_recent
    if m.gaps is not None and m.sacking:
        segment.sack = m.gaps.sack_blocks(options.sack_limit(m))
    return segment


def _data(m: TcpConnection, now: int, out: list[Segment]) -> None:
    """Send data from SND.NXT on, and the FIN behind it; not in a recovery by scoreboard."""
    d = m.delegated
    una = d.snd_una
    sending = m.sending
    length = len(sending)
    fin = d.state in FIN_OWED
    sent = (d.snd_nxt - una) & 0xFFFFFFFF
    recovery = m.recovery
    if recovery.resend:
        recovery.take_resend()
        _again(m, now, out)
    elif sent >= length + fin:
        return
    outstanding = (d.snd_max - una) & 0xFFFFFFFF
    timer = m.timer
    if not outstanding and now - timer.last_sent > m.rtt.rto():
        recovery.idle(m.mss)
    window = d.snd_wnd
    limit = allowed = d.c_wnd
    board = recovery.board
    if board:
        # CWnd bounds what is in the network: not what the remote end holds (RFC 6675 5 (3), 5.1).
        limit = allowed = allowed + board.sacked_before(d.snd_nxt)
    elif d.dup_ack_count and not recovery.by_sack:
        limit += limited_transmit(d, m.mss, recovery.threshold)
    if window < limit:
        limit = window
    if limit <= sent and sent != length:
        return
    mss = m.mss
    blocks: tuple[tuple[int, int], ...] = ()
    if m.gaps is not None and m.sacking:
        blocks = m.gaps.sack_blocks(options.sack_limit(m))
        mss -= 4 + 8 * len(blocks)
    ack = d.rcv_nxt
    offer = -1
    local = m.const.local_port
    remote = m.const.remote_port
    ts_val = (now + m.timestamps.delta) & 0xFFFFFFFF if m.stamped else None
    ts_ecr = d.ts_recent if m.stamped else 0
    emitted = False
    while True:
        size = length - sent
        if size > mss:
            size = mss
        if size > limit - sent:
            size = limit - sent
        if board and sent < outstanding:
            # Sending again what was sent before: the remote end has some of it.
            start, room = board.hole((una + sent) & 0xFFFFFFFF, d.snd_max)
            skipped = (start - una) & 0xFFFFFFFF
            if skipped != sent:
                allowed += skipped - sent
                limit = allowed if allowed < window else window
                sent = skipped
                continue
            if size > room:
                size = room
        if size <= 0 and not (fin and sent == length and window > sent):
            break
        flags = ACK
        if size > 0:
            payload, push = sending.take(sent, size)
            if push:
                flags = ACK | PSH
            if fin and sent + size == length and window > length:
                flags |= FIN
            if size < mss and sent >= outstanding and not _may_send(m, size, flags, outstanding or sent):
                if not flags & PSH and timer.override_due == NEVER:
                    timer.held_back(now)
                break
        else:
            size = 0
            flags = ACK | FIN
            payload = b""
        if offer < 0:
            offer = windows.offer(m)
        segment = Segment(
            (una + sent) & 0xFFFFFFFF, ack, flags, offer, payload, 0, local, remote, ts_val, ts_ecr
        )
        if blocks:
            segment.sack = blocks
        out.append(segment)
        emitted = True
        if ts_val is None and sent >= outstanding and m.rtt.at < 0 and not d.dup_ack_count:
            m.rtt.time(segment.seq, now)
        sent += size
        if flags & FIN:
            sent += 1
            break
        if sent >= length and not fin:
            break
    d.snd_nxt = (una + sent) & 0xFFFFFFFF
    if sent > outstanding:
        d.snd_max = d.snd_nxt
    if emitted:
        timer.sent(now)
        m.ack_clock.sent(ack)
        if timer.override_due != NEVER:
            timer.not_held()


def _may_send(m: TcpConnection, size: int, flags: int, outstanding: int) -> bool:
    """Return whether a segment with less than an MSS of new data may leave: Nagle, and R-TMR-26."""
    if flags & FIN or m.timer.override:
        return True
    d = m.delegated
    if m.cached.flags & TCP_FLAG_NAGLING_ENABLED and outstanding:
        return False
    return bool(flags & PSH) or 2 * size >= d.max_snd_wnd


def _again(m: TcpConnection, now: int, out: list[Segment]) -> None:
    """Send the first unacknowledged segment again (fast retransmit). SND.NXT does not move."""
    d = m.delegated
    outstanding = (d.snd_max - d.snd_una) & 0xFFFFFFFF
    if outstanding:
        _recover(m, d.snd_una, min(m.mss, outstanding), now, out)


def _piece(m: TcpConnection, offset: int, size: int, now: int) -> Segment:
    """Return the segment of ``size`` sequence numbers, ``offset`` beyond SND.UNA.

    The FIN follows the data.
    """
    sending = m.sending
    flags = ACK
    data = min(size, len(sending) - offset)
    if data < size and m.delegated.state in FIN_OWED:
        flags |= FIN
    payload, push = sending.take(offset, data)
    if push:
        flags |= PSH
    return _segment(m, (m.delegated.snd_una + offset) & 0xFFFFFFFF, flags, payload, now)


def _by_scoreboard(m: TcpConnection, now: int, out: list[Segment]) -> None:
    """Recover with SACK (RFC 6675 5 step 4.3 and (C)): send while the pipe has room for a segment."""
    d = m.delegated
    recovery = m.recovery
    board = recovery.board
    assert board is not None
    una = d.snd_una
    limit = recovery.threshold
    mss = m.mss
    if m.gaps is not None and m.sacking:
        mss -= 4 + 8 * len(m.gaps.sack_blocks(options.sack_limit(m)))
    total = len(m.sending) + (d.state in FIN_OWED)
    if recovery.take_resend():
        seq, size = board.hole(una, d.snd_max)
        size = min(size, mss)
        if size:
            _recover(m, seq, size, now, out)
            board.fast_retransmitted(seq, size)
    pipe = board.set_pipe(una, d.snd_max, mss, limit)
    while d.c_wnd - pipe >= mss:
        sent = (d.snd_max - una) & 0xFFFFFFFF
        new = min(total, d.snd_wnd) - sent
        if 0 < new < mss and new < total - sent:
            new = 0  # a silly window: send no new data
        what = board.next_segment(una, d.snd_max, mss, limit, new)
        if what is None:
            break
        seq, size, rule = what
        _recover(m, seq, size, now, out)
        board.retransmitted(seq, size, rule)
        if rule == 2:
            d.snd_max = (seq + size) & 0xFFFFFFFF
            d.snd_nxt = d.snd_max
        pipe += size


def _recover(m: TcpConnection, seq: int, size: int, now: int, out: list[Segment]) -> None:
    """Send ``size`` sequence numbers from ``seq`` on in a recovery: again, or new data."""
    m.rtt.drop()
    out.append(_piece(m, (seq - m.delegated.snd_una) & 0xFFFFFFFF, size, now))
    m.timer.sent(now)
    m.ack_clock.sent(m.delegated.rcv_nxt)


def _window_probe(m: TcpConnection, now: int, out: list[Segment]) -> None:
    """Send one byte beyond a zero window (RFC 9293 3.8.6.1). Sends nothing if the window has opened."""
    d = m.delegated
    if d.snd_wnd or not (len(m.sending) or d.state in FIN_OWED):
        m.timer.probe_dropped()
        return
    out.append(_piece(m, 0, 1, now))
    m.rtt.drop()
    if d.snd_max == d.snd_una:
        # The byte counts as sent, and must be sent again with the data behind it.
        d.snd_max = (d.snd_una + 1) & 0xFFFFFFFF
    d.snd_nxt = d.snd_una
    m.timer.probed(now)
    m.ack_clock.sent(d.rcv_nxt)


def _keepalive_probe(m: TcpConnection, keepalive: KeepAlive, now: int, out: list[Segment]) -> None:
    """Send an empty segment with an old sequence number, which must be answered (RFC 9293 3.8.4)."""
    d = m.delegated
    out.append(_segment(m, (d.snd_una - 1) & 0xFFFFFFFF, ACK, b"", now))
    keepalive.probed()
    m.ack_clock.sent(d.rcv_nxt)


def _reset(m: TcpConnection, now: int) -> Segment:
    d = m.delegated
    segment = Segment(d.snd_max, d.rcv_nxt, RST | ACK, 0, b"", 0, m.const.local_port, m.const.remote_port)
    if m.stamped:
        segment.ts_val = (now + m.timestamps.delta) & 0xFFFFFFFF
        segment.ts_ecr = d.ts_recent
    return segment


def _mark_urgent(m: TcpConnection, snd_up: int, out: list[Segment]) -> None:
    """Set the urgent pointer in these segments: urgent data lies ahead (RFC 9293 3.8.5)."""
    for segment in out:
        ahead = (snd_up - segment.seq) & 0xFFFFFFFF
        if 0 < ahead < 0x80000000 and not segment.flags & RST:
            segment.flags |= URG
            segment.urgent = min(ahead, 0xFFFF)
