"""Sending datagrams that belong to no connection: ICMP, resets, answers. Fragmented where necessary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hoststack.net.link_output import NO_MAC
from ndisbus.net import fragments
from ndisbus.net.ethernet import ETHERTYPE_IPV4, ETHERTYPE_IPV6
from ndisbus.net.ipv4 import Ipv4Header
from ndisbus.net.ipv6 import Ipv6Header

if TYPE_CHECKING:
    from hoststack.net.clock import Clock
    from hoststack.net.interfaces import Interfaces
    from hoststack.net.neighbors import NeighborCache
    from hoststack.net.paths import PathTable
    from hoststack.net.routes import RoutingTable
    from hoststack.net.statistics import Statistics
    from ndisbus.net.identification import IpIdentification

__all__ = ["DatagramSender"]

#: Longest payload by length of the address: the header counts in IPv4's total length, not in IPv6's.
_MAX_PAYLOAD: Final = {4: 0xFFFF - 20, 16: 0xFFFF}


class DatagramSender:
    """Sends one datagram at a time; identifications are the host's half of the numbers (R-IP-02)."""

    __slots__ = (
        "_clock",
        "_identification",
        "_interfaces",
        "_neighbors",
        "_paths",
        "_routes",
        "_statistics",
    )

    def __init__(
        self,
        *,
        clock: Clock,
        statistics: Statistics,
        interfaces: Interfaces,
        routes: RoutingTable,
        neighbors: NeighborCache,
        paths: PathTable,
        identification: IpIdentification,
    ) -> None:
        self._clock = clock
        self._statistics = statistics
        self._interfaces = interfaces
        self._routes = routes
        self._neighbors = neighbors
        self._paths = paths
        self._identification = identification

    def send(
        self,
        source: bytes,
        destination: bytes,
        protocol: int,
        payload: bytes,
        *,
        ttl: int = 64,
        tos: int = 0,
        dont_fragment: bool = False,
    ) -> bool:
        """Send one datagram, in fragments if the path is too narrow.

        Returns False, and counts the reason, if there is no route or the datagram does not fit.
        """
        statistics = self._statistics
        if destination in self._interfaces.local:
            statistics.count("output: own address")
            return False
        if len(payload) > _MAX_PAYLOAD[len(destination)]:
            statistics.count("output: too long")
            return False
        route = self._routes.lookup(destination)
        tally = statistics.of(destination)
        if route is None:
            statistics.count("output: no route")
            tally.ip.out_no_routes += 1
            return False
        interface = route.interface
        entry = self._paths.find(source, destination)
        mtu = interface.mtu if entry is None else entry.mtu
        if len(destination) == 4:
            ethertype = ETHERTYPE_IPV4
            identification = self._identification.next_v4()
            header = Ipv4Header(source, destination, protocol, ttl, tos, identification, dont_fragment)
            packet = header.build(payload)
        else:
            ethertype = ETHERTYPE_IPV6
            packet = Ipv6Header(source, destination, protocol, ttl, tos).build(payload)
        packets = [packet]
        if len(packet) > mtu:
            if dont_fragment:
                statistics.count("output: needs fragmentation")
                tally.ip.out_discards += 1
                return False
            number = self._identification.next_v6() if len(destination) == 16 else 0
            packets = fragments.fragment(packet, mtu, number)
        hop = self._neighbors.get(interface, route.next_hop(destination))
        frame_header = interface.header(NO_MAC, ethertype)
        tally.ip.out_requests += 1
        for piece in packets:
            tally.ip.out_octets += len(piece)
            hop.output(frame_header + piece, source, self._clock.now)
        self._interfaces.soon()
        return True
