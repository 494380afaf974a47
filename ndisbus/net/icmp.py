"""ICMP for IPv4 (RFC 792, RFC 1191, RFC 1122 section 3.2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = [
    "PROTOCOL",
    "Echo",
    "IcmpMessage",
    "Original",
    "Other",
    "ParameterProblem",
    "Redirect",
    "TimeExceeded",
    "Unreachable",
    "build",
    "original",
    "parse",
]

PROTOCOL: Final = 1

# Codes of Unreachable.
NET_UNREACHABLE: Final = 0
HOST_UNREACHABLE: Final = 1
PROTOCOL_UNREACHABLE: Final = 2
PORT_UNREACHABLE: Final = 3
FRAGMENTATION_NEEDED: Final = 4
# Codes of TimeExceeded.
TTL_EXCEEDED: Final = 0
REASSEMBLY_TIME_EXCEEDED: Final = 1
# Codes of Redirect.
REDIRECT_NET: Final = 0
REDIRECT_HOST: Final = 1


@dataclass(slots=True)
class Echo:
    """Echo request, or its reply."""

    identifier: int
    sequence: int
    data: bytes = b""
    reply: bool = False


@dataclass(slots=True)
class Unreachable:
    """``original``: the packet it is about, from its IP header on, possibly cut. ``next_hop_mtu``: with
    FRAGMENTATION_NEEDED, 0 from routers that do not know RFC 1191."""

    code: int
    original: bytes
    next_hop_mtu: int = 0


@dataclass(slots=True)
class TimeExceeded:
    """TTL_EXCEEDED in transit or REASSEMBLY_TIME_EXCEEDED."""

    code: int
    original: bytes


@dataclass(slots=True)
class ParameterProblem:
    """``pointer``: the byte of ``original`` that is wrong."""

    code: int
    pointer: int
    original: bytes


@dataclass(slots=True)
class Redirect:
    """``gateway``: 4 bytes, where packets like ``original`` should have been sent."""

    code: int
    gateway: bytes
    original: bytes


@dataclass(slots=True)
class Other:
    """Any other type: ``body`` is what follows the checksum."""

    type: int
    code: int
    body: bytes


IcmpMessage = Echo | Unreachable | TimeExceeded | ParameterProblem | Redirect | Other


class Original(NamedTuple):
    """The packet an error message quotes. Ports and ``sequence`` (of TCP) are 0 where the quotation is too short."""

    source: bytes
    destination: bytes
    protocol: int
    source_port: int
    destination_port: int
    sequence: int
    fragment: bool


def parse(buffer: bytes) -> IcmpMessage:
    """Read an ICMP message that fills ``buffer``, verifying its checksum. Raises DecodeError."""
    raise NotImplementedError


def build(message: IcmpMessage) -> bytes:
    """The message with its checksum. ``original`` is sent as given: see :func:`quote`."""
    raise NotImplementedError


def quote(packet: bytes, limit: int = 548) -> bytes:
    """As much of an IPv4 packet as an error message about it carries (RFC 1812 section 4.3.2.3: 576 bytes in all)."""
    return packet[:limit]


def original(data: bytes) -> Original:
    """Read what an error message quotes: an IPv4 or IPv6 packet whose end may be missing. Raises DecodeError."""
    raise NotImplementedError
