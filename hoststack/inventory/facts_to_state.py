"""From what was read to what is offloaded: the three classes of state of each layer.

A tick is a millisecond (1000 ticks a second). Each call makes new structures, which the caller owns.

The kernel does not tell everything. Sequence numbers and the remote end's last timestamp can only be read in
TCP repair mode, which needs privileges and stops the connection. They are drawn from the caller's generator,
so that the same seed and inventory give the same state.
"""

from __future__ import annotations

import random
from typing import Final

from hoststack.inventory.facts import (
    NO_MAC,
    NUD_NOARP,
    NUD_PERMANENT,
    NUD_REACHABLE,
    ConnectionFacts,
    NeighborFacts,
    PathGroup,
)
from hoststack.model.rss import tcp_hash
from ndisbus.ddi.tcp_enums import (
    OFFLOADABLE_TCP_STATES,
    TIMER_NOT_RUNNING,
    TcpCachedFlags,
    TcpConstFlags,
    TcpOffloadConnectionState,
)
from ndisbus.errors import LocalProtocolError
from ndisbus.state.images import (
    NeighborOffloadStateCached,
    NeighborOffloadStateConst,
    NeighborOffloadStateDelegated,
    PathOffloadStateCached,
    PathOffloadStateConst,
    PathOffloadStateDelegated,
    TcpOffloadStateCached,
    TcpOffloadStateConst,
    TcpOffloadStateDelegated,
    rtt_var_from_ticks,
    srtt_from_ticks,
)

__all__ = ["FIN_WAIT_2_TICKS", "NEVER_CONFIRMED_TICKS", "neighbor_state", "path_state", "tcp_state"]

FIN_WAIT_2_TICKS: Final = 120_000  # DDI page fin-wait-2-timer
# Reachability ages are compared modulo 2**32 (R-NUD-03): half of that is the oldest age.
NEVER_CONFIRMED_TICKS: Final = 0x7FFF_FFFF
_MAXIMUM_RTO_TICKS: Final = 120_000  # TCP_RTO_MAX of Linux
_ULONG: Final = 0xFFFF_FFFF
_USHORT: Final = 0xFFFF
_UCHAR: Final = 0xFF
_LONGEST_TIMER: Final = TIMER_NOT_RUNNING - 1
_TIMESTAMP_OPTION: Final = 12


def neighbor_state(
    neighbor: NeighborFacts, *, vlan_id: int = 0
) -> tuple[NeighborOffloadStateConst, NeighborOffloadStateCached, NeighborOffloadStateDelegated]:
    """Return (const, cached, delegated) of one next hop.

    DlSourceAddress is empty: the interface's own address is used (R-STATE-10). A neighbor without a link
    address (loopback, unresolved) has an empty DlDestinationAddress, whose image is all zero. Both
    reachability deltas are equal at offload (R-NUD-01).
    """
    if neighbor.confirmed_ms is not None:
        age = min(neighbor.confirmed_ms, NEVER_CONFIRMED_TICKS)
    elif neighbor.state & (NUD_REACHABLE | NUD_PERMANENT | NUD_NOARP):
        age = 0
    else:
        age = NEVER_CONFIRMED_TICKS
    mac = b"" if neighbor.mac == NO_MAC else neighbor.mac
    return (
        NeighborOffloadStateConst(vlan_id=vlan_id),
        NeighborOffloadStateCached(dl_destination_address=mac, host_reachability_delta=age),
        NeighborOffloadStateDelegated(nic_reachability_delta=age),
    )


def path_state(
    path: PathGroup,
) -> tuple[PathOffloadStateConst, PathOffloadStateCached, PathOffloadStateDelegated]:
    """Return (const, cached, delegated) of one path. Addresses have 4 or 16 bytes (R-STATE-07)."""
    return (
        PathOffloadStateConst(source_address=path.local_address, destination_address=path.remote_address),
        PathOffloadStateCached(path_mtu=path.mtu),
        PathOffloadStateDelegated(),
    )


def tcp_state(
    c: ConnectionFacts, rng: random.Random
) -> tuple[TcpOffloadStateConst, TcpOffloadStateCached, TcpOffloadStateDelegated]:
    """Return (const, cached, delegated) of one connection.

    The kernel does not tell SndUna, RcvNxt, TsRecent, and TsTime if ``ts_time`` is ``None``. They come from
    ``rng``. Each call draws the same number of values, so a connection's numbers depend only on the seed and
    its place in the order. SndNxt and SndMax are ``unacked`` beyond SndUna. The send data itself stays in the
    kernel: SendDataHead and BufferedData are NULL. A caller who offloads a connection with unacknowledged
    bytes attaches a chain of that length (R-OSD-04). In FIN_WAIT_1, CLOSING and LAST_ACK one number of
    ``unacked`` is the FIN and has no byte.

    SRtt is stored times 8 and RttVar times 4 (R-STATE-08). A measured round trip is at least 1, because 0
    means that none was measured. The kernel reports the MSS that it sends with, not the announced one:
    RemoteMss is that plus the timestamp option. MaxSndWnd is not reported; it is set to SndWnd.

    Raises :class:`LocalProtocolError` if the connection's state cannot be offloaded (R-STATE-06).
    """
    if c.state not in OFFLOADABLE_TCP_STATES:
        raise LocalProtocolError(f"a connection in {c.state.name} cannot be offloaded", rule="R-STATE-06")
    return _const(c), _cached(c), _delegated(c, rng)


