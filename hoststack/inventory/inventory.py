"""Reads this machine's TCP connections, and what they run over, into one :class:`Inventory`.

The process's own sockets are asked in full (TCP_INFO, socket options). Other processes' connections
come from psutil, which knows addresses, ports and state; the rest of them are defaults, and
``exact`` is False. Nothing here fails because a system tells less: the inventory's notes say what is
missing and why.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from ipaddress import IPv6Address, ip_address
from typing import Final, TypeAlias

import psutil

from hoststack.inventory.facts import (
    ConnectionFacts,
    InterfaceFacts,
    Inventory,
    NeighborFacts,
    NeighborGroup,
    PathGroup,
    group,
)
from hoststack.inventory.machine import Hop, Machine, RouteSource, read_interfaces
from hoststack.inventory.netlink import RouteNetlink
from hoststack.inventory.tcp_info import LINUX_STATE_NAMES, SocketFacts, SocketOptions, TcpInfo, read_socket
from ndisbus.ddi.enums import OFFLOADABLE_TCP_STATES, TcpOffloadConnectionState

__all__ = [
    "ConnectionFacts",
    "InterfaceFacts",
    "Inventory",
    "NeighborFacts",
    "NeighborGroup",
    "PathGroup",
    "connection_facts",
    "group",
    "read_inventory",
]

# (local address, local port, remote address, remote port): names one end of a TCP connection.
End: TypeAlias = tuple[bytes, int, bytes, int]

# The kernel's and psutil's names of the states (net/tcp_states.h) to TCP_OFFLOAD_CONNECTION_STATE.
_STATES: Final[dict[str, TcpOffloadConnectionState]] = {
    name: TcpOffloadConnectionState(value)
    for name, value in {
        "CLOSE": 0,
        "LISTEN": 1,
        "SYN_SENT": 2,
        "SYN_RECV": 3,
        "NEW_SYN_RECV": 3,
        "ESTABLISHED": 4,
        "FIN_WAIT1": 5,
        "FIN_WAIT2": 6,
        "CLOSE_WAIT": 7,
        "CLOSING": 8,
        "LAST_ACK": 9,
        "TIME_WAIT": 10,
    }.items()
}
# The states in which our FIN is sent and not acknowledged, so that it occupies one number (RFC 9293).
_FIN_OUTSTANDING: Final = frozenset(_STATES[name] for name in ("FIN_WAIT1", "CLOSING", "LAST_ACK"))

# Defaults where the kernel tells nothing, those of Linux unless a document is named.
_NO_SSTHRESH: Final = 0x7FFF_FFFF
_INITIAL_WINDOW: Final = 10  # RFC 6928
_INITIAL_RTO_US: Final = 1_000_000  # RFC 6298, 2.1
_WSCALE: Final = 7
_WINDOW: Final = 0xFFFF
_RCV_BUFFER: Final = 131_072
_TTL: Final = 64
_KEEP_IDLE: Final = 7200
_KEEP_INTERVAL: Final = 75
_KEEP_COUNT: Final = 9
_HEADERS: Final = {4: 40, 6: 60}  # IP and TCP headers without options
_TIMESTAMP_OPTION: Final = 12  # RFC 7323, with its padding


def _address(text: str) -> bytes:
    """4 or 16 bytes; an IPv4 address mapped into IPv6 travels as IPv4, so it is IPv4."""
    ip = ip_address(text.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped.packed
    return ip.packed


def _end(sock: socket.socket) -> End | None:
    """The end of a connected socket, or ``None`` if it has no peer (any more)."""
    try:
        local, remote = sock.getsockname(), sock.getpeername()
    except OSError:
        if sock.fileno() < 0:
            raise  # a closed socket is the caller's mistake
        return None
    return _address(local[0]), local[1], _address(remote[0]), remote[1]


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def connection_facts(
    end: End,
    state: TcpOffloadConnectionState,
    hop: Hop,
    told: SocketFacts | None,
    *,
    own: bool,
    pid: int | None,
) -> ConnectionFacts:
    """One record from what was told (``None``: nothing was), with defaults for what was not."""
    local_address, local_port, remote_address, remote_port = end
    info = told.info if told is not None else TcpInfo()
    options = told.options if told is not None else SocketOptions()
    family = 4 if len(local_address) == 4 else 6
    mtu = _or(options.mtu, hop.mtu)
    timestamps = True if info.timestamps is None else info.timestamps
    mss = max(1, mtu - _HEADERS[family] - (_TIMESTAMP_OPTION if timestamps else 0))
    snd_mss = _or(info.snd_mss, _or(options.maxseg, mss)) or mss
    unsent = _or(options.unsent, _or(info.notsent_bytes, 0))
    if info.unacked == 0 and state not in _FIN_OUTSTANDING:
        # SIOCOUTQ also counts a FIN that was received; no segment of ours is on its way.
        unacked = 0
    elif options.queued is not None:
        unacked = max(0, options.queued - unsent)
    elif info.unacked is not None:
        unacked = info.unacked * snd_mss
    else:
        unacked = 1 if state in _FIN_OUTSTANDING else 0
    heard = [age for age in (info.last_data_recv, info.last_ack_recv) if age is not None]
    rcv_buffer = _or(options.rcvbuf, _RCV_BUFFER)
    return ConnectionFacts(
        family=family,
        local_address=local_address,
        remote_address=remote_address,
        local_port=local_port,
        remote_port=remote_port,
        state=state,
        interface=hop.interface,
        next_hop=hop.next_hop,
        path_mtu=mtu,
        snd_mss=snd_mss,
        rcv_mss=_or(info.rcv_mss, mss),
        srtt_us=_or(info.rtt, 0),
        rttvar_us=_or(info.rttvar, 0),
        rto_us=_or(info.rto, _INITIAL_RTO_US),
        snd_cwnd_segments=_or(info.snd_cwnd, _INITIAL_WINDOW),
        snd_ssthresh_segments=_or(info.snd_ssthresh, _NO_SSTHRESH),
        snd_wscale=_or(info.snd_wscale, _WSCALE),
        rcv_wscale=_or(info.rcv_wscale, _WSCALE),
        timestamps=timestamps,
        sack=True if info.sack is None else info.sack,
        window_scaling=True if info.window_scaling is None else info.window_scaling,
        unacked=unacked,
        unsent=unsent,
        snd_wnd=_or(info.snd_wnd, _WINDOW),
        rcv_wnd=_or(info.rcv_wnd, _or(info.rcv_ssthresh, _WINDOW)),
        rcv_space=_or(info.rcv_space, _WINDOW),
        rcv_buffer=rcv_buffer,
        ttl=_or(options.ttl, _TTL),
        tos=_or(options.tos, 0),
        priority=_or(options.priority, 0),
        nodelay=bool(options.nodelay),
        keepalive=bool(options.keepalive),
        keep_idle_s=_or(options.keep_idle, _KEEP_IDLE),
        keep_interval_s=_or(options.keep_interval, _KEEP_INTERVAL),
        keep_count=_or(options.keep_count, _KEEP_COUNT),
        user_timeout_ms=_or(options.user_timeout, 0),
        since_sent_ms=_or(info.last_data_sent, 0),
        since_received_ms=min(heard, default=0),
        retransmits=_or(info.retransmits, 0),
        probes=_or(info.probes, 0),
        backoff=_or(info.backoff, 0),
        ts_time=options.ts_time if timestamps else None,
        own=own,
        exact=info.state is not None,
        pid=pid,
    )


class _Notes:
    """Collects notes; one that many connections share is kept once, with how many they were."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, notes: Iterable[str]) -> None:
        self._counts.update(notes)

    def lines(self) -> tuple[str, ...]:
        return tuple(f"{note} ({n} times)" if n > 1 else note for note, n in self._counts.items())


