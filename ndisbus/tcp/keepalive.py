"""The keepalive timer (R-TMR-10 to R-TMR-12), also used for the check after a blind RST or SYN (R-BRA-04)."""

from __future__ import annotations

from typing import ClassVar, Final, Self

from ndisbus.ddi.tcp_enums import TCP_FLAG_KEEP_ALIVE_ENABLED, TIMER_NOT_RUNNING
from ndisbus.state.tcp import TcpOffloadStateCached, TcpOffloadStateDelegated
from ndisbus.tcp.settings import TcpSettings
from ndisbus.tcp.states import (
    BLIND_RESET,
    CLOSED,
    IDLE,
    KEEP_ALIVE,
    NEVER,
    SYN_RCVD,
    SYN_SENT,
    TIME_WAIT,
    delta_of,
)

__all__ = ["KeepAlive"]

_DEFAULT_TIMEOUT_MS: Final = 7_200_000
"""The time for KaTimeout zero: two hours (RFC 9293 3.8.4)."""
_DEFAULT_INTERVAL_MS: Final = 1_000
_DEFAULT_PROBES: Final = 10
"""The values for KaInterval and KaProbeCount zero (R-BRA-05)."""


class KeepAlive:
    """The timer of KeepAlive.TimeoutDelta. It runs beside the timer of the sending half."""

    OWNS: ClassVar = ("keep_alive_probe_count", "keep_alive_timeout_delta")

    __slots__ = ("_cached", "_delegated", "_settings", "due", "kind", "probe")

    kind: int
    """IDLE; KEEP_ALIVE, which needs the cached flag; or BLIND_RESET, the check on a target."""
    due: int
    """When it expires. NEVER if and only if ``kind`` is IDLE."""
    probe: bool
    """Whether a probe leaves with the next transmit()."""

    def __init__(
        self,
        cached: TcpOffloadStateCached,
        delegated: TcpOffloadStateDelegated,
        settings: TcpSettings,
        now: int,
    ) -> None:
        """Continue from the structure's values (R-TMR-05, R-TMR-12)."""
        self._cached = cached
        self._delegated = delegated
        self._settings = settings
        self.probe = False
        self.kind = IDLE
        self.due = NEVER
        if delegated.state is CLOSED or delegated.state is TIME_WAIT:
            return
        delta = delegated.keep_alive_timeout_delta
        if delta == TIMER_NOT_RUNNING:
            self.start(now)
            return
        # If the flag is not set, it runs because of a suspicious RST or SYN (R-BRA-06).
        self.kind = KEEP_ALIVE if cached.flags & TCP_FLAG_KEEP_ALIVE_ENABLED else BLIND_RESET
        self.due = now + delta

    @classmethod
    def taken_over(
        cls,
        cached: TcpOffloadStateCached,
        delegated: TcpOffloadStateDelegated,
        settings: TcpSettings,
        now: int,
    ) -> Self | None:
        """The timer of a connection that was taken over; None if it does not run."""
        flags, delta = cached.flags, delegated.keep_alive_timeout_delta
        if delta == TIMER_NOT_RUNNING and not flags & TCP_FLAG_KEEP_ALIVE_ENABLED:
            return None
        return cls(cached, delegated, settings, now)

    def write_back(self, now: int) -> None:
        """Write the timer into the structure (R-TMR-05)."""
        d = self._delegated
        d.keep_alive_timeout_delta = TIMER_NOT_RUNNING if d.state is CLOSED else delta_of(self.due, now)

    def start(self, now: int) -> None:
        """Start the timer from zero if the connection has a keepalive timer."""
        state = self._delegated.state
        if (
            self._cached.flags & TCP_FLAG_KEEP_ALIVE_ENABLED
            and state is not SYN_SENT
            and state is not SYN_RCVD
            and state is not TIME_WAIT
            and state is not CLOSED
        ):
            self.kind = KEEP_ALIVE
            self.due = now + (self._cached.ka_timeout or self._settings.ticks(_DEFAULT_TIMEOUT_MS))
        else:
            self.off()

    def off(self) -> None:
        """Stop the timer."""
        self.kind = IDLE
        self.due = NEVER

    def stop(self) -> None:
        """Stop the timer and owe no probe: the connection has ended here."""
        self.off()
        self.probe = False

    def heard(self, now: int) -> None:
        """Note an acceptable segment: the remote end is alive, and a check is over (R-BRA-07)."""
        self._delegated.keep_alive_probe_count = 0
        self.start(now)

    def check(self, now: int) -> None:
        """Make the timer expire within five minutes (R-BRA-04). An earlier expiry stays (R-DIS-38)."""
        latest = now + self._settings.challenge
        self.kind = BLIND_RESET
        if self.due > latest:
            self.due = latest

    def updated(self, probes: bool, times: bool, now: int) -> None:
        """Restart what depends on the cached values that the host changed (R-UPD-11, R-DIS-13)."""
        if probes:
            self._delegated.keep_alive_probe_count = 0
        if times:
            self.start(now)

    def flag_changed(self, now: int) -> None:
        """Run if and only if the cached flag is set. A check continues without the flag."""
        if self._cached.flags & TCP_FLAG_KEEP_ALIVE_ENABLED:
            if self.kind == IDLE:
                self.start(now)
        elif self.kind == KEEP_ALIVE:
            self.off()

    def owe_probe(self, now: int) -> bool:
        """Owe one more probe after the timer expired. Returns False if the last ones were all unanswered."""
        d = self._delegated
        if d.keep_alive_probe_count >= (self._cached.ka_probe_count or _DEFAULT_PROBES):
            return False
        d.keep_alive_probe_count += 1
        self.probe = True
        self.due = now + (self._cached.ka_interval or self._settings.ticks(_DEFAULT_INTERVAL_MS))
        return True

    def probed(self) -> None:
        """Note that the probe has left."""
        self.probe = False