def _const(c: ConnectionFacts) -> TcpOffloadStateConst:
    flags = TcpConstFlags(0)
    if c.timestamps:
        flags |= TcpConstFlags.TCP_FLAG_TIMESTAMP_ENABLED
    if c.sack:
        flags |= TcpConstFlags.TCP_FLAG_SACK_ENABLED
    if c.window_scaling:
        flags |= TcpConstFlags.TCP_FLAG_WINDOW_SCALING_ENABLED
    return TcpOffloadStateConst(
        flags=flags,
        remote_port=c.remote_port,
        local_port=c.local_port,
        snd_wind_scale=c.snd_wscale if c.window_scaling else 0,
        rcv_wind_scale=c.rcv_wscale if c.window_scaling else 0,
        remote_mss=min(c.snd_mss + (_TIMESTAMP_OPTION if c.timestamps else 0), _USHORT),
        hash_value=tcp_hash(c.local_address, c.local_port, c.remote_address, c.remote_port),
    )


def _cached(c: ConnectionFacts) -> TcpOffloadStateCached:
    flags = TcpCachedFlags(0)
    if c.keepalive:
        flags |= TcpCachedFlags.TCP_FLAG_KEEP_ALIVE_ENABLED
    if not c.nodelay:
        flags |= TcpCachedFlags.TCP_FLAG_NAGLING_ENABLED
    return TcpOffloadStateCached(
        flags=flags,
        # Never below what the remote end was promised: a window must not shrink (RFC 9293, 3.8.6).
        initial_rcv_wnd=min(max(c.rcv_buffer, c.rcv_wnd), _ULONG),
        ka_probe_count=min(c.keep_count, _UCHAR),
        ka_timeout=min(c.keep_idle_s * 1000, _LONGEST_TIMER),
        ka_interval=min(c.keep_interval_s * 1000, _LONGEST_TIMER),
        # TCP_USER_TIMEOUT and MaxRT agree on 0: the number of retransmissions is the limit.
        max_rt=c.user_timeout_ms,
        ttl_or_hop_limit=c.ttl & _UCHAR,
        tos_or_traffic_class=c.tos & _UCHAR,
        user_priority=min(c.priority, 7),
    )


def _delegated(c: ConnectionFacts, rng: random.Random) -> TcpOffloadStateDelegated:
    snd_una, rcv_nxt, ts_recent, ts_time = (rng.getrandbits(32) for _ in range(4))
    snd_nxt = (snd_una + c.unacked) & _ULONG
    srtt = srtt_from_ticks(c.srtt_us / 1000)
    rtt_var = rtt_var_from_ticks(c.rttvar_us / 1000)
    persisting = c.snd_wnd == 0 and c.unacked == 0 and c.unsent > 0
    return TcpOffloadStateDelegated(
        state=c.state,
        rcv_nxt=rcv_nxt,
        rcv_wnd=min(c.rcv_wnd, _ULONG),
        snd_una=snd_una,
        snd_nxt=snd_nxt,
        snd_max=snd_nxt,
        snd_wnd=min(c.snd_wnd, _ULONG),
        max_snd_wnd=min(c.snd_wnd, _ULONG),
        send_wl1=rcv_nxt,
        c_wnd=min(c.snd_cwnd_segments * c.snd_mss, _ULONG),
        ss_thresh=min(c.snd_ssthresh_segments * c.snd_mss, _ULONG),
        s_rtt=max(srtt, 1) if c.srtt_us else 0,
        rtt_var=max(rtt_var, 1) if c.srtt_us else 0,
        ts_recent=ts_recent if c.timestamps else 0,
        ts_recent_age=min(c.since_received_ms, _ULONG) if c.timestamps else 0,
        ts_time=(c.ts_time if c.ts_time is not None else ts_time) if c.timestamps else 0,
        snd_wnd_probe_count=min(c.probes, _UCHAR) if persisting else 0,
        keep_alive_probe_count=min(c.probes, _UCHAR) if c.keepalive and not persisting else 0,
        keep_alive_timeout_delta=_keep_alive(c),
        retransmit_count=min(c.backoff if persisting else c.retransmits, _UCHAR),
        retransmit_timeout_delta=_retransmit(c, persisting),
    )


def _keep_alive(c: ConnectionFacts) -> int:
    """Return KeepAlive.TimeoutDelta: ticks to the next probe, or not running (R-TMR-05, R-TMR-12)."""
    if not c.keepalive:
        return TIMER_NOT_RUNNING
    wait = c.keep_interval_s if c.probes else c.keep_idle_s
    return min(max(wait * 1000 - c.since_received_ms, 0), _LONGEST_TIMER)


def _retransmit(c: ConnectionFacts, persisting: bool) -> int:
    """Return Retransmit.TimeoutDelta: one member for the retransmit, persist and FIN_WAIT_2 timers.

    Linux runs no FIN_WAIT_2 timer while the application has the socket, so ours starts from zero.
    """
    if c.state is TcpOffloadConnectionState.TcpConnectionFinWait2:
        return FIN_WAIT_2_TICKS
    rto = c.rto_us // 1000
    if persisting:
        rto = min(rto << min(c.backoff, 16), _MAXIMUM_RTO_TICKS)
    elif not c.unacked:
        return TIMER_NOT_RUNNING
    return max(rto - c.since_sent_ms, 0)
