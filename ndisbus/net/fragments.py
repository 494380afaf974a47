"""Cutting IP packets into fragments (RFC 791 section 3.2, RFC 8200 section 4.5)."""

from __future__ import annotations

__all__ = ["fragment"]


def fragment(packet: bytes, mtu: int, identification: int = 0) -> list[bytes]:
    """The packet as packets of at most ``mtu`` bytes; ``[packet]`` if it fits already.

    ``identification`` is for IPv6 (:meth:`ndisbus.net.identification.IpIdentification.next_v6`); an IPv4 packet
    has its own. Raises LocalProtocolError for an IPv4 packet with DF (send an ICMP error instead) and for an
    ``mtu`` that leaves no room, DecodeError for bytes that are no IP packet.
    """
    raise NotImplementedError
