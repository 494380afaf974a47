"""State objects of connections that never had a wire, for scenarios, tests and examples.

They depend only on the arguments and the seed of ``rng``, so two runs make the same objects.
"""

from __future__ import annotations

from typing import Final

from hoststack.model.objects import Neighbor, Path, Tcb
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState
from ndisbus.randomness import Randomness
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
)

__all__ = ["connection", "connections", "neighbor", "path"]

_WINDOW: Final = 65535
_FIRST_PORT: Final = 49152  # RFC 6335, the dynamic ports
_PORTS: Final = 65536 - _FIRST_PORT


def neighbor(
    mac: bytes, *, vlan_id: int = 0, source: bytes = b"", confirmed: int = 0, name: str = ""
) -> Neighbor:
    """Make a next hop. ``mac``, ``source``: link addresses. ``confirmed``: ticks since it was confirmed."""
    return Neighbor(
        NeighborOffloadStateConst(dl_source_address=source, vlan_id=vlan_id),
        NeighborOffloadStateCached(dl_destination_address=mac, host_reachability_delta=confirmed),
        NeighborOffloadStateDelegated(nic_reachability_delta=confirmed),
        name=name,
    )


def path(through: Neighbor, source: bytes, destination: bytes, *, mtu: int = 1500, name: str = "") -> Path:
    """Make a path between two addresses of 4 or 16 bytes in network order. ``mtu``: bytes."""
    return Path(
        through,
        PathOffloadStateConst(source_address=source, destination_address=destination),
        PathOffloadStateCached(path_mtu=mtu),
        PathOffloadStateDelegated(),
        name=name,
    )


def connection(
    over: Path,
    local_port: int,
    remote_port: int,
    *,
    rng: Randomness,
    state: TcpOffloadConnectionState = TcpOffloadConnectionState.TcpConnectionEstablished,
    name: str = "",
) -> Tcb:
    """Make a connection with nothing in flight. Its sequence numbers are drawn from ``rng``."""
    snd, rcv = rng.getrandbits(32), rng.getrandbits(32)
    mss = max(over.cached.path_mtu - 40, 536)
    return Tcb(
        over,
        TcpOffloadStateConst(remote_port=remote_port, local_port=local_port, remote_mss=min(mss, 0xFFFF)),
        TcpOffloadStateCached(initial_rcv_wnd=_WINDOW, ttl_or_hop_limit=64),
        TcpOffloadStateDelegated(
            state=state,
            rcv_nxt=rcv,
            rcv_wnd=_WINDOW,
            snd_una=snd,
            snd_nxt=snd,
            snd_max=snd,
            snd_wnd=_WINDOW,
            max_snd_wnd=_WINDOW,
            send_wl1=rcv,
            c_wnd=10 * mss,
            ss_thresh=_WINDOW,
        ),
        name=name,
    )


def connections(
    over: Path, count: int, *, rng: Randomness, first_port: int = _FIRST_PORT, remote_port: int = 443
) -> list[Tcb]:
    """Make ``count`` connections over one path, with different ports."""
    found = []
    for i in range(count):
        local = first_port + i % _PORTS
        remote = remote_port + i // _PORTS
        found.append(connection(over, (local - 1) % 65535 + 1, remote, rng=rng))
    return found
