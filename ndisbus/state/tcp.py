"""The three state structures of a connection, in the form of NDIS 6.0 (no DWnd).

DDI pages ns-ndischimney-_tcp_offload_state_const, ..._cached and ..._delegated. Ports are numbers (80 is 80);
sequence numbers and windows are unsigned 32-bit; times are clock ticks.
"""

# ruff: noqa: RUF009 - member() makes a dataclass field, as field() does.

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, overload

from ndisbus.ddi.cstruct import CMember, SharedStorage, member
from ndisbus.ddi.tcp_enums import TIMER_NOT_RUNNING, TcpOffloadConnectionState
from ndisbus.errors import LocalProtocolError, value_text
from ndisbus.state.base import OffloadState, header_length, header_options

__all__ = [
    "TcpOffloadStateCached",
    "TcpOffloadStateConst",
    "TcpOffloadStateDelegated",
    "rtt_var_from_ticks",
    "rtt_var_to_ticks",
    "srtt_from_ticks",
    "srtt_to_ticks",
]

_CLOSED: Final = TcpOffloadConnectionState.TcpConnectionClosed
_LOW: Final = 0xFFFFFFFF
_HIGH: Final = 0xFFFFFFFF00000000


class _SharedUlong(SharedStorage):
    """A ULONG in the low half of a pointer's storage, as in a C union. The other half is not changed."""

    def __init__(self, name: str, offset: int, *, shares: str) -> None:
        super().__init__(CMember(name, "ULONG", offset, 4, shares=shares))

    @overload
    def __get__(self, state: None, owner: type) -> _SharedUlong: ...
    @overload
    def __get__(self, state: OffloadState, owner: type) -> int: ...
    def __get__(self, state: OffloadState | None, owner: type) -> int | _SharedUlong:
        if state is None:
            return self
        return (getattr(state, self.described.shares) or 0) & _LOW

    def __set__(self, state: OffloadState, value: int) -> None:
        complaint = self.described.complaint(value)
        if complaint is not None:
            raise LocalProtocolError(f"{state.NAME}.{self.described.name} = {value_text(value)}: {complaint}")
        rest = (getattr(state, self.described.shares) or 0) & _HIGH
        setattr(state, self.described.shares, rest | value or None)


@dataclass(slots=True)
class TcpOffloadStateConst(OffloadState):
    """TCP_OFFLOAD_STATE_CONST, 0x18 bytes: set at initiate, never changed (R-STATE-02).

    ``flags``: TcpConstFlags. ``snd_wind_scale``, ``rcv_wind_scale``: shift counts, 0..15 fit.
    """

    NAME: ClassVar[str] = "TCP_OFFLOAD_STATE_CONST"
    SIZE: ClassVar[int] = 0x18

    flags: int = member("Flags", "USHORT", 0x08, default=0)
    remote_port: int = member("RemotePort", "USHORT", 0x0A, default=0)
    local_port: int = member("LocalPort", "USHORT", 0x0C, default=0)
    snd_wind_scale: int = member("SndWindScale", "UCHAR", 0x0E, default=0, bits=4)
    rcv_wind_scale: int = member("RcvWindScale", "UCHAR", 0x0E, default=0, bits=4, bit_position=4)
    remote_mss: int = member("RemoteMss", "USHORT", 0x10, default=0)
    hash_value: int = member("HashValue", "ULONG", 0x14, default=0)
    length: int = header_length(0x18)
    recognized_options: int = header_options()


@dataclass(slots=True)
class TcpOffloadStateCached(OffloadState):
    """TCP_OFFLOAD_STATE_CACHED, 0x2C bytes: the host's values, changed only by an update (R-STATE-03).

    ``flags``: TcpCachedFlags. ``initial_rcv_wnd``, ``rcv_indication_size``: bytes. ``ka_timeout``,
    ``ka_interval``, ``max_rt``: ticks (``max_rt``: see MAX_RT_USE_LIMIT, MAX_RT_NO_LIMIT).
    """

    NAME: ClassVar[str] = "TCP_OFFLOAD_STATE_CACHED"
    SIZE: ClassVar[int] = 0x2C

    flags: int = member("Flags", "USHORT", 0x08, default=0)
    initial_rcv_wnd: int = member("InitialRcvWnd", "ULONG", 0x0C, default=0)
    rcv_indication_size: int = member("RcvIndicationSize", "ULONG", 0x10, default=0)
    ka_probe_count: int = member("KaProbeCount", "UCHAR", 0x14, default=0)
    ka_timeout: int = member("KaTimeout", "ULONG", 0x18, default=0)
    ka_interval: int = member("KaInterval", "ULONG", 0x1C, default=0)
    max_rt: int = member("MaxRT", "ULONG", 0x20, default=0)
    flow_label: int = member("FlowLabel", "ULONG", 0x24, default=0, bits=20)
    ttl_or_hop_limit: int = member("TtlOrHopLimit", "UCHAR", 0x28, default=0)
    tos_or_traffic_class: int = member("TosOrTrafficClass", "UCHAR", 0x29, default=0)
    user_priority: int = member("UserPriority", "UCHAR", 0x2A, default=0, bits=3)
    length: int = header_length(0x2C)
    recognized_options: int = header_options()


