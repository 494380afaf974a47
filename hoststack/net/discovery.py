"""What ARP (RFC 826) and neighbor discovery (RFC 4861) say: answer for own addresses, learn about neighbors.

What concerns own addresses goes to :mod:`hoststack.net.detection` first. There is no multicast listener
discovery.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hoststack.net.link_output import NO_IP, NO_MAC, icmpv6_packet
from hoststack.net.neighbor_life import NeighborState
from ndisbus.net import arp
from ndisbus.net.ethernet import ETHERTYPE_IPV6, is_group
from ndisbus.net.nd import (
    ALL_NODES,
    UNSPECIFIED,
    NeighborAdvertisement,
    NeighborSolicitation,
)

if TYPE_CHECKING:
    from hoststack.net.clock import Clock
    from hoststack.net.detection import AddressDetection
    from hoststack.net.interface import Interface
    from hoststack.net.interfaces import Interfaces
    from hoststack.net.link_output import LinkOutput
    from hoststack.net.neighbors import NeighborCache
    from hoststack.net.statistics import Statistics
    from ndisbus.net.ipv6 import Ipv6Header

__all__ = ["Discovery"]

_ASKING: Final = (NeighborState.INCOMPLETE, NeighborState.PROBE)


class Discovery:
    """Handles ARP packets, solicitations and advertisements; none of them is an echo of our own."""

    __slots__ = ("_clock", "_detection", "_interfaces", "_link", "_neighbors", "_statistics")

    def __init__(
        self,
        *,
        clock: Clock,
        statistics: Statistics,
        interfaces: Interfaces,
        link: LinkOutput,
        neighbors: NeighborCache,
        detection: AddressDetection,
    ) -> None:
        self._clock = clock
        self._statistics = statistics
        self._interfaces = interfaces
        self._link = link
        self._neighbors = neighbors
        self._detection = detection

    # -- telling -------------------------------------------------------------------------------

    def advertise(
        self, interface: Interface, address: bytes, to: bytes, *, solicited: bool, mac: bytes = b""
    ) -> None:
        """Send a neighbor advertisement of an own address."""
        message = NeighborAdvertisement(address, interface.mac, solicited=solicited, override=True)
        if mac or to[0] == 0xFF:
            self._link.icmpv6(interface, address, to, message, mac)
            return
        frame = interface.header(NO_MAC, ETHERTYPE_IPV6) + icmpv6_packet(address, to, message)
        self._neighbors.get(interface, to).output(frame, address, self._clock.now)
        self._interfaces.soon()

    # -- hearing -------------------------------------------------------------------------------

    def arp_input(self, interface: Interface, packet: bytes, now: float) -> None:
        """An ARP packet. Raises DecodeError."""
        message = arp.parse(packet)
        mac, ip = message.sender_mac, message.sender_ip
        if is_group(mac) or mac == NO_MAC or message.operation not in (arp.REQUEST, arp.REPLY):
            self._statistics.count("arp: bad value")
            return
        if self._detection.heard_arp(interface, message, now):
            return
        for_us = self._interfaces.local.get(message.target_ip) is interface
        if mac == interface.mac:
            # A host behind the same adapter: it cannot be reached, but its probe is answered (RFC 5227).
            if for_us and message.operation == arp.REQUEST and ip == NO_IP:
                self._detection.announce(interface, message.target_ip)
            return
        if ip != NO_IP and ip not in interface.groups and ip[0] < 224:
            self._learn(interface, message, for_us, now)
        if for_us and message.operation == arp.REQUEST:
            reply = arp.ArpPacket(arp.REPLY, interface.mac, message.target_ip, mac, ip)
            self._link.arp(interface, mac, reply)

    def _learn(self, interface: Interface, message: arp.ArpPacket, for_us: bool, now: float) -> None:
        """RFC 826: merge what is known already; add only who wants to talk to us."""
        neighbors = self._neighbors
        entry = neighbors.find(interface, message.sender_ip)
        if message.operation == arp.REPLY:
            if entry is not None and for_us and entry.state in _ASKING:
                entry.answered(message.sender_mac, now)
            elif entry is not None and entry.mac:
                entry.heard(message.sender_mac, now)
            return
        if for_us and entry is None:
            entry = neighbors.get(interface, message.sender_ip)
        if entry is not None and (for_us or entry.mac):
            entry.heard(message.sender_mac, now)

    def solicited(
        self,
        interface: Interface,
        header: Ipv6Header,
        message: NeighborSolicitation,
        source_mac: bytes,
        now: float,
    ) -> None:
        """A neighbor solicitation (RFC 4861 7.2.3)."""
        address, source = message.target, header.source
        if source == UNSPECIFIED and self._detection.heard_probe(interface, address, source_mac):
            return
        if self._interfaces.local.get(address) is not interface:
            return
        if source == UNSPECIFIED:
            self.advertise(interface, address, ALL_NODES, solicited=False)
            return
        if source_mac == interface.mac:
            return  # a host behind the same adapter, which cannot be reached
        mac = message.source_mac or b""
        if mac and not is_group(mac):
            self._neighbors.get(interface, source).heard(mac, now)
        self.advertise(interface, address, source, solicited=True, mac=mac)

    def advertised(
        self, interface: Interface, message: NeighborAdvertisement, source_mac: bytes, now: float
    ) -> None:
        """A neighbor advertisement (RFC 4861 7.2.5)."""
        address = message.target
        if address in interface.local:
            self._detection.heard_advertisement(interface, address, source_mac, now)
            return
        entry = self._neighbors.find(interface, address)
        if entry is None:
            return
        mac = message.target_mac or b""
        if mac and is_group(mac):
            self._statistics.count("nd: bad value")
            return
        # An answer without a question confirms nothing, but it may tell an address.
        if message.solicited and (entry.state in _ASKING or mac == entry.mac):
            entry.answered(mac, now, override=message.override)
        elif entry.mac:
            entry.advertised(mac, now, override=message.override)
        elif mac:
            entry.heard(mac, now)
