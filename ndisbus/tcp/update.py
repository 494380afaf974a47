"""Changes by the host on a running connection: new cached values, a new path MTU."""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from ndisbus.ddi.tcp_enums import (
    TCP_FLAG_KEEP_ALIVE_ENABLED,
    TCP_FLAG_KEEP_ALIVE_RESTART,
    TCP_FLAG_MAX_RT_RESTART,
    TCP_FLAG_UPDATE_RCV_WND,
)
from ndisbus.state.tcp import TcpOffloadStateCached
from ndisbus.tcp import options, windows
from ndisbus.tcp.connection import TcpConnection
from ndisbus.tcp.states import SYN_RCVD, SYN_SENT

__all__ = ["path_changed", "update_cached"]

_MEMBERS: Final = tuple(f.name for f in fields(TcpOffloadStateCached))


def update_cached(m: TcpConnection, new: TcpOffloadStateCached, now: int) -> None:
    """Take over cached values: see TcpMachine.update_cached. ``new`` may be the machine's own structure."""
    old = m.cached
    same = new is old
    probes = same or new.ka_probe_count != old.ka_probe_count
    times = same or new.ka_timeout != old.ka_timeout or new.ka_interval != old.ka_interval
    for name in _MEMBERS:
        setattr(old, name, getattr(new, name))
    flags = old.flags = int(old.flags)
    if flags & TCP_FLAG_UPDATE_RCV_WND and windows.room(m) > m.delegated.rcv_wnd:
        # Offered at once, however little it is (R-STATE-18). A window that was offered is not taken back.
        m.ack_clock.owe_window()
    if flags & TCP_FLAG_MAX_RT_RESTART:
        m.timer.restart_max_rt()
    if flags & (TCP_FLAG_KEEP_ALIVE_RESTART | TCP_FLAG_MAX_RT_RESTART):
        # Either flag resets what changed (R-UPD-11, R-DIS-13). The timer's own flag always restarts it.
        m.need_keepalive(now).updated(probes, times or bool(flags & TCP_FLAG_KEEP_ALIVE_RESTART), now)
    if m.keepalive is not None or flags & TCP_FLAG_KEEP_ALIVE_ENABLED:
        m.need_keepalive(now).flag_changed(now)


def path_changed(m: TcpConnection) -> None:
    """Act on a new MTU: see TcpMachine.path_changed.

    For a smaller one, outstanding segments are sent again.
    """
    before = m.mss
    options.refresh(m)
    d = m.delegated
    if d.state is SYN_SENT or d.state is SYN_RCVD:
        return
    smaller = m.mss < before and d.snd_una != d.snd_max and d.snd_wnd > 0
    m.recovery.path_changed(m.mss, smaller=smaller)
    if smaller:
        d.snd_nxt = d.snd_una
        m.rtt.drop()
