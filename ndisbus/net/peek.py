"""What demultiplexing needs to know about a frame, found as fast as possible in Python."""

from __future__ import annotations

from struct import Struct
from typing import Final

from ndisbus.net.ethernet import ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN
from ndisbus.net.ipv6 import EXTENSIONS, walk
from ndisbus.net.malformed import (
    BAD_CHECKSUM,
    BAD_HEADER_LENGTH,
    BAD_TOTAL_LENGTH,
    BAD_VERSION,
    SHORT_HEADER,
    TRUNCATED,
    malformed,
)

__all__ = ["FrameInfo", "connection_key", "peek", "peek_packet"]

_WITH_PORTS: Final = {6: "tcp", 17: "udp"}
#: Version and header length, total length, flags and offset, protocol.
_IPV4: Final = Struct("!BxHxxHxB")
#: Version, payload length, next header.
_IPV6: Final = Struct("!BxxxHB")
#: The bits for "more fragments", and for an offset.
_FRAGMENT: Final = 0x3FFF


class FrameInfo:
    """The result of :func:`peek`.

    ``ethertype``: behind the tag, if there is one. ``vlan``: identifier of the 802.1Q tag, None without a
    tag. ``priority``: of the tag, or 0. ``version``: 4, 6, or 0 for anything but IP. With 0 the remaining
    members are 0 or empty.

    ``protocol``: of the header behind the extension headers; in a later fragment, the one its header names.
    ``fragment``: whether the packet is a fragment. ``options``: whether there are IPv4 options, or IPv6
    extension headers other than a fragment header; their contents have not been checked.

    Offsets count from the start of the frame: ``l3`` of the IP header, ``l4`` of the byte behind all its
    headers, ``end`` of the packet (Ethernet padding may follow).

    ``key``: source address, destination address, source port and destination port in network order, 12 or 36
    bytes (:func:`connection_key` makes the same). It has no ports, so 8 or 32 bytes, if the packet is neither
    TCP nor UDP, or a fragment that does not contain them.
    """

    __slots__ = (
        "end",
        "ethertype",
        "fragment",
        "key",
        "l3",
        "l4",
        "options",
        "priority",
        "protocol",
        "version",
        "vlan",
    )

    def __init__(self, ethertype: int, l3: int, vlan: int | None, priority: int) -> None:
        self.ethertype = ethertype
        self.l3 = l3
        self.vlan = vlan
        self.priority = priority
        self.version = 0
        self.protocol = 0
        self.fragment = False
        self.options = False
        self.l4 = 0
        self.end = 0
        self.key = b""

    @property
    def source(self) -> bytes:
        """Source address, 4 or 16 bytes."""
        return self.key[:4] if self.version == 4 else self.key[:16]

    @property
    def destination(self) -> bytes:
        """Destination address, 4 or 16 bytes."""
        return self.key[4:8] if self.version == 4 else self.key[16:32]

    @property
    def source_port(self) -> int:
        """Source port; 0 if there is none."""
        at = 8 if self.version == 4 else 32
        return int.from_bytes(self.key[at : at + 2], "big")

    @property
    def destination_port(self) -> int:
        """Destination port; 0 if there is none."""
        at = 10 if self.version == 4 else 34
        return int.from_bytes(self.key[at : at + 2], "big")

    def __repr__(self) -> str:
        members = ", ".join(f"{name}={getattr(self, name)!r}" for name in FrameInfo.__slots__)
        return f"FrameInfo({members})"


def connection_key(source: bytes, destination: bytes, source_port: int, destination_port: int) -> bytes:
    """Return the :attr:`FrameInfo.key` of a packet *from* ``source`` *to* ``destination``.

    For frames that arrive, the source is the remote end:
    ``connection_key(remote, local, remote_port, local_port)``.
    """
    return source + destination + (source_port << 16 | destination_port).to_bytes(4, "big")


