"""Timestamps that keep growing across offload and upload (R-TS-01), and PAWS (RFC 7323 5).

Each side's timestamp clock is its own clock plus a delta. TsTime carries the reading across; the side taking
over works out its delta from it. All numbers are ticks modulo 2**32.
"""

from __future__ import annotations

from typing import Final

__all__ = ["PAWS_IDLE_SECONDS", "delta_from", "own", "paws_ok", "round_trip"]

PAWS_IDLE_SECONDS: Final = 24 * 24 * 3600
"""A TsRecent older than this says nothing any more: RFC 7323 5.5."""


def delta_from(ts_time: int, clock: int) -> int:
    """The delta of the side that takes over when its own clock reads ``clock`` (R-TS-04, R-TS-05)."""
    return (ts_time - clock) & 0xFFFFFFFF


def own(now: int, delta: int) -> int:
    """The timestamp to send, and TsTime of a hand-over: own clock plus own delta (R-TS-02, R-TS-03)."""
    return (now + delta) & 0xFFFFFFFF


def round_trip(now: int, delta: int, ecr: int) -> int:
    """The round trip that an echoed timestamp measures (R-TS-06); negative: the echo is from the future."""
    return ((now + delta - ecr + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def paws_ok(ts_val: int, ts_recent: int, age: int, ticks_per_second: int) -> bool:
    """Whether a segment with ``ts_val`` passes PAWS, RFC 7323 5.3 R1.

    ``age``: ticks since TsRecent was taken, TsRecentAge. It passes unless ``ts_val`` is older than
    ``ts_recent``; after 24 days even then, for the peer's clock may have wrapped.
    """
    return (ts_val - ts_recent) & 0xFFFFFFFF < 0x80000000 or age > PAWS_IDLE_SECONDS * ticks_per_second
