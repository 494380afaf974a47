"""Datagrams that arrive off the hot path: everything but whole, plain TCP packets for a connection.

Each datagram that is dropped is counted with its reason. Packets with IPv4 options and fragments of
offloaded connections come here too (R-IP-03, R-IP-04): the segment is forwarded in the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hoststack.net import control
from ndisbus.errors import DecodeError
from ndisbus.net import icmp, icmpv6, ipv4, ipv6, tcp, udp
from ndisbus.net.checksum import pseudo_header
from ndisbus.net.icmp import ParameterProblem, Unreachable

if TYPE_CHECKING:
    from hoststack.net.interface import Interface
    from hoststack.net.stack import NetStack

__all__ = ["reassembly_expired", "receive_ipv4", "receive_ipv6"]

#: Loose and strict source routes (RFC 791): not for us to follow.
_SOURCE_ROUTES: Final = (131, 137)
_UNSPECIFIED_4: Final = bytes(4)
_UNSPECIFIED_6: Final = bytes(16)
_LOOPBACK_6: Final = bytes(15) + b"\x01"


def receive_ipv4(
    stack: NetStack, interface: Interface, packet: bytes, source_mac: bytes, group: bool, now: float
) -> None:
    """An IPv4 packet, from its header on. ``group``: the frame was a multicast or broadcast one.

    Raises DecodeError.
    """
    header, payload = ipv4.parse(packet)
    source, destination = header.source, header.destination
    first = source[0]
    if first >= 224 or first == 127 or source == _UNSPECIFIED_4 or source in interface.groups:
        stack.count("ipv4: bad source")
        return
    mine = destination in stack.local_addresses
    if not mine and destination not in interface.groups:
        stack.count("ipv4: not for us")
        return
    if source in stack.local_addresses:
        stack.count("ipv4: own source")
        return
    unicast = mine and not group
    if header.options and not _options(stack, header, packet, unicast):
        return
    if header.is_fragment:
        whole = stack.reassembler.add(packet, now)
        stack.reassembly_changed()
        if whole is not None:
            receive_ipv4(stack, interface, whole, source_mac, group, now)
        return
    protocol = header.protocol
    stack.tallies[4].ip.in_delivers += 1
    if protocol == tcp.PROTOCOL:
        _tcp(stack, interface, source, destination, payload, unicast, now)
    elif protocol == icmp.PROTOCOL:
        control.icmp_input(stack, interface, header, payload, unicast, now)
    elif protocol == udp.PROTOCOL:
        udp.parse(payload, pseudo_header(source, destination, udp.PROTOCOL))
        stack.count("udp: no port")
        if unicast:
            message = Unreachable(icmp.PORT_UNREACHABLE, icmp.quote(packet))
            control.send_error(stack, destination, source, message)
    else:
        stack.count("ipv4: unknown protocol")
        if unicast:
            message = Unreachable(icmp.PROTOCOL_UNREACHABLE, icmp.quote(packet))
            control.send_error(stack, destination, source, message)


def _options(stack: NetStack, header: ipv4.Ipv4Header, packet: bytes, unicast: bool) -> bool:
    """Whether a packet with options may pass. They are skipped, but a source route leads nowhere."""
    try:
        for kind, _ in ipv4.options(header.options):
            if kind in _SOURCE_ROUTES:
                stack.count("ipv4: source route")
                return False
    except DecodeError:
        stack.count("ipv4: bad option")
        if unicast and not header.fragment_offset:
            message = ParameterProblem(0, 20, icmp.quote(packet))
            control.send_error(stack, header.destination, header.source, message)
        return False
    stack.count("ipv4: with options")
    return True


def receive_ipv6(
    stack: NetStack, interface: Interface, packet: bytes, source_mac: bytes, group: bool, now: float
) -> None:
    """An IPv6 packet, from its header on; see :func:`receive_ipv4`. Raises DecodeError."""
    header, payload = ipv6.parse(packet)
    source, destination = header.source, header.destination
    if source[0] == 0xFF or source == _LOOPBACK_6:
        stack.count("ipv6: bad source")
        return
    mine = destination in stack.local_addresses
    if not mine and destination not in interface.groups:
        stack.count("ipv6: not for us")
        return
    unicast = mine and not group
    upper = ipv6.walk(packet)
    if source in stack.local_addresses and not _claim(interface, upper, packet, source_mac):
        stack.count("ipv6: own source")
        return
    packet = packet[: 40 + len(payload)]
    if upper.problem is not None:
        stack.count("ipv6: unacceptable extension")
        problem = upper.problem
        if problem.answer and (unicast or problem.answer_multicast) and source != _UNSPECIFIED_6:
            _parameter_problem(stack, interface, header, packet, problem.code, problem.pointer)
        return
    fragment = upper.fragment
    if fragment is not None and (fragment.more or fragment.offset):
        whole = stack.reassembler.add(packet, now)
        stack.reassembly_changed()
        if whole is not None:
            receive_ipv6(stack, interface, whole, source_mac, group, now)
        return
    protocol = upper.protocol
    payload = packet[upper.offset :]
    stack.tallies[6].ip.in_delivers += 1
    if source == _UNSPECIFIED_6 and protocol != icmpv6.PROTOCOL:
        stack.count("ipv6: bad source")
    elif protocol == tcp.PROTOCOL:
        _tcp(stack, interface, source, destination, payload, unicast, now)
    elif protocol == icmpv6.PROTOCOL:
        control.icmpv6_input(stack, interface, header, payload, source_mac, unicast, now)
    elif protocol == udp.PROTOCOL:
        udp.parse(payload, pseudo_header(source, destination, udp.PROTOCOL), need_checksum=True)
        stack.count("udp: no port")
        if unicast:
            message = Unreachable(icmpv6.PORT_UNREACHABLE, icmpv6.quote(packet))
            control.send_error(stack, destination, source, message)
    elif protocol != ipv6.NO_NEXT_HEADER:
        stack.count("ipv6: unknown next header")
        if unicast:
            code = icmpv6.UNRECOGNIZED_NEXT_HEADER
            _parameter_problem(stack, interface, header, packet, code, upper.named_at)


def _claim(interface: Interface, upper: ipv6.UpperLayer, packet: bytes, source_mac: bytes) -> bool:
    """Whether a packet from an own address is somebody else's advertisement of it (RFC 4862 5.4.4)."""
    advertisement = packet[upper.offset : upper.offset + 1] == b"\x88"
    return upper.protocol == icmpv6.PROTOCOL and advertisement and source_mac != interface.mac


