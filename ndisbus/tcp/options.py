"""What a connection's options determine: sizes of segments, and which SYN may follow TIME_WAIT."""

from __future__ import annotations

from typing import Final

from ndisbus.ddi.tcp_enums import (
    TCP_FLAG_SACK_ENABLED,
    TCP_FLAG_TIMESTAMP_ENABLED,
    TCP_FLAG_WINDOW_SCALING_ENABLED,
)
from ndisbus.net.segment import ACK, RST, SYN, Segment
from ndisbus.state.path import PathOffloadStateConst
from ndisbus.tcp.connection import TcpConnection
from ndisbus.tcp.sequence import gt
from ndisbus.tcp.states import TIME_WAIT

__all__ = [
    "DEFAULT_MSS_V4",
    "DEFAULT_MSS_V6",
    "MIN_MSS",
    "accepts_reuse",
    "default_mss",
    "headers",
    "refresh",
    "sack_limit",
]

DEFAULT_MSS_V4: Final = 536
DEFAULT_MSS_V6: Final = 1220
"""The MSS of a remote end that sent no MSS option (RFC 9293 3.7.1)."""
MIN_MSS: Final = 48
"""Smallest segment size used. A remote end must not make us send a header for every byte."""
TIMESTAMP_BYTES: Final = 12
"""Bytes of a Timestamps option with its padding."""


def headers(path: PathOffloadStateConst) -> int:
    """Return the bytes of IP and TCP header on a path, without options."""
    return 40 if len(path.source_address) == 4 else 60


def default_mss(path: PathOffloadStateConst) -> int:
    """Return the MSS of a remote end that sent no MSS option (RFC 9293 3.7.1)."""
    return DEFAULT_MSS_V4 if len(path.source_address) == 4 else DEFAULT_MSS_V6


def refresh(m: TcpConnection) -> None:
    """Compute what follows from the constant and the path structures: options in use, segment size."""
    const = m.const
    flags = const.flags
    m.stamped = bool(flags & TCP_FLAG_TIMESTAMP_ENABLED)
    m.sacking = bool(flags & TCP_FLAG_SACK_ENABLED)
    scaling = bool(flags & TCP_FLAG_WINDOW_SCALING_ENABLED)
    # RFC 7323 2.3: a shift count above 14 counts as 14.
    m.snd_scale = min(const.snd_wind_scale, 14) if scaling else 0
    m.rcv_scale = min(const.rcv_wind_scale, 14) if scaling else 0
    size = min(const.remote_mss, m.path_cached.path_mtu - headers(m.path_const))
    if size < MIN_MSS:
        size = MIN_MSS
    m.mss = size - TIMESTAMP_BYTES if m.stamped else size


def sack_limit(m: TcpConnection) -> int:
    """Return how many SACK blocks fit beside the other options (RFC 2018 3)."""
    return 3 if m.stamped else 4


def accepts_reuse(m: TcpConnection, syn: Segment) -> bool:
    """Return whether a SYN may replace this connection: see TcpMachine.accepts_reuse."""
    d = m.delegated
    if d.state is not TIME_WAIT or syn.flags & (SYN | ACK | RST) != SYN:
        return False
    if m.stamped and syn.ts_val is not None:
        ahead = (syn.ts_val - d.ts_recent) & 0xFFFFFFFF
        # RFC 6191 2: a newer timestamp proves that the SYN is new. If both are equal, the number decides.
        if ahead:
            return ahead < 0x80000000
    return gt(syn.seq, (d.rcv_nxt - 1) & 0xFFFFFFFF)
