"""The host's statistics: its own counters and those of the target, added (R-STAT-09).

A target counts what it does for offloaded connections and nothing else, so the sum is what the machine did.
Pages "ns-ndischimney-_tcp_offload_stats.md", "ns-ndischimney-_ip_offload_stats.md".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hoststack.chimney import switch
from ndisbus.ddi.cstruct import members_of
from ndisbus.ddi.enums import Oid, TcpOffloadConnectionState
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import OID_STRUCTURES, NdisOidRequest, Struct
from ndisbus.errors import DecodeError
from ndisbus.tcp.statistics import added

if TYPE_CHECKING:
    from hoststack.chimney.engine import Script
    from hoststack.live.nethost import NetHost

__all__ = ["OIDS", "ask", "totals"]

#: What CurrentlyEstablished counts (RFC 4022).
_ESTABLISHED: Final = frozenset(
    (TcpOffloadConnectionState.TcpConnectionEstablished, TcpOffloadConnectionState.TcpConnectionCloseWait)
)

#: What is asked for, and the name of the sum.
OIDS: Final = {
    Oid.OID_IP4_OFFLOAD_STATS: "IPv4",
    Oid.OID_IP6_OFFLOAD_STATS: "IPv6",
    Oid.OID_TCP4_OFFLOAD_STATS: "TCP over IPv4",
    Oid.OID_TCP6_OFFLOAD_STATS: "TCP over IPv6",
}


def ask(host: NetHost) -> Script:
    """Query the four OIDs; a target that does not support them counts as one that did nothing."""
    for number in OIDS:
        part = yield switch.oid(host, number)
        if part.statuses == [int(NdisStatus.NOT_SUPPORTED)]:
            host.offload_stats.pop(number, None)
            continue
        if not part.succeeded:
            return part.refused
        try:
            answer = NdisOidRequest.from_wire(part.target, "ProtocolOidRequestComplete.OidRequest")
        except DecodeError as e:
            host.violation(e.rule or "R-STAT-02", str(e))
            return str(e)
        if isinstance(answer.information_buffer, Struct):
            host.offload_stats[number] = answer.information_buffer
    host.offload_stats_read += 1
    return None


def totals(host: NetHost) -> dict[str, dict[str, int]]:
    """Member names of the structures, with the sums of both sides' counters."""
    found: dict[str, dict[str, int]] = {}
    sockets = host.stack.transport.sockets.values()
    for number, title in OIDS.items():
        tally = host.stack.tallies[6 if title.endswith("6") else 4]
        own: Struct = tally.ip
        if title.startswith("TCP"):
            mine = [s for s in sockets if s.machine is not None and s.path_entry.tally is tally]
            tally.tcp.currently_established = sum(s.state in _ESTABLISHED for s in mine)
            own = tally.tcp
        theirs = host.offload_stats.get(number) or OID_STRUCTURES[number]()
        whole = added(own, theirs)
        found[title] = {m.name: getattr(whole, name) for name, m in members_of(type(whole))}
    return found
