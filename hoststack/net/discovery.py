"""Asking for link addresses, answering who asks for ours: ARP (RFC 826, 5227) and ND (RFC 4861, 4862).

Duplicate address detection is kept simple. An own IPv6 address is used at once, as RFC 4429 allows: one
solicitation from the unspecified address goes out when the interface is added, and if somebody claims the
address within a second, it is withdrawn (counted as «address conflict», see ``Interface.refuted``). IPv4
addresses are announced; who uses one of them as well is answered by another announcement, at most once in
ten seconds (RFC 5227 2.4 (b)). There is no multicast listener discovery.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hoststack.net.neighbor_life import NeighborState
from hoststack.net.timers import Timed
from ndisbus.net import arp, icmpv6
from ndisbus.net.ethernet import (
    BROADCAST,
    ETHERTYPE_ARP,
    ETHERTYPE_IPV6,
    is_group,
    multicast_mac,
)
from ndisbus.net.ipv6 import Ipv6Header
from ndisbus.net.nd import (
    ALL_NODES,
    HOP_LIMIT,
    UNSPECIFIED,
    NeighborAdvertisement,
    NeighborSolicitation,
    solicited_node,
)

if TYPE_CHECKING:
    from hoststack.net.interface import Interface
    from hoststack.net.neighbors import NeighborEntry
    from hoststack.net.stack import NetStack
    from ndisbus.net.icmpv6 import Icmpv6Message

__all__ = ["Discovery"]

#: Seconds that an own IPv6 address stays tentative (RetransTimer, one probe; RFC 4862 section 5.1).
DAD_SECONDS: Final = 1.0
#: DEFEND_INTERVAL of RFC 5227.
DEFEND_SECONDS: Final = 10.0
_NO_MAC: Final = bytes(6)
_NO_IP: Final = bytes(4)
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

    __slots__ = ("_defended", "stack")

    def __init__(self, stack: NetStack) -> None:
        self.stack = stack
        #: When an own IPv4 address was last defended.
        self._defended: dict[bytes, float] = {}

    # -- asking --------------------------------------------------------------------------------

    def ask(self, entry: NeighborEntry, source: bytes, *, unicast: bool) -> None:
        """Send a solicitation for an entry. ``source``: of the datagram that waits, ``b""`` without one."""
        interface = entry.interface
        if source not in interface.local:
            source = interface.source_for(entry.address) or b""
        mac = entry.mac if unicast else b""
        if len(entry.address) == 4:
            packet = arp.ArpPacket(arp.REQUEST, interface.mac, source or _NO_IP, _NO_MAC, entry.address)
            self._frame(interface, mac or BROADCAST, ETHERTYPE_ARP, packet.build())
        elif source:
            message = NeighborSolicitation(entry.address, interface.mac)
            self._send(
                interface, source, entry.address if mac else solicited_node(entry.address), message, mac
            )

    # -- telling -------------------------------------------------------------------------------

    def announce(self, interface: Interface, now: float) -> None:
        """Tell the link which addresses are ours, and find out whether the IPv6 ones are."""
        for address in interface.local:
            if len(address) == 4:
                self._announce_v4(interface, address)
            else:
                interface.tentative.add(address)
                group = solicited_node(address)
                self._send(interface, UNSPECIFIED, group, NeighborSolicitation(address))
        if interface.tentative:
            self.stack.timers.refresh(_Probation(self, interface, now + DAD_SECONDS))

    def _announce_v4(self, interface: Interface, address: bytes) -> None:
        """A gratuitous ARP request (RFC 5227 2.3)."""
        packet = arp.ArpPacket(arp.REQUEST, interface.mac, address, _NO_MAC, address)
        self._frame(interface, BROADCAST, ETHERTYPE_ARP, packet.build())

    def advertise(
        self, interface: Interface, address: bytes, to: bytes, *, solicited: bool, mac: bytes = b""
    ) -> None:
        """Send a neighbor advertisement of an own address."""
        message = NeighborAdvertisement(address, interface.mac, solicited=solicited, override=True)
        self._send(interface, address, to, message, mac)

    # -- hearing -------------------------------------------------------------------------------

    def arp_input(self, interface: Interface, packet: bytes, now: float) -> None:
        """An ARP packet. Raises DecodeError."""
        message = arp.parse(packet)
        mac, ip = message.sender_mac, message.sender_ip
        if is_group(mac) or mac == _NO_MAC or message.operation not in (arp.REQUEST, arp.REPLY):
            self.stack.count("arp: bad value")
            return
        if mac == interface.mac:
            return  # our own, from a bridge that loops
        for_us = message.target_ip in interface.local
        if ip in interface.local:
            self._conflict(interface, ip, now)
            return
        if ip != _NO_IP and ip not in interface.groups and ip[0] < 224:
            self._learn(interface, message, for_us, now)
        if for_us and message.operation == arp.REQUEST:
            reply = arp.ArpPacket(arp.REPLY, interface.mac, message.target_ip, mac, ip)
            self._frame(interface, mac, ETHERTYPE_ARP, reply.build())

    def _learn(self, interface: Interface, message: arp.ArpPacket, for_us: bool, now: float) -> None:
        """RFC 826: merge what is known already; add only who wants to talk to us."""
        neighbors = self.stack.neighbors
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
        self.stack.count("address conflict")
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
            self.stack.neighbors.get(interface, source).heard(mac, now)
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
                self.stack.count("address conflict")
            return
        entry = self.stack.neighbors.find(interface, address)
        if entry is None:
            return
        mac = message.target_mac or b""
        if mac and is_group(mac):
            self.stack.count("nd: bad value")
            return
        entry.is_router = message.router
        # An answer that nobody asked for confirms nothing, but it may tell an address.
        if message.solicited and (entry.state in _ASKING or mac == entry.mac):
            entry.answered(mac, now, override=message.override)
        elif entry.mac:
            entry.advertised(mac, now, override=message.override)
        elif mac:
            entry.heard(mac, now)

    def _duplicate(self, interface: Interface, address: bytes) -> None:
        """Duplicate address detection found a duplicate (RFC 4862 5.4.5)."""
        self.stack.count("address conflict")
        interface.withdraw(address)
        self.stack.local_addresses.pop(address, None)

    # -- frames --------------------------------------------------------------------------------

    def _send(
        self,
        interface: Interface,
        source: bytes,
        destination: bytes,
        message: Icmpv6Message,
        mac: bytes = b"",
    ) -> None:
        packet = Ipv6Header(source, destination, icmpv6.PROTOCOL, HOP_LIMIT).build(
            icmpv6.build(message, source, destination)
        )
        if destination[0] == 0xFF:
            mac = multicast_mac(destination)
        if mac:
            self._frame(interface, mac, ETHERTYPE_IPV6, packet)
        else:
            frame = self.stack.ethernet(interface, _NO_MAC, ETHERTYPE_IPV6) + packet
            self.stack.neighbors.get(interface, destination).output(frame, source, self.stack.now)

    def _frame(self, interface: Interface, mac: bytes, ethertype: int, packet: bytes) -> None:
        interface.out.append(self.stack.ethernet(interface, mac, ethertype) + packet)
        self.stack.soon()