def _parameter_problem(
    stack: NetStack, interface: Interface, header: ipv6.Ipv6Header, packet: bytes, code: int, pointer: int
) -> None:
    own = header.destination
    if own not in stack.local_addresses:
        own = interface.source_for(header.source) or b""
    if own:
        control.send_error(stack, own, header.source, ParameterProblem(code, pointer, icmpv6.quote(packet)))


def _tcp(
    stack: NetStack,
    interface: Interface,
    source: bytes,
    destination: bytes,
    payload: bytes,
    unicast: bool,
    now: float,
) -> None:
    if not unicast:
        stack.count("tcp: not unicast")  # RFC 9293 3.9.2.3 (MUST-57)
        return
    segment = tcp.parse_segment(payload, pseudo_header(source, destination, tcp.PROTOCOL))
    stack.tallies[4 if len(source) == 4 else 6].tcp.in_segments += 1
    stack.transport.arrived(source, destination, segment, payload, now)


def reassembly_expired(stack: NetStack, now: float) -> None:
    """Datagrams that were given up: Time Exceeded, if their first fragment is there (RFC 1122 3.3.2)."""
    for expired in stack.reassembler.on_timer(now):
        stack.count("reassembly timeout")
        if not expired.first:
            continue
        if expired.version == 4:
            header, _ = ipv4.parse(expired.first)
            own, other, quoted = header.destination, header.source, icmp.quote(expired.first)
        else:
            header6, _ = ipv6.parse(expired.first)
            own, other, quoted = header6.destination, header6.source, icmpv6.quote(expired.first)
        if own in stack.local_addresses:
            control.send_error(stack, own, other, icmp.TimeExceeded(icmp.REASSEMBLY_TIME_EXCEEDED, quoted))
