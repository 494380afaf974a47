"""Messages of neighbor discovery (RFC 4861). :mod:`ndisbus.net.icmpv6` reads and builds them as ICMPv6."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final, NamedTuple

from ndisbus.net.malformed import (
    BAD_ADDRESS,
    BAD_OPTION,
    BAD_VALUE,
    SHORT_HEADER,
    malformed,
)

__all__ = [
    "ALL_NODES",
    "ALL_ROUTERS",
    "HOP_LIMIT",
    "TYPES",
    "UNSPECIFIED",
    "NdMessage",
    "NeighborAdvertisement",
    "NeighborSolicitation",
    "Prefix",
    "Redirect6",
    "RouterAdvertisement",
    "RouterSolicitation",
    "image",
    "parse",
    "solicited_node",
]

ALL_NODES: Final = bytes.fromhex("ff020000000000000000000000000001")
ALL_ROUTERS: Final = bytes.fromhex("ff020000000000000000000000000002")
UNSPECIFIED: Final = bytes(16)
#: The hop limit of every message: it proves that the message comes from this link.
HOP_LIMIT: Final = 255

_SOLICITED_NODE: Final = bytes.fromhex("ff0200000000000000000001ff")

_ROUTER_SOLICITATION: Final = 133
_ROUTER_ADVERTISEMENT: Final = 134
_NEIGHBOR_SOLICITATION: Final = 135
_NEIGHBOR_ADVERTISEMENT: Final = 136
_REDIRECT: Final = 137

#: ICMPv6 type -> bytes of the message behind its checksum, without options.
TYPES: Final = {
    _ROUTER_SOLICITATION: 4,
    _ROUTER_ADVERTISEMENT: 12,
    _NEIGHBOR_SOLICITATION: 20,
    _NEIGHBOR_ADVERTISEMENT: 20,
    _REDIRECT: 36,
}

# Options.
_SOURCE_MAC: Final = 1
_TARGET_MAC: Final = 2
_PREFIX: Final = 3
_REDIRECTED: Final = 4
_MTU: Final = 5

_ADVERTISEMENT: Final = Struct("!BBHII")
_PREFIX_OPTION: Final = Struct("!BBBBIIxxxx16s")


class Prefix(NamedTuple):
    """Prefix information; lifetimes in seconds."""

    prefix: bytes
    length: int
    on_link: bool
    autonomous: bool
    valid_lifetime: int
    preferred_lifetime: int


@dataclass(slots=True)
class NeighborSolicitation:
    """Neighbor Solicitation. ``source_mac``: the source link-layer address option, None without it."""

    target: bytes
    source_mac: bytes | None = None


@dataclass(slots=True)
class NeighborAdvertisement:
    """Neighbor Advertisement. ``target_mac``: the target link-layer address option, None without it."""

    target: bytes
    target_mac: bytes | None = None
    router: bool = False
    solicited: bool = False
    override: bool = False


@dataclass(slots=True)
class RouterSolicitation:
    """Router Solicitation. ``source_mac``: the source link-layer address option, None without it."""

    source_mac: bytes | None = None


@dataclass(slots=True)
class RouterAdvertisement:
    """Router Advertisement. ``lifetime``: seconds. ``reachable_time``, ``retransmit_timer``: milliseconds.

    0 means "unspecified" for those two, for ``hop_limit``, and for ``mtu`` (0: no MTU option).
    """

    hop_limit: int = 0
    managed: bool = False
    other: bool = False
    lifetime: int = 0
    reachable_time: int = 0
    retransmit_timer: int = 0
    source_mac: bytes | None = None
    mtu: int = 0
    prefixes: tuple[Prefix, ...] = ()


@dataclass(slots=True)
class Redirect6:
    """Redirect: send packets for ``destination`` to ``target``, which is the destination itself if on the
    link.

    ``original``: the packet that caused it, truncated. It is padded to a multiple of 8 bytes when sent.
    """

    target: bytes
    destination: bytes
    target_mac: bytes | None = None
    original: bytes = b""


NdMessage = (
    NeighborSolicitation | NeighborAdvertisement | RouterSolicitation | RouterAdvertisement | Redirect6
)


def solicited_node(address: bytes) -> bytes:
    """Return the solicited-node multicast address of an address (RFC 4291 section 2.7.1)."""
    return _SOLICITED_NODE + address[13:]


class _Options:
    """The options of a message. If a kind occurs more than once, the last one counts."""

    __slots__ = ("mtu", "original", "prefixes", "source_mac", "target_mac")

    def __init__(self, data: bytes) -> None:
        self.source_mac: bytes | None = None
        self.target_mac: bytes | None = None
        self.mtu = 0
        self.original = b""
        self.prefixes: list[Prefix] = []
        at, size = 0, len(data)
        while at < size:
            length = data[at + 1] << 3 if at + 1 < size else 0
            end = at + length
            if not length or end > size:
                raise malformed("nd", BAD_OPTION)
            self._take(data[at], data[at:end])
            at = end

    def _take(self, kind: int, option: bytes) -> None:
        # Options with a wrong length for their kind are skipped, like unknown ones.
        length = len(option)
        if kind == _SOURCE_MAC and length == 8:
            self.source_mac = option[2:]
        elif kind == _TARGET_MAC and length == 8:
            self.target_mac = option[2:]
        elif kind == _PREFIX and length == 32:
            _, _, bits, flags, valid, preferred, prefix = _PREFIX_OPTION.unpack(option)
            self.prefixes.append(
                Prefix(prefix, bits, bool(flags & 0x80), bool(flags & 0x40), valid, preferred)
            )
        elif kind == _MTU and length == 8:
            self.mtu = int.from_bytes(option[4:], "big")
        elif kind == _REDIRECTED:
            self.original = option[8:]


def parse(kind: int, code: int, body: bytes, source: bytes, destination: bytes, hop_limit: int) -> NdMessage:
    """Read the bytes behind the checksum of an ICMPv6 message whose type is in :data:`TYPES`.

    Raises DecodeError for a message that a node must discard (RFC 4861 6.1.1, 6.1.2, 7.1.1, 7.1.2, 8.1).
    """
    size = TYPES[kind]
    if len(body) < size:
        raise malformed("nd", SHORT_HEADER)
    if hop_limit != HOP_LIMIT or code:
        raise malformed("nd", BAD_VALUE)
    options = _Options(body[size:])
    target = body[4:20]
    if kind == _NEIGHBOR_SOLICITATION:
        if target[0] == 0xFF:
            raise malformed("nd", BAD_ADDRESS)
        # Duplicate address detection: sent to the solicited-node address by a host without an address.
        probe = options.source_mac is None and destination.startswith(_SOLICITED_NODE)
        if source == UNSPECIFIED and not probe:
            raise malformed("nd", BAD_ADDRESS)
        return NeighborSolicitation(target, options.source_mac)
    if kind == _NEIGHBOR_ADVERTISEMENT:
        flags = body[0]
        solicited = bool(flags & 0x40)
        if target[0] == 0xFF or (solicited and destination[0] == 0xFF):
            raise malformed("nd", BAD_ADDRESS)
        return NeighborAdvertisement(
            target, options.target_mac, bool(flags & 0x80), solicited, bool(flags & 0x20)
        )
    if kind == _ROUTER_SOLICITATION:
        if source == UNSPECIFIED and options.source_mac is not None:
            raise malformed("nd", BAD_ADDRESS)
        return RouterSolicitation(options.source_mac)
    if not _is_link_local(source):
        raise malformed("nd", BAD_ADDRESS)
    if kind == _ROUTER_ADVERTISEMENT:
        hops, flags, lifetime, reachable, retransmit = _ADVERTISEMENT.unpack_from(body)
        return RouterAdvertisement(
            hops,
            bool(flags & 0x80),
            bool(flags & 0x40),
            lifetime,
            reachable,
            retransmit,
            options.source_mac,
            options.mtu,
            tuple(options.prefixes),
        )
    aim = body[20:36]
    if aim[0] == 0xFF or (target != aim and not _is_link_local(target)):
        raise malformed("nd", BAD_ADDRESS)
    return Redirect6(target, aim, options.target_mac, options.original)


def _is_link_local(address: bytes) -> bool:
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80


def image(message: NdMessage) -> tuple[int, bytes]:
    """Return (type, bytes behind the checksum).

    Raises ValueError or struct.error if a member does not fit.
    """
    if isinstance(message, NeighborSolicitation):
        body = bytes(4) + _address(message.target)
        return _NEIGHBOR_SOLICITATION, body + _mac_option(_SOURCE_MAC, message.source_mac)
    if isinstance(message, NeighborAdvertisement):
        flags = message.router << 7 | message.solicited << 6 | message.override << 5
        body = bytes((flags, 0, 0, 0)) + _address(message.target)
        return _NEIGHBOR_ADVERTISEMENT, body + _mac_option(_TARGET_MAC, message.target_mac)
    if isinstance(message, RouterSolicitation):
        return _ROUTER_SOLICITATION, bytes(4) + _mac_option(_SOURCE_MAC, message.source_mac)
    if isinstance(message, RouterAdvertisement):
        return _ROUTER_ADVERTISEMENT, _advertisement(message)
    body = bytes(4) + _address(message.target) + _address(message.destination)
    body += _mac_option(_TARGET_MAC, message.target_mac)
    if message.original:
        quoted = message.original + bytes(-len(message.original) % 8)
        body += bytes((_REDIRECTED, 1 + (len(quoted) >> 3))) + bytes(6) + quoted
    return _REDIRECT, body


def _advertisement(message: RouterAdvertisement) -> bytes:
    flags = message.managed << 7 | message.other << 6
    body = _ADVERTISEMENT.pack(
        message.hop_limit, flags, message.lifetime, message.reachable_time, message.retransmit_timer
    )
    body += _mac_option(_SOURCE_MAC, message.source_mac)
    if message.mtu:
        body += bytes((_MTU, 1, 0, 0)) + message.mtu.to_bytes(4, "big")
    for prefix, length, on_link, autonomous, valid, preferred in message.prefixes:
        body += _PREFIX_OPTION.pack(
            _PREFIX, 4, length, on_link << 7 | autonomous << 6, valid, preferred, _address(prefix)
        )
    return body


def _address(address: bytes) -> bytes:
    if len(address) != 16:
        raise ValueError("an IPv6 address must have 16 bytes")
    return address


def _mac_option(kind: int, mac: bytes | None) -> bytes:
    if mac is None:
        return b""
    if len(mac) != 6:
        raise ValueError("an Ethernet address must have 6 bytes")
    return bytes((kind, 1)) + mac
