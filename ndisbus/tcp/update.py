"""What the host tells a running connection: new cached values, a new path MTU."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Final

from ndisbus.ddi.enums import (
    TCP_FLAG_KEEP_ALIVE_ENABLED,
    TCP_FLAG_KEEP_ALIVE_RESTART,
    TCP_FLAG_MAX_RT_RESTART,
    TCP_FLAG_UPDATE_RCV_WND,
)
from ndisbus.state.tcp import TcpOffloadStateCached
from ndisbus.tcp import keepalive, options, windows
from ndisbus.tcp.states import KEEP_ALIVE, OFF, SYN_RCVD, SYN_SENT

if TYPE_CHECKING:
    from ndisbus.tcp.machine import TcpMachine

__all__ = ["path_changed", "update_cached"]

_MEMBERS: Final = tuple(f.name for f in fields(TcpOffloadStateCached))


def update_cached(m: TcpMachine, new: TcpOffloadStateCached, now: int) -> None:
    """See TcpMachine.update_cached. ``new`` may be the machine's own structure, already changed."""
    old = m.cached
    same = new is old
    probes = same or new.ka_probe_count != old.ka_probe_count
    times = same or new.ka_timeout != old.ka_timeout or new.ka_interval != old.ka_interval
    for name in _MEMBERS:
        setattr(old, name, getattr(new, name))
    flags = old.flags = int(old.flags)
    if flags & TCP_FLAG_UPDATE_RCV_WND and windows.room(m) > m.delegated.rcv_wnd:
        # Told at once, however little it is (R-STATE-18). A window that was offered is not taken back.
        m.window_owed = m.ack_now = True
    if flags & TCP_FLAG_MAX_RT_RESTART:
        m.delegated.total_rt = 0
    if flags & (TCP_FLAG_KEEP_ALIVE_RESTART | TCP_FLAG_MAX_RT_RESTART):
        # Either flag resets what changed (R-UPD-11, R-DIS-13); the timer's own restarts it in any case.
        if probes:
            m.delegated.keep_alive_probe_count = 0
        if times or flags & TCP_FLAG_KEEP_ALIVE_RESTART:
            keepalive.start(m, now)
    if flags & TCP_FLAG_KEEP_ALIVE_ENABLED:
        if m.keepalive is OFF:
            keepalive.start(m, now)
    elif m.keepalive[0] == KEEP_ALIVE:
        m.keepalive = OFF


def path_changed(m: TcpMachine, now: int) -> None:
    """See TcpMachine.path_changed: for a smaller MTU what is outstanding was too large, and is sent again."""
    before = m.mss
    options.refresh(m)
    d = m.delegated
    if d.state is SYN_SENT or d.state is SYN_RCVD:
        return
    if d.c_wnd < m.mss:
        d.c_wnd = m.mss  # a segment can always be sent
    if m.mss < before and d.snd_una != d.snd_max and d.snd_wnd:
        # No sign of congestion: CWnd stays (RFC 1191 6.4).
        d.snd_nxt = d.snd_una
        d.dup_ack_count = 0
        m.recover = d.snd_max
        m.resend = False
        m.rtt_at = -1
