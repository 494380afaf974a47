"""Datagrams that arrive off the hot path: everything but whole, plain TCP packets for a connection.

Each datagram that is dropped is counted with its reason. Packets with IPv4 options and fragments of
offloaded connections come here too (R-IP-03, R-IP-04): the segment is forwarded in the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hoststack.net.timers import Timed
from ndisbus.errors import DecodeError
from ndisbus.net import icmp, icmpv6, ipv4, ipv6, tcp, udp
from ndisbus.net.checksum import pseudo_header
from ndisbus.net.icmp import ParameterProblem, Unreachable
from ndisbus.net.reassembly import Reassembler

if TYPE_CHECKING:
    from hoststack.net.control import Control
    from hoststack.net.interface import Interface
    from hoststack.net.interfaces import Interfaces
    from hoststack.net.statistics import Statistics
    from hoststack.net.timers import StackTimers
    from hoststack.net.transport import Transport

__all__ = ["DatagramReceiver"]

#: Loose and strict source routes (RFC 791): not for us to follow.
_SOURCE_ROUTES: Final = (131, 137)
_UNSPECIFIED_4: Final = bytes(4)
_UNSPECIFIED_6: Final = bytes(16)
_LOOPBACK_6: Final = bytes(15) + b"\x01"


def _claim(upper: ipv6.UpperLayer, packet: bytes) -> bool:
    """Whether a packet from an own address is another host's advertisement of it (RFC 4862 5.4.4)."""
    return upper.protocol == icmpv6.PROTOCOL and packet[upper.offset : upper.offset + 1] == b"\x88"


