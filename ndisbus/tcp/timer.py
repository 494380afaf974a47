"""The timer of the sending half: retransmission, persist, FIN_WAIT_2 and two MSL; and the override timer.

Retransmit.TimeoutDelta of the delegated structure stands for one of the first four. They never run together,
and the state of the connection tells which one it is (R-TMR-09, R-TMR-13). This module starts and stops the
timer and keeps its counters. expiry.py has what happens when it expires.

**What bounds the retransmission timer:** :meth:`SendTimer.retransmitted` doubles the interval. It takes the
interval from :meth:`ndisbus.tcp.rtt.RoundTrip.rto` (RFC 6298), which keeps it between RtoMin and RtoMax.
``_retransmission`` in expiry.py limits how often and how long in all (R-TMR-22, R-TMR-23).

Persist (R-TMR-13 to R-TMR-19): probes of a zero window, in rounds. Retransmit.Count counts the probes of a
round and SndWndProbeCount the rounds. A zero-window ACK ends a round if a probe of it has been sent
(R-DIS-21). While the window is open the counters belong to the retransmission (R-DIS-20).
"""

from __future__ import annotations

from typing import ClassVar

from ndisbus.ddi.tcp_enums import MAX_RT_NO_LIMIT, TIMER_NOT_RUNNING
from ndisbus.state.tcp import TcpOffloadStateDelegated
from ndisbus.tcp.rtt import RoundTrip
from ndisbus.tcp.states import (
    CLOSED,
    FIN_2,
    FIN_WAIT_2,
    IDLE,
    LISTEN,
    NEVER,
    PERSIST,
    RETRANSMIT,
    SYN_RCVD,
    SYN_SENT,
    TIME_WAIT,
    TWO_MSL,
    delta_of,
)

__all__ = ["SendTimer"]


