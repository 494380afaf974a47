"""Cutting IP packets into fragments (RFC 791 section 3.2, RFC 8200 section 4.5)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ndisbus.errors import LocalProtocolError
from ndisbus.net import ipv4, ipv6

__all__ = ["fragment"]

#: Bit of an option's type: the option must be in every fragment.
_COPIED: Final = 0x80


def fragment(packet: bytes, mtu: int, identification: int = 0) -> list[bytes]:
    """Cut a packet into packets of at most ``mtu`` bytes. Returns ``[packet]`` if it fits.

    ``identification`` is for IPv6 (:meth:`ndisbus.net.identification.IpIdentification.next_v6`); an IPv4
    packet has its own. Raises LocalProtocolError for an IPv4 packet with DF (send an ICMP error instead) and
    for an ``mtu`` that leaves no room; DecodeError for bytes that are not an IP packet.
    """
    if len(packet) <= mtu:
        return [packet]
    if packet[0] >> 4 == 4:
        return _fragment_ipv4(packet, mtu)
    return _fragment_ipv6(packet, mtu, identification)


def _fragment_ipv4(packet: bytes, mtu: int) -> list[bytes]:
    header, payload = ipv4.parse(packet)
    if header.header_length + len(payload) <= mtu:
        return [packet]
    if header.dont_fragment:
        raise LocalProtocolError("an IPv4 packet with DF must not be fragmented", rule="R-IP-01")
    base, more = header.fragment_offset, header.more_fragments
    pieces, at = [], 0
    while at < len(payload):
        room = _room(mtu, header.header_length)
        piece = payload[at : at + room]
        end = at + len(piece)
        last = end == len(payload)
        part = replace(header, fragment_offset=base + at, more_fragments=more if last else True)
        pieces.append(part.build(piece))
        if at == 0:
            header = replace(header, options=_copied(header.options))
        at = end
    return pieces


def _copied(data: bytes) -> bytes:
    """Return the options that must be in every fragment."""
    kept = b"".join(
        bytes((kind, 2 + len(value))) + value for kind, value in ipv4.options(data) if kind & _COPIED
    )
    return kept + bytes(-len(kept) % 4)


def _fragment_ipv6(packet: bytes, mtu: int, identification: int) -> list[bytes]:
    header, payload = ipv6.parse(packet)
    if 40 + len(payload) <= mtu:
        return [packet]
    upper = ipv6.walk(packet)
    if upper.fragment is not None:
        raise LocalProtocolError("a fragment of an IPv6 packet must not be fragmented again")
    split, named_at = upper.unfragmentable, upper.fragment_named_at
    room = _room(mtu, split + 8)
    kind = packet[named_at]
    front = bytearray(packet[40:split])
    if named_at < 40:
        header.next_header = ipv6.FRAGMENT
    else:
        front[named_at - 40] = ipv6.FRAGMENT
    rest = packet[split : 40 + len(payload)]
    tail = identification.to_bytes(4, "big")
    pieces = []
    for at in range(0, len(rest), room):
        piece = rest[at : at + room]
        word = at | (at + len(piece) < len(rest))
        pieces.append(header.build(b"".join((front, bytes((kind, 0)), word.to_bytes(2, "big"), tail, piece))))
    return pieces


def _room(mtu: int, headers: int) -> int:
    """Return the payload bytes of each fragment but the last: a multiple of 8."""
    room = (mtu - headers) & ~7
    if room <= 0:
        raise LocalProtocolError(f"an MTU of {mtu} leaves no room for payload")
    return room
