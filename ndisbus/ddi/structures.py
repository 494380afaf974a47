"""Capabilities, parameters, counters, status indications and OID requests, in their NDIS 6.0 form.

Each class names its page. :mod:`ndisbus.ddi.characteristics` has the tables of entry points,
:mod:`ndisbus.ddi.cstruct` what all structures share. Both are exported here too.
"""

# ruff: noqa: RUF009 - member() and header() make dataclass fields, as field() does.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from ndisbus.ddi.characteristics import (
    NdisClientChimneyOffloadGenericCharacteristics,
    NdisClientChimneyOffloadTcpCharacteristics,
    NdisProviderChimneyOffloadGenericCharacteristics,
    NdisProviderChimneyOffloadTcpCharacteristics,
    NdisTcpOffloadEventHandlers,
)
from ndisbus.ddi.cstruct import CMember, NdisObjectHeader, Struct, header, member
from ndisbus.ddi.enums import (
    NDIS_OFFLOAD_SUPPORTED,
    NDIS_TCP_CONNECTION_OFFLOAD_PARAMETERS_1,
    NDIS_TCP_CONNECTION_OFFLOAD_REVISION_1,
    NdisEncapsulation,
    NdisRequestType,
    ObjectType,
    Oid,
)
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.task_offload import (
    NDIS_TASK_OFFLOAD_VERSION,
    TCP_CONNECTION_OFFLOAD_TASK,
    NdisEncapsulationFormat,
    NdisTaskOffload,
    NdisTaskOffloadHeader,
    NdisTaskTcpConnectionOffload,
)
from ndisbus.errors import DecodeError, LocalProtocolError

__all__ = [
    "NDIS_TASK_OFFLOAD_VERSION",
    "OID_STRUCTURES",
    "STATUS_STRUCTURES",
    "TCP_CONNECTION_OFFLOAD_TASK",
    "IpOffloadStats",
    "NdisClientChimneyOffloadGenericCharacteristics",
    "NdisClientChimneyOffloadTcpCharacteristics",
    "NdisEncapsulationFormat",
    "NdisObjectHeader",
    "NdisOffloadEncapsulation",
    "NdisOidRequest",
    "NdisProviderChimneyOffloadGenericCharacteristics",
    "NdisProviderChimneyOffloadTcpCharacteristics",
    "NdisStatusIndication",
    "NdisTaskOffload",
    "NdisTaskOffloadHeader",
    "NdisTaskTcpConnectionOffload",
    "NdisTcpConnectionOffload",
    "NdisTcpConnectionOffloadParameters",
    "NdisTcpOffloadEventHandlers",
    "OffloadEncapsulation",
    "Struct",
    "TcpOffloadStats",
]


@dataclass(kw_only=True, slots=True)
class OffloadEncapsulation(Struct):
    """The nested structure IPv4 or IPv6 of NDIS_OFFLOAD_ENCAPSULATION; ``header_size``: bytes."""

    NAME: ClassVar[str] = "NDIS_OFFLOAD_ENCAPSULATION.IPvX"
    SIZE: ClassVar[int] = 0xC

    enabled: int = member("Enabled", "ULONG", 0x0, default=1)
    encapsulation_type: int = member(
        "EncapsulationType", "ULONG", 0x4, default=int(NdisEncapsulation.NDIS_ENCAPSULATION_IEEE_802_3)
    )
    header_size: int = member("HeaderSize", "ULONG", 0x8, default=14)


@dataclass(kw_only=True, slots=True)
class NdisOffloadEncapsulation(Struct):
    """NDIS_OFFLOAD_ENCAPSULATION. Ethernet II with its 14 byte header unless said otherwise.

    Header.Type and revision: ntddndis.h.
    """

    NAME: ClassVar[str] = "NDIS_OFFLOAD_ENCAPSULATION"
    SIZE: ClassVar[int] = 0x1C

    header: NdisObjectHeader = header(ObjectType.NDIS_OBJECT_TYPE_OFFLOAD_ENCAPSULATION, 1, 0x1C)
    ipv4: OffloadEncapsulation = member(
        "IPv4", "STRUCT", 0x4, nested=OffloadEncapsulation, factory=OffloadEncapsulation
    )
    ipv6: OffloadEncapsulation = member(
        "IPv6", "STRUCT", 0x10, nested=OffloadEncapsulation, factory=OffloadEncapsulation
    )