class SendTimer:
    """One timer in one of four modes, its counters, and the override timer of the silly window avoidance."""

    OWNS: ClassVar = ("retransmit_count", "retransmit_timeout_delta", "snd_wnd_probe_count", "total_rt")

    __slots__ = (
        "_delegated",
        "_rtt",
        "backoff",
        "due",
        "kind",
        "last_sent",
        "override",
        "override_due",
        "probe",
    )

    kind: int
    """IDLE, RETRANSMIT, PERSIST, FIN_2 or TWO_MSL. RETRANSMIT runs while a SYN, data or a FIN is outstanding
    and SndWnd is not 0; PERSIST while SndWnd is 0 and something waits to be sent."""
    due: int
    """When it expires. NEVER if and only if ``kind`` is IDLE."""
    backoff: int
    """How often the RTO is doubled. At least Retransmit.Count. It stays when the count returns to zero, until
    a round trip is measured (RFC 6298 5.7). A successor starts with the count."""
    last_sent: int
    """When a SYN, data or a FIN was last sent. A successor starts with now, or with one RTO before
    ``due``."""
    probe: bool
    """Whether a window probe leaves with the next transmit(), unless the window has opened."""
    override: bool
    """Whether the next transmit() sends as much as the window allows, however little (R-TMR-27)."""
    override_due: int
    """When ``override`` becomes true. NEVER unless a small segment is held back. Not handed over."""

    def __init__(
        self, delegated: TcpOffloadStateDelegated, rtt: RoundTrip, now: int, *, limited: bool = True
    ) -> None:
        """Continue from the structure's values (R-TMR-05), and start a timer that must run.

        ``limited``: whether FIN_WAIT_2 has a time limit here.
        """
        d = self._delegated = delegated
        self._rtt = rtt
        self.probe = self.override = False
        self.override_due = NEVER
        self.last_sent = now
        self.backoff = d.retransmit_count if d.snd_wnd else 0
        self.kind, self.due = self._taken_over(now, limited)
        if self.kind == RETRANSMIT:
            self.last_sent = min(self.due - rtt.rto(self.backoff), now)

    def _taken_over(self, now: int, limited: bool) -> tuple[int, int]:
        """Return (kind, due) from the state and Retransmit.TimeoutDelta."""
        d = self._delegated
        state = d.state
        settings = self._rtt.settings
        running = d.retransmit_timeout_delta != TIMER_NOT_RUNNING
        due = now + d.retransmit_timeout_delta
        if state is CLOSED or state is LISTEN:
            return IDLE, NEVER
        if state is FIN_WAIT_2 and not limited:
            return IDLE, NEVER
        if state is FIN_WAIT_2:
            return FIN_2, due if running else now + settings.fin_wait_2
        if state is TIME_WAIT:
            return TWO_MSL, due if running else now + settings.time_wait
        if not d.snd_wnd and state is not SYN_SENT and state is not SYN_RCVD:
            # If it does not run, transmit() starts it as soon as there is something to send.
            return (PERSIST, due) if running else (IDLE, NEVER)
        if d.snd_una == d.snd_max:
            return IDLE, NEVER
        return RETRANSMIT, due if running else now + self._rtt.rto(self.backoff)

    def write_back(self, now: int) -> None:
        """Write the timer into the structure (R-TMR-05)."""
        d = self._delegated
        d.retransmit_timeout_delta = TIMER_NOT_RUNNING if d.state is CLOSED else delta_of(self.due, now)

    def off(self) -> None:
        """Stop the timer."""
        self.kind = IDLE
        self.due = NEVER

    def stop(self) -> None:
        """Stop everything and owe no probe: the connection has ended here."""
        self.off()
        self.override_due = NEVER
        self.probe = False

    # -- retransmission (RFC 6298 5)

    def sent(self, now: int) -> None:
        """Start the timer if it does not run: data or a FIN left (5.1)."""
        self.last_sent = now
        if self.kind != RETRANSMIT and self._delegated.snd_wnd:
            self.kind = RETRANSMIT
            self.due = now + self._rtt.rto(self.backoff)

    def syn_sent(self, now: int) -> None:
        """Start the timer: a SYN left, which needs no window."""
        self.last_sent = now
        if self.kind == IDLE:
            self.kind = RETRANSMIT
            self.due = now + self._rtt.rto(self.backoff)

    def acknowledged(self, all_of_it: bool, now: int) -> None:
        """Restart the timer after a new acknowledgement, or stop it if nothing is outstanding (5.2, 5.3)."""
        if self.kind == PERSIST:
            return
        d = self._delegated
        d.retransmit_count = d.total_rt = 0
        if all_of_it:
            self.kind = IDLE
            self.due = NEVER
        else:
            self.kind = RETRANSMIT
            self.due = now + self._rtt.rto(self.backoff)

    def measured(self) -> None:
        """Stop doubling the RTO: a round trip was measured."""
        self.backoff = 0

    def waited(self, now: int) -> None:
        """Add the interval to TotalRT: it passed without an ACK (R-TMR-23)."""
        d = self._delegated
        d.total_rt = min(d.total_rt + max(now - self.last_sent, 0), MAX_RT_NO_LIMIT)

    def retransmitted(self, longest: int, now: int) -> int:
        """Count one more retransmission and back off (5.5, 5.6), at most ``longest`` ticks.

        Returns the count.
        """
        d = self._delegated
        count = d.retransmit_count = min(d.retransmit_count + 1, 255)
        self.backoff += 1
        self.kind = RETRANSMIT
        self.due = now + min(self._rtt.rto(self.backoff), longest)
        return count

    def begin_again(self) -> None:
        """Reset the timer: the handshake has reached its next step."""
        d = self._delegated
        d.retransmit_count = d.total_rt = self.backoff = 0
        self.off()

    def restart_max_rt(self) -> None:
        """Count the time limit MaxRT from now on (R-UPD-03)."""
        self._delegated.total_rt = 0

    def hurry(self, now: int) -> None:
        """Retransmit what is backed off now."""
        if self.kind == RETRANSMIT and self.backoff and self.due > now:
            self.due = now

    # -- persist

    def window_closed(self, now: int) -> None:
        """Start the persist timer: the window is zero and there is something to send (R-TMR-14)."""
        d = self._delegated
        d.snd_wnd_probe_count = 0
        d.retransmit_count = d.total_rt = 0
        self.kind = PERSIST
        self.due = now + self._rtt.rto()

    def zero_window(self, pending: bool, now: int) -> None:
        """Note a zero window of an acceptable segment (R-TMR-16). ``pending``: something waits to be sent."""
        d = self._delegated
        if self.kind != PERSIST:
            if pending:
                self.window_closed(now)
        elif not pending:
            self.off()
            d.snd_wnd_probe_count = d.retransmit_count = 0
        elif d.retransmit_count:
            if d.snd_wnd_probe_count < 255:
                d.snd_wnd_probe_count += 1
            d.retransmit_count = d.total_rt = 0
            self.due = now + self._rtt.rto(d.snd_wnd_probe_count)

    def owe_probe(self, now: int) -> None:
        """Owe a probe now, and start the timer for the next one (R-TMR-15)."""
        d = self._delegated
        self.probe = True
        self.due = now + self._rtt.rto(d.retransmit_count)
        d.retransmit_count += 1

    def probed(self, now: int) -> None:
        """Note that the probe has left."""
        self.probe = False
        self.last_sent = now

    def probe_dropped(self) -> None:
        """Owe no probe any more: the window has opened, or nothing waits."""
        self.probe = False

    def window_opened(self, now: int) -> None:
        """Stop the persist timer if it runs: the window is open again (R-TMR-17)."""
        if self.kind != PERSIST:
            return
        d = self._delegated
        d.snd_wnd_probe_count = d.retransmit_count = d.total_rt = 0
        if d.snd_una == d.snd_max:
            self.off()
        else:
            self.kind = RETRANSMIT
            self.due = now + self._rtt.rto(self.backoff)

    # -- the end of a connection

    def fin_wait_2(self, now: int) -> None:
        """Start the timer of FIN_WAIT_2, or restart it for an acceptable segment (R-TMR-07).

        Not for a host whose user still reads: see ``ending.fin_wait_2``.
        """
        self.kind = FIN_2
        self.due = now + self._rtt.settings.fin_wait_2

    def time_wait(self, now: int) -> None:
        """Start the timer of TIME_WAIT, or restart it (R-TMR-04)."""
        self.kind = TWO_MSL
        self.due = now + self._rtt.settings.time_wait

    # -- the override timer (RFC 9293 3.8.6.2.1, R-TMR-27)

    def held_back(self, now: int) -> None:
        """Hold a small segment back. It is sent after the override time, whatever the window is then."""
        if self.override_due == NEVER:
            self.override_due = now + self._rtt.settings.parameters.tcp_sws_prevention_ticks

    def not_held(self) -> None:
        """Hold nothing back any more: data has left."""
        self.override_due = NEVER

    def override_expired(self) -> None:
        """Note that the override time is over."""
        self.override_due = NEVER
        self.override = True

    def override_used(self) -> None:
        """Note that as much as the window allows was sent."""
        self.override = False
