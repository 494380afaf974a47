"""What a stack counts: reasons for drops and the like, and the counters that management reports."""

from __future__ import annotations

from collections import Counter

from ndisbus.errors import DecodeError
from ndisbus.net.malformed import TRUNCATED
from ndisbus.tcp.statistics import FamilyStats

__all__ = ["Statistics"]


class Statistics:
    """``counters``: how often something happened, by reason. ``tallies``: management's, by IP version.

    For offloaded connections the target keeps counters of its own (R-STAT-09).
    """

    __slots__ = ("counters", "tallies")

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.tallies = {4: FamilyStats(), 6: FamilyStats()}

    def count(self, reason: str) -> None:
        """Count one more event of this kind."""
        self.counters[reason] += 1

    def of(self, address: bytes) -> FamilyStats:
        """Return the counters of an address's IP version."""
        return self.tallies[4 if len(address) == 4 else 6]

    def malformed(self, frame: bytes, error: DecodeError) -> None:
        """Count a packet or segment that cannot be parsed (R-STAT-05, R-STAT-08)."""
        self.count(str(error))
        version = {b"\x08\x00": 4, b"\x86\xdd": 6}.get(frame[12:14])
        if version is None:
            return
        tally = self.tallies[version]
        if error.where == "tcp":
            tally.tcp.in_segments += 1
            tally.tcp.in_errors += 1
        elif error.where in ("ipv4", "ipv6"):
            if error.detail == TRUNCATED:
                tally.ip.in_truncated_packets += 1
            else:
                tally.ip.in_header_errors += 1
