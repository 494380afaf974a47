"""The counters of one IP version, as host and target both keep them (RFC 4293, RFC 4022).

They are the structures in which a target reports its own counters (DDI pages IP_OFFLOAD_STATS,
TCP_OFFLOAD_STATS). So the counters of both sides can be added (R-STAT-09). The numbers in them only grow;
they wrap when they are read (R-STAT-03).
"""

from __future__ import annotations

from typing import TypeVar

from ndisbus.ddi.structures import IpOffloadStats, Struct, TcpOffloadStats
from ndisbus.net.segment import Segment
from ndisbus.tcp.sequence import gt, lt, seq_add, seq_diff

__all__ = ["FamilyStats", "added", "resent", "wrapped"]

S = TypeVar("S", bound=Struct)


class FamilyStats:
    """IP and TCP counters of one IP version."""

    __slots__ = ("ip", "tcp")

    def __init__(self) -> None:
        self.ip = IpOffloadStats()
        self.tcp = TcpOffloadStats()

    def datagram_in(self, size: int) -> None:
        """Count a received datagram of ``size`` bytes, IP header included (R-STAT-04)."""
        ip = self.ip
        ip.in_receives += 1
        ip.in_octets += size

    def segment_out(self, size: int, resent: int, length: int, reset: bool) -> None:
        """Count a segment sent in a datagram of ``size`` bytes; ``resent`` of its ``length`` numbers are old.

        OutSegments does not count segments that are only retransmissions (R-STAT-05).
        """
        ip, tcp = self.ip, self.tcp
        ip.out_requests += 1
        ip.out_octets += size
        if resent:
            tcp.retransmitted_segments += 1
        if not resent or resent < length:
            tcp.out_segments += 1
        if reset:
            tcp.out_resets += 1


def resent(segment: Segment, high: int) -> tuple[int, int]:
    """Return how many of a segment's sequence numbers were sent before, and the new value of ``high``.

    ``high``: one beyond the highest sequence number that was sent so far.
    """
    length = segment.length
    if not length:
        return 0, high
    again = min(seq_diff(high, segment.seq), length) if lt(segment.seq, high) else 0
    end = seq_add(segment.seq, length)
    return again, end if gt(end, high) else high


def added(own: S, theirs: S) -> S:
    """Return the sums of the counters of two structures, each wrapped to its width (R-STAT-03, R-STAT-09)."""
    counters = {m.attr: (getattr(own, m.attr) + getattr(theirs, m.attr)) & m.maximum for m in own.MEMBERS}
    return type(own)(**counters)


def wrapped(stats: S) -> S:
    """Return a copy whose counters are wrapped to the width of their members (R-STAT-03)."""
    return added(stats, type(stats)())
