"""Enumerations, flags and other numbers of NDIS. Member names are the DDI names.

Sources: ``ndischimney.h``, structures recovered from public symbols (ntdiff/headers), mingw-w64's
``ntddndis.h``. The docstring of each enumeration names its DDI page.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

__all__ = [
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
    "IndicateOffloadEvent",
    "NdisChimneyOffloadType",
    "NdisEncapsulation",
    "NdisReceiveFlags",
    "NdisRequestType",
    "NdisReturnFlags",
    "NdisSendCompleteFlags",
    "NdisSendFlags",
    "NetBufferListInfo",
    "ObjectType",
    "Oid",
]


class IndicateOffloadEvent(IntEnum):
    """INDICATE_OFFLOAD_EVENT. DDI page nf-ndischimney-ndismoffloadeventindicate."""

    NeighborReachabilityInDoubt = 1  # reserved
    NeighborReachabilityQuery = 2
    MaxOffloadEvent = 3  # a count, not an event


class NdisChimneyOffloadType(IntEnum):
    """NDIS_CHIMNEY_OFFLOAD_TYPE. Only the first value is usable.

    DDI page nf-ndischimney-ndismgetoffloadhandlers.
    """

    NdisTcpChimneyOffload = 1
    NdisIpsecChimneyOffload = 2
    NdisRdmaChimneyOffload = 3
    NdisMaxChimneyOffload = 4


class NetBufferListInfo(IntEnum):
    """NDIS_NET_BUFFER_LIST_INFO, the indices of NetBufferListInfo, in the numbering of Windows 7.

    The chimney reuses slots 0 and 2 of other features. It does not use the values 11..16 and 18.
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
    """The NDIS_OID values that the chimney uses. DDI pages have names like oid-tcp-task-offload."""

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
    """NDIS_REQUEST_TYPE of an OID request: the two kinds that the chimney uses."""

    NdisRequestQueryInformation = 0
    NdisRequestSetInformation = 1


class NdisSendFlags(IntFlag):
    """SendFlags of NdisSendNetBufferLists. DDI page nf-ndis-ndissendnetbufferlists."""

    NDIS_SEND_FLAGS_DISPATCH_LEVEL = 1
    NDIS_SEND_FLAGS_CHECK_FOR_LOOPBACK = 2


class NdisSendCompleteFlags(IntFlag):
    """SendCompleteFlags. DDI page nf-ndis-ndismsendnetbufferlistscomplete."""

    NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL = 1


class NdisReceiveFlags(IntFlag):
    """ReceiveFlags: the two that say who owns a list, and when.

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

# Flags of the ordinary data path. DDI page nf-ndis-ndissendnetbufferlists and the pages beside it.
NDIS_SEND_FLAGS_DISPATCH_LEVEL: Final = 1
NDIS_SEND_FLAGS_CHECK_FOR_LOOPBACK: Final = 2
NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL: Final = 1
NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL: Final = 1
NDIS_RECEIVE_FLAGS_RESOURCES: Final = 2
"""The miniport wants its lists back when the call returns. They are not returned: a protocol makes copies."""
NDIS_RETURN_FLAGS_DISPATCH_LEVEL: Final = 1
