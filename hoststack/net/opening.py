"""New connections: from options and a four-tuple to a Tcb and its machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hoststack.model.objects import Tcb
from hoststack.model.rss import tcp_hash
from ndisbus.ddi.enums import TCP_FLAG_KEEP_ALIVE_ENABLED, TCP_FLAG_NAGLING_ENABLED
from ndisbus.state.images import PathOffloadStateConst, TcpOffloadStateCached
from ndisbus.tcp.open import active_open, passive_open
from ndisbus.tcp.options import headers

if TYPE_CHECKING:
    from hoststack.net.options import SocketOptions
    from hoststack.net.paths import Way
    from hoststack.net.transport import Transport
    from ndisbus.net.segment import Segment
    from ndisbus.tcp.machine import TcpMachine

__all__ = ["active", "passive"]


def _cached(options: SocketOptions, ticks_per_second: int) -> TcpOffloadStateCached:
    flags = TCP_FLAG_NAGLING_ENABLED if options.nagle else 0
    if options.keepalive:
        flags |= TCP_FLAG_KEEP_ALIVE_ENABLED
    return TcpOffloadStateCached(
        flags=int(flags),
        initial_rcv_wnd=options.rcvbuf,
        ka_probe_count=options.keep_count,
        ka_timeout=max(1, int(options.keep_idle * ticks_per_second)),
        ka_interval=max(1, int(options.keep_interval * ticks_per_second)),
        max_rt=options.max_rt(ticks_per_second),
        ttl_or_hop_limit=options.ttl,
        tos_or_traffic_class=options.tos,
        user_priority=options.priority,
    )


def _flow_label(cached: TcpOffloadStateCached, ends: PathOffloadStateConst, hash_value: int) -> None:
    """One label per flow (RFC 6437 section 3), for IPv6."""
    if len(ends.source_address) == 16:
        cached.flow_label = hash_value & 0xFFFFF


def _mss(options: SocketOptions, way: Way) -> int:
    """What to advertise: what the interface takes, whatever the path's MTU is just now (RFC 6691)."""
    whole = way.hop.interface.mtu - headers(way.path.const)
    return whole if options.mss is None else min(options.mss, whole)


def active(
    transport: Transport, way: Way, key: bytes, isn: int, options: SocketOptions, tick: int
) -> tuple[Tcb, TcpMachine]:
    """A connection in SYN_SENT. ``key``: as segments of the peer show it."""
    remote_port, local_port = int.from_bytes(key[-4:-2], "big"), int.from_bytes(key[-2:], "big")
    ends = way.path.const
    machine = active_open(
        _cached(options, transport.ticks_per_second),
        local_port=local_port,
        remote_port=remote_port,
        iss=isn,
        path_const=ends,
        path_cached=way.path.cached,
        settings=transport.stack.settings,
        now=tick,
        mss=_mss(options, way),
        ts_time=transport.timestamp(key, tick),
        timestamps=options.timestamps,
        sack=options.sack,
        scaling=options.window_scaling,
        hash_value=tcp_hash(ends.source_address, local_port, ends.destination_address, remote_port),
    )
    _flow_label(machine.cached, ends, machine.const.hash_value)
    return Tcb(way.path, machine.const, machine.cached, machine.delegated), machine


def passive(
    transport: Transport, way: Way, key: bytes, syn: Segment, isn: int, options: SocketOptions, tick: int
) -> tuple[Tcb, TcpMachine]:
    """A connection in SYN_RCVD, for a SYN that came to a listener."""
    ends = way.path.const
    machine = passive_open(
        syn,
        _cached(options, transport.ticks_per_second),
        iss=isn,
        path_const=ends,
        path_cached=way.path.cached,
        settings=transport.stack.settings,
        now=tick,
        mss=_mss(options, way),
        ts_time=transport.timestamp(key, tick),
        timestamps=options.timestamps,
        sack=options.sack,
        scaling=options.window_scaling,
        hash_value=tcp_hash(
            ends.source_address, syn.destination_port, ends.destination_address, syn.source_port
        ),
    )
    _flow_label(machine.cached, ends, machine.const.hash_value)
    return Tcb(way.path, machine.const, machine.cached, machine.delegated), machine
