"""Sending datagrams that belong to no connection: ICMP, resets, answers. Fragmented where necessary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ndisbus.net import fragments
from ndisbus.net.ethernet import ETHERTYPE_IPV4, ETHERTYPE_IPV6
from ndisbus.net.ipv4 import Ipv4Header
from ndisbus.net.ipv6 import Ipv6Header

if TYPE_CHECKING:
    from hoststack.net.stack import NetStack

__all__ = ["send"]

_NO_MAC: Final = bytes(6)
#: Longest payload by length of the address: the header counts in IPv4's total length, not in IPv6's.
_MAX_PAYLOAD: Final = {4: 0xFFFF - 20, 16: 0xFFFF}


def send(
    stack: NetStack,
    source: bytes,
    destination: bytes,
    protocol: int,
    payload: bytes,
    *,
    ttl: int = 64,
    tos: int = 0,
    dont_fragment: bool = False,
) -> bool:
    """Send one datagram, in fragments if the path is too narrow; identifications are the host's (R-IP-02).

    False, and counted with a reason: there is no route, or it does not fit.
    """
    if destination in stack.local_addresses:
        stack.count("output: own address")
        return False
    if len(payload) > _MAX_PAYLOAD[len(destination)]:
        stack.count("output: too long")
        return False
    route = stack.routes.lookup(destination)
    tally = stack.tallies[4 if len(destination) == 4 else 6]
    if route is None:
        stack.count("output: no route")
        tally.ip.out_no_routes += 1
        return False
    interface = route.interface
    way = stack.paths.find(source, destination)
    mtu = interface.mtu if way is None else way.mtu
    if len(destination) == 4:
        ethertype = ETHERTYPE_IPV4
        identification = stack.identification.next_v4()
        header = Ipv4Header(source, destination, protocol, ttl, tos, identification, dont_fragment)
        packet = header.build(payload)
    else:
        ethertype = ETHERTYPE_IPV6
        packet = Ipv6Header(source, destination, protocol, ttl, tos).build(payload)
    packets = [packet]
    if len(packet) > mtu:
        if dont_fragment:
            stack.count("output: needs fragmentation")
            tally.ip.out_discards += 1
            return False
        number = stack.identification.next_v6() if len(destination) == 16 else 0
        packets = fragments.fragment(packet, mtu, number)
    hop = stack.neighbors.get(interface, route.next_hop(destination))
    frame_header = stack.ethernet(interface, _NO_MAC, ethertype)
    tally.ip.out_requests += 1
    for piece in packets:
        tally.ip.out_octets += len(piece)
        hop.output(frame_header + piece, source, stack.now)
    stack.soon()
    return True
