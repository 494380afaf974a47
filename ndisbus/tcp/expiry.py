"""What happens when a timer expires: retransmission (RFC 6298), probes, the end of waiting.

The limits of the retransmission timer (R2, R-TMR-22, R-TMR-23) are in ``_retransmission``. timer.py and
rtt.py compute the interval between two retransmissions.
"""

from __future__ import annotations

from typing import Final

from ndisbus.ddi.tcp_enums import MAX_RT_NO_LIMIT, MAX_RT_USE_LIMIT, TcpUploadReason
from ndisbus.tcp.connection import TcpConnection
from ndisbus.tcp.ending import close, timed_out, upload
from ndisbus.tcp.events import EventKind, TcpEvent
from ndisbus.tcp.keepalive import KeepAlive
from ndisbus.tcp.states import FIN_2, KEEP_ALIVE, NEVER, PERSIST, RETRANSMIT, SYN_RCVD, SYN_SENT

__all__ = ["expire"]

_NO_KEEP_ALIVE: Final = "no answer to keepalive probes"


def expire(m: TcpConnection, now: int) -> None:
    """Act on expired timers: see TcpMachine.on_timer."""
    if m.stopped:
        return
    timer = m.timer
    if timer.due <= now:
        kind = timer.kind
        if kind == RETRANSMIT:
            _retransmission(m, now)
        elif kind == PERSIST:
            _persist(m, now)
        elif kind == FIN_2:
            _fin_wait_2(m)
        else:
            close(m)
    keepalive = m.keepalive
    if keepalive is not None and keepalive.due <= now and not m.stopped:
        _keepalive(m, keepalive, now)
    m.ack_clock.expire(now)
    if timer.override_due <= now:
        timer.override_expired()


def _fin_wait_2(m: TcpConnection) -> None:
    why = "no FIN from the remote end in FIN_WAIT_2"
    if m.settings.offloaded:
        upload(m, TcpUploadReason.TimeoutExpiration, why, closed=True)
    else:
        close(m, why)


def _persist(m: TcpConnection, now: int) -> None:
    """Send a window probe, or end a connection whose probes are not answered (R-TMR-15, R-TMR-18)."""
    if _in_vain(m):
        timed_out(m, "no answer to window probes")
        return
    if m.delegated.retransmit_count:
        m.timer.waited(now)
    m.timer.owe_probe(now)


def _in_vain(m: TcpConnection) -> bool:
    """Return whether enough was repeated: a target counts (R-TMR-18, R-TMR-22), a host takes time.

    TotalRT is the time from the first transmission to the last one. How often a host repeats something in
    100 s depends on the round trip: a count that is right for one path gives up on another after seconds.
    """
    settings = m.settings
    d = m.delegated
    if settings.offloaded:
        return d.retransmit_count >= settings.parameters.tcp_maximum_retransmissions
    return d.total_rt >= settings.r2


def _keepalive(m: TcpConnection, keepalive: KeepAlive, now: int) -> None:
    """Probe an idle remote end, or end a connection whose probes were not answered."""
    d = m.delegated
    if keepalive.kind == KEEP_ALIVE and d.snd_una != d.snd_max:
        # Not idle: the retransmission timer handles data that is not acknowledged (RFC 9293 3.8.4).
        keepalive.start(now)
    elif keepalive.owe_probe(now):
        return
    elif keepalive.kind == KEEP_ALIVE:
        timed_out(m, _NO_KEEP_ALIVE)
    elif m.settings.offloaded:
        upload(m, TcpUploadReason.TimeoutExpiration, _NO_KEEP_ALIVE, closed=True)
    else:
        close(m, _NO_KEEP_ALIVE, EventKind.TIMED_OUT)


def _retransmission(m: TcpConnection, now: int) -> None:
    """Retransmit: RFC 6298 (5.4) to (5.6), RFC 5681 3.1, and the limits R2, R-TMR-22, R-TMR-23."""
    d = m.delegated
    timer = m.timer
    if d.snd_una == d.snd_max:
        timer.off()
        return
    settings = m.settings
    syn = d.state is SYN_SENT or d.state is SYN_RCVD
    longest = NEVER
    max_rt = m.cached.max_rt
    if syn:
        if d.retransmit_count >= settings.connect_retries:
            close(m, "connection timed out", EventKind.TIMED_OUT)
            return
    elif max_rt == MAX_RT_USE_LIMIT and _in_vain(m):
        timed_out(m, "no answer to retransmissions")
        return
    timer.waited(now)
    if not syn and max_rt != MAX_RT_USE_LIMIT and max_rt != MAX_RT_NO_LIMIT:
        longest = max_rt - d.total_rt
        if longest <= 0:
            timed_out(m, "no answer to retransmissions within MaxRT")
            return
    count = timer.retransmitted(longest, now)
    if count == settings.parameters.tcp_doubt_reachability_retransmissions:
        m.events.append(TcpEvent(EventKind.DOUBT, 0, f"{count} retransmissions unanswered"))
    d.snd_nxt = d.snd_una
    m.rtt.drop()
    if syn:
        if m.handshake is not None:
            m.handshake.lost = True
        return
    m.recovery.timed_out(m.mss, again=count > 1)
    if m.stamped:
        # The next ACK of something new measures a round trip.
        m.rtt.expect_after((d.snd_una - 1) & 0xFFFFFFFF)
