"""ICMPv6 (RFC 4443); the messages of neighbor discovery are those of :mod:`ndisbus.net.nd`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ndisbus.net.icmp import Echo, Other, ParameterProblem, TimeExceeded, Unreachable
from ndisbus.net.nd import NdMessage

__all__ = ["PROTOCOL", "Icmpv6Message", "TooBig", "build", "parse"]

PROTOCOL: Final = 58

# Codes of Unreachable.
NO_ROUTE: Final = 0
ADMINISTRATIVELY_PROHIBITED: Final = 1
ADDRESS_UNREACHABLE: Final = 3
PORT_UNREACHABLE: Final = 4
# Codes of ParameterProblem.
ERRONEOUS_FIELD: Final = 0
UNRECOGNIZED_NEXT_HEADER: Final = 1
UNRECOGNIZED_OPTION: Final = 2
INCOMPLETE_FIRST_FRAGMENT: Final = 3


@dataclass(slots=True)
class TooBig:
    """Packet Too Big: ``mtu`` of the next hop."""

    mtu: int
    original: bytes


Icmpv6Message = Echo | Unreachable | TooBig | TimeExceeded | ParameterProblem | NdMessage | Other


def parse(buffer: bytes, source: bytes, destination: bytes, hop_limit: int) -> Icmpv6Message:
    """Read an ICMPv6 message that fills ``buffer``, verifying its checksum. Raises DecodeError.

    ``source``, ``destination``, ``hop_limit``: of the IPv6 header; the checksum and the validity of neighbor
    discovery messages (hop limit 255 and the rest of RFC 4861 sections 6.1, 7.1 and 8.1) depend on them.
    """
    raise NotImplementedError


def build(message: Icmpv6Message, source: bytes, destination: bytes) -> bytes:
    """The message with its checksum. Neighbor discovery messages must be sent with hop limit 255."""
    raise NotImplementedError


def quote(packet: bytes) -> bytes:
    """As much of a packet as an error message carries: 1,280 bytes in all (RFC 4443 section 2.4)."""
    return packet[: 1280 - 40 - 8]