@dataclass(kw_only=True, slots=True)
class NdisTcpConnectionOffload(Struct):
    """NDIS_TCP_CONNECTION_OFFLOAD: chimney capabilities, revision 1 (no CongestionAlgorithm).

    ``encapsulation``: NdisEncapsulation bits. ``tcp_connection_offload_capacity``: number of connections of
    both families together (R-OID-10). DDI page ns-ntddndis-_ndis_tcp_connection_offload.
    """

    NAME: ClassVar[str] = "NDIS_TCP_CONNECTION_OFFLOAD"
    SIZE: ClassVar[int] = 0x14

    header: NdisObjectHeader = header(
        ObjectType.NDIS_OBJECT_TYPE_DEFAULT, NDIS_TCP_CONNECTION_OFFLOAD_REVISION_1, 0x14
    )
    encapsulation: int = member(
        "Encapsulation", "ULONG", 0x4, default=int(NdisEncapsulation.NDIS_ENCAPSULATION_IEEE_802_3)
    )
    support_ipv4: int = member("SupportIPv4", "ULONG", 0x8, bits=2, default=NDIS_OFFLOAD_SUPPORTED)
    support_ipv6: int = member(
        "SupportIPv6", "ULONG", 0x8, bits=2, bit_position=2, default=NDIS_OFFLOAD_SUPPORTED
    )
    support_ipv6_extension_headers: int = member(
        "SupportIPv6ExtensionHeaders", "ULONG", 0x8, bits=2, bit_position=4, default=0
    )
    support_sack: int = member(
        "SupportSack", "ULONG", 0x8, bits=2, bit_position=6, default=NDIS_OFFLOAD_SUPPORTED
    )
    tcp_connection_offload_capacity: int = member("TcpConnectionOffloadCapacity", "ULONG", 0xC, default=0)
    flags: int = member("Flags", "ULONG", 0x10, default=0)

    def is_recognised(self) -> bool:
        """Return whether the encapsulation is one that NDIS requires for the chimney (R-OID-09)."""
        known = (
            NdisEncapsulation.NDIS_ENCAPSULATION_IEEE_802_3
            | NdisEncapsulation.NDIS_ENCAPSULATION_IEEE_LLC_SNAP_ROUTED
        )
        return bool(self.encapsulation & int(known))


@dataclass(kw_only=True, slots=True)
class NdisTcpConnectionOffloadParameters(Struct):
    """NDIS_TCP_CONNECTION_OFFLOAD_PARAMETERS, revision 1: 0x38 bytes, no CongestionAlgorithm.

    Times are ticks of 1/TicksPerSecond s. The page gives two defaults: 1000 ticks per second, and (on
    DDI page push-timer) 500 ms for the push timer. The others are ours: an ACK for every second segment after
    at most 200 ms (RFC 9293 3.8.6.3), 3 duplicate ACKs (RFC 5681 3.2), doubt after 3 retransmissions (R1
    of RFC 9293 3.8.3), 5 retransmissions (the usual limit of Windows), silly window override after 500 ms
    (RFC 9293 3.8.6.2.1), neighbors stale after 30 s (REACHABLE_TIME, RFC 4861 section 10).
    DDI page ns-ndischimney-_ndis_tcp_connection_offload_parameters.
    """

    NAME: ClassVar[str] = "NDIS_TCP_CONNECTION_OFFLOAD_PARAMETERS"
    SIZE: ClassVar[int] = 0x38

    header: NdisObjectHeader = header(
        ObjectType.NDIS_OBJECT_TYPE_DEFAULT, NDIS_TCP_CONNECTION_OFFLOAD_PARAMETERS_1, 0x38
    )
    encapsulation: NdisOffloadEncapsulation = member(
        "Encapsulation", "STRUCT", 0x4, nested=NdisOffloadEncapsulation, factory=NdisOffloadEncapsulation
    )
    ticks_per_second: int = member("TicksPerSecond", "ULONG", 0x20, default=1000)
    tcp_ack_frequency: int = member("TcpAckFrequency", "UCHAR", 0x24, default=2)
    tcp_delayed_ack_ticks: int = member("TcpDelayedAckTicks", "UCHAR", 0x25, default=200)
    tcp_maximum_retransmissions: int = member("TcpMaximumRetransmissions", "UCHAR", 0x26, default=5)
    tcp_doubt_reachability_retransmissions: int = member(
        "TcpDoubtReachabilityRetransmissions", "UCHAR", 0x27, default=3
    )
    tcp_sws_prevention_ticks: int = member("TcpSwsPreventionTicks", "ULONG", 0x28, default=500)
    tcp_duplicate_ack_threshold: int = member("TcpDuplicateAckThreshold", "ULONG", 0x2C, default=3)
    tcp_push_ticks: int = member("TcpPushTicks", "ULONG", 0x30, default=500)
    nce_stale_ticks: int = member("NceStaleTicks", "ULONG", 0x34, default=30_000)

    def validate(self) -> None:
        """Raise LocalProtocolError unless TicksPerSecond is 10, 100 or 1000 (R-TMR-02)."""
        if self.ticks_per_second not in (10, 100, 1000):
            reason = f"{self.NAME}.TicksPerSecond = {self.ticks_per_second}: must be 10, 100 or 1000"
            raise LocalProtocolError(reason, rule="R-TMR-02")


