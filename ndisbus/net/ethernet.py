"""Ethernet II frames and 802.1Q tags (IEEE 802.3, 802.1Q; RFC 894, RFC 2464)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ndisbus.errors import LocalProtocolError
from ndisbus.net.malformed import SHORT_HEADER, malformed

__all__ = [
    "BROADCAST",
    "ETHERTYPE_ARP",
    "ETHERTYPE_IPV4",
    "ETHERTYPE_IPV6",
    "ETHERTYPE_VLAN",
    "EthernetHeader",
    "is_group",
    "multicast_mac",
    "parse",
    "parse_mac",
]

ETHERTYPE_IPV4: Final = 0x0800
ETHERTYPE_ARP: Final = 0x0806
ETHERTYPE_VLAN: Final = 0x8100
ETHERTYPE_IPV6: Final = 0x86DD
BROADCAST: Final = b"\xff" * 6


@dataclass(slots=True)
class EthernetHeader:
    """Addresses (6 bytes each), EtherType, and the contents of the tag.

    ``vlan``: identifier of the 802.1Q tag, 0 in a tag with a priority only, None without a tag. ``priority``:
    the 802.1p user priority, 0..7. An EtherType below 0x600 is the length field of an 802.3 frame.
    """

    destination: bytes
    source: bytes
    ethertype: int
    vlan: int | None = None
    priority: int = 0

    def build(self) -> bytes:
        """Return 14 bytes, or 18 with a tag, whose CFI is 0 (R-VLAN-05). Raises LocalProtocolError."""
        addresses = self.destination + self.source
        if len(addresses) != 12:
            raise LocalProtocolError("Ethernet: an address must have 6 bytes")
        if self.vlan is None:
            return addresses + self.ethertype.to_bytes(2, "big")
        if self.vlan >> 12 or self.priority >> 3:
            raise LocalProtocolError(
                f"Ethernet: VLAN {self.vlan} or priority {self.priority} does not fit into a tag"
            )
        tag = ETHERTYPE_VLAN << 32 | self.priority << 29 | self.vlan << 16 | self.ethertype
        return addresses + tag.to_bytes(6, "big")


def parse_mac(text: str) -> bytes:
    """Return the six bytes of ``02:00:00:00:00:01``, ``02-00-...`` or 12 digits.

    Raises LocalProtocolError.
    """
    try:
        mac = bytes.fromhex(text.replace(":", " ").replace("-", " "))
    except ValueError:
        mac = b""
    if len(mac) != 6:
        raise LocalProtocolError(f"'{text}' is not a MAC address: write six bytes, such as 02:00:00:00:00:01")
    return mac


def parse(frame: bytes) -> tuple[EthernetHeader, bytes]:
    """Return the header with its 802.1Q tag, if any, and the bytes behind it with padding.

    Raises DecodeError.
    """
    if len(frame) < 14:
        raise malformed("ethernet", SHORT_HEADER)
    ethertype = frame[12] << 8 | frame[13]
    if ethertype != ETHERTYPE_VLAN:
        return EthernetHeader(frame[:6], frame[6:12], ethertype), frame[14:]
    if len(frame) < 18:
        raise malformed("ethernet", SHORT_HEADER)
    tag = frame[14]
    header = EthernetHeader(
        frame[:6], frame[6:12], frame[16] << 8 | frame[17], (tag & 15) << 8 | frame[15], tag >> 5
    )
    return header, frame[18:]


def is_group(mac: bytes) -> bool:
    """Return whether an address is a multicast or broadcast address."""
    return bool(mac[0] & 1)


def multicast_mac(address: bytes) -> bytes:
    """Return the MAC address for a multicast address: RFC 1112 6.4 (IPv4), RFC 2464 7 (IPv6)."""
    if len(address) == 4:
        return b"\x01\x00\x5e" + bytes((address[1] & 0x7F,)) + address[2:]
    return b"\x33\x33" + address[12:]
