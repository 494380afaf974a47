"""New connections: from options and a four-tuple to a Tcb, its machine and its first numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hoststack.model.objects import Tcb
from hoststack.model.rss import tcp_hash
from hoststack.net.isn import InitialSequenceNumbers
from ndisbus.ddi.tcp_enums import TCP_FLAG_KEEP_ALIVE_ENABLED, TCP_FLAG_NAGLING_ENABLED
from ndisbus.state.images import PathOffloadStateConst, TcpOffloadStateCached
from ndisbus.tcp.machine import TcpMachine
from ndisbus.tcp.open import active_open, passive_open
from ndisbus.tcp.options import headers

if TYPE_CHECKING:
    from hoststack.net.options import SocketOptions
    from hoststack.net.paths import PathEntry
    from ndisbus.net.segment import Segment
    from ndisbus.randomness import Randomness
    from ndisbus.tcp.settings import TcpSettings

__all__ = ["Opening"]


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


def _mss(options: SocketOptions, entry: PathEntry) -> int:
    """Return the MSS to advertise: what the interface takes, whatever PathMtu is now (RFC 6691)."""
    whole = entry.hop.interface.mtu - headers(entry.path.const)
    return whole if options.mss is None else min(options.mss, whole)


class Opening:
    """Makes connections. ``rng``: where the secret of the initial sequence numbers comes from."""

    __slots__ = ("_isn", "_settings")

    def __init__(self, settings: TcpSettings, rng: Randomness) -> None:
        self._settings = settings
        self._isn = InitialSequenceNumbers(rng)

    def isn(self, key: bytes, now: float) -> int:
        """The initial sequence number of a connection that begins at ``now`` (seconds)."""
        return self._isn(key, now)

    def _timestamp(self, key: bytes, tick: int) -> int:
        """The first timestamp of a connection: it only grows between two hosts (RFC 7323 5.4, RFC 6191)."""
        return (self._isn.keyed(key[:-4]) + tick) & 0xFFFFFFFF

    def active(
        self, entry: PathEntry, key: bytes, isn: int, options: SocketOptions, tick: int
    ) -> tuple[Tcb, TcpMachine]:
        """A connection in SYN_SENT. ``key``: as the remote end's segments show it."""
        remote_port, local_port = int.from_bytes(key[-4:-2], "big"), int.from_bytes(key[-2:], "big")
        ends = entry.path.const
        machine = active_open(
            _cached(options, self._settings.parameters.ticks_per_second),
            local_port=local_port,
            remote_port=remote_port,
            iss=isn,
            path_const=ends,
            path_cached=entry.path.cached,
            settings=self._settings,
            now=tick,
            mss=_mss(options, entry),
            ts_time=self._timestamp(key, tick),
            timestamps=options.timestamps,
            sack=options.sack,
            scaling=options.window_scaling,
            hash_value=tcp_hash(ends.source_address, local_port, ends.destination_address, remote_port),
        )
        _flow_label(machine.cached, ends, machine.const.hash_value)
        return Tcb(entry.path, machine.const, machine.cached, machine.delegated), machine

    def passive(
        self, entry: PathEntry, key: bytes, syn: Segment, isn: int, options: SocketOptions, tick: int
    ) -> tuple[Tcb, TcpMachine]:
        """A connection in SYN_RCVD, for a SYN that arrived at a listener."""
        ends = entry.path.const
        machine = passive_open(
            syn,
            _cached(options, self._settings.parameters.ticks_per_second),
            iss=isn,
            path_const=ends,
            path_cached=entry.path.cached,
            settings=self._settings,
            now=tick,
            mss=_mss(options, entry),
            ts_time=self._timestamp(key, tick),
            timestamps=options.timestamps,
            sack=options.sack,
            scaling=options.window_scaling,
            hash_value=tcp_hash(
                ends.source_address, syn.destination_port, ends.destination_address, syn.source_port
            ),
        )
        _flow_label(machine.cached, ends, machine.const.hash_value)
        return Tcb(entry.path, machine.const, machine.cached, machine.delegated), machine

    def resume(
        self,
        tcb: Tcb,
        tick: int,
        send_data: Iterable[bytes] = (),
        received: Iterable[bytes] = (),
        *,
        reading: bool = True,
    ) -> TcpMachine:
        """Make a machine that continues a connection with what its Tcb holds: see TcpMachine."""
        return TcpMachine(
            tcb.const,
            tcb.cached,
            tcb.delegated,
            path_const=tcb.path.const,
            path_cached=tcb.path.cached,
            settings=self._settings,
            now=tick,
            send_data=send_data,
            received=received,
            reading=reading,
        )