@dataclass(kw_only=True, slots=True)
class TcpOffloadStats(Struct):
    """TCP_OFFLOAD_STATS: counters of offloaded connections. DDI page ns-ndischimney-_tcp_offload_stats."""

    NAME: ClassVar[str] = "TCP_OFFLOAD_STATS"
    SIZE: ClassVar[int] = 0x28

    in_segments: int = member("InSegments", "ULONG64", 0x0, default=0)
    out_segments: int = member("OutSegments", "ULONG64", 0x8, default=0)
    currently_established: int = member("CurrentlyEstablished", "ULONG", 0x10, default=0)
    reset_established: int = member("ResetEstablished", "ULONG", 0x14, default=0)
    retransmitted_segments: int = member("RetransmittedSegments", "ULONG", 0x18, default=0)
    in_errors: int = member("InErrors", "ULONG", 0x1C, default=0)
    out_resets: int = member("OutResets", "ULONG", 0x20, default=0)


@dataclass(kw_only=True, slots=True)
class IpOffloadStats(Struct):
    """IP_OFFLOAD_STATS: counters of one IP version. DDI page ns-ndischimney-_ip_offload_stats."""

    NAME: ClassVar[str] = "IP_OFFLOAD_STATS"
    SIZE: ClassVar[int] = 0x40

    in_receives: int = member("InReceives", "ULONG64", 0x0, default=0)
    in_octets: int = member("InOctets", "ULONG64", 0x8, default=0)
    in_delivers: int = member("InDelivers", "ULONG64", 0x10, default=0)
    out_requests: int = member("OutRequests", "ULONG64", 0x18, default=0)
    out_octets: int = member("OutOctets", "ULONG64", 0x20, default=0)
    in_header_errors: int = member("InHeaderErrors", "ULONG", 0x28, default=0)
    in_truncated_packets: int = member("InTruncatedPackets", "ULONG", 0x2C, default=0)
    in_discards: int = member("InDiscards", "ULONG", 0x30, default=0)
    out_discards: int = member("OutDiscards", "ULONG", 0x34, default=0)
    out_no_routes: int = member("OutNoRoutes", "ULONG", 0x38, default=0)


OID_STRUCTURES: Final[dict[int, type[Struct]]] = {
    Oid.OID_TCP_TASK_OFFLOAD: NdisTaskOffloadHeader,
    Oid.OID_TCP4_OFFLOAD_STATS: TcpOffloadStats,
    Oid.OID_TCP6_OFFLOAD_STATS: TcpOffloadStats,
    Oid.OID_IP4_OFFLOAD_STATS: IpOffloadStats,
    Oid.OID_IP6_OFFLOAD_STATS: IpOffloadStats,
    Oid.OID_TCP_CONNECTION_OFFLOAD_CURRENT_CONFIG: NdisTcpConnectionOffload,
    Oid.OID_TCP_CONNECTION_OFFLOAD_HARDWARE_CAPABILITIES: NdisTcpConnectionOffload,
    Oid.OID_TCP_CONNECTION_OFFLOAD_PARAMETERS: NdisTcpConnectionOffloadParameters,
}
"""The structure in the InformationBuffer of each OID. Other OIDs carry raw bytes."""

STATUS_STRUCTURES: Final[dict[int, type[Struct]]] = {
    NdisStatus.OFFLOAD_RESUME: NdisTcpConnectionOffload,
    NdisStatus.TCP_CONNECTION_OFFLOAD_HARDWARE_CAPABILITIES: NdisTcpConnectionOffload,
}
"""The structure in the StatusBuffer of each status indication. Others carry nothing or raw bytes."""


def _read_buffer(structure: type[Struct] | None, value: object, where: str) -> Struct | bytes | None:
    if value is None:
        return None
    if structure is not None:
        return structure.from_wire(value, where)
    if type(value) is bytes:
        return value
    raise DecodeError(where, "neither nil nor bytes")


