"""ICMP for IPv4 (RFC 792, RFC 1191, RFC 1122 section 3.2.2), and the packets that error messages quote."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from struct import error as struct_error
from typing import Final, NamedTuple

from ndisbus.errors import LocalProtocolError
from ndisbus.net import ipv4, ipv6
from ndisbus.net.checksum import checksum, is_valid, partial
from ndisbus.net.malformed import BAD_CHECKSUM, SHORT_HEADER, malformed

__all__ = [
    "FRAGMENTATION_NEEDED",
    "HOST_UNREACHABLE",
    "NET_UNREACHABLE",
    "PORT_UNREACHABLE",
    "PROTOCOL",
    "PROTOCOL_UNREACHABLE",
    "REASSEMBLY_TIME_EXCEEDED",
    "REDIRECT_HOST",
    "REDIRECT_NET",
    "TTL_EXCEEDED",
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
    "quote",
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

_ECHO_REPLY: Final = 0
_UNREACHABLE: Final = 3
_REDIRECT: Final = 5
_ECHO_REQUEST: Final = 8
_TIME_EXCEEDED: Final = 11
_PARAMETER_PROBLEM: Final = 12

#: Type, code, checksum; two halves of the word behind it.
_HEADER: Final = Struct("!BBHHH")
_ICMPV6: Final = 58
_WITH_PORTS: Final = frozenset((6, 17))


@dataclass(slots=True)
class Echo:
    """An echo request or an echo reply."""

    identifier: int
    sequence: int
    data: bytes = b""
    reply: bool = False


@dataclass(slots=True)
class Unreachable:
    """Destination Unreachable.

    ``original``: the packet that was refused, from its IP header on; its end may be missing.
    ``next_hop_mtu``: with FRAGMENTATION_NEEDED; 0 from routers without RFC 1191.
    """

    code: int
    original: bytes
    next_hop_mtu: int = 0


@dataclass(slots=True)
class TimeExceeded:
    """Time Exceeded: TTL_EXCEEDED in transit or REASSEMBLY_TIME_EXCEEDED."""

    code: int
    original: bytes


@dataclass(slots=True)
class ParameterProblem:
    """Parameter Problem. ``pointer``: the offset of the wrong byte in ``original``."""

    code: int
    pointer: int
    original: bytes


@dataclass(slots=True)
class Redirect:
    """Redirect. ``gateway``: 4 bytes, the router for packets like ``original``."""

    code: int
    gateway: bytes
    original: bytes


@dataclass(slots=True)
class Other:
    """A message of any other type. ``body`` is what follows the checksum."""

    type: int
    code: int
    body: bytes


IcmpMessage = Echo | Unreachable | TimeExceeded | ParameterProblem | Redirect | Other


class Original(NamedTuple):
    """The packet that an error message quotes.

    Ports, and ``sequence`` of a TCP segment, are 0 if the quotation does not show them.
    """

    source: bytes
    destination: bytes
    protocol: int
    source_port: int
    destination_port: int
    sequence: int
    fragment: bool
    #: Whether the packet was itself an ICMP error. No error message is ever sent about one.
    icmp_error: bool


def parse(buffer: bytes) -> IcmpMessage:
    """Read an ICMP message that fills ``buffer``, and verify its checksum. Raises DecodeError."""
    if len(buffer) < 8:
        raise malformed("icmp", SHORT_HEADER)
    if not is_valid(partial(buffer)):
        raise malformed("icmp", BAD_CHECKSUM)
    kind, code, _, first, second = _HEADER.unpack_from(buffer)
    rest = buffer[8:]
    if kind in (_ECHO_REQUEST, _ECHO_REPLY) and code == 0:
        return Echo(first, second, rest, kind == _ECHO_REPLY)
    if kind == _UNREACHABLE:
        return Unreachable(code, rest, second if code == FRAGMENTATION_NEEDED else 0)
    if kind == _TIME_EXCEEDED:
        return TimeExceeded(code, rest)
    if kind == _PARAMETER_PROBLEM:
        return ParameterProblem(code, first >> 8, rest)
    if kind == _REDIRECT:
        return Redirect(code, buffer[4:8], rest)
    return Other(kind, code, buffer[4:])


def build(message: IcmpMessage) -> bytes:
    """Return the message with its checksum. ``original`` is sent as it is (see :func:`quote`).

    Raises LocalProtocolError for members that do not fit.
    """
    try:
        data = _image(message)
    except (struct_error, OverflowError, ValueError) as exc:
        raise LocalProtocolError(
            f"ICMP: a member of {type(message).__name__} does not fit into its field"
        ) from exc
    return data[:2] + checksum(data).to_bytes(2, "big") + data[4:]


def _image(message: IcmpMessage) -> bytes:
    """Return the message with zeros for a checksum."""
    if isinstance(message, Echo):
        kind = _ECHO_REPLY if message.reply else _ECHO_REQUEST
        return _HEADER.pack(kind, 0, 0, message.identifier, message.sequence) + message.data
    if isinstance(message, Unreachable):
        return _HEADER.pack(_UNREACHABLE, message.code, 0, 0, message.next_hop_mtu) + message.original
    if isinstance(message, TimeExceeded):
        return _HEADER.pack(_TIME_EXCEEDED, message.code, 0, 0, 0) + message.original
    if isinstance(message, ParameterProblem):
        pointer = message.pointer << 8
        return _HEADER.pack(_PARAMETER_PROBLEM, message.code, 0, pointer, 0) + message.original
    if isinstance(message, Redirect):
        if len(message.gateway) != 4:
            raise ValueError("a gateway must have 4 bytes")
        return bytes((_REDIRECT, message.code, 0, 0)) + message.gateway + message.original
    return bytes((message.type, message.code, 0, 0)) + message.body


def quote(packet: bytes) -> bytes:
    """Return the part of an IPv4 packet that an error message quotes: 576 bytes in all (RFC 1812 4.3.2.3)."""
    return packet[: 576 - 20 - 8]


def original(data: bytes) -> Original:
    """Read the packet that an error message quotes: IPv4 or IPv6, whose end may be missing.

    Raises DecodeError if even the IP headers are incomplete.
    """
    if data and data[0] >> 4 == 4:
        header, rest = ipv4.parse(data, whole=False)
        source, destination, protocol = header.source, header.destination, header.protocol
        fragment, later = header.is_fragment, header.fragment_offset != 0
        error = protocol == PROTOCOL and rest[:1] not in (bytes((_ECHO_REQUEST,)), bytes((_ECHO_REPLY,)))
    else:
        six, _ = ipv6.parse(data, whole=False)
        upper = ipv6.walk(data)
        source, destination, protocol = six.source, six.destination, upper.protocol
        part, rest = upper.fragment, data[upper.offset :]
        fragment = part is not None and (part.more or part.offset != 0)
        later = part is not None and part.offset != 0
        # Informational messages have types from 128 on.
        error = protocol == _ICMPV6 and not (rest and rest[0] & 0x80)
    shows = protocol in _WITH_PORTS and not later
    return Original(
        source,
        destination,
        protocol,
        int.from_bytes(rest[:2], "big") if shows and len(rest) >= 2 else 0,
        int.from_bytes(rest[2:4], "big") if shows and len(rest) >= 4 else 0,
        int.from_bytes(rest[4:8], "big") if shows and protocol == 6 and len(rest) >= 8 else 0,
        fragment,
        error and not later,
    )
