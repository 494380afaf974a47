"""Time has passed: retransmission (RFC 6298), FIN_WAIT_2, TIME_WAIT, delayed ACK, silly windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndisbus.ddi.enums import MAX_RT_NO_LIMIT, MAX_RT_USE_LIMIT, TcpUploadReason
from ndisbus.tcp import congestion, keepalive, persist, rtt
from ndisbus.tcp.ending import close, timed_out, upload
from ndisbus.tcp.events import EventKind, TcpEvent
from ndisbus.tcp.states import (
    FIN_2,
    NEVER,
    OFF,
    PERSIST,
    RETRANSMIT,
    SYN_RCVD,
    SYN_SENT,
    TIME_WAIT,
    TWO_MSL,
)

if TYPE_CHECKING:
    from ndisbus.tcp.machine import TcpMachine

__all__ = ["expire", "fin_wait_2", "time_wait"]


def expire(m: TcpMachine, now: int) -> None:
    """See TcpMachine.on_timer."""
    if m.stopped:
        return
    kind, due = m.timer
    if due <= now:
        if kind == RETRANSMIT:
            _retransmission(m, now)
        elif kind == PERSIST:
            persist.expire(m, now)
        elif kind == FIN_2:
            _fin_wait_2_expired(m)
        else:
            close(m)
    if m.keepalive[1] <= now and not m.stopped:
        keepalive.expire(m, now)
    if m.ack_due <= now:
        m.ack_due = NEVER
        m.ack_now = True
    if m.sws_due <= now:
        # As much as the window allows is sent (R-TMR-27).
        m.sws_due = NEVER
        m.override = True
    if m.window_due <= now:
        m.window_due = NEVER
        m.window_owed = True


def time_wait(m: TcpMachine, now: int) -> None:
    """Enter TIME_WAIT, or begin its two MSL again. A target offers the connection for upload (R-TMR-04)."""
    d = m.delegated
    m.timer = (TWO_MSL, now + m.settings.time_wait)
    if d.state is TIME_WAIT:
        return
    d.state = TIME_WAIT
    m.keepalive = OFF
    if m.settings.offloaded:
        # It goes on until then: the peer's FIN may come again.
        m.events.append(TcpEvent(EventKind.UPLOAD, int(TcpUploadReason.UploadRequested), "TIME_WAIT"))


def fin_wait_2(m: TcpMachine, now: int) -> None:
    """FIN_WAIT_2 begins, or an acceptable segment arrived in it (R-TMR-07)."""
    m.timer = (FIN_2, now + m.settings.fin_wait_2)


def _fin_wait_2_expired(m: TcpMachine) -> None:
    why = "no FIN from the peer in FIN_WAIT_2"
    if m.settings.offloaded:
        upload(m, TcpUploadReason.TimeoutExpiration, why, closed=True)
    else:
        close(m, why)


def _retransmission(m: TcpMachine, now: int) -> None:
    """RFC 6298 (5.4) to (5.6), RFC 5681 3.1, and the limits R-TMR-22, R-TMR-23."""
    d = m.delegated
    if d.snd_una == d.snd_max:
        m.timer = OFF
        return
    settings = m.settings
    syn = d.state is SYN_SENT or d.state is SYN_RCVD
    count = d.retransmit_count
    d.total_rt = min(d.total_rt + max(now - m.last_sent, 0), MAX_RT_NO_LIMIT)
    interval_limit = NEVER
    max_rt = m.cached.max_rt
    if syn:
        if count >= settings.connect_retries:
            close(m, "connection timed out", EventKind.TIMED_OUT)
            return
    elif max_rt == MAX_RT_USE_LIMIT:
        if count >= settings.parameters.tcp_maximum_retransmissions:
            timed_out(m, "no answer to retransmissions")
            return
    elif max_rt != MAX_RT_NO_LIMIT:
        interval_limit = max_rt - d.total_rt
        if interval_limit <= 0:
            timed_out(m, "no answer to retransmissions within MaxRT")
            return
    count = d.retransmit_count = min(count + 1, 255)
    if count == settings.parameters.tcp_doubt_reachability_retransmissions:
        m.events.append(TcpEvent(EventKind.DOUBT, 0, f"{count} retransmissions unanswered"))
    m.backoff += 1
    m.timer = (RETRANSMIT, now + min(rtt.backed_off(d, settings, m.backoff), interval_limit))
    d.snd_nxt = d.snd_una
    m.rtt_at = -1
    if syn:
        if m.handshake is not None:
            m.handshake.lost = True
        return
    flight = (d.snd_max - d.snd_una) & 0xFFFFFFFF
    congestion.on_timeout(d, flight, m.mss, again=count > 1)
    m.recover = d.snd_max
    m.resend = False
    if m.stamped:
        # The next ACK that is news measures a round trip, whatever it acknowledges.
        m.rtt_seq = (d.snd_una - 1) & 0xFFFFFFFF
    if m.scoreboard is not None:
        m.scoreboard.clear()
