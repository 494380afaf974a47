"""Enumerations, flags and other numbers of the interface. Member names are the DDI names.

Sources: ``ndischimney.h``; structures recovered from public symbols (ntdiff/headers); mingw-w64's
``ntddndis.h``. The page of each enumeration is named in its docstring.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

__all__ = [
    "BACKLOG_NOT_SUPPORTED",
    "IPV4_ID_FIRST",
    "IPV4_ID_LAST",
    "IPV6_FRAGMENT_ID_FIRST",
    "IPV6_FRAGMENT_ID_LAST",
    "MANDATORY_UPLOAD_REASONS",
    "MAX_RT_NO_LIMIT",
    "MAX_RT_USE_LIMIT",
    "NDIS_CLIENT_CHIMNEY_OFFLOAD_GENERIC_CHARACTERISTICS_REVISION_1",
    "NDIS_CLIENT_CHIMNEY_OFFLOAD_TCP_CHARACTERISTICS_REVISION_1",
    "NDIS_OBJECT_TCP_OFFLOAD_REVISION_1",
    "NDIS_OFFLOAD_NOT_SUPPORTED",
    "NDIS_OFFLOAD_SUPPORTED",
    "NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL",
    "NDIS_RECEIVE_FLAGS_RESOURCES",
    "NDIS_RETURN_FLAGS_DISPATCH_LEVEL",
    "NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL",
    "NDIS_SEND_FLAGS_CHECK_FOR_LOOPBACK",
    "NDIS_SEND_FLAGS_DISPATCH_LEVEL",
    "NDIS_TCP_CONNECTION_OFFLOAD_PARAMETERS_1",
    "NDIS_TCP_CONNECTION_OFFLOAD_PARAMETERS_2",
    "NDIS_TCP_CONNECTION_OFFLOAD_REVISION_1",
    "NDIS_TCP_CONNECTION_OFFLOAD_REVISION_2",
    "OFFLOADABLE_TCP_STATES",
    "OPTIONAL_UPLOAD_REASONS",
    "TCP_DISCONNECT_ABORTIVE_CLOSE",
    "TCP_DISCONNECT_GRACEFUL_CLOSE",
    "TCP_FLAG_KEEP_ALIVE_ENABLED",
    "TCP_FLAG_KEEP_ALIVE_RESTART",
    "TCP_FLAG_MAX_RT_RESTART",
    "TCP_FLAG_NAGLING_ENABLED",
    "TCP_FLAG_SACK_ENABLED",
    "TCP_FLAG_TIMESTAMP_ENABLED",
    "TCP_FLAG_UPDATE_RCV_WND",
    "TCP_FLAG_WINDOW_SCALING_ENABLED",
    "TIMER_NOT_RUNNING",
    "WHOLE_STATE",
    "IndicateOffloadEvent",
    "Layer",
    "NdisChimneyOffloadType",
    "NdisEncapsulation",
    "NdisReceiveFlags",
    "NdisRequestType",
    "NdisReturnFlags",
    "NdisSendCompleteFlags",
    "NdisSendFlags",
    "NetBufferListInfo",
    "ObjectType",
    "OffloadStateType",
    "Oid",
    "TcpCachedFlags",
    "TcpConstFlags",
    "TcpDisconnectFlags",
    "TcpOffloadConnectionState",
    "TcpOffloadEventType",
    "TcpUploadReason",
    "classes_of",
    "layer_of",
]


class OffloadStateType(IntEnum):
    """OFFLOAD_STATE_TYPE, carried in Header.Type (a UCHAR) of every block of an offload state tree.

    DDI page ns-ndischimney-_ndis_miniport_offload_block_list.
    """

    NeighborOffloadConstState = 1
    NeighborOffloadCachedState = 2
    NeighborOffloadDelegatedState = 3
    NeighborOffloadState = 4
    Ip4OffloadConstState = 5
    Ip4OffloadCachedState = 6
    Ip4OffloadDelegatedState = 7
    Ip4OffloadState = 8
    Ip6OffloadConstState = 9
    Ip6OffloadCachedState = 10
    Ip6OffloadDelegatedState = 11
    Ip6OffloadState = 12
    TcpOffloadConstState = 13
    TcpOffloadCachedState = 14
    TcpOffloadDelegatedState = 15
    TcpOffloadResourceState = 16  # reserved, no structure follows
    TcpOffloadState = 17
    FilterReservedOffloadState = 254
    MaximumOffloadState = 255


class Layer(IntEnum):
    """The three layers of offloaded state, in the order in which they depend on each other (R-STATE-01)."""

    NEIGHBOR = 1
    PATH = 2
    TCP = 3


_LAYERS: Final[dict[int, Layer]] = {
    **dict.fromkeys(range(1, 5), Layer.NEIGHBOR),
    **dict.fromkeys(range(5, 13), Layer.PATH),
    **dict.fromkeys(range(13, 18), Layer.TCP),
}

WHOLE_STATE: Final[dict[Layer, tuple[OffloadStateType, ...]]] = {
    Layer.NEIGHBOR: (OffloadStateType.NeighborOffloadState,),
    Layer.PATH: (OffloadStateType.Ip4OffloadState, OffloadStateType.Ip6OffloadState),
    Layer.TCP: (OffloadStateType.TcpOffloadState,),
}
"""The types that stand for all three classes of a layer; the path layer has one per address family."""

_ALL_CLASSES: Final = ("const", "cached", "delegated")

_CLASSES: Final[dict[int, tuple[str, ...]]] = {
    **{first + n: (name,) for first in (1, 5, 9, 13) for n, name in enumerate(_ALL_CLASSES)},
    **{int(whole): _ALL_CLASSES for types in WHOLE_STATE.values() for whole in types},
    int(OffloadStateType.TcpOffloadResourceState): (),
}


def _type_name(state_type: int) -> str:
    try:
        return f"{OffloadStateType(state_type).name} ({int(state_type)})"
    except ValueError:
        return f"{state_type!r}"


def layer_of(state_type: int) -> Layer:
    """The layer an OFFLOAD_STATE_TYPE belongs to. Raises ValueError, naming the type, if it has none."""
    layer = _LAYERS.get(state_type)
    if layer is None:
        raise ValueError(f"OFFLOAD_STATE_TYPE {_type_name(state_type)} belongs to no layer")
    return layer


def classes_of(state_type: int) -> tuple[str, ...]:
    """Which of "const", "cached", "delegated" follow a block of this type, in memory order (R-BLK-06).

    Empty for TcpOffloadResourceState. Raises ValueError, naming the type, where :func:`layer_of` does.
    """
    classes = _CLASSES.get(state_type)
    if classes is None:
        raise ValueError(f"OFFLOAD_STATE_TYPE {_type_name(state_type)} selects no state structures")
    return classes


class TcpOffloadConnectionState(IntEnum):
    """TCP_OFFLOAD_CONNECTION_STATE. DDI page ns-ndischimney-_tcp_offload_state_delegated; RFC 9293 3.3.2."""

    TcpConnectionClosed = 0
    TcpConnectionListen = 1
    TcpConnectionSynSent = 2
    TcpConnectionSynRcvd = 3
    TcpConnectionEstablished = 4
    TcpConnectionFinWait1 = 5
    TcpConnectionFinWait2 = 6
    TcpConnectionCloseWait = 7
    TcpConnectionClosing = 8
    TcpConnectionLastAck = 9
    TcpConnectionTimeWait = 10
    TcpConnectionMaxState = 11  # a count, not a state


OFFLOADABLE_TCP_STATES: Final[frozenset[TcpOffloadConnectionState]] = frozenset(
    {
        TcpOffloadConnectionState.TcpConnectionEstablished,
        TcpOffloadConnectionState.TcpConnectionFinWait1,
        TcpOffloadConnectionState.TcpConnectionFinWait2,
        TcpOffloadConnectionState.TcpConnectionCloseWait,
        TcpOffloadConnectionState.TcpConnectionClosing,
        TcpOffloadConnectionState.TcpConnectionLastAck,
    }
)
"""The states in which a connection may be offloaded (R-STATE-06)."""


class TcpUploadReason(IntEnum):
    """TCP_UPLOAD_REASON, EventSpecificInformation of TcpIndicateRetrieve.

    DDI page nc-ndischimney-ndis_tcp_offload_event_indicate. NoBufferProposting is an old misprint that
    headers keep as an alias (R-DIS-32).
    """

    LowActivity = 1
    HighDropRate = 2
    SmallIO = 3
    NoBufferPreposting = 4
    NoBufferProposting = 4
    ReceivedUrgentData = 5
    HighFragmentation = 6
    HighOutOfOrderPackets = 7
    TimeoutExpiration = 8
    InvalidState = 9
    UploadRequested = 10
    HardwareFailure = 11
    MaxUploadReason = 12  # a count, not a reason


MANDATORY_UPLOAD_REASONS: Final[frozenset[TcpUploadReason]] = frozenset(
    {
        TcpUploadReason.HardwareFailure,
        TcpUploadReason.InvalidState,
        TcpUploadReason.ReceivedUrgentData,
        TcpUploadReason.TimeoutExpiration,
        TcpUploadReason.UploadRequested,
    }
)
"""The host must terminate the offload of the connection."""

OPTIONAL_UPLOAD_REASONS: Final[frozenset[TcpUploadReason]] = frozenset(
    {
        TcpUploadReason.HighDropRate,
        TcpUploadReason.HighFragmentation,
        TcpUploadReason.HighOutOfOrderPackets,
        TcpUploadReason.LowActivity,
        TcpUploadReason.NoBufferPreposting,
        TcpUploadReason.SmallIO,
    }
)
"""The host may leave the connection offloaded."""


class TcpOffloadEventType(IntEnum):
    """TCP_OFFLOAD_EVENT_TYPE. DDI page nc-ndischimney-ndis_tcp_offload_event_indicate."""

    TcpIndicateSendBacklogChange = 1
    TcpIndicateDisconnect = 2
    TcpIndicateRetrieve = 3
    TcpIndicateAbort = 4


class IndicateOffloadEvent(IntEnum):
    """INDICATE_OFFLOAD_EVENT. DDI page nf-ndischimney-ndismoffloadeventindicate."""

    NeighborReachabilityInDoubt = 1  # reserved
    NeighborReachabilityQuery = 2
    MaxOffloadEvent = 3  # a count, not an event


class NdisChimneyOffloadType(IntEnum):
    """NDIS_CHIMNEY_OFFLOAD_TYPE; only the first is usable.

    DDI page nf-ndischimney-ndismgetoffloadhandlers.
    """

    NdisTcpChimneyOffload = 1
    NdisIpsecChimneyOffload = 2
    NdisRdmaChimneyOffload = 3
    NdisMaxChimneyOffload = 4


class NetBufferListInfo(IntEnum):
    """NDIS_NET_BUFFER_LIST_INFO, the indices of NetBufferListInfo, in the numbering of Windows 7.

    The chimney reuses slots 0 and 2 of other features. Values 11..16 and 18 are not the chimney's.
    """

    TcpIpChecksumNetBufferListInfo = 0
    TcpOffloadBytesTransferred = 0
    IPsecOffloadV1NetBufferListInfo = 1
    TcpLargeSendNetBufferListInfo = 2
    TcpReceiveNoPush = 2
    ClassificationHandleNetBufferListInfo = 3
    Ieee8021QNetBufferListInfo = 4
    NetBufferListCancelId = 5
    MediaSpecificInformation = 6
    NetBufferListFrameType = 7
    NetBufferListProtocolId = 7
    NetBufferListHashValue = 8
    NetBufferListHashInfo = 9
    WfpNetBufferListInfo = 10
    TcpReceiveBytesTransferred = 17
    MaxNetBufferListInfo = 19


class Oid(IntEnum):
    """NDIS_OID values the chimney uses. DDI pages are named as oid-tcp-task-offload is."""

    OID_GEN_RECEIVE_SCALE_PARAMETERS = 0x00010204
    OID_TCP_TASK_OFFLOAD = 0xFC010201
    OID_TCP4_OFFLOAD_STATS = 0xFC010207
    OID_TCP6_OFFLOAD_STATS = 0xFC010208
    OID_IP4_OFFLOAD_STATS = 0xFC010209
    OID_IP6_OFFLOAD_STATS = 0xFC01020A
    OID_TCP_CONNECTION_OFFLOAD_CURRENT_CONFIG = 0xFC01020E
    OID_TCP_CONNECTION_OFFLOAD_HARDWARE_CAPABILITIES = 0xFC01020F
    OID_TCP_CONNECTION_OFFLOAD_PARAMETERS = 0xFC030201
    OID_PNP_SET_POWER = 0xFD010101


class NdisRequestType(IntEnum):
    """NDIS_REQUEST_TYPE of an OID request; the two kinds the chimney uses."""

    NdisRequestQueryInformation = 0
    NdisRequestSetInformation = 1


class TcpConstFlags(IntFlag):
    """TCP_OFFLOAD_STATE_CONST.Flags. DDI page ns-ndischimney-_tcp_offload_state_const."""

    TCP_FLAG_TIMESTAMP_ENABLED = 1
    TCP_FLAG_SACK_ENABLED = 2
    TCP_FLAG_WINDOW_SCALING_ENABLED = 4


class TcpCachedFlags(IntFlag):
    """TCP_OFFLOAD_STATE_CACHED.Flags. DDI page ns-ndischimney-_tcp_offload_state_cached."""

    TCP_FLAG_KEEP_ALIVE_ENABLED = 1
    TCP_FLAG_NAGLING_ENABLED = 2
    TCP_FLAG_KEEP_ALIVE_RESTART = 4
    TCP_FLAG_MAX_RT_RESTART = 8
    TCP_FLAG_UPDATE_RCV_WND = 16


class TcpDisconnectFlags(IntFlag):
    """Flags of MiniportTcpOffloadDisconnect. DDI page nc-ndischimney-w_tcp_offload_disconnect_handler."""

    TCP_DISCONNECT_GRACEFUL_CLOSE = 1
    TCP_DISCONNECT_ABORTIVE_CLOSE = 2


class NdisSendFlags(IntFlag):
    """SendFlags of NdisSendNetBufferLists. DDI page nf-ndis-ndissendnetbufferlists."""

    NDIS_SEND_FLAGS_DISPATCH_LEVEL = 1
    NDIS_SEND_FLAGS_CHECK_FOR_LOOPBACK = 2


class NdisSendCompleteFlags(IntFlag):
    """SendCompleteFlags. DDI page nf-ndis-ndismsendnetbufferlistscomplete."""

    NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL = 1


class NdisReceiveFlags(IntFlag):
    """ReceiveFlags; the two of them that say who owns a list, and when.

    DDI page nf-ndis-ndismindicatereceivenetbufferlists.
    """

    NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL = 1
    NDIS_RECEIVE_FLAGS_RESOURCES = 2


class NdisReturnFlags(IntFlag):
    """ReturnFlags. DDI page nf-ndis-ndisreturnnetbufferlists."""

    NDIS_RETURN_FLAGS_DISPATCH_LEVEL = 1


class NdisEncapsulation(IntFlag):
    """NDIS_ENCAPSULATION_xxx of ntddndis.h."""

    NDIS_ENCAPSULATION_NOT_SUPPORTED = 0
    NDIS_ENCAPSULATION_NULL = 1
    NDIS_ENCAPSULATION_IEEE_802_3 = 2
    NDIS_ENCAPSULATION_IEEE_802_3_P_AND_Q = 4
    NDIS_ENCAPSULATION_IEEE_802_3_P_AND_Q_IN_OOB = 8
    NDIS_ENCAPSULATION_IEEE_LLC_SNAP_ROUTED = 16


# Plain integers of the same names: an IntFlag operation costs half a microsecond, and TCP tests these
# bits for every segment.
TCP_FLAG_TIMESTAMP_ENABLED: Final = 1
TCP_FLAG_SACK_ENABLED: Final = 2
TCP_FLAG_WINDOW_SCALING_ENABLED: Final = 4
TCP_FLAG_KEEP_ALIVE_ENABLED: Final = 1
TCP_FLAG_NAGLING_ENABLED: Final = 2
TCP_FLAG_KEEP_ALIVE_RESTART: Final = 4
TCP_FLAG_MAX_RT_RESTART: Final = 8
TCP_FLAG_UPDATE_RCV_WND: Final = 16
TCP_DISCONNECT_GRACEFUL_CLOSE: Final = 1
TCP_DISCONNECT_ABORTIVE_CLOSE: Final = 2


class ObjectType(IntEnum):
    """NDIS_OBJECT_TYPE_xxx, Header.Type of the structures that are not block lists."""

    NDIS_OBJECT_TYPE_DEFAULT = 0x80
    NDIS_OBJECT_TYPE_CLIENT_CHIMNEY_OFFLOAD_GENERIC_CHARACTERISTICS = 0x8E
    NDIS_OBJECT_TYPE_PROVIDER_CHIMNEY_OFFLOAD_GENERIC_CHARACTERISTICS = 0x8F
    NDIS_OBJECT_TYPE_CLIENT_CHIMNEY_OFFLOAD_CHARACTERISTICS = 0x93
    NDIS_OBJECT_TYPE_PROVIDER_CHIMNEY_OFFLOAD_CHARACTERISTICS = 0x94
    NDIS_OBJECT_TYPE_STATUS_INDICATION = 0x98
    NDIS_OBJECT_TYPE_OFFLOAD_ENCAPSULATION = 0xA8


NDIS_CLIENT_CHIMNEY_OFFLOAD_GENERIC_CHARACTERISTICS_REVISION_1: Final = 1
NDIS_CLIENT_CHIMNEY_OFFLOAD_TCP_CHARACTERISTICS_REVISION_1: Final = 1
NDIS_OBJECT_TCP_OFFLOAD_REVISION_1: Final = 1
NDIS_TCP_CONNECTION_OFFLOAD_PARAMETERS_1: Final = 1
NDIS_TCP_CONNECTION_OFFLOAD_PARAMETERS_2: Final = 2
NDIS_TCP_CONNECTION_OFFLOAD_REVISION_1: Final = 1
NDIS_TCP_CONNECTION_OFFLOAD_REVISION_2: Final = 2

NDIS_OFFLOAD_NOT_SUPPORTED: Final = 0
NDIS_OFFLOAD_SUPPORTED: Final = 1

# Flags of the ordinary data path. DDI page nf-ndis-ndissendnetbufferlists and its neighbours.
NDIS_SEND_FLAGS_DISPATCH_LEVEL: Final = 1
NDIS_SEND_FLAGS_CHECK_FOR_LOOPBACK: Final = 2
NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL: Final = 1
NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL: Final = 1
NDIS_RECEIVE_FLAGS_RESOURCES: Final = 2
"""The miniport wants its lists back when the call returns: they are not returned, who wants them copies."""
NDIS_RETURN_FLAGS_DISPATCH_LEVEL: Final = 1

TIMER_NOT_RUNNING: Final = 0xFFFFFFFF
"""TimeoutDelta of a timer that does not run; pages write -1, the member is a ULONG."""
BACKLOG_NOT_SUPPORTED: Final = 0xFFFFFFFF
"""SendBacklogSize or ReceiveBacklogSize of a target without the feature (R-STATE-13)."""
MAX_RT_USE_LIMIT: Final = 0
"""MaxRT: TcpMaximumRetransmissions is the limit instead."""
MAX_RT_NO_LIMIT: Final = 0xFFFFFFFF
"""MaxRT: retransmit for ever."""

# Identification values that belong to the target: the upper half of either space. The page
# DDI page sending-data-from-an-offload-target prints the IPv6 bound with a digit too few (R-DIS-23).
IPV4_ID_FIRST: Final = 0x8000
IPV4_ID_LAST: Final = 0xFFFF
IPV6_FRAGMENT_ID_FIRST: Final = 0x80000000
IPV6_FRAGMENT_ID_LAST: Final = 0xFFFFFFFF
