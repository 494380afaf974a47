"""Reads this machine's TCP connections, and what they depend on, into one :class:`Inventory`.

All members of the process's own sockets are read (TCP_INFO, socket options). psutil lists the connections of
other processes on every system. Linux adds their TCP_INFO over netlink. Without it their members are
defaults, and ``exact`` is False. Nothing here fails because a system tells less. The inventory's notes say
what is missing and why.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final

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
from hoststack.inventory.kernel import End, Kernel, address_bytes, interface_name
from hoststack.inventory.machine import Hop, Machine, read_interfaces
from hoststack.inventory.tcp_info import LINUX_STATE_NAMES, SocketFacts, SocketOptions, TcpInfo, read_socket
from ndisbus.ddi.tcp_enums import OFFLOADABLE_TCP_STATES, TcpOffloadConnectionState

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

# State names of the kernel and psutil (net/tcp_states.h) -> TCP_OFFLOAD_CONNECTION_STATE.
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
# The states in which our FIN is sent and not acknowledged, so that it takes one number (RFC 9293).
_FIN_OUTSTANDING: Final = frozenset(_STATES[name] for name in ("FIN_WAIT1", "CLOSING", "LAST_ACK"))

_HEADERS: Final = {4: 40, 16: 60}  # IP and TCP headers without options, by the length of an address
_TIMESTAMP_OPTION: Final = 12  # RFC 7323, with its padding
_NOTHING: Final = SocketFacts(TcpInfo(), SocketOptions())


def _end(sock: socket.socket) -> End | None:
    """Return the end of a connected socket, or ``None`` if it is not connected (any more)."""
    try:
        local, remote = sock.getsockname(), sock.getpeername()
    except OSError:
        if sock.fileno() < 0:
            raise  # a closed socket is the caller's mistake
        return None
    return address_bytes(local[0]), local[1], address_bytes(remote[0]), remote[1]


def connection_facts(
    end: End, state: TcpOffloadConnectionState, hop: Hop, told: SocketFacts = _NOTHING, *, own: bool = False
) -> ConnectionFacts:
    """Return one record from what is known. Unknown members have the defaults of :class:`ConnectionFacts`."""
    local_address, local_port, remote_address, remote_port = end
    info, options = told.info, told.options
    mtu = hop.mtu if options.mtu is None else options.mtu
    timestamps = info.timestamps is not False
    mss = max(1, mtu - _HEADERS[len(local_address)] - (_TIMESTAMP_OPTION if timestamps else 0))
    heard = [age for age in (info.last_data_recv, info.last_ack_recv) if age is not None]
    known: dict[str, Any] = {
        "srtt_us": info.rtt,
        "rttvar_us": info.rttvar,
        "rto_us": info.rto,
        "snd_cwnd_segments": info.snd_cwnd,
        "snd_ssthresh_segments": info.snd_ssthresh,
        "snd_wscale": info.snd_wscale,
        "rcv_wscale": info.rcv_wscale,
        "sack": info.sack,
        "window_scaling": info.window_scaling,
        "unsent": info.notsent_bytes if options.unsent is None else options.unsent,
        "snd_wnd": info.snd_wnd,
        "rcv_wnd": info.rcv_ssthresh if info.rcv_wnd is None else info.rcv_wnd,
        "rcv_buffer": options.rcvbuf,
        "ttl": options.ttl,
        "tos": options.tos,
        "priority": options.priority,
        "nodelay": None if options.nodelay is None else bool(options.nodelay),
        "keepalive": None if options.keepalive is None else bool(options.keepalive),
        "keep_idle_s": options.keep_idle,
        "keep_interval_s": options.keep_interval,
        "keep_count": options.keep_count,
        "user_timeout_ms": options.user_timeout,
        "since_sent_ms": info.last_data_sent,
        "since_received_ms": min(heard, default=None),
        "retransmits": info.retransmits,
        "probes": info.probes,
        "backoff": info.backoff,
        "ts_time": options.ts_time if timestamps else None,
    }
    facts = ConnectionFacts(
        local_address=local_address,
        remote_address=remote_address,
        local_port=local_port,
        remote_port=remote_port,
        state=state,
        interface=hop.interface,
        next_hop=hop.next_hop,
        path_mtu=mtu,
        snd_mss=info.snd_mss or options.maxseg or mss,
        timestamps=timestamps,
        own=own,
        exact=info.state is not None,
        **{name: value for name, value in known.items() if value is not None},
    )
    return replace(facts, unacked=_unacked(facts, told))


def _unacked(facts: ConnectionFacts, told: SocketFacts) -> int:
    """Return the sequence space that was sent and is not acknowledged."""
    segments, queued = told.info.unacked, told.options.queued
    if segments == 0 and facts.state not in _FIN_OUTSTANDING:
        return 0  # SIOCOUTQ also counts a received FIN; no segment of ours is outstanding
    if queued is not None:
        return max(0, queued - facts.unsent)
    if segments is not None:
        return segments * facts.snd_mss
    return 1 if facts.state in _FIN_OUTSTANDING else 0


class _Notes:
    """Collects notes. A note about many connections is kept once, with their number."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, notes: Iterable[str]) -> None:
        self._counts.update(notes)

    def lines(self) -> tuple[str, ...]:
        return tuple(f"{note} ({n} times)" if n > 1 else note for note, n in self._counts.items())


