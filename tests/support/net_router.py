"""A router between a segment and the world behind it, for tests: forwards, narrows, redirects, complains.

It is a station of a :class:`tests.support.net_world.NetWorld`, at 10.77.0.254 and fd77::fe. Hosts behind
it are on the same segment, with addresses of other networks, and have it as their gateway.
"""

from __future__ import annotations

from ipaddress import ip_address

from ndisbus.net import arp, fragments, icmp, icmpv6
from ndisbus.net.ethernet import ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader
from ndisbus.net.icmp import Redirect, TimeExceeded, Unreachable
from ndisbus.net.icmpv6 import TooBig
from ndisbus.net.ipv4 import Ipv4Header
from ndisbus.net.ipv6 import Ipv6Header
from ndisbus.net.nd import NeighborAdvertisement, NeighborSolicitation
from ndisbus.net.peek import peek
from tests.support.net_world import NetWorld

IP, IP6 = ip_address("10.77.0.254").packed, ip_address("fd77::fe").packed


class Router:
    """``mtu``: of the link behind it, both ways. ``unreachable``: answer with this ICMP code instead of
    forwarding. ``silent``: too large packets vanish without a word. ``old``: it does not tell its MTU."""

    def __init__(self, world: NetWorld, *, mtu: int = 1500, number: int = 254) -> None:
        self.world = world
        self.link = world.segment.station(f"router{number}")
        self.mac = bytes((2, 0, 0, 0, 0, number))
        self.addresses = (IP[:3] + bytes((number,)), IP6[:15] + bytes((number,)))
        self.mtu = mtu
        self.table: dict[bytes, bytes] = {}
        self.unreachable: int | None = None
        self.redirect_to: bytes | None = None
        self.silent = False
        self.old = False
        self.down = False
        self.forwarded = 0
        self.largest = 0
        self.fragments = 0
        world.others.append(self)

    def knows(self, address: str, mac: bytes) -> None:
        """Where an address is."""
        self.table[ip_address(address).packed] = mac

    def next_deadline(self) -> float | None:
        return self.link.next_deadline()

    def poll(self, now: float) -> None:
        for frame in self.link.receive(now):
            if not self.down:
                self._frame(frame, now)

    def _send(self, to: bytes, ethertype: int, packet: bytes, now: float) -> None:
        self.link.send(EthernetHeader(to, self.mac, ethertype).build() + packet, now)

    def _frame(self, frame: bytes, now: float) -> None:
        info = peek(frame)
        sender = frame[6:12]
        if info.ethertype == ETHERTYPE_ARP:
            question = arp.parse(frame[14:])
            if question.operation == arp.REQUEST and question.target_ip in self.addresses:
                reply = arp.ArpPacket(
                    arp.REPLY, self.mac, question.target_ip, question.sender_mac, question.sender_ip
                )
                self._send(sender, ETHERTYPE_ARP, reply.build(), now)
            return
        if info.version == 6 and info.protocol == icmpv6.PROTOCOL:
            body = frame[info.l4 : info.end]
            message = icmpv6.parse(body, info.source, info.destination, frame[info.l3 + 7])
            if isinstance(message, NeighborSolicitation):
                if message.target in self.addresses:
                    answer = NeighborAdvertisement(message.target, self.mac, True, True, True)
                    body = icmpv6.build(answer, message.target, info.source)
                    packet = Ipv6Header(message.target, info.source, 58, 255).build(body)
                    self._send(sender, ETHERTYPE_IPV6, packet, now)
                return
        if frame[:6] == self.mac:
            self._forward(frame[info.l3 : info.end], sender, info.destination, now)

    def _forward(self, packet: bytes, sender: bytes, destination: bytes, now: float) -> None:
        four = len(destination) == 4
        to = self.table.get(destination)
        if self.unreachable is not None or to is None:
            code = 1 if self.unreachable is None else self.unreachable
            self._complain(packet, sender, Unreachable(code, icmp.quote(packet)), now)
            return
        if len(packet) > self.mtu and four and not packet[6] & 0x40:
            for piece in fragments.fragment(packet, self.mtu):
                self.fragments += 1
                self._send(to, ETHERTYPE_IPV4, piece, now)
            return
        if len(packet) > self.mtu:
            if self.silent:
                return
            if four:
                mtu = 0 if self.old else self.mtu
                error = Unreachable(icmp.FRAGMENTATION_NEEDED, icmp.quote(packet), mtu)
                self._complain(packet, sender, error, now)
            else:
                self._complain(packet, sender, TooBig(self.mtu, icmpv6.quote(packet)), now)
            return
        if self.redirect_to is not None and four and destination != packet[12:16]:
            message = Redirect(icmp.REDIRECT_HOST, self.redirect_to, icmp.quote(packet))
            self._complain(packet, sender, message, now)
        self.forwarded += 1
        self.largest = max(self.largest, len(packet))
        self._send(to, ETHERTYPE_IPV4 if four else ETHERTYPE_IPV6, packet, now)

    def _complain(
        self,
        packet: bytes,
        sender: bytes,
        message: Unreachable | TimeExceeded | Redirect | TooBig,
        now: float,
    ) -> None:
        if packet[0] >> 4 == 4:
            assert not isinstance(message, TooBig)
            body = icmp.build(message)
            reply = Ipv4Header(self.addresses[0], packet[12:16], icmp.PROTOCOL).build(body)
            self._send(sender, ETHERTYPE_IPV4, reply, now)
        else:
            assert not isinstance(message, Redirect)
            body = icmpv6.build(message, self.addresses[1], packet[8:24])
            reply = Ipv6Header(self.addresses[1], packet[8:24], icmpv6.PROTOCOL).build(body)
            self._send(sender, ETHERTYPE_IPV6, reply, now)
