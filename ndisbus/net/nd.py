"""Messages of neighbor discovery (RFC 4861)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = [
    "ALL_NODES",
    "ALL_ROUTERS",
    "NdMessage",
    "NeighborAdvertisement",
    "NeighborSolicitation",
    "Prefix",
    "Redirect6",
    "RouterAdvertisement",
    "RouterSolicitation",
    "solicited_node",
]

ALL_NODES: Final = bytes.fromhex("ff020000000000000000000000000001")
ALL_ROUTERS: Final = bytes.fromhex("ff020000000000000000000000000002")
UNSPECIFIED: Final = bytes(16)
HOP_LIMIT: Final = 255


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
    """``source_mac``: the source link-layer address option, None without it."""

    target: bytes
    source_mac: bytes | None = None


@dataclass(slots=True)
class NeighborAdvertisement:
    """``target_mac``: the target link-layer address option, None without it."""

    target: bytes
    target_mac: bytes | None = None
    router: bool = False
    solicited: bool = False
    override: bool = False


@dataclass(slots=True)
class RouterSolicitation:
    """``source_mac``: the source link-layer address option, None without it."""

    source_mac: bytes | None = None


@dataclass(slots=True)
class RouterAdvertisement:
    """``lifetime``: seconds; ``reachable_time``, ``retransmit_timer``: milliseconds; 0 is «unspecified» for both
    and for ``hop_limit`` and ``mtu``."""

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
    """Packets to ``destination`` should go to ``target``, which is the destination itself if it is on the link."""

    target: bytes
    destination: bytes
    target_mac: bytes | None = None
    original: bytes = b""


NdMessage = (
    NeighborSolicitation | NeighborAdvertisement | RouterSolicitation | RouterAdvertisement | Redirect6
)


def solicited_node(address: bytes) -> bytes:
    """The solicited-node multicast address of an address (RFC 4291 section 2.7.1)."""
    return bytes.fromhex("ff0200000000000000000001ff") + address[13:]
