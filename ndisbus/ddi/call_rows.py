"""The rows of the call table: each names the functions of one conversation.

The names of calls are written here and nowhere else. :mod:`ndisbus.ddi.calls` makes the calls from the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ndisbus.ddi.call import BLOCKS_MINIPORT, BLOCKS_PROTOCOL, NBL, Kind, Param, params

__all__ = [
    "INDICATIONS",
    "IO_OPERATIONS",
    "LIFE_CYCLE",
    "PACKET_SEND",
    "REGISTRATION",
    "STATE_OPERATIONS",
    "IndicationRow",
    "OperationRow",
]


@dataclass(frozen=True, slots=True)
class OperationRow:
    """A row of the call table: the four functions of one request that is completed later."""

    op: str
    request: str
    handler: str
    completion: str
    completion_handler: str


#: The five state-manipulation operations (function_chains of the propagation pages).
STATE_OPERATIONS: Final = (
    OperationRow(
        "initiate",
        "NdisInitiateOffload",
        "MiniportInitiateOffload",
        "NdisMInitiateOffloadComplete",
        "ProtocolInitiateOffloadComplete",
    ),
    OperationRow(  # the request and its completion end in OffloadState, the handlers do not (R-DIS-08)
        "query",
        "NdisQueryOffloadState",
        "MiniportQueryOffload",
        "NdisMQueryOffloadStateComplete",
        "ProtocolQueryOffloadComplete",
    ),
    OperationRow(
        "update",
        "NdisUpdateOffload",
        "MiniportUpdateOffload",
        "NdisMUpdateOffloadComplete",
        "ProtocolUpdateOffloadComplete",
    ),
    OperationRow(
        "invalidate",
        "NdisInvalidateOffload",
        "MiniportInvalidateOffload",
        "NdisMInvalidateOffloadComplete",
        "ProtocolInvalidateOffloadComplete",
    ),
    OperationRow(
        "terminate",
        "NdisTerminateOffload",
        "MiniportTerminateOffload",
        "NdisMTerminateOffloadComplete",
        "ProtocolTerminateOffloadComplete",
    ),
)

#: TCP chimney I/O. The completions are members of NDIS_TCP_OFFLOAD_EVENT_HANDLERS (R-DIS-07).
IO_OPERATIONS: Final = (
    OperationRow(
        "send",
        "NdisOffloadTcpSend",
        "MiniportTcpOffloadSend",
        "NdisTcpOffloadSendComplete",
        "ProtocolTcpOffloadSendComplete",
    ),
    OperationRow(
        "receive",
        "NdisOffloadTcpReceive",
        "MiniportTcpOffloadReceive",
        "NdisTcpOffloadReceiveComplete",
        "ProtocolTcpOffloadReceiveComplete",
    ),
    OperationRow(
        "disconnect",
        "NdisOffloadTcpDisconnect",
        "MiniportTcpOffloadDisconnect",
        "NdisTcpOffloadDisconnectComplete",
        "ProtocolTcpOffloadDisconnectComplete",
    ),
    OperationRow(
        "forward",
        "NdisOffloadTcpForward",
        "MiniportTcpOffloadForward",
        "NdisTcpOffloadForwardComplete",
        "ProtocolTcpOffloadForwardComplete",
    ),
)


#: The send of the ordinary data path, without the chimney: whole frames, through a binding.
PACKET_SEND: Final = OperationRow(
    "packet send",
    "NdisSendNetBufferLists",
    "MiniportSendNetBufferLists",
    "NdisMSendNetBufferListsComplete",
    "ProtocolSendNetBufferListsComplete",
)


@dataclass(frozen=True, slots=True)
class IndicationRow:
    """A row of the call table: an indication, and the handler in which the upper driver receives it."""

    indication: str
    handler: str
    params: tuple[Param, ...]
    handler_params: tuple[Param, ...]
    returns: str = "VOID"
    outs: tuple[str, ...] = ()


#: Indications go up. ``answered`` ones wait for the upper driver's answer (DISPATCH_LEVEL calls).
INDICATIONS: Final = (
    IndicationRow(
        "NdisMOffloadEventIndicate",
        "ProtocolIndicateOffloadEvent",
        params("NdisMiniportHandle", f"OffloadBlockList:{BLOCKS_MINIPORT}", "IndicationCode:ulong"),
        params("ProtocolBindingContext", f"OffloadBlockList:{BLOCKS_PROTOCOL}", "IndicationCode:ulong"),
        outs=("OffloadBlockList",),
    ),
    IndicationRow(
        "NdisTcpOffloadEventHandler",
        "ProtocolTcpOffloadEvent",
        params("NdisOffloadHandle", "EventType:ulong", "EventSpecificInformation:ulong"),
        params("OffloadContext", "EventType:ulong", "EventSpecificInformation:ulong"),
    ),
    IndicationRow(
        "NdisTcpOffloadReceiveHandler",
        "ProtocolTcpOffloadReceiveIndicate",
        params("NdisOffloadHandle", f"NetBufferList:{NBL}", "Status:ulong"),
        params("OffloadContext", f"NetBufferList:{NBL}", "Status:ulong"),
        returns="NDIS_STATUS",
        outs=("BytesConsumed",),
    ),
    IndicationRow(
        "NdisMIndicateStatusEx",
        "ProtocolStatusEx",
        params("MiniportAdapterHandle", "StatusIndication:struct"),
        params("ProtocolBindingContext", "StatusIndication:struct"),
    ),
    IndicationRow(
        "NdisMIndicateReceiveNetBufferLists",
        "ProtocolReceiveNetBufferLists",
        params(
            "MiniportAdapterHandle",
            f"NetBufferLists:{NBL}",
            "PortNumber:ulong",
            "NumberOfNetBufferLists:ulong",
            "ReceiveFlags:ulong",
        ),
        params(
            "ProtocolBindingContext",
            f"NetBufferLists:{NBL}",
            "PortNumber:ulong",
            "NumberOfNetBufferLists:ulong",
            "ReceiveFlags:ulong",
        ),
    ),
)

#: Life-cycle calls made by drivers; all return NDIS_STATUS: name, parameters, out parameters, leads to.
REGISTRATION: Final = (
    (
        "NdisMRegisterMiniportDriver",
        "MiniportDriverContext RegistryPath:struct",
        "NdisMiniportDriverHandle",
        "",
    ),
    ("NdisRegisterProtocolDriver", "ProtocolDriverContext RegistryPath:struct", "NdisProtocolHandle", ""),
    ("NdisSetOptionalHandlers", "NdisHandle OptionalHandlers:struct", "", ""),
    ("NdisMSetMiniportAttributes", "NdisMiniportHandle MiniportAttributes:struct", "", ""),
    ("NdisMGetOffloadHandlers", "NdisMiniportHandle ChimneyType:ulong", "OffloadHandlers", ""),
    (
        "NdisIMInitializeDeviceInstanceEx",
        "NdisMiniportDriverHandle DriverInstance:text DeviceContext",
        "NdisMiniportHandle",
        "MiniportInitializeEx",
    ),
    ("NdisIMDeInitializeDeviceInstance", "NdisMiniportHandle", "", "MiniportHaltEx"),
    (
        "NdisOpenAdapterEx",
        "NdisProtocolHandle ProtocolBindingContext OpenParameters:struct",
        "NdisBindingHandle",
        "",
    ),
    ("NdisCloseAdapterEx", "NdisBindingHandle", "", "ProtocolCloseAdapterCompleteEx"),
)

#: Life-cycle calls made by NDIS: kind, name, parameters, return type, out parameters.
LIFE_CYCLE: Final = (
    (Kind.MINIPORT_HANDLER, "MiniportSetOptions", "NdisDriverHandle DriverContext", "NDIS_STATUS", ""),
    (
        Kind.MINIPORT_HANDLER,
        "MiniportInitializeEx",
        "NdisMiniportHandle MiniportDriverContext MiniportInitParameters:struct",
        "NDIS_STATUS",
        "",
    ),
    (Kind.MINIPORT_HANDLER, "MiniportHaltEx", "MiniportAdapterContext HaltAction:ulong", "NDIS_STATUS", ""),
    (Kind.MINIPORT_HANDLER, "MiniportCheckForHangEx", "MiniportAdapterContext", "BOOLEAN", ""),
    (Kind.MINIPORT_HANDLER, "MiniportResetEx", "MiniportAdapterContext", "NDIS_STATUS", ""),
    (Kind.PROTOCOL_HANDLER, "ProtocolSetOptions", "NdisDriverHandle DriverContext", "NDIS_STATUS", ""),
    (
        Kind.PROTOCOL_HANDLER,
        "ProtocolBindAdapterEx",
        "ProtocolDriverContext BindContext BindParameters:struct",
        "NDIS_STATUS",
        "",
    ),
    (
        Kind.PROTOCOL_HANDLER,
        "ProtocolUnbindAdapterEx",
        "UnbindContext ProtocolBindingContext",
        "NDIS_STATUS",
        "",
    ),
    (Kind.PROTOCOL_HANDLER, "ProtocolCloseAdapterCompleteEx", "ProtocolBindingContext", "VOID", ""),
    (
        Kind.PROTOCOL_HANDLER,
        "ProtocolNetPnPEvent",
        "ProtocolBindingContext NetPnPEventNotification:struct",
        "NDIS_STATUS",
        "",
    ),
)