def _listed_end(local: Any, remote: Any) -> End:
    """Return the end of a connection that psutil lists."""
    return address_bytes(local.ip), local.port, address_bytes(remote.ip), remote.port


def _states_of_this_process() -> dict[End, str]:
    """Return the states on systems without TCP_INFO: a process may always read its own connections."""
    return {
        _listed_end(c.laddr, c.raddr): c.status
        for c in psutil.Process().net_connections(kind="tcp")
        if any(c.raddr)  # an empty tuple for a listener, although the type stub says otherwise
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
        scope = interface_name(local[3]) if sock.family == socket.AF_INET6 and local[3] else ""
        hop = machine.hop(end[0], end[2], scope)
        found.append(connection_facts(end, _STATES[name], hop, told, own=True))
    return found


def _other_connections(
    excluded: set[End], machine: Machine, kernel: Kernel | None, notes: _Notes
) -> list[ConnectionFacts]:
    try:
        listed = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        notes.add(["other connections: this user may not list them (psutil: access denied)"])
        return []
    except (OSError, psutil.Error) as error:
        notes.add([f"other connections: {error}"])
        return []
    known: dict[End, SocketFacts] = {}
    if kernel is not None:
        try:
            known = dict(kernel.connections())
        except OSError as error:
            notes.add([f"TCP_INFO over netlink: {error}"])
    found: dict[End, ConnectionFacts] = {}
    skipped: Counter[str] = Counter()
    for entry in listed:
        state = _STATES.get(entry.status)
        if state is None or state not in OFFLOADABLE_TCP_STATES or not entry.laddr or not entry.raddr:
            skipped[entry.status] += 1
            continue
        end = _listed_end(entry.laddr, entry.raddr)
        if end in excluded or end in found:
            continue
        told = known.get(end, _NOTHING)
        if told.info.state is not None:  # newer than the list of psutil
            state = _STATES.get(LINUX_STATE_NAMES.get(told.info.state, "?"), state)
        found[end] = connection_facts(end, state, machine.hop(end[0], end[2]), told)
    for name, number in sorted(skipped.items()):
        notes.add([f"other connections: {number} in {name} left out, a state that cannot be offloaded"])
    if guessed := sum(not facts.exact for facts in found.values()):
        notes.add([f"other connections: no TCP_INFO of {guessed} of them; defaults are used"])
    return list(found.values())


def read_inventory(
    own: Sequence[socket.socket],
    *,
    peers: Sequence[socket.socket] = (),
    include_others: bool = True,
    use_netlink: bool = True,
) -> Inventory:
    """Read the connections behind ``own`` and, by default, the other connections of this machine.

    ``peers`` are the far ends of ``own`` that this process has too (``LoopbackConnections.servers``). They
    are left out. Connections of other processes are listed only in states that may be offloaded. Notes count
    the rest. ``use_netlink=False`` reads as on a system without netlink.

    Raises :class:`OSError` if a socket of ``own`` or ``peers`` is closed.
    """
    notes = _Notes()
    interfaces, interface_notes = read_interfaces()
    notes.add(interface_notes)
    with ExitStack() as stack:
        kernel: Kernel | None = None
        if use_netlink:
            try:
                kernel = stack.enter_context(Kernel())
            except OSError as error:
                notes.add([f"routes over netlink: {error.strerror}; taken from the interfaces' prefixes"])
        machine = Machine(interfaces, kernel)
        connections = _own_connections(own, machine, notes)
        if include_others:
            ends = {_end(sock) for sock in (*own, *peers)}
            connections += _other_connections(
                {end for end in ends if end is not None}, machine, kernel, notes
            )
        neighbors = machine.neighbors((c.interface, c.next_hop) for c in connections)
        notes.add(machine.notes)
    return Inventory(tuple(connections), neighbors, interfaces, notes.lines())
