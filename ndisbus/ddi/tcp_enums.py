"""Enumerations, flags and other numbers of offloaded TCP connections. Member names are the DDI names.

Sources: ``ndischimney.h``, and structures recovered from public symbols (ntdiff/headers). The docstring of
each enumeration names its DDI page.
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
    "LOSS_EVENTS",
    "MANDATORY_UPLOAD_REASONS",
    "MAX_RT_NO_LIMIT",
    "MAX_RT_USE_LIMIT",
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
    "TcpCachedFlags",
    "TcpConstFlags",
    "TcpDisconnectFlags",
    "TcpOffloadConnectionState",
    "TcpOffloadEventType",
    "TcpUploadReason",
]


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

    DDI page nc-ndischimney-ndis_tcp_offload_event_indicate. NoBufferProposting is an old misprint. Headers
    keep it as an alias (R-DIS-32).
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


LOSS_EVENTS: Final = (
    (int(TcpOffloadEventType.TcpIndicateRetrieve), int(TcpUploadReason.HardwareFailure)),
    (int(TcpOffloadEventType.TcpIndicateAbort), 0),
)
"""EventType and EventSpecificInformation of the events of a connection that was lost with its hardware."""


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


# Plain integers of the same names: an IntFlag operation costs half a microsecond, and TCP tests these bits
# for every segment.
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

TIMER_NOT_RUNNING: Final = 0xFFFFFFFF
"""TimeoutDelta of a timer that does not run. Pages write -1, but the member is a ULONG."""
BACKLOG_NOT_SUPPORTED: Final = 0xFFFFFFFF
"""SendBacklogSize or ReceiveBacklogSize of a target without the feature (R-STATE-13)."""
MAX_RT_USE_LIMIT: Final = 0
"""MaxRT: TcpMaximumRetransmissions is the limit instead."""
MAX_RT_NO_LIMIT: Final = 0xFFFFFFFF
"""MaxRT: retransmit without a time limit."""

# Identification values of the target: the upper half of each space. The DDI page
# sending-data-from-an-offload-target prints the IPv6 bound with one digit too few (R-DIS-23).
IPV4_ID_FIRST: Final = 0x8000
IPV4_ID_LAST: Final = 0xFFFF
IPV6_FRAGMENT_ID_FIRST: Final = 0x80000000
IPV6_FRAGMENT_ID_LAST: Final = 0xFFFFFFFF
