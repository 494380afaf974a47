"""The host's statistics: its own counters and those of the target, added (R-STAT-09).

A target counts only what it does for offloaded connections. DDI pages
ns-ndischimney-_tcp_offload_stats and ns-ndischimney-_ip_offload_stats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hoststack.chimney import switch
from ndisbus.ddi.enums import Oid
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import OID_STRUCTURES, NdisOidRequest, Struct
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState
from ndisbus.errors import DecodeError
from ndisbus.tcp.statistics import added

if TYPE_CHECKING:
    from hoststack.chimney.driver import HostDriver
    from hoststack.chimney.engine import Script
    from hoststack.net.stack import NetStack

__all__ = ["OIDS", "OffloadStatistics"]

#: The states that CurrentlyEstablished counts (RFC 4022).
_ESTABLISHED: Final = frozenset(
    (TcpOffloadConnectionState.TcpConnectionEstablished, TcpOffloadConnectionState.TcpConnectionCloseWait)
)

#: The OIDs to query, and the titles of the sums.
OIDS: Final = {
    Oid.OID_IP4_OFFLOAD_STATS: "IPv4",
    Oid.OID_IP6_OFFLOAD_STATS: "IPv6",
    Oid.OID_TCP4_OFFLOAD_STATS: "TCP over IPv4",
    Oid.OID_TCP6_OFFLOAD_STATS: "TCP over IPv6",
}


class OffloadStatistics:
    """The target's counters, as last read through ``driver``, and their sums with those of ``stack``."""

    __slots__ = ("_driver", "_stack", "reads", "target")

    def __init__(self, driver: HostDriver, stack: NetStack) -> None:
        self._driver = driver
        self._stack = stack
        #: The target's counters by OID, as they were last read.
        self.target: dict[Oid, Struct] = {}
        #: How often they were read.
        self.reads = 0

    def read(self) -> Script:
        """Query the four OIDs. A target that does not support one counts nothing for it."""
        for number in OIDS:
            part = yield switch.oid(self._driver, number)
            if part.statuses == [int(NdisStatus.NOT_SUPPORTED)]:
                self.target.pop(number, None)
                continue
            if not part.succeeded:
                return part.refused
            try:
                answer = NdisOidRequest.from_wire(part.target, "ProtocolOidRequestComplete.OidRequest")
            except DecodeError as e:
                self._driver.violation(e.rule or "R-STAT-02", str(e))
                return str(e)
            if isinstance(answer.information_buffer, Struct):
                self.target[number] = answer.information_buffer
        self.reads += 1
        return None

    def totals(self) -> dict[str, dict[str, int]]:
        """The sums of both sides' counters, by title and member name."""
        found: dict[str, dict[str, int]] = {}
        sockets = self._stack.transport.sockets.values()
        for number, title in OIDS.items():
            tally = self._stack.tallies[6 if title.endswith("6") else 4]
            own: Struct = tally.ip
            if title.startswith("TCP"):
                mine = [s for s in sockets if s.machine is not None and s.path_entry.tally is tally]
                tally.tcp.currently_established = sum(s.state in _ESTABLISHED for s in mine)
                own = tally.tcp
            theirs = self.target.get(number) or OID_STRUCTURES[number]()
            whole = added(own, theirs)
            found[title] = {m.name: getattr(whole, m.attr) for m in whole.MEMBERS}
        return found
