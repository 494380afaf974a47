"""ARP for IPv4 over Ethernet (RFC 826)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ndisbus.errors import LocalProtocolError
from ndisbus.net.malformed import BAD_VALUE, SHORT_HEADER, malformed

__all__ = ["REPLY", "REQUEST", "ArpPacket", "parse"]

REQUEST: Final = 1
REPLY: Final = 2
#: Ethernet, IPv4, address lengths 6 and 4.
_KIND: Final = b"\x00\x01\x08\x00\x06\x04"


@dataclass(slots=True)
class ArpPacket:
    """An ARP packet.

    ``operation``: REQUEST or REPLY (others parse too). Addresses: MAC 6 bytes, IP 4 bytes.
    """

    operation: int
    sender_mac: bytes
    sender_ip: bytes
    target_mac: bytes
    target_ip: bytes

    def build(self) -> bytes:
        """Return the 28 bytes. Raises LocalProtocolError for an address of another length."""
        packet = b"".join(
            (
                _KIND,
                self.operation.to_bytes(2, "big"),
                self.sender_mac,
                self.sender_ip,
                self.target_mac,
                self.target_ip,
            )
        )
        if (
            len(packet) != 28
            or len(self.sender_mac) != 6
            or len(self.sender_ip) != 4
            or len(self.target_ip) != 4
        ):
            raise LocalProtocolError("ARP: the addresses must have 6, 4, 6 and 4 bytes")
        return packet


def parse(packet: bytes) -> ArpPacket:
    """Read the payload of an ARP frame. Padding behind it is ignored. Raises DecodeError."""
    if len(packet) < 28:
        raise malformed("arp", SHORT_HEADER)
    if packet[:6] != _KIND:
        raise malformed("arp", BAD_VALUE)
    return ArpPacket(packet[6] << 8 | packet[7], packet[8:14], packet[14:18], packet[18:24], packet[24:28])
