"""The keepalive timer (R-TMR-10 to R-TMR-12), shared by the check after a blind RST or SYN (R-BRA-04)."""

from __future__ import annotations

from typing import ClassVar, Final

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
"""KaTimeout zero: two hours (RFC 9293 3.8.4)."""
_DEFAULT_INTERVAL_MS: Final = 1_000
_DEFAULT_PROBES: Final = 10
"""KaInterval and KaProbeCount zero (R-BRA-05)."""


class KeepAlive:
    """The timer that KeepAlive.TimeoutDelta stands for. It runs beside the timer of the sending half."""

    OWNS: ClassVar = ("keep_alive_probe_count", "keep_alive_timeout_delta")

    __slots__ = ("_cached", "_delegated", "_settings", "due", "kind", "probe")

    kind: int
    """IDLE; KEEP_ALIVE, which needs the cached flag; or BLIND_RESET, the check on a target."""
    due: int
    """When it expires. NEVER exactly while ``kind`` is IDLE."""
    probe: bool
    """A probe leaves with the next transmit()."""

    def __init__(
        self,
        cached: TcpOffloadStateCached,
        delegated: TcpOffloadStateDelegated,
        settings: TcpSettings,
        now: int,
    ) -> None:
        """Go on as the structure says (R-TMR-05, R-TMR-12)."""
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
        # Without the flag it runs because of a suspicious RST or SYN (R-BRA-06).
        self.kind = KEEP_ALIVE if cached.flags & TCP_FLAG_KEEP_ALIVE_ENABLED else BLIND_RESET
        self.due = now + delta

    def write_back(self, now: int) -> None:
        """Bring the timer into the structure (R-TMR-05)."""
        d = self._delegated
        d.keep_alive_timeout_delta = TIMER_NOT_RUNNING if d.state is CLOSED else delta_of(self.due, now)

    def start(self, now: int) -> None:
        """Run from zero, if the connection is one that has a keepalive timer."""
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
        """The timer does not run any more."""
        self.kind = IDLE
        self.due = NEVER

    def stop(self) -> None:
        """The connection is over here: no timer runs and no probe is owed."""
        self.off()
        self.probe = False

    def heard(self, now: int) -> None:
        """An acceptable segment arrived: the remote end lives, and a check is over (R-BRA-07)."""
        self._delegated.keep_alive_probe_count = 0
        self.start(now)

    def check(self, now: int) -> None:
        """Make the timer expire within five minutes (R-BRA-04); an earlier expiry stands (R-DIS-38)."""
        latest = now + self._settings.challenge
        self.kind = BLIND_RESET
        if self.due > latest:
            self.due = latest

    def updated(self, probes: bool, times: bool, now: int) -> None:
        """The host changed what is cached: start anew what depends on it (R-UPD-11, R-DIS-13)."""
        if probes:
            self._delegated.keep_alive_probe_count = 0
        if times:
            self.start(now)

    def flag_changed(self, now: int) -> None:
        """Run exactly if the cached flag says so. A check goes on without the flag."""
        if self._cached.flags & TCP_FLAG_KEEP_ALIVE_ENABLED:
            if self.kind == IDLE:
                self.start(now)
        elif self.kind == KEEP_ALIVE:
            self.off()

    def owe_probe(self, now: int) -> bool:
        """The timer expired: owe one more probe. False if the remote end answered none of the last ones."""
        d = self._delegated
        if d.keep_alive_probe_count >= (self._cached.ka_probe_count or _DEFAULT_PROBES):
            return False
        d.keep_alive_probe_count += 1
        self.probe = True
        self.due = now + (self._cached.ka_interval or self._settings.ticks(_DEFAULT_INTERVAL_MS))
        return True

    def probed(self) -> None:
        """The probe left."""
        self.probe = False