class DatagramReceiver(Timed):
    """Handles IP packets. Its timer is that of reassembly."""

    __slots__ = ("_control", "_interfaces", "_statistics", "_timers", "_transport", "reassembler")

    def __init__(
        self,
        *,
        statistics: Statistics,
        timers: StackTimers,
        interfaces: Interfaces,
        control: Control,
        transport: Transport,
    ) -> None:
        self.queued = None
        self._statistics = statistics
        self._timers = timers
        self._interfaces = interfaces
        self._control = control
        self._transport = transport
        self.reassembler = Reassembler()

    def deadline(self) -> float | None:
        return self.reassembler.next_deadline()

    def receive_ipv4(
        self, interface: Interface, packet: bytes, source_mac: bytes, group: bool, now: float
    ) -> None:
        """An IPv4 packet, from its header on. ``group``: the frame was a multicast or broadcast one.

        Raises DecodeError.
        """
        header, payload = ipv4.parse(packet)
        source, destination = header.source, header.destination
        first = source[0]
        if first >= 224 or first == 127 or source == _UNSPECIFIED_4 or source in interface.groups:
            self._statistics.count("ipv4: bad source")
            return
        mine = destination in self._interfaces.local
        if not mine and destination not in interface.groups:
            self._statistics.count("ipv4: not for us")
            return
        if source in self._interfaces.local:
            self._statistics.count("ipv4: own source")
            return
        unicast = mine and not group
        if header.options and not self._options(header, packet, unicast):
            return
        if header.is_fragment:
            whole = self.reassembler.add(packet, now)
            self._timers.refresh(self)
            if whole is not None:
                self.receive_ipv4(interface, whole, source_mac, group, now)
            return
        protocol = header.protocol
        self._statistics.tallies[4].ip.in_delivers += 1
        if protocol == tcp.PROTOCOL:
            self._tcp(interface, source, destination, payload, unicast, now)
        elif protocol == icmp.PROTOCOL:
            self._control.icmp_input(interface, header, payload, unicast, now)
        elif protocol == udp.PROTOCOL:
            udp.parse(payload, pseudo_header(source, destination, udp.PROTOCOL))
            self._statistics.count("udp: no port")
            if unicast:
                message = Unreachable(icmp.PORT_UNREACHABLE, icmp.quote(packet))
                self._control.send_error(destination, source, message)
        else:
            self._statistics.count("ipv4: unknown protocol")
            if unicast:
                message = Unreachable(icmp.PROTOCOL_UNREACHABLE, icmp.quote(packet))
                self._control.send_error(destination, source, message)

    def _options(self, header: ipv4.Ipv4Header, packet: bytes, unicast: bool) -> bool:
        """Whether a packet with options may pass. They are skipped, but a source route leads nowhere."""
        try:
            for kind, _ in ipv4.options(header.options):
                if kind in _SOURCE_ROUTES:
                    self._statistics.count("ipv4: source route")
                    return False
        except DecodeError:
            self._statistics.count("ipv4: bad option")
            if unicast and not header.fragment_offset:
                message = ParameterProblem(0, 20, icmp.quote(packet))
                self._control.send_error(header.destination, header.source, message)
            return False
        self._statistics.count("ipv4: with options")
        return True

    def receive_ipv6(
        self, interface: Interface, packet: bytes, source_mac: bytes, group: bool, now: float
    ) -> None:
        """An IPv6 packet, from its header on; see :func:`receive_ipv4`. Raises DecodeError."""
        header, payload = ipv6.parse(packet)
        source, destination = header.source, header.destination
        if source[0] == 0xFF or source == _LOOPBACK_6:
            self._statistics.count("ipv6: bad source")
            return
        mine = destination in self._interfaces.local
        if not mine and destination not in interface.groups:
            self._statistics.count("ipv6: not for us")
            return
        unicast = mine and not group
        upper = ipv6.walk(packet)
        if source in self._interfaces.local and not _claim(upper, packet):
            self._statistics.count("ipv6: own source")
            return
        packet = packet[: 40 + len(payload)]
        if upper.problem is not None:
            self._statistics.count("ipv6: unacceptable extension")
            problem = upper.problem
            if problem.answer and (unicast or problem.answer_multicast) and source != _UNSPECIFIED_6:
                self._parameter_problem(interface, header, packet, problem.code, problem.pointer)
            return
        fragment = upper.fragment
        if fragment is not None and (fragment.more or fragment.offset):
            whole = self.reassembler.add(packet, now)
            self._timers.refresh(self)
            if whole is not None:
                self.receive_ipv6(interface, whole, source_mac, group, now)
            return
        protocol = upper.protocol
        payload = packet[upper.offset :]
        self._statistics.tallies[6].ip.in_delivers += 1
        if source == _UNSPECIFIED_6 and protocol != icmpv6.PROTOCOL:
            self._statistics.count("ipv6: bad source")
        elif protocol == tcp.PROTOCOL:
            self._tcp(interface, source, destination, payload, unicast, now)
        elif protocol == icmpv6.PROTOCOL:
            self._control.icmpv6_input(interface, header, payload, source_mac, unicast, now)
        elif protocol == udp.PROTOCOL:
            udp.parse(payload, pseudo_header(source, destination, udp.PROTOCOL), need_checksum=True)
            self._statistics.count("udp: no port")
            if unicast:
                message = Unreachable(icmpv6.PORT_UNREACHABLE, icmpv6.quote(packet))
                self._control.send_error(destination, source, message)
        elif protocol != ipv6.NO_NEXT_HEADER:
            self._statistics.count("ipv6: unknown next header")
            if unicast:
                code = icmpv6.UNRECOGNIZED_NEXT_HEADER
                self._parameter_problem(interface, header, packet, code, upper.named_at)

    def _parameter_problem(
        self, interface: Interface, header: ipv6.Ipv6Header, packet: bytes, code: int, pointer: int
    ) -> None:
        own = header.destination
        if own not in self._interfaces.local:
            own = interface.source_for(header.source) or b""
        if own:
            self._control.send_error(
                own, header.source, ParameterProblem(code, pointer, icmpv6.quote(packet))
            )

    def _tcp(
        self,
        interface: Interface,
        source: bytes,
        destination: bytes,
        payload: bytes,
        unicast: bool,
        now: float,
    ) -> None:
        if not unicast:
            self._statistics.count("tcp: not unicast")  # RFC 9293 3.9.2.3 (MUST-57)
            return
        segment = tcp.parse_segment(payload, pseudo_header(source, destination, tcp.PROTOCOL))
        self._statistics.tallies[4 if len(source) == 4 else 6].tcp.in_segments += 1
        self._transport.arrived(source, destination, segment, payload, now)

    def on_timer(self, now: float) -> None:
        """Datagrams that were given up: Time Exceeded, if their first fragment is there (RFC 1122 3.3.2)."""
        for expired in self.reassembler.on_timer(now):
            self._statistics.count("reassembly timeout")
            if not expired.first:
                continue
            if expired.version == 4:
                header, _ = ipv4.parse(expired.first)
                own, other, quoted = header.destination, header.source, icmp.quote(expired.first)
            else:
                header6, _ = ipv6.parse(expired.first)
                own, other, quoted = header6.destination, header6.source, icmpv6.quote(expired.first)
            if own in self._interfaces.local:
                self._control.send_error(own, other, icmp.TimeExceeded(icmp.REASSEMBLY_TIME_EXCEEDED, quoted))
