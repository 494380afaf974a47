"""What was read about this machine's TCP, as plain records, and the tree that the records form.

Addresses are bytes in network order, 4 for IPv4 and 16 for IPv6. :func:`group` is pure: it arranges
connections into neighbors over paths over connections, the layers of offloaded state (DDI page
offload-state-tree).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from ndisbus.ddi.tcp_enums import OFFLOADABLE_TCP_STATES, TcpOffloadConnectionState

__all__ = [
    "NO_MAC",
    "NUD_NOARP",
    "NUD_NONE",
    "NUD_PERMANENT",
    "NUD_REACHABLE",
    "ConnectionFacts",
    "InterfaceFacts",
    "Inventory",
    "NeighborFacts",
    "NeighborGroup",
    "PathGroup",
    "group",
]

NO_MAC: Final = bytes(6)

# linux/neighbour.h, the values of NeighborFacts.state.
NUD_NONE: Final = 0x00
NUD_REACHABLE: Final = 0x02
NUD_NOARP: Final = 0x40
NUD_PERMANENT: Final = 0x80


@dataclass(slots=True, frozen=True)
class ConnectionFacts:
    """One end of one TCP connection. The defaults are those of Linux, for what the kernel does not tell.

    ``*_us`` are microseconds, ``*_ms`` milliseconds, ``*_s`` seconds. ``*_segments`` count segments of
    ``snd_mss`` bytes. Windows, buffers and MSS values are bytes. ``unacked`` is sequence space that was sent
    and is not acknowledged, a FIN included. ``unsent`` is what was written and never sent. ``srtt_us`` 0:
    nothing was measured yet. ``snd_ssthresh_segments`` 0x7FFFFFFF: none was set. ``user_timeout_ms`` 0: the
    system's default. ``ts_time`` ``None``: the clock is unknown.

    ``own``: this process has the socket. ``exact``: the kernel gave the socket's TCP_INFO.
    """

    local_address: bytes
    remote_address: bytes
    local_port: int
    remote_port: int
    state: TcpOffloadConnectionState
    interface: str
    next_hop: bytes
    path_mtu: int
    snd_mss: int
    srtt_us: int = 0
    rttvar_us: int = 0
    rto_us: int = 1_000_000  # RFC 6298, 2.1
    snd_cwnd_segments: int = 10  # RFC 6928
    snd_ssthresh_segments: int = 0x7FFF_FFFF
    snd_wscale: int = 7
    rcv_wscale: int = 7
    timestamps: bool = True
    sack: bool = True
    window_scaling: bool = True
    unacked: int = 0
    unsent: int = 0
    snd_wnd: int = 0xFFFF
    rcv_wnd: int = 0xFFFF
    rcv_buffer: int = 131_072
    ttl: int = 64
    tos: int = 0
    priority: int = 0
    nodelay: bool = False
    keepalive: bool = False
    keep_idle_s: int = 7200
    keep_interval_s: int = 75
    keep_count: int = 9
    user_timeout_ms: int = 0
    since_sent_ms: int = 0
    since_received_ms: int = 0
    retransmits: int = 0
    probes: int = 0
    backoff: int = 0
    ts_time: int | None = None
    own: bool = False
    exact: bool = False

    @property
    def family(self) -> int:
        """4 or 6."""
        return 4 if len(self.local_address) == 4 else 6


@dataclass(slots=True, frozen=True)
class NeighborFacts:
    """One next hop on one interface.

    ``mac`` is 6 bytes. It is all zero if there is none (loopback, tunnels) or it is not resolved. ``state``
    is a NUD_* mask, ``confirmed_ms`` the age of the last confirmation.
    """

    next_hop: bytes
    interface: str
    mac: bytes
    state: int
    confirmed_ms: int | None = None


@dataclass(slots=True, frozen=True)
class InterfaceFacts:
    """One network interface. ``prefix_lengths`` has one entry for each of ``addresses``."""

    name: str
    mtu: int
    mac: bytes
    addresses: tuple[bytes, ...]
    prefix_lengths: tuple[int, ...]
    loopback: bool


@dataclass(slots=True, frozen=True)
class Inventory:
    """Everything read at one time. ``notes`` says what could not be read or was left out, and why."""

    connections: tuple[ConnectionFacts, ...]
    neighbors: tuple[NeighborFacts, ...]
    interfaces: tuple[InterfaceFacts, ...]
    notes: tuple[str, ...]


@dataclass(slots=True, frozen=True)
class PathGroup:
    """Connections between the same two addresses: one path, so one interface and one MTU (R-STATE-05)."""

    local_address: bytes
    remote_address: bytes
    mtu: int
    connections: tuple[ConnectionFacts, ...]

    @property
    def family(self) -> int:
        """4 or 6."""
        return 4 if len(self.local_address) == 4 else 6

    def __str__(self) -> str:
        return f"{ip_address(self.local_address)} -> {ip_address(self.remote_address)}"


@dataclass(slots=True, frozen=True)
class NeighborGroup:
    """Paths through the same next hop on the same interface (R-STATE-05)."""

    neighbor: NeighborFacts
    paths: tuple[PathGroup, ...]


def _path_mtu(connections: Iterable[ConnectionFacts]) -> int:
    """Return the smallest MTU that the kernel gave for one of the sockets, or else the smallest default."""
    readings = [(c.exact, c.path_mtu) for c in connections]
    told = [mtu for exact, mtu in readings if exact]
    return min(told or [mtu for _, mtu in readings])


def group(inventory: Inventory) -> tuple[NeighborGroup, ...]:
    """Return the tree of the offloadable connections: neighbors over paths over connections.

    Connections in CLOSED, LISTEN, SYN_SENT, SYN_RCVD and TIME_WAIT are left out (R-STATE-06). The order is
    that of the addresses and ports (IPv4 before IPv6), for any order of the inventory. A next hop that is not
    in the neighbor table gets an entry without a MAC.
    """
    tree: dict[tuple[str, bytes], dict[tuple[bytes, bytes], list[ConnectionFacts]]] = {}
    for connection in inventory.connections:
        if connection.state not in OFFLOADABLE_TCP_STATES:
            continue
        paths = tree.setdefault((connection.interface, connection.next_hop), {})
        paths.setdefault((connection.local_address, connection.remote_address), []).append(connection)

    known = {(neighbor.interface, neighbor.next_hop): neighbor for neighbor in inventory.neighbors}
    groups = []
    for key in sorted(tree, key=lambda key: (len(key[1]), key)):
        interface, next_hop = key
        neighbor = known.get(key) or NeighborFacts(next_hop, interface, NO_MAC, NUD_NONE)
        paths = tree[key]
        groups.append(
            NeighborGroup(
                neighbor,
                tuple(
                    PathGroup(
                        local,
                        remote,
                        _path_mtu(paths[local, remote]),
                        tuple(sorted(paths[local, remote], key=lambda c: (c.local_port, c.remote_port))),
                    )
                    for local, remote in sorted(paths, key=lambda pair: (len(pair[0]), pair))
                ),
            )
        )
    return tuple(groups)
