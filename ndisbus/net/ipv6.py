"""The IPv6 header and its extension headers (RFC 8200)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final, NamedTuple

from ndisbus.errors import LocalProtocolError
from ndisbus.net.malformed import (
    BAD_OPTION,
    BAD_VERSION,
    INCOMPLETE_CHAIN,
    SHORT_HEADER,
    TRUNCATED,
    malformed,
)

__all__ = [
    "DESTINATION_OPTIONS",
    "EXTENSIONS",
    "FRAGMENT",
    "HOP_BY_HOP",
    "NO_NEXT_HEADER",
    "ROUTING",
    "Fragment",
    "Ipv6Header",
    "Problem",
    "UpperLayer",
    "parse",
    "walk",
]

HOP_BY_HOP: Final = 0
ROUTING: Final = 43
FRAGMENT: Final = 44
NO_NEXT_HEADER: Final = 59
DESTINATION_OPTIONS: Final = 60
EXTENSIONS: Final = frozenset((HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS))

_HEADER: Final = Struct("!IHBB16s16s")
_PAD1: Final = 0


@dataclass(slots=True)
class Ipv6Header:
    """An IPv6 header. ``next_header``: of the header behind this one, which may be an extension header."""

    source: bytes
    destination: bytes
    next_header: int
    hop_limit: int = 64
    traffic_class: int = 0
    flow_label: int = 0

    def build(self, payload: bytes) -> bytes:
        """Return the packet. Extension headers are part of ``payload``. Raises LocalProtocolError."""
        if len(payload) > 0xFFFF or len(self.source) != 16 or len(self.destination) != 16:
            raise LocalProtocolError(
                "IPv6: the payload is longer than 65,535 bytes, or an address does not have 16 bytes"
            )
        if self.flow_label >> 20 or self.traffic_class >> 8:
            raise LocalProtocolError(
                "IPv6: the flow label has more than 20 bits, or the traffic class more than 8"
            )
        first = 6 << 28 | self.traffic_class << 20 | self.flow_label
        return (
            _HEADER.pack(first, len(payload), self.next_header, self.hop_limit, self.source, self.destination)
            + payload
        )


class Fragment(NamedTuple):
    """The fragment header. ``offset``: bytes from the start of the fragmentable part."""

    offset: int
    more: bool
    identification: int


class Problem(NamedTuple):
    """Why a packet's extension headers cannot be processed (RFC 8200 sections 4, 4.2 and 4.4).

    ``code`` and ``pointer`` are those of the ICMPv6 parameter problem. ``answer``: send one to the source.
    ``answer_multicast``: send it even if the packet was sent to a multicast address.
    """

    code: int
    pointer: int
    answer: bool
    answer_multicast: bool


class UpperLayer(NamedTuple):
    """What follows the extension headers. Offsets count from the start of the IPv6 header.

    ``protocol``: the first next-header value that is not an extension header known here. ``offset``: where
    that header begins. ``named_at``: the offset of the byte that contains ``protocol`` (the pointer of a
    parameter problem with code 1). ``fragment``: the fragment header. ``unfragmentable``: the number of bytes
    before it, whose last next-header byte is at ``fragment_named_at``. The walk ends at the fragment header
    of a fragment that is not the first. ``extensions``: the kinds of the headers passed, in order.
    """

    protocol: int
    offset: int
    named_at: int
    fragment: Fragment | None
    unfragmentable: int
    fragment_named_at: int
    extensions: tuple[int, ...]
    problem: Problem | None


def parse(packet: bytes, *, whole: bool = True) -> tuple[Ipv6Header, bytes]:
    """Return header and payload (with extension headers). Bytes behind the payload length are ignored.

    ``whole=False`` is for packets quoted in ICMPv6 messages, whose end may be missing. Raises DecodeError.
    """
    if len(packet) < 40:
        raise malformed("ipv6", SHORT_HEADER)
    first, length, next_header, hop_limit, source, destination = _HEADER.unpack_from(packet)
    if first >> 28 != 6:
        raise malformed("ipv6", BAD_VERSION)
    if whole and 40 + length > len(packet):
        raise malformed("ipv6", TRUNCATED)
    header = Ipv6Header(source, destination, next_header, hop_limit, first >> 20 & 0xFF, first & 0xFFFFF)
    return header, packet[40 : 40 + length]


def walk(packet: bytes) -> UpperLayer:
    """Walk over the extension headers of a packet that :func:`parse` accepts.

    A header or an option that must not be ignored sets :attr:`UpperLayer.problem` and ends the walk. Raises
    DecodeError if a header is incomplete, with a text of its own in the first of several fragments.
    """
    end = min(len(packet), 40 + (packet[4] << 8 | packet[5]))
    kind, at, named_at = packet[6], 40, 6
    passed: list[int] = []
    part: Fragment | None = None
    unfragmentable, fragment_named_at = 40, 6
    problem: Problem | None = None
    while kind in EXTENSIONS and problem is None:
        size = 8 if kind == FRAGMENT else _size(packet, at, end)
        if at + size > end:
            raise malformed("ipv6", INCOMPLETE_CHAIN if part is not None and part.more else TRUNCATED)
        if (kind == HOP_BY_HOP and passed) or (kind == FRAGMENT and part is not None):
            # Hop-by-hop options are legal only as the first header. Elsewhere they are an unknown header.
            problem = Problem(1, named_at, True, False)
            break
        if kind == FRAGMENT:
            word = packet[at + 2] << 8 | packet[at + 3]
            part = Fragment(word & 0xFFF8, bool(word & 1), int.from_bytes(packet[at + 4 : at + 8], "big"))
            unfragmentable, fragment_named_at = at, named_at
        elif kind == ROUTING:
            if packet[at + 3]:  # segments left, and the routing type is unknown
                problem = Problem(0, at + 2, True, False)
        else:
            problem = _options(packet, at + 2, at + size)
        passed.append(kind)
        if part is None and kind != DESTINATION_OPTIONS:
            unfragmentable, fragment_named_at = at + size, at
        if problem is None:
            kind, named_at, at = packet[at], at, at + size
            if part is not None and part.offset:
                break
    return UpperLayer(kind, at, named_at, part, unfragmentable, fragment_named_at, tuple(passed), problem)


def _size(packet: bytes, at: int, end: int) -> int:
    """Return the size of the extension header at ``at`` in bytes; more than remain if it is incomplete."""
    return (packet[at + 1] + 1) << 3 if at + 2 <= end else 8


def _options(packet: bytes, at: int, end: int) -> Problem | None:
    """Check the options of an options header.

    Returns the problem of the first one that must not be skipped.
    """
    while at < end:
        kind = packet[at]
        if kind == _PAD1:
            at += 1
            continue
        following = at + 2 + packet[at + 1] if at + 1 < end else end + 1
        if following > end:
            raise malformed("ipv6", BAD_OPTION)
        # No option is known here. The two highest bits say what to do with an unknown option.
        action = kind >> 6
        if action:
            return Problem(2, at, action != 1, action == 2)
        at = following
    return None