@dataclass(kw_only=True, slots=True)
class NdisStatusIndication(Struct):
    """NDIS_STATUS_INDICATION, of NdisMIndicateStatusEx and ProtocolStatusEx.

    ``status_buffer``: the structure of STATUS_STRUCTURES, bytes, or None. ``status_buffer_size`` (bytes) is
    computed from it if left 0. ``guid``: 16 bytes.
    """

    NAME: ClassVar[str] = "NDIS_STATUS_INDICATION"
    SIZE: ClassVar[int] = 0x70

    header: NdisObjectHeader = header(ObjectType.NDIS_OBJECT_TYPE_STATUS_INDICATION, 1, 0x70)
    source_handle: int | None = member("SourceHandle", "PVOID", 0x8, default=None)
    port_number: int = member("PortNumber", "ULONG", 0x10, default=0)
    status_code: int = member("StatusCode", "ULONG", 0x14)
    flags: int = member("Flags", "ULONG", 0x18, default=0)
    destination_handle: int | None = member("DestinationHandle", "PVOID", 0x20, default=None)
    request_id: int | None = member("RequestId", "PVOID", 0x28, default=None)
    status_buffer: Struct | bytes | None = member("StatusBuffer", "ANY", 0x30, size=8, default=None)
    status_buffer_size: int = member("StatusBufferSize", "ULONG", 0x38, default=0)
    guid: bytes = member("Guid", "UCHAR[16]", 0x3C, size=16, default=bytes(16))
    ndis_reserved: list[int | None] = member(
        "NdisReserved", "PVOID[4]", 0x50, size=32, factory=lambda: [None, None, None, None]
    )

    def __post_init__(self) -> None:
        self.status_buffer_size = self.status_buffer_size or self._buffer_size()

    def _buffer_size(self) -> int:
        buffer = self.status_buffer
        return buffer.SIZE if isinstance(buffer, Struct) else len(buffer or b"")

    @classmethod
    def read_member(cls, m: CMember, value: object, whole: dict[str, Any], where: str) -> Any:
        """Read StatusBuffer as STATUS_STRUCTURES says for StatusCode. Raises DecodeError."""
        if m.name == "StatusBuffer":
            code = whole.get("StatusCode")
            return _read_buffer(STATUS_STRUCTURES.get(code) if type(code) is int else None, value, where)
        return Struct.read_member(m, value, whole, where)

    def check(self, where: str) -> None:
        """Raise DecodeError unless StatusBufferSize is the size of StatusBuffer."""
        if self.status_buffer_size != self._buffer_size():
            reason = f"is {self.status_buffer_size}, StatusBuffer has {self._buffer_size()} bytes"
            raise DecodeError(f"{where}.StatusBufferSize", reason)


@dataclass(kw_only=True, slots=True)
class NdisOidRequest(Struct):
    """NDIS_OID_REQUEST: the members that the chimney needs, without the union around them.

    ``information_buffer``: the structure of OID_STRUCTURES, bytes for another OID, None for a query without
    an answer yet. ``request_id``: pointer-sized, chosen by the requester. SIZE and offsets are not given,
    because this structure is not the C one.
    """

    NAME: ClassVar[str] = "NDIS_OID_REQUEST"

    request_type: int = member("RequestType", "ULONG", None)
    oid: int = member("Oid", "ULONG", None)
    information_buffer: Struct | bytes | None = member("InformationBuffer", "ANY", None, default=None)
    request_id: int | None = member("RequestId", "PVOID", None, default=None)

    @classmethod
    def read_member(cls, m: CMember, value: object, whole: dict[str, Any], where: str) -> Any:
        """Read InformationBuffer as OID_STRUCTURES says for Oid. Raises DecodeError."""
        if m.name == "InformationBuffer":
            oid = whole.get("Oid")
            return _read_buffer(OID_STRUCTURES.get(oid) if type(oid) is int else None, value, where)
        return Struct.read_member(m, value, whole, where)

    def check(self, where: str) -> None:
        """Raise DecodeError unless it is a query or a set, and a set has its data."""
        if self.request_type not in tuple(NdisRequestType):
            raise DecodeError(f"{where}.RequestType", f"{self.request_type} is neither a query nor a set")
        if self.information_buffer is None and self.request_type == NdisRequestType.NdisRequestSetInformation:
            raise DecodeError(f"{where}.InformationBuffer", "is nil in a set")