def _states_of_this_process() -> dict[End, str]:
    """For systems without TCP_INFO: a process may always ask after its own connections."""
    return {
        (_address(c.laddr.ip), c.laddr.port, _address(c.raddr.ip), c.raddr.port): c.status
        for c in psutil.Process().net_connections(kind="tcp")
        if any(c.raddr)  # an empty tuple where there is no peer, whatever the stub says
    }


def _own_connections(own: Sequence[socket.socket], machine: Machine, notes: _Notes) -> list[ConnectionFacts]:
    found = []
    fallback: dict[End, str] | None = None
    for sock in own:
        end = _end(sock)
        if end is None:
            notes.add([f"own socket {sock.fileno()}: it is not connected; left out"])
            continue
        told = read_socket(sock)
        notes.add(told.notes)
        if told.info.state is not None:
            name = LINUX_STATE_NAMES.get(told.info.state, "?")
        else:
            fallback = _states_of_this_process() if fallback is None else fallback
            name = fallback.get(end, "?")
        if name not in _STATES:
            notes.add([f"own socket {sock.fileno()}: its TCP state is not told; left out"])
            continue
        local = sock.getsockname()
        scope = local[3] if sock.family == socket.AF_INET6 else 0
        hop = machine.hop(end[0], end[2], scope)
        found.append(connection_facts(end, _STATES[name], hop, told, own=True, pid=os.getpid()))
    return found


