"""Counters of offloaded connections: IP_OFFLOAD_STATS and TCP_OFFLOAD_STATS, for each IP version (R-STAT-01).

A datagram is counted if it belongs to an offloaded connection. The host counts the frames that it sends and
receives. Corrupt frames go to the host uncounted, or are dropped and counted here (R-STAT-06).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from ndisbus.ddi.enums import Oid
from ndisbus.ddi.structures import IpOffloadStats, TcpOffloadStats
from ndisbus.tcp.statistics import FamilyStats, wrapped

if TYPE_CHECKING:
    from target.model.contexts import TcpContext

__all__ = ["FamilyStats", "Statistics"]

_ESTABLISHED: Final = frozenset((4, 7))  # ESTABLISHED and CLOSE_WAIT, as CurrentlyEstablished has it


class Statistics:
    """The counters of one adapter. ``v4``, ``v6``: by IP version."""

    __slots__ = ("v4", "v6")

    def __init__(self) -> None:
        self.v4 = FamilyStats()
        self.v6 = FamilyStats()

    def of(self, version: int) -> FamilyStats:
        """Return the counters of IP version 4 or 6."""
        return self.v4 if version == 4 else self.v6

    def report(self, oid: int, connections: Iterable[TcpContext]) -> IpOffloadStats | TcpOffloadStats | None:
        """Return the answer to a query of one of the four OIDs; None for other OIDs (R-STAT-02).

        ``connections``: all offloaded ones, for CurrentlyEstablished.
        """
        if oid in (Oid.OID_IP4_OFFLOAD_STATS, Oid.OID_IP6_OFFLOAD_STATS):
            return wrapped((self.v4 if oid == Oid.OID_IP4_OFFLOAD_STATS else self.v6).ip)
        if oid not in (Oid.OID_TCP4_OFFLOAD_STATS, Oid.OID_TCP6_OFFLOAD_STATS):
            return None
        size = 4 if oid == Oid.OID_TCP4_OFFLOAD_STATS else 16
        out = wrapped((self.v4 if size == 4 else self.v6).tcp)
        out.currently_established = sum(
            tcp.tcp_state in _ESTABLISHED for tcp in connections if len(tcp.path.source) == size
        )
        return out

    def zero(self, oid: int) -> bool:
        """Set the counters of one of the four OIDs to zero (R-STAT-02). Returns False for other OIDs."""
        if oid in (Oid.OID_IP4_OFFLOAD_STATS, Oid.OID_IP6_OFFLOAD_STATS):
            (self.v4 if oid == Oid.OID_IP4_OFFLOAD_STATS else self.v6).ip = IpOffloadStats()
        elif oid in (Oid.OID_TCP4_OFFLOAD_STATS, Oid.OID_TCP6_OFFLOAD_STATS):
            (self.v4 if oid == Oid.OID_TCP4_OFFLOAD_STATS else self.v6).tcp = TcpOffloadStats()
        else:
            return False
        return True
