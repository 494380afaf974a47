"""Taking a connection over and giving it away: between the structures and the running fields.

RFC 9293 knows nothing of this; R-TMR-05, R-TMR-06, R-TMR-09, R-TMR-12, R-TMR-19, R-TMR-25, R-TS-04, R-TS-05.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndisbus.ddi.enums import TCP_FLAG_KEEP_ALIVE_ENABLED, TIMER_NOT_RUNNING
from ndisbus.net.segment import ACK, FIN, Segment
from ndisbus.tcp import congestion, keepalive, options, output, recovery, rtt
from ndisbus.tcp.ending import NOTHING, stop_timers
from ndisbus.tcp.states import (
    BLIND_RESET,
    CLOSED,
    FIN_2,
    FIN_WAIT_2,
    IDLE,
    KEEP_ALIVE,
    LISTEN,
    NEVER,
    OFF,
    PERSIST,
    RETRANSMIT,
    SYN_RCVD,
    SYN_SENT,
    TIME_WAIT,
    TWO_MSL,
    State,
    Timer,
)
from ndisbus.tcp.timestamps import delta_from, own

if TYPE_CHECKING:
    from ndisbus.tcp.machine import TcpMachine

__all__ = ["Handover", "hand_over", "take_over", "write_back"]


class Handover:
    """What goes with the structures.

    ``last``: segments to transmit before anything else happens: the ACKs that were owed (R-TMR-06).
    ``send_data``: the bytes from SndUna on, in their pieces. ``received``: bytes received and not read.
    ``segments``: data that arrived out of order, for the successor's receive(); to drop them is allowed,
    for the peer still has them (R-TERM-16).
    """

    __slots__ = ("last", "received", "segments", "send_data")

    def __init__(
        self, send_data: list[bytes], received: list[bytes], segments: list[Segment], last: list[Segment]
    ) -> None:
        self.send_data = send_data
        self.received = received
        self.segments = segments
        self.last = last


def take_over(m: TcpMachine, now: int) -> None:
    """Give every running field of a new machine its value; see the list at TcpMachine."""
    d = m.delegated
    d.state = State(d.state)
    # An IntFlag would do, but costs half a microsecond whenever a bit is tested.
    m.const.flags = int(m.const.flags)
    m.cached.flags = int(m.cached.flags)
    options.refresh(m)
    if not d.c_wnd:
        # Whoever filled the structure knew nothing of congestion: as after the handshake.
        congestion.start(d, m.mss)
    if d.max_snd_wnd < d.snd_wnd:
        d.max_snd_wnd = d.snd_wnd
    m.ts_delta = delta_from(d.ts_time, now)
    m.ts_at = now - d.ts_recent_age
    m.ack_now = m.override = m.resend = m.window_owed = False
    m.unacked = 0
    m.ack_due = m.sws_due = m.window_due = NEVER
    m.last_ack = d.rcv_nxt
    m.rtt_seq = (d.snd_una - 1) & 0xFFFFFFFF
    m.rtt_at = -1
    m.backoff = d.retransmit_count if d.snd_wnd else 0
    m.recover = (d.snd_una - 1) & 0xFFFFFFFF
    m.last_sent = now
    m.owed = NOTHING
    m.snd_up = m.rcv_up = None
    m.acks_since = now
    m.acks_given = 0
    m.syn_since = now - m.settings.syn_challenge
    m.progress_at = -1
    if recovery.in_recovery(m):
        m.recover = d.snd_max
        m.resend = True
    elif d.snd_nxt != d.snd_max:
        m.recover = d.snd_max
    m.timer = _timer(m, now)
    if m.timer[0] == RETRANSMIT:
        m.last_sent = min(m.timer[1] - rtt.backed_off(d, m.settings, m.backoff), now)
    _keepalive(m, now)


def _timer(m: TcpMachine, now: int) -> Timer:
    """What Retransmit.TimeoutDelta stands for, by the state; a timer that has to run runs."""
    d = m.delegated
    state = d.state
    delta = d.retransmit_timeout_delta
    running = delta != TIMER_NOT_RUNNING
    due = now + delta
    if state is CLOSED or state is LISTEN:
        return OFF
    if state is FIN_WAIT_2:
        return (FIN_2, due if running else now + m.settings.fin_wait_2)
    if state is TIME_WAIT:
        return (TWO_MSL, due if running else now + m.settings.time_wait)
    syn = state is SYN_SENT or state is SYN_RCVD
    if not d.snd_wnd and not syn:
        if running:
            return (PERSIST, due)
        # Otherwise transmit() begins it as soon as there is something to send.
        return OFF
    if d.snd_una == d.snd_max:
        return OFF
    return (RETRANSMIT, due if running else now + rtt.backed_off(d, m.settings, m.backoff))


def _keepalive(m: TcpMachine, now: int) -> None:
    delta = m.delegated.keep_alive_timeout_delta
    m.keepalive = OFF
    if m.delegated.state is CLOSED or m.delegated.state is TIME_WAIT:
        return
    if delta == TIMER_NOT_RUNNING:
        keepalive.start(m, now)
    elif m.cached.flags & TCP_FLAG_KEEP_ALIVE_ENABLED:
        m.keepalive = (KEEP_ALIVE, now + delta)
    else:
        # Nobody asked for keepalive: it runs because of a suspicious RST or SYN (R-BRA-06).
        m.keepalive = (BLIND_RESET, now + delta)


def write_back(m: TcpMachine, now: int) -> None:
    """See TcpMachine.write_back."""
    d = m.delegated
    closed = d.state is CLOSED
    d.retransmit_timeout_delta = TIMER_NOT_RUNNING if closed else _delta(m.timer, now)
    d.keep_alive_timeout_delta = TIMER_NOT_RUNNING if closed else _delta(m.keepalive, now)
    d.ts_time = own(now, m.ts_delta)
    d.ts_recent_age = min(max(now - m.ts_at, 0), 0xFFFFFFFF)


def _delta(timer: Timer, now: int) -> int:
    """TimeoutDelta: ticks left, 0 if it expired and was not acted on, all ones if it does not run."""
    kind, due = timer
    if kind == IDLE:
        return TIMER_NOT_RUNNING
    left = due - now
    return 0 if left < 0 else left if left < TIMER_NOT_RUNNING else TIMER_NOT_RUNNING - 1


def hand_over(m: TcpMachine, now: int) -> Handover:
    """See TcpMachine.hand_over."""
    last: list[Segment] = []
    d = m.delegated
    if m.replies is not None:
        last += m.replies
        m.replies = None
    if d.state is CLOSED:
        last += output.transmit(m, now)
    elif (m.ack_now or m.ack_due != NEVER) and d.state is not SYN_SENT:
        output.acknowledge(m, now, last)
    write_back(m, now)
    segments = _out_of_order(m)
    result = Handover(m.sending.pieces(), m.received.pieces(), segments, last)
    m.stopped = True
    m.gaps = None
    stop_timers(m)
    return result


def _out_of_order(m: TcpMachine) -> list[Segment]:
    """What waits behind a gap, as segments that carry nothing else that would be news."""
    gaps = m.gaps
    if gaps is None:
        return []
    d = m.delegated
    window = d.snd_wnd >> m.snd_scale
    result = []
    for seq, payload, fin in gaps.segments():
        flags = ACK | FIN if fin else ACK
        segment = Segment(seq, d.snd_una, flags, window, payload, 0, m.const.remote_port, m.const.local_port)
        if m.stamped:
            segment.ts_val = d.ts_recent
            segment.ts_ecr = d.ts_time
        result.append(segment)
    return result
