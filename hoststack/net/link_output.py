"""ARP packets and neighbor discovery messages to a link address that is known, and their echoes."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from ndisbus.net import arp, icmpv6
from ndisbus.net.ethernet import BROADCAST, ETHERTYPE_ARP, ETHERTYPE_IPV6, multicast_mac
from ndisbus.net.ipv6 import Ipv6Header
from ndisbus.net.nd import HOP_LIMIT, NeighborSolicitation, solicited_node

if TYPE_CHECKING:
    from hoststack.net.interface import Interface
    from hoststack.net.interfaces import Interfaces
    from ndisbus.net.icmpv6 import Icmpv6Message

__all__ = ["NO_IP", "NO_MAC", "LinkOutput", "icmpv6_packet"]

NO_MAC: Final = bytes(6)
NO_IP: Final = bytes(4)
#: Frames to groups whose echo may still come; the oldest are forgotten.
_MAX_ECHOES: Final = 4096


def icmpv6_packet(source: bytes, destination: bytes, message: Icmpv6Message) -> bytes:
    """Build the IPv6 packet around a neighbor discovery message."""
    header = Ipv6Header(source, destination, icmpv6.PROTOCOL, HOP_LIMIT)
    return header.build(icmpv6.build(message, source, destination))


class LinkOutput:
    """Queues frames on an interface without looking up a neighbor.

    An adapter loops frames to groups back to all hosts above it, the sender too, each once. So every frame
    to a group is remembered until its echo arrives.
    """

    __slots__ = ("_echoes", "_interfaces")

    def __init__(self, interfaces: Interfaces) -> None:
        self._interfaces = interfaces
        #: Frames behind their destination address -> how many echoes are expected.
        self._echoes: OrderedDict[bytes, int] = OrderedDict()

    def frame(self, interface: Interface, mac: bytes, ethertype: int, packet: bytes) -> None:
        """Send a packet to a link address."""
        frame = interface.header(mac, ethertype) + packet
        interface.out.append(frame)
        self._interfaces.soon()
        if mac[0] & 1:
            self._echoes[frame[6:]] = self._echoes.pop(frame[6:], 0) + 1
            if len(self._echoes) > _MAX_ECHOES:
                self._echoes.popitem(last=False)

    def is_echo(self, frame: bytes) -> bool:
        """Whether a frame without padding, which arrived, is the echo of one that was sent."""
        expected = self._echoes.pop(frame[6:], 0)
        if expected > 1:
            self._echoes[frame[6:]] = expected - 1
        return expected > 0

    def forget_echoes(self) -> None:
        """The adapter is a new one: what was sent through the old one has no echo."""
        self._echoes.clear()

    def arp(self, interface: Interface, mac: bytes, packet: arp.ArpPacket) -> None:
        """Send an ARP packet to a link address."""
        self.frame(interface, mac, ETHERTYPE_ARP, packet.build())

    def icmpv6(
        self,
        interface: Interface,
        source: bytes,
        destination: bytes,
        message: Icmpv6Message,
        mac: bytes = b"",
    ) -> None:
        """Send a message to ``mac``; a message to a group goes to the group's link address."""
        if destination[0] == 0xFF:
            mac = multicast_mac(destination)
        self.frame(interface, mac, ETHERTYPE_IPV6, icmpv6_packet(source, destination, message))

    def ask(self, interface: Interface, target: bytes, source: bytes, mac: bytes = b"") -> None:
        """Ask for the link address of ``target``: the whole link, or, with ``mac``, that station.

        ``source``: the source address of the datagram that waits, ``b""`` if there is none.
        """
        if source not in interface.local:
            source = interface.source_for(target) or b""
        if len(target) == 4:
            question = arp.ArpPacket(arp.REQUEST, interface.mac, source or NO_IP, NO_MAC, target)
            self.arp(interface, mac or BROADCAST, question)
        elif source:
            message = NeighborSolicitation(target, interface.mac)
            self.icmpv6(interface, source, target if mac else solicited_node(target), message, mac)
