"""Opening a connection: SYNs, SYN_SENT and SYN_RCVD (RFC 9293 3.5, 3.10.7.3), and the agreed options."""

from __future__ import annotations

from ndisbus.ddi.tcp_enums import (
    TCP_FLAG_KEEP_ALIVE_ENABLED,
    TCP_FLAG_SACK_ENABLED,
    TCP_FLAG_TIMESTAMP_ENABLED,
    TCP_FLAG_WINDOW_SCALING_ENABLED,
)
from ndisbus.net.segment import ACK, RST, SYN, Segment
from ndisbus.tcp import options, text
from ndisbus.tcp.connection import Handshake, TcpConnection
from ndisbus.tcp.ending import close, progress
from ndisbus.tcp.events import EventKind, TcpEvent
from ndisbus.tcp.states import ESTABLISHED, FIN_WAIT_1, SYN_RCVD, SYN_SENT
from ndisbus.tcp.timestamps import own, round_trip

__all__ = ["establish", "reset", "syn_received", "syn_sent", "take_options", "transmit"]


def _handshake_of(m: TcpConnection) -> Handshake:
    """Return the handshake before ESTABLISHED. A machine made from structures offers the path's MSS."""
    result = m.handshake
    if result is None:
        mss = m.path_cached.path_mtu - options.headers(m.path_const)
        result = m.handshake = Handshake(max(mss, options.MIN_MSS), passive=False)
    return result


def transmit(m: TcpConnection, now: int, out: list[Segment]) -> None:
    """Send the SYN or SYN,ACK, unless it has been sent (SndNxt is beyond it)."""
    d = m.delegated
    if d.snd_nxt != d.snd_una:
        return
    const = m.const
    window = min(max(0, m.cached.initial_rcv_wnd - len(m.received)), 0xFFFF)
    # The window of a SYN is never scaled (RFC 7323 2.2).
    d.rcv_wnd = window
    segment = Segment(
        d.snd_una, 0, SYN, window, b"", 0, const.local_port, const.remote_port, mss=_handshake_of(m).mss
    )
    if d.state is SYN_RCVD:
        segment.flags = SYN | ACK
        segment.ack = d.rcv_nxt
    if const.flags & TCP_FLAG_WINDOW_SCALING_ENABLED:
        segment.window_scale = const.rcv_wind_scale
    if const.flags & TCP_FLAG_SACK_ENABLED:
        segment.sack_permitted = True
    if const.flags & TCP_FLAG_TIMESTAMP_ENABLED:
        segment.ts_val = own(now, m.timestamps.delta)
        if d.state is SYN_RCVD:
            segment.ts_ecr = d.ts_recent
    after = (d.snd_una + 1) & 0xFFFFFFFF
    if d.snd_max != after:
        m.rtt.time(d.snd_una, now)
    d.snd_nxt = d.snd_max = after
    m.ack_clock.sent(d.rcv_nxt)
    m.timer.syn_sent(now)
    out.append(segment)


def take_options(m: TcpConnection, syn: Segment, now: int) -> None:
    """Set the connection's options from the remote end's SYN. Options that it does not offer are not used."""
    const = m.const
    d = m.delegated
    flags = const.flags
    if syn.ts_val is None:
        flags &= ~TCP_FLAG_TIMESTAMP_ENABLED
    elif flags & TCP_FLAG_TIMESTAMP_ENABLED:
        m.timestamps.take(syn.ts_val, now)
    if not syn.sack_permitted:
        flags &= ~TCP_FLAG_SACK_ENABLED
    if syn.window_scale is None:
        flags &= ~TCP_FLAG_WINDOW_SCALING_ENABLED
    if flags & TCP_FLAG_WINDOW_SCALING_ENABLED:
        const.snd_wind_scale = min(syn.window_scale or 0, 14)
    else:
        const.snd_wind_scale = const.rcv_wind_scale = 0
    const.flags = flags
    const.remote_mss = options.default_mss(m.path_const) if syn.mss is None else syn.mss
    options.refresh(m)
    d.rcv_nxt = (syn.seq + 1) & 0xFFFFFFFF
    m.ack_clock.begin(d.rcv_nxt)
    d.snd_wnd = d.max_snd_wnd = syn.window
    d.send_wl1 = syn.seq


def establish(m: TcpConnection, segment: Segment, now: int) -> None:
    """Enter ESTABLISHED: our SYN is acknowledged."""
    d = m.delegated
    lost = m.handshake is not None and m.handshake.lost
    m.handshake = None
    d.state = ESTABLISHED
    m.recovery.start(d.snd_una, m.mss, syn_lost=lost, sacking=m.sacking)
    d.snd_una = (d.snd_una + 1) & 0xFFFFFFFF
    d.snd_nxt = d.snd_max = d.snd_una
    m.timer.begin_again()
    if m.stamped and segment.ts_val is not None:
        m.rtt.echoed(round_trip(now, m.timestamps.delta, segment.ts_ecr))
        lost = False
    elif m.rtt.timed(now):
        lost = False
    m.rtt.established(lost)
    if m.cached.flags & TCP_FLAG_KEEP_ALIVE_ENABLED:
        m.need_keepalive(now).start(now)
    m.events.append(TcpEvent(EventKind.CONNECTED))
    progress(m, now)
    if m.closing:
        m.closing = False
        d.state = FIN_WAIT_1


def syn_sent(m: TcpConnection, segment: Segment, now: int) -> None:
    """Handle an arriving segment in SYN_SENT, RFC 9293 3.10.7.3."""
    d = m.delegated
    flags = segment.flags
    if flags & ACK and (segment.ack != (d.snd_una + 1) & 0xFFFFFFFF or d.snd_max == d.snd_una):
        if not flags & RST:
            reset(m, segment, now)
        return
    if flags & RST:
        if flags & ACK:
            close(m, "connection refused", EventKind.REFUSED)
        return
    if not flags & SYN:
        return
    take_options(m, segment, now)
    if flags & ACK:
        establish(m, segment, now)
        m.ack_clock.owe()
    else:
        # Simultaneous open: send our SYN again, now with an ACK (RFC 9293 3.5, MUST-10).
        d.state = SYN_RCVD
        d.snd_nxt = d.snd_una
        m.rtt.drop()
        m.timer.begin_again()
    # Data and FIN on a SYN wait until the connection is established.
    text.syn_text(m, segment, now)


def syn_received(m: TcpConnection, segment: Segment, now: int) -> None:
    """Act on the ACK of our SYN in SYN_RCVD (RFC 9293 3.10.7.4 fifth)."""
    d = m.delegated
    establish(m, segment, now)
    d.snd_wnd = segment.window if segment.flags & SYN else segment.window << m.snd_scale
    d.send_wl1 = segment.seq
    if d.snd_wnd > d.max_snd_wnd:
        d.max_snd_wnd = d.snd_wnd
    if m.gaps is not None:
        text.take_gaps(m, now)


def reset(m: TcpConnection, segment: Segment, now: int) -> None:
    """Answer an unacceptable ACK with <SEQ=SEG.ACK><CTL=RST>. The connection does not change."""
    answer = Segment(segment.ack, 0, RST, 0, b"", 0, m.const.local_port, m.const.remote_port)
    if m.stamped and m.delegated.state is not SYN_SENT:
        answer.ts_val = own(now, m.timestamps.delta)
        answer.ts_ecr = m.delegated.ts_recent
    if m.replies is None:
        m.replies = []
    if len(m.replies) < 4:
        m.replies.append(answer)
