"""The keepalive timer (R-TMR-10 to R-TMR-12), shared by the check after a blind RST or SYN (R-BRA-04)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ndisbus.ddi.enums import TCP_FLAG_KEEP_ALIVE_ENABLED, TcpUploadReason
from ndisbus.tcp.ending import KEEP_ALIVE_PROBE, close, timed_out, upload
from ndisbus.tcp.events import EventKind
from ndisbus.tcp.states import BLIND_RESET, CLOSED, IDLE, KEEP_ALIVE, OFF, SYN_RCVD, SYN_SENT, TIME_WAIT

if TYPE_CHECKING:
    from ndisbus.tcp.machine import TcpMachine

__all__ = ["check_begins", "expire", "heard", "start"]

_DEFAULT_TIMEOUT_MS: Final = 7_200_000
"""KaTimeout zero: two hours (RFC 9293 3.8.4)."""
_DEFAULT_INTERVAL_MS: Final = 1_000
_DEFAULT_PROBES: Final = 10
"""KaInterval and KaProbeCount zero (R-BRA-05)."""

_WHY: Final = "no answer to keepalive probes"


def start(m: TcpMachine, now: int) -> None:
    """Run from zero, if the connection is one that has a keepalive timer."""
    state = m.delegated.state
    if (
        m.cached.flags & TCP_FLAG_KEEP_ALIVE_ENABLED
        and state is not SYN_SENT
        and state is not SYN_RCVD
        and state is not TIME_WAIT
        and state is not CLOSED
    ):
        m.keepalive = (KEEP_ALIVE, now + (m.cached.ka_timeout or m.settings.ticks(_DEFAULT_TIMEOUT_MS)))
    else:
        m.keepalive = OFF


def heard(m: TcpMachine, now: int) -> None:
    """An acceptable segment arrived: the peer lives, and a check is over (R-BRA-07)."""
    m.delegated.keep_alive_probe_count = 0
    start(m, now)


def check_begins(m: TcpMachine, now: int) -> None:
    """Make the timer expire within five minutes (R-BRA-04); an earlier expiry stands (R-DIS-38)."""
    kind, due = m.keepalive
    latest = now + m.settings.challenge
    m.keepalive = (BLIND_RESET, due if kind != IDLE and due < latest else latest)


def expire(m: TcpMachine, now: int) -> None:
    """Probe an idle peer, or give up one that answered no probe."""
    d = m.delegated
    kind = m.keepalive[0]
    interval = m.cached.ka_interval or m.settings.ticks(_DEFAULT_INTERVAL_MS)
    if kind == KEEP_ALIVE and d.snd_una != d.snd_max:
        # Not idle: unanswered data is the retransmission timer's (RFC 9293 3.8.4).
        start(m, now)
    elif d.keep_alive_probe_count < (m.cached.ka_probe_count or _DEFAULT_PROBES):
        d.keep_alive_probe_count += 1
        m.owed = KEEP_ALIVE_PROBE
        m.keepalive = (kind, now + interval)
    elif kind == KEEP_ALIVE:
        timed_out(m, _WHY)
    elif m.settings.offloaded:
        upload(m, TcpUploadReason.TimeoutExpiration, _WHY, closed=True)
    else:
        close(m, _WHY, EventKind.TIMED_OUT)
