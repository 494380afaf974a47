"""Timestamps that keep growing across offload and upload (R-TS-01), and PAWS (RFC 7323 5).

Each side's timestamp clock is its own clock plus a delta. TsTime carries the reading to the other side, which
computes its own delta from it. All numbers are ticks modulo 2**32.
"""

from __future__ import annotations

from typing import ClassVar, Final

from ndisbus.state.tcp import TcpOffloadStateDelegated

__all__ = ["PAWS_IDLE_SECONDS", "TimestampClock", "delta_from", "own", "paws_ok", "round_trip"]

PAWS_IDLE_SECONDS: Final = 24 * 24 * 3600
"""Ticks after which a TsRecent proves nothing any more: RFC 7323 5.5."""


def delta_from(ts_time: int, clock: int) -> int:
    """Return the delta of the side that takes over, whose own clock reads ``clock`` (R-TS-04, R-TS-05)."""
    return (ts_time - clock) & 0xFFFFFFFF


def own(now: int, delta: int) -> int:
    """Return the timestamp to send, also TsTime of a hand-over: clock plus delta (R-TS-02, R-TS-03)."""
    return (now + delta) & 0xFFFFFFFF


def round_trip(now: int, delta: int, ecr: int) -> int:
    """Return the round trip of an echoed timestamp (R-TS-06). Negative: the echo is from the future."""
    return ((now + delta - ecr + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def paws_ok(ts_val: int, ts_recent: int, age: int, ticks_per_second: int) -> bool:
    """Return whether a segment with ``ts_val`` passes PAWS, RFC 7323 5.3 R1.

    ``age``: ticks since TsRecent was taken (TsRecentAge). It passes unless ``ts_val`` is older than
    ``ts_recent``. After 24 days it passes even then, because the remote end's clock may have wrapped.
    """
    return (ts_val - ts_recent) & 0xFFFFFFFF < 0x80000000 or age > PAWS_IDLE_SECONDS * ticks_per_second


class TimestampClock:
    """The timestamp clock of one connection, and the newest timestamp of the remote end."""

    OWNS: ClassVar = ("ts_recent", "ts_recent_age", "ts_time")

    __slots__ = ("_delegated", "at", "delta")

    delta: int
    """Added to the own clock for a timestamp. Never changes while one machine has the connection."""
    at: int
    """When TsRecent was taken; TsRecentAge counts from then. May be before this machine was made."""

    def __init__(self, delegated: TcpOffloadStateDelegated, now: int) -> None:
        self._delegated = delegated
        self.delta = delta_from(delegated.ts_time, now)
        self.at = now - delegated.ts_recent_age

    def take(self, ts_val: int, now: int) -> None:
        """Set TsRecent to ``ts_val``. The caller has checked the segment (RFC 7323 4.3)."""
        self._delegated.ts_recent = ts_val
        self.at = now

    def passes(self, ts_val: int, ticks_per_second: int, now: int) -> bool:
        """Return whether a segment with ``ts_val`` passes PAWS."""
        return paws_ok(ts_val, self._delegated.ts_recent, now - self.at, ticks_per_second)

    def write_back(self, now: int) -> None:
        """Write the clock into the structure (R-TS-03)."""
        d = self._delegated
        d.ts_time = own(now, self.delta)
        d.ts_recent_age = min(max(now - self.at, 0), 0xFFFFFFFF)
