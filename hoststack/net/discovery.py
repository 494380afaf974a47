"""Asking for link addresses, answering who asks for ours: ARP (RFC 826, 5227) and ND (RFC 4861, 4862).

Duplicate address detection is kept simple. An own IPv6 address is used at once, as RFC 4429 allows: one
solicitation from the unspecified address goes out when the interface is added, and if somebody claims the
address within a second, it is withdrawn (counted as «address conflict», see ``Interface.refuted``). IPv4
addresses are announced; who uses one of them as well is answered by another announcement, at most once in
ten seconds (RFC 5227 2.4 (b)). There is no multicast listener discovery.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hoststack.net.link_output import NO_IP, NO_MAC, icmpv6_packet
from hoststack.net.neighbor_life import NeighborState
from hoststack.net.timers import Timed
from ndisbus.net import arp
from ndisbus.net.ethernet import BROADCAST, ETHERTYPE_IPV6, is_group
from ndisbus.net.nd import (
    ALL_NODES,
    UNSPECIFIED,
    NeighborAdvertisement,
    NeighborSolicitation,
    solicited_node,
)

if TYPE_CHECKING:
    from hoststack.net.clock import Clock
    from hoststack.net.interface import Interface
    from hoststack.net.interfaces import Interfaces
    from hoststack.net.link_output import LinkOutput
    from hoststack.net.neighbors import NeighborCache
    from hoststack.net.statistics import Statistics
    from hoststack.net.timers import StackTimers
    from ndisbus.net.ipv6 import Ipv6Header

__all__ = ["Discovery"]

#: Seconds that an own IPv6 address stays tentative (RetransTimer, one probe; RFC 4862 section 5.1).
DAD_SECONDS: Final = 1.0
#: DEFEND_INTERVAL of RFC 5227.
DEFEND_SECONDS: Final = 10.0
_ASKING: Final = (NeighborState.INCOMPLETE, NeighborState.PROBE)


class _Probation(Timed):
    """The second in which an interface's IPv6 addresses are tentative."""

    __slots__ = ("discovery", "due", "interface")

    def __init__(self, discovery: Discovery, interface: Interface, due: float) -> None:
        self.queued = None
        self.discovery = discovery
        self.interface = interface
        self.due: float | None = due

    def deadline(self) -> float | None:
        return self.due

    def on_timer(self, now: float) -> None:
        """Nobody objected."""
        self.due = None
        for address in list(self.interface.tentative):
            self.discovery.advertise(self.interface, address, ALL_NODES, solicited=False)
        self.interface.tentative.clear()


class Discovery:
    """The speaking part of neighbor resolution; what is heard goes to the neighbor cache."""

    __slots__ = ("_clock", "_defended", "_interfaces", "_link", "_neighbors", "_statistics", "_timers")

    def __init__(
        self,
        *,
        clock: Clock,
        statistics: Statistics,
        timers: StackTimers,
        interfaces: Interfaces,
        link: LinkOutput,
        neighbors: NeighborCache,
    ) -> None:
        self._clock = clock
        self._statistics = statistics
        self._timers = timers
        self._interfaces = interfaces
        self._link = link
        self._neighbors = neighbors
        #: When an own IPv4 address was last defended.
        self._defended: dict[bytes, float] = {}

    # -- telling -------------------------------------------------------------------------------

    def announce(self, interface: Interface, now: float) -> None:
        """Tell the link which addresses are ours, and find out whether the IPv6 ones are."""
        for address in interface.local:
            if len(address) == 4:
                self._announce_v4(interface, address)
            else:
                interface.tentative.add(address)
                group = solicited_node(address)
                self._link.icmpv6(interface, UNSPECIFIED, group, NeighborSolicitation(address))
        if interface.tentative:
            self._timers.refresh(_Probation(self, interface, now + DAD_SECONDS))

    def _announce_v4(self, interface: Interface, address: bytes) -> None:
        """A gratuitous ARP request (RFC 5227 2.3)."""
        packet = arp.ArpPacket(arp.REQUEST, interface.mac, address, NO_MAC, address)
        self._link.arp(interface, BROADCAST, packet)

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
        if mac == interface.mac:
            return  # our own, from a bridge that loops
        for_us = message.target_ip in interface.local
        if ip in interface.local:
            self._conflict(interface, ip, now)
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

    def _conflict(self, interface: Interface, address: bytes, now: float) -> None:
        self._statistics.count("address conflict")
        last = self._defended.get(address)
        if last is None or now - last >= DEFEND_SECONDS:
            self._defended[address] = now
            self._announce_v4(interface, address)

    def solicited(
        self, interface: Interface, header: Ipv6Header, message: NeighborSolicitation, now: float
    ) -> None:
        """A neighbor solicitation (RFC 4861 7.2.3)."""
        address, source = message.target, header.source
        if address not in interface.local:
            return
        if source == UNSPECIFIED:
            if address in interface.tentative:
                self._duplicate(interface, address)
            else:
                self.advertise(interface, address, ALL_NODES, solicited=False)
            return
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
            if address in interface.tentative:
                self._duplicate(interface, address)
            elif source_mac != interface.mac:
                self._statistics.count("address conflict")
            return
        entry = self._neighbors.find(interface, address)
        if entry is None:
            return
        mac = message.target_mac or b""
        if mac and is_group(mac):
            self._statistics.count("nd: bad value")
            return
        # An answer that nobody asked for confirms nothing, but it may tell an address.
        if message.solicited and (entry.state in _ASKING or mac == entry.mac):
            entry.answered(mac, now, override=message.override)
        elif entry.mac:
            entry.advertised(mac, now, override=message.override)
        elif mac:
            entry.heard(mac, now)

    def _duplicate(self, interface: Interface, address: bytes) -> None:
        """Duplicate address detection found a duplicate (RFC 4862 5.4.5)."""
        self._statistics.count("address conflict")
        self._interfaces.withdraw(interface, address)
