"""New connections: the structures of an OPEN, active or passive (RFC 9293 3.10.1), and their machine."""

from __future__ import annotations

from ndisbus.ddi.tcp_enums import (
    TCP_FLAG_SACK_ENABLED,
    TCP_FLAG_TIMESTAMP_ENABLED,
    TCP_FLAG_WINDOW_SCALING_ENABLED,
    TIMER_NOT_RUNNING,
)
from ndisbus.net.segment import Segment
from ndisbus.state.path import PathOffloadStateCached, PathOffloadStateConst
from ndisbus.state.tcp import TcpOffloadStateCached, TcpOffloadStateConst, TcpOffloadStateDelegated
from ndisbus.tcp import handshake, options, text
from ndisbus.tcp.connection import Handshake
from ndisbus.tcp.machine import TcpMachine
from ndisbus.tcp.settings import TcpSettings
from ndisbus.tcp.states import SYN_RCVD, SYN_SENT, State

__all__ = ["active_open", "passive_open", "window_scale"]


def window_scale(receive_buffer: int) -> int:
    """Return the smallest shift count that lets a window field offer the whole buffer, at most 14."""
    shift = 0
    while shift < 14 and receive_buffer >> shift > 0xFFFF:
        shift += 1
    return shift


def active_open(
    cached: TcpOffloadStateCached,
    *,
    local_port: int,
    remote_port: int,
    iss: int,
    path_const: PathOffloadStateConst,
    path_cached: PathOffloadStateCached,
    settings: TcpSettings,
    now: int,
    mss: int | None = None,
    ts_time: int = 0,
    timestamps: bool = True,
    sack: bool = True,
    scaling: bool = True,
    hash_value: int = 0,
) -> TcpMachine:
    """Return a machine in SYN_SENT. Its first transmit() returns the SYN.

    ``cached``: the connection's cached state, used in place; its ``initial_rcv_wnd`` is the receive buffer in
    bytes. ``iss``: initial sequence number (RFC 9293 3.4.1). ``ts_time``: first timestamp. The caller chooses
    both at random. ``mss``: the MSS to advertise, by default what the path's MTU leaves. ``timestamps``,
    ``sack``, ``scaling``: the options to offer.
    """
    const = _const(cached, local_port, remote_port, timestamps, sack, scaling, hash_value)
    return _machine(
        const, cached, SYN_SENT, iss, path_const, path_cached, settings, now, mss, ts_time, passive=False
    )


def passive_open(
    syn: Segment,
    cached: TcpOffloadStateCached,
    *,
    iss: int,
    path_const: PathOffloadStateConst,
    path_cached: PathOffloadStateCached,
    settings: TcpSettings,
    now: int,
    mss: int | None = None,
    ts_time: int = 0,
    timestamps: bool = True,
    sack: bool = True,
    scaling: bool = True,
    hash_value: int = 0,
) -> TcpMachine:
    """Return a machine in SYN_RCVD for a listener's SYN. Its first transmit() returns the SYN,ACK.

    ``syn``: a segment for which ending.answer_listen() opens a connection. For the rest see active_open().
    Options that the SYN does not offer are not used.
    """
    const = _const(cached, syn.destination_port, syn.source_port, timestamps, sack, scaling, hash_value)
    machine = _machine(
        const, cached, SYN_RCVD, iss, path_const, path_cached, settings, now, mss, ts_time, passive=True
    )
    handshake.take_options(machine, syn, now)
    text.syn_text(machine, syn, now)
    return machine


def _const(
    cached: TcpOffloadStateCached,
    local_port: int,
    remote_port: int,
    timestamps: bool,
    sack: bool,
    scaling: bool,
    hash_value: int,
) -> TcpOffloadStateConst:
    flags = TCP_FLAG_TIMESTAMP_ENABLED if timestamps else 0
    if sack:
        flags |= TCP_FLAG_SACK_ENABLED
    if scaling:
        flags |= TCP_FLAG_WINDOW_SCALING_ENABLED
    return TcpOffloadStateConst(
        flags=flags,
        remote_port=remote_port,
        local_port=local_port,
        rcv_wind_scale=window_scale(cached.initial_rcv_wnd) if scaling else 0,
        hash_value=hash_value,
    )


def _machine(
    const: TcpOffloadStateConst,
    cached: TcpOffloadStateCached,
    state: State,
    iss: int,
    path_const: PathOffloadStateConst,
    path_cached: PathOffloadStateCached,
    settings: TcpSettings,
    now: int,
    mss: int | None,
    ts_time: int,
    *,
    passive: bool,
) -> TcpMachine:
    iss &= 0xFFFFFFFF
    delegated = TcpOffloadStateDelegated(
        state=state,
        rcv_wnd=min(cached.initial_rcv_wnd, 0xFFFF),
        snd_una=iss,
        snd_nxt=iss,
        snd_max=iss,
        ts_time=ts_time & 0xFFFFFFFF,
        keep_alive_timeout_delta=TIMER_NOT_RUNNING,
        retransmit_timeout_delta=TIMER_NOT_RUNNING,
    )
    const.remote_mss = options.default_mss(path_const)
    machine = TcpMachine(
        const,
        cached,
        delegated,
        path_const=path_const,
        path_cached=path_cached,
        settings=settings,
        now=now,
    )
    if mss is None:
        mss = max(path_cached.path_mtu - options.headers(path_const), options.MIN_MSS)
    machine.handshake = Handshake(mss, passive)
    machine.unscaled = True
    return machine