def _other_connections(excluded: set[End], machine: Machine, notes: _Notes) -> list[ConnectionFacts]:
    try:
        listed = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        notes.add(["other connections: this user may not list them (psutil: access denied)"])
        return []
    except (OSError, psutil.Error) as error:
        notes.add([f"other connections: {error}"])
        return []
    found: dict[End, ConnectionFacts] = {}
    skipped: Counter[str] = Counter()
    for entry in listed:
        state = _STATES.get(entry.status)
        if state is None or state not in OFFLOADABLE_TCP_STATES or not entry.laddr or not entry.raddr:
            skipped[entry.status] += 1
            continue
        end = (_address(entry.laddr.ip), entry.laddr.port, _address(entry.raddr.ip), entry.raddr.port)
        if end in excluded or end in found:
            continue
        hop = machine.hop(end[0], end[2])
        found[end] = connection_facts(end, state, hop, None, own=False, pid=entry.pid)
    for name, number in sorted(skipped.items()):
        notes.add([f"other connections: {number} in {name} left out, a state that cannot be offloaded"])
    if found:
        notes.add(
            [f"other connections: the kernel tells TCP_INFO only to their owners; defaults for {len(found)}"]
        )
    return list(found.values())


def read_inventory(
    own: Sequence[socket.socket],
    *,
    peers: Sequence[socket.socket] = (),
    include_others: bool = True,
    use_netlink: bool = True,
) -> Inventory:
    """Read the connections behind ``own`` and, unless told not to, the rest of this machine's.

    ``peers`` are the far ends of ``own`` that this process holds too (``LoopbackConnections.servers``); they
    are left out. Other processes' connections are listed only in states that may be offloaded; notes count
    the rest. ``use_netlink=False`` reads routes and neighbors as on a system without rtnetlink.

    Raises :class:`OSError` if a socket of ``own`` or ``peers`` is closed.
    """
    notes = _Notes()
    interfaces, interface_notes = read_interfaces()
    notes.add(interface_notes)
    with ExitStack() as stack:
        routes: RouteSource | None = None
        if use_netlink:
            try:
                routes = stack.enter_context(RouteNetlink())
            except OSError as error:
                notes.add([f"routes over netlink: {error.strerror}; taken from the interfaces' prefixes"])
        machine = Machine(interfaces, routes)
        connections = _own_connections(own, machine, notes)
        if include_others:
            ends = {_end(sock) for sock in (*own, *peers)}
            connections += _other_connections({end for end in ends if end is not None}, machine, notes)
        neighbors = machine.neighbors((c.interface, c.next_hop) for c in connections)
        notes.add(machine.notes)
    return Inventory(tuple(connections), neighbors, interfaces, notes.lines())
