"""The persist timer, R-TMR-13 to R-TMR-19: probes of a zero window, in rounds.

Retransmit.Count counts the probes of a round and SndWndProbeCount the rounds; a zero-window ACK ends a round
once a probe of it is out (R-DIS-21). With an open window the counters are the retransmission's (R-DIS-20).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndisbus.tcp import rtt
from ndisbus.tcp.ending import WINDOW_PROBE, timed_out
from ndisbus.tcp.states import FIN_OWED, OFF, PERSIST, RETRANSMIT

if TYPE_CHECKING:
    from ndisbus.tcp.machine import TcpMachine

__all__ = ["begin", "end", "expire", "zero_window"]


def begin(m: TcpMachine, now: int) -> None:
    """The window is zero and there is something to send (R-TMR-14)."""
    d = m.delegated
    d.snd_wnd_probe_count = 0
    d.retransmit_count = d.total_rt = 0
    m.timer = (PERSIST, now + rtt.rto(d, m.settings))


def zero_window(m: TcpMachine, now: int) -> None:
    """An acceptable segment offered a zero window (R-TMR-16)."""
    d = m.delegated
    pending = len(m.sending) or d.state in FIN_OWED
    if m.timer[0] != PERSIST:
        if pending:
            begin(m, now)
        return
    if not pending:
        m.timer = OFF
        d.snd_wnd_probe_count = d.retransmit_count = 0
    elif d.retransmit_count:
        if d.snd_wnd_probe_count < 255:
            d.snd_wnd_probe_count += 1
        d.retransmit_count = 0
        m.timer = (PERSIST, now + rtt.backed_off(d, m.settings, d.snd_wnd_probe_count))


def expire(m: TcpMachine, now: int) -> None:
    """Send a probe, or give up a peer that answers none (R-TMR-15, R-TMR-18)."""
    d = m.delegated
    count = d.retransmit_count
    if count >= m.settings.parameters.tcp_maximum_retransmissions:
        timed_out(m, "no answer to window probes")
        return
    m.owed = WINDOW_PROBE
    m.timer = (PERSIST, now + rtt.backed_off(d, m.settings, count))
    d.retransmit_count = count + 1


def end(m: TcpMachine, now: int) -> None:
    """The window is open again (R-TMR-17)."""
    d = m.delegated
    d.snd_wnd_probe_count = d.retransmit_count = 0
    m.timer = OFF if d.snd_una == d.snd_max else (RETRANSMIT, now + rtt.backed_off(d, m.settings, m.backoff))
