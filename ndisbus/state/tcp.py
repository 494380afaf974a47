"""The three TCP state structures, in the form of NDIS 6.0 (no DWnd).

Pages "ns-ndischimney-_tcp_offload_state_const.md", "..._cached.md", "..._delegated.md".
Ports are numbers (80 is 80); sequence numbers and windows are unsigned 32-bit; times are clock ticks.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from struct import error as struct_error
from typing import ClassVar, Final, Self

from ndisbus.ddi.enums import TIMER_NOT_RUNNING, TcpOffloadConnectionState
from ndisbus.state.base import Buffer, Member, OffloadState, header

__all__ = [
    "TcpOffloadStateCached",
    "TcpOffloadStateConst",
    "TcpOffloadStateDelegated",
    "rtt_var_from_ticks",
    "rtt_var_to_ticks",
    "srtt_from_ticks",
    "srtt_to_ticks",
]

_CONST: Final = Struct("<IIHHHBxHxxI")
_CACHED: Final = Struct("<IIHxxIIBxxxIIIIBBBx")
_DELEGATED: Final = Struct("<IIIHxx10IHHIIIIBBxxBxxxIBxxxIQQQ")

# TcpConnectionMaxState counts the states and is none of them.
_STATES: Final = tuple(TcpOffloadConnectionState)[:-1]
_LOW: Final = 0xFFFFFFFF
_HIGH: Final = 0xFFFFFFFF00000000


@dataclass(slots=True)
class TcpOffloadStateConst(OffloadState):
    """TCP_OFFLOAD_STATE_CONST, 0x18 bytes: set at initiate, never changed (R-STATE-02).

    ``flags``: TcpConstFlags. ``snd_wind_scale``, ``rcv_wind_scale``: shift counts, 0..15 fit.
    """

    flags: int = 0
    remote_port: int = 0
    local_port: int = 0
    snd_wind_scale: int = 0
    rcv_wind_scale: int = 0
    remote_mss: int = 0
    hash_value: int = 0
    length: int = 0x18
    recognized_options: int = 0

    NAME: ClassVar[str] = "TCP_OFFLOAD_STATE_CONST"
    SIZE: ClassVar[int] = _CONST.size
    MEMBERS: ClassVar[tuple[Member, ...]] = (
        *header(),
        Member("Flags", "flags", 0x08, 2),
        Member("RemotePort", "remote_port", 0x0A, 2),
        Member("LocalPort", "local_port", 0x0C, 2),
        Member("SndWindScale", "snd_wind_scale", 0x0E, 1, bits=4),
        Member("RcvWindScale", "rcv_wind_scale", 0x0E, 1, bits=4, bit_position=4),
        Member("RemoteMss", "remote_mss", 0x10, 2),
        Member("HashValue", "hash_value", 0x14, 4),
    )

    def pack(self) -> bytes:
        """The 0x18 byte image. Raises LocalProtocolError naming the member that does not fit."""
        try:
            snd = self.snd_wind_scale
            if snd >> 4 or self.rcv_wind_scale >> 4:
                raise self._pack_error()
            return _CONST.pack(
                0x18,
                self.recognized_options,
                self.flags,
                self.remote_port,
                self.local_port,
                snd | self.rcv_wind_scale << 4,
                self.remote_mss,
                self.hash_value,
            )
        except (struct_error, TypeError) as exc:
            raise self._pack_error() from exc

    @classmethod
    def unpack_from(cls, buf: Buffer, offset: int = 0, *, where: str = "") -> Self:
        """Read an image at ``offset``. Raises DecodeError if it is cut short or Header.Length is wrong."""
        try:
            length, options, flags, remote, local, scales, mss, rss = _CONST.unpack_from(buf, offset)
        except struct_error:
            raise cls._short(where, len(buf) - offset) from None
        if length != 0x18:
            raise cls._wrong_length(where, length)
        return cls(flags, remote, local, scales & 15, scales >> 4, mss, rss, length, options)


@dataclass(slots=True)
class TcpOffloadStateCached(OffloadState):
    """TCP_OFFLOAD_STATE_CACHED, 0x2C bytes: the host's, changed only by an update (R-STATE-03).

    ``flags``: TcpCachedFlags. ``initial_rcv_wnd``, ``rcv_indication_size``: bytes. ``ka_timeout``,
    ``ka_interval``, ``max_rt``: ticks (``max_rt``: see MAX_RT_USE_LIMIT, MAX_RT_NO_LIMIT).
    """

    flags: int = 0
    initial_rcv_wnd: int = 0
    rcv_indication_size: int = 0
    ka_probe_count: int = 0
    ka_timeout: int = 0
    ka_interval: int = 0
    max_rt: int = 0
    flow_label: int = 0
    ttl_or_hop_limit: int = 0
    tos_or_traffic_class: int = 0
    user_priority: int = 0
    length: int = 0x2C
    recognized_options: int = 0

    NAME: ClassVar[str] = "TCP_OFFLOAD_STATE_CACHED"
    SIZE: ClassVar[int] = _CACHED.size
    MEMBERS: ClassVar[tuple[Member, ...]] = (
        *header(),
        Member("Flags", "flags", 0x08, 2),
        Member("InitialRcvWnd", "initial_rcv_wnd", 0x0C, 4),
        Member("RcvIndicationSize", "rcv_indication_size", 0x10, 4),
        Member("KaProbeCount", "ka_probe_count", 0x14, 1),
        Member("KaTimeout", "ka_timeout", 0x18, 4),
        Member("KaInterval", "ka_interval", 0x1C, 4),
        Member("MaxRT", "max_rt", 0x20, 4),
        Member("FlowLabel", "flow_label", 0x24, 4, bits=20),
        Member("TtlOrHopLimit", "ttl_or_hop_limit", 0x28, 1),
        Member("TosOrTrafficClass", "tos_or_traffic_class", 0x29, 1),
        Member("UserPriority", "user_priority", 0x2A, 1, bits=3),
    )

    def pack(self) -> bytes:
        """The 0x2C byte image. Raises LocalProtocolError naming the member that does not fit."""
        try:
            if self.flow_label >> 20 or self.user_priority >> 3:
                raise self._pack_error()
            return _CACHED.pack(
                0x2C,
                self.recognized_options,
                self.flags,
                self.initial_rcv_wnd,
                self.rcv_indication_size,
                self.ka_probe_count,
                self.ka_timeout,
                self.ka_interval,
                self.max_rt,
                self.flow_label,
                self.ttl_or_hop_limit,
                self.tos_or_traffic_class,
                self.user_priority,
            )
        except (struct_error, TypeError) as exc:
            raise self._pack_error() from exc

    @classmethod
    def unpack_from(cls, buf: Buffer, offset: int = 0, *, where: str = "") -> Self:
        """Read an image at ``offset``. Raises DecodeError if it is cut short or Header.Length is wrong."""
        try:
            (
                length,
                options,
                flags,
                wnd,
                indication,
                probes,
                timeout,
                interval,
                max_rt,
                flow,
                ttl,
                tos,
                prio,
            ) = _CACHED.unpack_from(buf, offset)
        except struct_error:
            raise cls._short(where, len(buf) - offset) from None
        if length != 0x2C:
            raise cls._wrong_length(where, length)
        # The bits beside a bit field have no name and no meaning: they are dropped.
        return cls(
            flags,
            wnd,
            indication,
            probes,
            timeout,
            interval,
            max_rt,
            flow & 0xFFFFF,
            ttl,
            tos,
            prio & 7,
            length,
            options,
        )


@dataclass(slots=True)
class TcpOffloadStateDelegated(OffloadState):
    """TCP_OFFLOAD_STATE_DELEGATED, 0x78 bytes: seeded by the host, then the target's (R-STATE-04).

    ``s_rtt`` is carried times 8 and ``rtt_var`` times 4 (R-STATE-08): see :func:`srtt_from_ticks`.
    The nested structures KeepAlive and Retransmit are flat here. ``send_data_head``, ``send_data_tail``
    and ``buffered_data`` are pointers (None is NULL) with a meaning in an initiate or a terminate only;
    a query uses the *same storage* for ``send_backlog_size`` and ``receive_backlog_size`` (R-STATE-12).
    """

    state: TcpOffloadConnectionState = TcpOffloadConnectionState.TcpConnectionClosed
    flags: int = 0
    rcv_nxt: int = 0
    rcv_wnd: int = 0
    snd_una: int = 0
    snd_nxt: int = 0
    snd_max: int = 0
    snd_wnd: int = 0
    max_snd_wnd: int = 0
    send_wl1: int = 0
    c_wnd: int = 0
    ss_thresh: int = 0
    s_rtt: int = 0
    rtt_var: int = 0
    ts_recent: int = 0
    ts_recent_age: int = 0
    ts_time: int = 0
    total_rt: int = 0
    dup_ack_count: int = 0
    snd_wnd_probe_count: int = 0
    keep_alive_probe_count: int = 0
    keep_alive_timeout_delta: int = TIMER_NOT_RUNNING
    retransmit_count: int = 0
    retransmit_timeout_delta: int = TIMER_NOT_RUNNING
    send_data_head: int | None = None
    send_data_tail: int | None = None
    buffered_data: int | None = None
    length: int = 0x78
    recognized_options: int = 0

    NAME: ClassVar[str] = "TCP_OFFLOAD_STATE_DELEGATED"
    SIZE: ClassVar[int] = _DELEGATED.size
    MEMBERS: ClassVar[tuple[Member, ...]] = (
        *header(),
        Member("State", "state", 0x08, 4),
        Member("Flags", "flags", 0x0C, 2),
        Member("RcvNxt", "rcv_nxt", 0x10, 4),
        Member("RcvWnd", "rcv_wnd", 0x14, 4),
        Member("SndUna", "snd_una", 0x18, 4),
        Member("SndNxt", "snd_nxt", 0x1C, 4),
        Member("SndMax", "snd_max", 0x20, 4),
        Member("SndWnd", "snd_wnd", 0x24, 4),
        Member("MaxSndWnd", "max_snd_wnd", 0x28, 4),
        Member("SendWL1", "send_wl1", 0x2C, 4),
        Member("CWnd", "c_wnd", 0x30, 4),
        Member("SsThresh", "ss_thresh", 0x34, 4),
        Member("SRtt", "s_rtt", 0x38, 2),
        Member("RttVar", "rtt_var", 0x3A, 2),
        Member("TsRecent", "ts_recent", 0x3C, 4),
        Member("TsRecentAge", "ts_recent_age", 0x40, 4),
        Member("TsTime", "ts_time", 0x44, 4),
        Member("TotalRT", "total_rt", 0x48, 4),
        Member("DupAckCount", "dup_ack_count", 0x4C, 1),
        Member("SndWndProbeCount", "snd_wnd_probe_count", 0x4D, 1),
        Member("KeepAlive.ProbeCount", "keep_alive_probe_count", 0x50, 1),
        Member("KeepAlive.TimeoutDelta", "keep_alive_timeout_delta", 0x54, 4),
        Member("Retransmit.Count", "retransmit_count", 0x58, 1),
        Member("Retransmit.TimeoutDelta", "retransmit_timeout_delta", 0x5C, 4),
        Member("SendDataHead", "send_data_head", 0x60, 8, "pointer"),
        Member("SendDataTail", "send_data_tail", 0x68, 8, "pointer"),
        Member("SendBacklogSize", "send_backlog_size", 0x60, 4),
        Member("BufferedData", "buffered_data", 0x70, 8, "pointer"),
        Member("ReceiveBacklogSize", "receive_backlog_size", 0x70, 4),
    )

    @property
    def send_backlog_size(self) -> int:
        """SendBacklogSize, bytes: the low half of the storage of SendDataHead (0x60)."""
        return (self.send_data_head or 0) & _LOW

    @send_backlog_size.setter
    def send_backlog_size(self, size: int) -> None:
        # Like a C union: the other half of the eight bytes stays what it was.
        self.send_data_head = (self.send_data_head or 0) & _HIGH | self._ulong(
            "SendBacklogSize", size
        ) or None

    @property
    def receive_backlog_size(self) -> int:
        """ReceiveBacklogSize, bytes: the low half of the storage of BufferedData (0x70)."""
        return (self.buffered_data or 0) & _LOW

    @receive_backlog_size.setter
    def receive_backlog_size(self, size: int) -> None:
        self.buffered_data = (self.buffered_data or 0) & _HIGH | self._ulong(
            "ReceiveBacklogSize", size
        ) or None

    def _ulong(self, ddi: str, value: object) -> int:
        if not isinstance(value, int) or value >> 32:
            raise self._range_error(ddi, value, "must be an integer from 0 to 0xffffffff")
        return value

    def pack(self) -> bytes:
        """The 0x78 byte image. Raises LocalProtocolError naming the member that does not fit."""
        try:
            if self.state >= TcpOffloadConnectionState.TcpConnectionMaxState:
                raise self._range_error("State", self.state, "is not a TCP connection state")
            return _DELEGATED.pack(
                0x78,
                self.recognized_options,
                self.state,
                self.flags,
                self.rcv_nxt,
                self.rcv_wnd,
                self.snd_una,
                self.snd_nxt,
                self.snd_max,
                self.snd_wnd,
                self.max_snd_wnd,
                self.send_wl1,
                self.c_wnd,
                self.ss_thresh,
                self.s_rtt,
                self.rtt_var,
                self.ts_recent,
                self.ts_recent_age,
                self.ts_time,
                self.total_rt,
                self.dup_ack_count,
                self.snd_wnd_probe_count,
                self.keep_alive_probe_count,
                self.keep_alive_timeout_delta,
                self.retransmit_count,
                self.retransmit_timeout_delta,
                self.send_data_head or 0,
                self.send_data_tail or 0,
                self.buffered_data or 0,
            )
        except (struct_error, TypeError) as exc:
            raise self._pack_error() from exc

    @classmethod
    def unpack_from(cls, buf: Buffer, offset: int = 0, *, where: str = "") -> Self:
        """Read an image at ``offset``.

        Raises DecodeError if it is cut short, Header.Length is wrong, or State is no connection state.
        """
        try:
            length, options, state, *rest, head, tail, buffered = _DELEGATED.unpack_from(buf, offset)
        except struct_error:
            raise cls._short(where, len(buf) - offset) from None
        if length != 0x78:
            raise cls._wrong_length(where, length)
        try:
            state = _STATES[state]
        except IndexError:
            raise cls._decode_error(where, "State", f"{state} is not a TCP connection state") from None
        members = (state, *rest, head or None, tail or None, buffered or None, length, options)
        return cls(*members)


def srtt_from_ticks(ticks: float) -> int:
    """SRtt for a smoothed round trip time: times 8 (R-STATE-08), at most what a USHORT holds."""
    return min(max(round(ticks * 8), 0), 0xFFFF)


def srtt_to_ticks(s_rtt: int) -> float:
    """The smoothed round trip time, in ticks, that SRtt carries."""
    return s_rtt / 8


def rtt_var_from_ticks(ticks: float) -> int:
    """RttVar for a round trip variation: times 4 (R-STATE-08), at most what a USHORT holds."""
    return min(max(round(ticks * 4), 0), 0xFFFF)


def rtt_var_to_ticks(rtt_var: int) -> float:
    """The round trip variation, in ticks, that RttVar carries."""
    return rtt_var / 4