@dataclass(slots=True)
class TcpOffloadStateDelegated(OffloadState):
    """TCP_OFFLOAD_STATE_DELEGATED, 0x78 bytes: set by the host, then changed by the target (R-STATE-04).

    ``s_rtt`` is stored times 8 and ``rtt_var`` times 4 (R-STATE-08): see :func:`srtt_from_ticks`. The nested
    structures KeepAlive and Retransmit are flat here. ``send_data_head``, ``send_data_tail`` and
    ``buffered_data`` are pointers (None is NULL), used only in an initiate or a terminate. A query uses the
    *same storage* for ``send_backlog_size`` and ``receive_backlog_size`` (R-STATE-12).
    """

    NAME: ClassVar[str] = "TCP_OFFLOAD_STATE_DELEGATED"
    SIZE: ClassVar[int] = 0x78

    state: TcpOffloadConnectionState = member(
        "State",
        "TCP_OFFLOAD_CONNECTION_STATE",
        0x08,
        default=_CLOSED,
        enum=TcpOffloadConnectionState,
    )
    flags: int = member("Flags", "USHORT", 0x0C, default=0)
    rcv_nxt: int = member("RcvNxt", "ULONG", 0x10, default=0)
    rcv_wnd: int = member("RcvWnd", "ULONG", 0x14, default=0)
    snd_una: int = member("SndUna", "ULONG", 0x18, default=0)
    snd_nxt: int = member("SndNxt", "ULONG", 0x1C, default=0)
    snd_max: int = member("SndMax", "ULONG", 0x20, default=0)
    snd_wnd: int = member("SndWnd", "ULONG", 0x24, default=0)
    max_snd_wnd: int = member("MaxSndWnd", "ULONG", 0x28, default=0)
    send_wl1: int = member("SendWL1", "ULONG", 0x2C, default=0)
    c_wnd: int = member("CWnd", "ULONG", 0x30, default=0)
    ss_thresh: int = member("SsThresh", "ULONG", 0x34, default=0)
    s_rtt: int = member("SRtt", "USHORT", 0x38, default=0)
    rtt_var: int = member("RttVar", "USHORT", 0x3A, default=0)
    ts_recent: int = member("TsRecent", "ULONG", 0x3C, default=0)
    ts_recent_age: int = member("TsRecentAge", "ULONG", 0x40, default=0)
    ts_time: int = member("TsTime", "ULONG", 0x44, default=0)
    total_rt: int = member("TotalRT", "ULONG", 0x48, default=0)
    dup_ack_count: int = member("DupAckCount", "UCHAR", 0x4C, default=0)
    snd_wnd_probe_count: int = member("SndWndProbeCount", "UCHAR", 0x4D, default=0)
    keep_alive_probe_count: int = member("KeepAlive.ProbeCount", "UCHAR", 0x50, default=0)
    keep_alive_timeout_delta: int = member("KeepAlive.TimeoutDelta", "ULONG", 0x54, default=TIMER_NOT_RUNNING)
    retransmit_count: int = member("Retransmit.Count", "UCHAR", 0x58, default=0)
    retransmit_timeout_delta: int = member(
        "Retransmit.TimeoutDelta", "ULONG", 0x5C, default=TIMER_NOT_RUNNING
    )
    send_data_head: int | None = member("SendDataHead", "PVOID", 0x60, default=None)
    send_data_tail: int | None = member("SendDataTail", "PVOID", 0x68, default=None)
    send_backlog_size = _SharedUlong("SendBacklogSize", 0x60, shares="send_data_head")
    buffered_data: int | None = member("BufferedData", "PVOID", 0x70, default=None)
    receive_backlog_size = _SharedUlong("ReceiveBacklogSize", 0x70, shares="buffered_data")
    length: int = header_length(0x78)
    recognized_options: int = header_options()


def srtt_from_ticks(ticks: float) -> int:
    """Return SRtt for a smoothed round trip time: times 8 (R-STATE-08), at most the maximum of a USHORT."""
    return min(max(round(ticks * 8), 0), 0xFFFF)


def srtt_to_ticks(s_rtt: int) -> float:
    """Return the smoothed round trip time of SRtt, in ticks."""
    return s_rtt / 8


def rtt_var_from_ticks(ticks: float) -> int:
    """Return RttVar for a round trip variation: times 4 (R-STATE-08), at most the maximum of a USHORT."""
    return min(max(round(ticks * 4), 0), 0xFFFF)


def rtt_var_to_ticks(rtt_var: int) -> float:
    """Return the round trip variation of RttVar, in ticks."""
    return rtt_var / 4
