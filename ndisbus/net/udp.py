"""UDP (RFC 768): only what is needed to refuse datagrams for closed ports."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

from ndisbus.errors import LocalProtocolError
from ndisbus.net import checksum
from ndisbus.net.malformed import BAD_CHECKSUM, BAD_TOTAL_LENGTH, SHORT_HEADER, TRUNCATED, malformed

__all__ = ["PROTOCOL", "UdpDatagram", "parse"]

PROTOCOL: Final = 17
_HEADER: Final = Struct("!HHHH")


@dataclass(slots=True)
class UdpDatagram:
    """Ports and payload."""

    source_port: int
    destination_port: int
    payload: bytes = b""

    def build(self, pseudo: int) -> bytes:
        """Return header and payload.

        ``pseudo``: :func:`ndisbus.net.checksum.pseudo_header` of the addresses.
        """
        size = 8 + len(self.payload)
        if size > 0xFFFF:
            raise LocalProtocolError("UDP: the payload has more than 65,527 bytes")
        total = pseudo + 2 * size + self.source_port + self.destination_port + checksum.partial(self.payload)
        # A sum of zero is sent as all ones, because zero means no checksum (RFC 768).
        field = checksum.finish(total) or 0xFFFF
        return _HEADER.pack(self.source_port, self.destination_port, size, field) + self.payload


def parse(buffer: bytes, pseudo: int | None, *, need_checksum: bool = False) -> UdpDatagram:
    """Read a datagram. Bytes behind its length are ignored. Raises DecodeError.

    ``pseudo``: :func:`ndisbus.net.checksum.pseudo_header` of the addresses; None to skip the checksum.
    ``need_checksum``: refuse a datagram without one, as IPv6 does (RFC 8200 section 8.1).
    """
    if len(buffer) < 8:
        raise malformed("udp", SHORT_HEADER)
    source, destination, size, field = _HEADER.unpack_from(buffer)
    if size < 8:
        raise malformed("udp", BAD_TOTAL_LENGTH)
    if size > len(buffer):
        raise malformed("udp", TRUNCATED)
    if pseudo is not None:
        if field:
            if not checksum.is_valid(checksum.partial(buffer[:size]) + pseudo + size):
                raise malformed("udp", BAD_CHECKSUM)
        elif need_checksum:
            raise malformed("udp", BAD_CHECKSUM)
    return UdpDatagram(source, destination, buffer[8:size])