def peek(frame: bytes) -> FrameInfo:
    """Look at a frame. Verifies the IP header (version, lengths, IPv4 checksum) and nothing behind it.

    Raises DecodeError for bytes that are not a whole frame or a whole IP packet.
    """
    size = len(frame)
    if size < 14:
        raise malformed("ethernet", SHORT_HEADER)
    ethertype = frame[12] << 8 | frame[13]
    if ethertype == ETHERTYPE_VLAN:
        if size < 18:
            raise malformed("ethernet", SHORT_HEADER)
        tag = frame[14]
        info = FrameInfo(frame[16] << 8 | frame[17], 18, (tag & 15) << 8 | frame[15], tag >> 5)
        ethertype = info.ethertype
    else:
        info = FrameInfo(ethertype, 14, None, 0)
    if ethertype == ETHERTYPE_IPV4:
        _peek_ipv4(frame, info)
    elif ethertype == ETHERTYPE_IPV6:
        _peek_ipv6(frame, info)
    return info


def peek_packet(packet: bytes) -> FrameInfo:
    """Look at an IP packet without a frame, such as a reassembled one: see :func:`peek`."""
    version = packet[0] >> 4 if packet else 0
    if version == 4:
        info = FrameInfo(ETHERTYPE_IPV4, 0, None, 0)
        _peek_ipv4(packet, info)
    else:
        info = FrameInfo(ETHERTYPE_IPV6, 0, None, 0)
        _peek_ipv6(packet, info)
    return info


def _peek_ipv4(frame: bytes, info: FrameInfo) -> None:
    l3 = info.l3
    available = len(frame) - l3
    if available < 20:
        raise malformed("ipv4", SHORT_HEADER)
    first, length, flags, protocol = _IPV4.unpack_from(frame, l3)
    if first == 0x45:
        l4 = l3 + 20
    else:
        if first >> 4 != 4:
            raise malformed("ipv4", BAD_VERSION)
        if first < 0x45:
            raise malformed("ipv4", BAD_HEADER_LENGTH)
        l4 = l3 + ((first & 15) << 2)
        info.options = True
        if l4 > len(frame):
            raise malformed("ipv4", TRUNCATED)
    end = l3 + length
    if end < l4:
        raise malformed("ipv4", BAD_TOTAL_LENGTH)
    if int.from_bytes(frame[l3:l4], "big") % 0xFFFF:
        raise malformed("ipv4", BAD_CHECKSUM)
    if length > available:
        raise malformed("ipv4", TRUNCATED)
    info.version = 4
    info.protocol = protocol
    info.l4 = l4
    info.end = end
    if flags & _FRAGMENT:
        info.fragment = True
        if flags & 0x1FFF or end - l4 < 4:
            info.key = frame[l3 + 12 : l3 + 20]
            return
    if protocol in _WITH_PORTS:
        if end - l4 < 4:
            raise malformed(_WITH_PORTS[protocol], SHORT_HEADER)
        if first == 0x45:
            info.key = frame[l3 + 12 : l3 + 24]
        else:
            info.key = frame[l3 + 12 : l3 + 20] + frame[l4 : l4 + 4]
    else:
        info.key = frame[l3 + 12 : l3 + 20]


def _peek_ipv6(frame: bytes, info: FrameInfo) -> None:
    l3 = info.l3
    available = len(frame) - l3
    if available < 40:
        raise malformed("ipv6", SHORT_HEADER)
    first, length, protocol = _IPV6.unpack_from(frame, l3)
    if first >> 4 != 6:
        raise malformed("ipv6", BAD_VERSION)
    l4 = l3 + 40
    end = l4 + length
    if end > l3 + available:
        raise malformed("ipv6", TRUNCATED)
    info.version = 6
    info.end = end
    shows_ports = True
    if protocol in EXTENSIONS:
        upper = walk(frame[l3:end])
        protocol = upper.protocol
        l4 = l3 + upper.offset
        part = upper.fragment
        info.options = upper.problem is not None or upper.extensions != (44,)
        if part is not None and (part.more or part.offset):
            info.fragment = True
            shows_ports = not part.offset and end - l4 >= 4
        if upper.problem is not None:
            shows_ports = False
    info.protocol = protocol
    info.l4 = l4
    if shows_ports and protocol in _WITH_PORTS:
        if end - l4 < 4:
            raise malformed(_WITH_PORTS[protocol], SHORT_HEADER)
        info.key = frame[l3 + 8 : l3 + 40] + frame[l4 : l4 + 4]
    else:
        info.key = frame[l3 + 8 : l3 + 40]
