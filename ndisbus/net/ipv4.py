"""The IPv4 header (RFC 791)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Final

from ndisbus.errors import LocalProtocolError
from ndisbus.net import checksum
from ndisbus.net.malformed import (
    BAD_CHECKSUM,
    BAD_HEADER_LENGTH,
    BAD_OPTION,
    BAD_TOTAL_LENGTH,
    BAD_VERSION,
    SHORT_HEADER,
    TRUNCATED,
    malformed,
)

__all__ = ["DONT_FRAGMENT", "MORE_FRAGMENTS", "Ipv4Header", "options", "parse"]

_HEADER: Final = Struct("!BBHHHBBH4s4s")
DONT_FRAGMENT: Final = 0x4000
MORE_FRAGMENTS: Final = 0x2000


@dataclass(slots=True)
class Ipv4Header:
    """An IPv4 header.

    ``fragment_offset``: bytes, a multiple of 8. ``options``: 0, 4, 8... 40 bytes as sent.
    """

    source: bytes
    destination: bytes
    protocol: int
    ttl: int = 64
    tos: int = 0
    identification: int = 0
    dont_fragment: bool = False
    more_fragments: bool = False
    fragment_offset: int = 0
    options: bytes = b""

    @property
    def is_fragment(self) -> bool:
        """Whether this packet is a fragment of a datagram."""
        return self.more_fragments or self.fragment_offset != 0

    @property
    def header_length(self) -> int:
        """Number of bytes, options included."""
        return 20 + len(self.options)

    def build(self, payload: bytes) -> bytes:
        """Return the packet. Raises LocalProtocolError for members that do not fit."""
        size = len(self.options)
        length = 20 + size + len(payload)
        if size > 40 or size & 3 or self.fragment_offset & 7 or self.fragment_offset >> 16:
            raise LocalProtocolError("IPv4: the options or the fragment offset have an illegal size")
        if length > 0xFFFF or len(self.source) != 4 or len(self.destination) != 4:
            raise LocalProtocolError(
                "IPv4: the packet is longer than 65,535 bytes, or an address does not have 4 bytes"
            )
        first = 0x45 + (size >> 2)
        flags = self.fragment_offset >> 3
        if self.dont_fragment:
            flags |= DONT_FRAGMENT
        if self.more_fragments:
            flags |= MORE_FRAGMENTS
        total = (
            (first << 8) + self.tos + length + self.identification + flags + (self.ttl << 8) + self.protocol
        )
        total += int.from_bytes(self.source + self.destination + self.options, "big")
        header = _HEADER.pack(
            first,
            self.tos,
            length,
            self.identification,
            flags,
            self.ttl,
            self.protocol,
            checksum.finish(total),
            self.source,
            self.destination,
        )
        return header + self.options + payload


def without_df(frame: bytes, start: int) -> bytes:
    """Return a frame whose IPv4 header begins at ``start`` with DF clear: routers may fragment the packet."""
    flags = int.from_bytes(frame[start + 6 : start + 8], "big")
    if not flags & DONT_FRAGMENT:
        return frame
    # The sum is of all words: it grows by what the word loses (RFC 1624).
    total = int.from_bytes(frame[start + 10 : start + 12], "big") + DONT_FRAGMENT
    total = (total & 0xFFFF) + (total >> 16)
    result = bytearray(frame)
    result[start + 6 : start + 8] = (flags & ~DONT_FRAGMENT).to_bytes(2, "big")
    result[start + 10 : start + 12] = total.to_bytes(2, "big")
    return bytes(result)


def parse(packet: bytes, *, whole: bool = True) -> tuple[Ipv4Header, bytes]:
    """Return header and payload. Bytes behind the packet's total length (Ethernet padding) are ignored.

    ``whole=False`` is for packets quoted in ICMP messages: the end may be missing, and the header checksum is
    not verified, because routers have changed the header on the way. Raises DecodeError.
    """
    size = len(packet)
    if size < 20:
        raise malformed("ipv4", SHORT_HEADER)
    first, tos, length, identification, flags, ttl, protocol, _, source, destination = _HEADER.unpack_from(
        packet
    )
    if first >> 4 != 4:
        raise malformed("ipv4", BAD_VERSION)
    end_of_header = (first & 15) << 2
    if end_of_header < 20:
        raise malformed("ipv4", BAD_HEADER_LENGTH)
    if end_of_header > size:
        raise malformed("ipv4", TRUNCATED)
    if length < end_of_header:
        raise malformed("ipv4", BAD_TOTAL_LENGTH)
    if whole:
        if int.from_bytes(packet[:end_of_header], "big") % 0xFFFF:
            raise malformed("ipv4", BAD_CHECKSUM)
        if length > size:
            raise malformed("ipv4", TRUNCATED)
    header = Ipv4Header(
        source,
        destination,
        protocol,
        ttl,
        tos,
        identification,
        bool(flags & DONT_FRAGMENT),
        bool(flags & MORE_FRAGMENTS),
        (flags & 0x1FFF) << 3,
        packet[20:end_of_header],
    )
    return header, packet[end_of_header:length]


def options(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Iterate over (type, data) of the options, without No Operation, up to End of Option List.

    Raises DecodeError, which may be answered with an ICMP parameter problem (RFC 1122 section 3.2.1.8).
    """
    at, size = 0, len(data)
    while at < size:
        kind = data[at]
        if kind == 0:
            return
        if kind == 1:
            at += 1
            continue
        length = data[at + 1] if at + 1 < size else 0
        if length < 2 or at + length > size:
            raise malformed("ipv4", BAD_OPTION)
        yield kind, data[at + 2 : at + length]
        at += length
