"""ICMPv6 (RFC 4443). :mod:`ndisbus.net.nd` has the messages of neighbor discovery."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from struct import error as struct_error
from typing import Final

from ndisbus.errors import LocalProtocolError
from ndisbus.net import nd
from ndisbus.net.checksum import checksum, is_valid, partial, pseudo_header
from ndisbus.net.icmp import Echo, Other, ParameterProblem, TimeExceeded, Unreachable
from ndisbus.net.malformed import BAD_CHECKSUM, SHORT_HEADER, malformed

__all__ = [
    "ADDRESS_UNREACHABLE",
    "ERRONEOUS_FIELD",
    "INCOMPLETE_FIRST_FRAGMENT",
    "NO_ROUTE",
    "PORT_UNREACHABLE",
    "PROTOCOL",
    "UNRECOGNIZED_NEXT_HEADER",
    "UNRECOGNIZED_OPTION",
    "Icmpv6Message",
    "TooBig",
    "build",
    "parse",
    "quote",
]

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

_UNREACHABLE: Final = 1
_TOO_BIG: Final = 2
_TIME_EXCEEDED: Final = 3
_PARAMETER_PROBLEM: Final = 4
_ECHO_REQUEST: Final = 128
_ECHO_REPLY: Final = 129

#: Type, code, checksum, and the 32-bit word behind it.
_HEADER: Final = Struct("!BBHI")


@dataclass(slots=True)
class TooBig:
    """Packet Too Big. ``mtu``: of the next hop, in bytes."""

    mtu: int
    original: bytes


Icmpv6Message = Echo | Unreachable | TooBig | TimeExceeded | ParameterProblem | nd.NdMessage | Other


def parse(buffer: bytes, source: bytes, destination: bytes, hop_limit: int) -> Icmpv6Message:
    """Read an ICMPv6 message that fills ``buffer``, and verify its checksum. Raises DecodeError.

    ``source``, ``destination``, ``hop_limit``: of the IPv6 header. The checksum depends on the addresses. The
    validity of neighbor discovery messages depends on all three (RFC 4861 6.1, 7.1 and 8.1).
    """
    size = len(buffer)
    if size < 8:
        raise malformed("icmpv6", SHORT_HEADER)
    if not is_valid(partial(buffer) + pseudo_header(source, destination, PROTOCOL) + size):
        raise malformed("icmpv6", BAD_CHECKSUM)
    kind, code, _, word = _HEADER.unpack_from(buffer)
    rest = buffer[8:]
    if kind in nd.TYPES:
        return nd.parse(kind, code, buffer[4:], source, destination, hop_limit)
    if kind in (_ECHO_REQUEST, _ECHO_REPLY) and code == 0:
        return Echo(word >> 16, word & 0xFFFF, rest, kind == _ECHO_REPLY)
    if kind == _UNREACHABLE:
        return Unreachable(code, rest)
    if kind == _TOO_BIG:
        return TooBig(word, rest)
    if kind == _TIME_EXCEEDED:
        return TimeExceeded(code, rest)
    if kind == _PARAMETER_PROBLEM:
        return ParameterProblem(code, word, rest)
    return Other(kind, code, buffer[4:])


def build(message: Icmpv6Message, source: bytes, destination: bytes) -> bytes:
    """Return the message with its checksum. Neighbor discovery messages must be sent with hop limit 255.

    Raises LocalProtocolError for members that do not fit.
    """
    try:
        data = _image(message)
    except (struct_error, OverflowError, ValueError) as exc:
        raise LocalProtocolError(
            f"ICMPv6: a member of {type(message).__name__} does not fit into its field"
        ) from exc
    field = checksum(data, pseudo_header(source, destination, PROTOCOL) + len(data))
    return data[:2] + field.to_bytes(2, "big") + data[4:]


def _image(message: Icmpv6Message) -> bytes:
    """Return the message with zeros for a checksum."""
    if isinstance(message, Echo):
        kind = _ECHO_REPLY if message.reply else _ECHO_REQUEST
        if message.identifier >> 16 or message.sequence >> 16:
            raise ValueError("identifier and sequence number must fit into 16 bits")
        return _HEADER.pack(kind, 0, 0, message.identifier << 16 | message.sequence) + message.data
    if isinstance(message, Unreachable):
        return _HEADER.pack(_UNREACHABLE, message.code, 0, 0) + message.original
    if isinstance(message, TooBig):
        return _HEADER.pack(_TOO_BIG, 0, 0, message.mtu) + message.original
    if isinstance(message, TimeExceeded):
        return _HEADER.pack(_TIME_EXCEEDED, message.code, 0, 0) + message.original
    if isinstance(message, ParameterProblem):
        return _HEADER.pack(_PARAMETER_PROBLEM, message.code, 0, message.pointer) + message.original
    if isinstance(message, Other):
        return bytes((message.type, message.code, 0, 0)) + message.body
    kind, body = nd.image(message)
    return bytes((kind, 0, 0, 0)) + body


def quote(packet: bytes) -> bytes:
    """Return the part of a packet that an error message quotes: 1,280 bytes in all (RFC 4443 section 2.4)."""
    return packet[: 1280 - 40 - 8]
