"""NDIS status codes of the chimney interface, and the operations that may end with each of them.

Numbers: the WDK-derived headers of mingw-w64 (``ndis.h``, ``ntstatus.h``). Meanings: the pages of the
completion functions, for example DDI page nf-ndischimney-ndisminitiateoffloadcomplete.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = [
    "ALLOWED_STATUS",
    "INITIATE_LINKER",
    "INITIATE_PLACEHOLDER",
    "MISPRINTED_STATUS",
    "NdisStatus",
    "is_success",
    "status_symbol",
]

# The value of OFFLOAD_PATH_MTU is this project's own: no header and no page gives one (R-OPEN-05). It is
# above the published chimney block 0xC0231001..0xC0231013, so it does not collide with a published value.
_OWN_PATH_MTU: Final = 0xC02310F0

# The only code of the family whose published symbol does not begin with NDIS_STATUS_.
_OTHER_SYMBOLS: Final = {"OFFLOAD_PATH_REJECTED": "STATUS_NDIS_OFFLOAD_PATH_REJECTED"}


class NdisStatus(IntEnum):
    """NDIS_STATUS, an unsigned 32-bit number here (``NTSTATUS`` itself is signed).

    The member ``X`` is the symbol ``NDIS_STATUS_X``. :attr:`symbol` gives the DDI spelling.
    """

    SUCCESS = 0x00000000
    PENDING = 0x00000103
    NOT_ACCEPTED = 0x00010003
    OFFLOAD_PAUSE = 0x40020001
    UPLOAD_ALL = 0x40020002
    OFFLOAD_RESUME = 0x40020003
    OFFLOAD_PARTIAL_SUCCESS = 0x40020004
    OFFLOAD_STATE_INVALID = 0x40020005
    TCP_CONNECTION_OFFLOAD_HARDWARE_CAPABILITIES = 0x4002000B
    FAILURE = 0xC0000001
    RESOURCES = 0xC000009A
    NOT_SUPPORTED = 0xC00000BB
    INVALID_STATE = 0xC0000184
    REQUEST_ABORTED = 0xC001000C
    RESET_IN_PROGRESS = 0xC001000D
    INVALID_LENGTH = 0xC0010014
    ADAPTER_REMOVED = 0xC0010018
    SEND_ABORTED = 0xC023000C
    PAUSED = 0xC023002A
    UPLOAD_IN_PROGRESS = 0xC0231001
    REQUEST_UPLOAD = 0xC0231002
    UPLOAD_REQUESTED = 0xC0231003
    OFFLOAD_TCP_ENTRIES = 0xC0231004
    OFFLOAD_PATH_ENTRIES = 0xC0231005
    OFFLOAD_NEIGHBOR_ENTRIES = 0xC0231006
    OFFLOAD_IP_ADDRESS_ENTRIES = 0xC0231007
    OFFLOAD_HW_ADDRESS_ENTRIES = 0xC0231008
    OFFLOAD_VLAN_ENTRIES = 0xC0231009
    OFFLOAD_TCP_XMIT_BUFFER = 0xC023100A
    OFFLOAD_TCP_RCV_BUFFER = 0xC023100B
    OFFLOAD_TCP_RCV_WINDOW = 0xC023100C
    OFFLOAD_VLAN_MISMATCH = 0xC023100D
    OFFLOAD_DATA_NOT_ACCEPTED = 0xC023100E
    OFFLOAD_POLICY = 0xC023100F
    OFFLOAD_DATA_PARTIALLY_ACCEPTED = 0xC0231010
    OFFLOAD_REQUEST_RESET = 0xC0231011
    OFFLOAD_CONNECTION_REJECTED = 0xC0231012
    OFFLOAD_PATH_REJECTED = 0xC0231013
    OFFLOAD_PATH_MTU = _OWN_PATH_MTU

    @property
    def symbol(self) -> str:
        """The name of this number in a header, such as ``NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS``."""
        return _SYMBOLS[self]

    @property
    def is_success(self) -> bool:
        """NT_SUCCESS: severity (the top two bits) is success (00) or informational (01)."""
        return self < 0x80000000


_SYMBOLS: Final[dict[int, str]] = {
    int(s): _OTHER_SYMBOLS.get(s.name, f"NDIS_STATUS_{s.name}") for s in NdisStatus
}


def is_success(value: int) -> bool:
    """Return NT_SUCCESS of any unsigned 32-bit status, known to :class:`NdisStatus` or not."""
    return value < 0x80000000


def status_symbol(value: int) -> str:
    """Return the DDI symbol of ``value``; eight hex digits (``0x40020099``) for a number without one."""
    return _SYMBOLS.get(value) or f"0x{value & 0xFFFFFFFF:08X}"


MISPRINTED_STATUS: Final[dict[str, NdisStatus]] = {
    "NDIS_STATUS_PARTIAL_SUCCESS": NdisStatus.OFFLOAD_PARTIAL_SUCCESS,
    "NDIS_STATUS_OFFLOAD_VLAN_TAG_ENTRIES": NdisStatus.OFFLOAD_VLAN_ENTRIES,
    "NDIS_STATUS_VLAN_MISMATCH": NdisStatus.OFFLOAD_VLAN_MISMATCH,
    "NDIS_STATUS_REQUEST_ABORT": NdisStatus.REQUEST_ABORTED,
    "NDIS_STATUS_ABORTED": NdisStatus.REQUEST_ABORTED,
}
"""Names that only pages have, and the names that they stand for (R-DIS-01, R-DIS-04, R-DIS-05)."""

INITIATE_PLACEHOLDER: Final[frozenset[NdisStatus]] = frozenset({NdisStatus.SUCCESS})
"""The statuses of a placeholder in a completed initiate (DDI page placeholders--linkers--and-new-
offloads)."""

INITIATE_LINKER: Final[frozenset[NdisStatus]] = frozenset(
    {NdisStatus.SUCCESS, NdisStatus.OFFLOAD_PARTIAL_SUCCESS, NdisStatus.FAILURE}
)
"""The statuses of a linker in a completed initiate (same page)."""

_SUCCESS_OR_FAILURE: Final = frozenset({NdisStatus.SUCCESS, NdisStatus.FAILURE})

ALLOWED_STATUS: Final[dict[str, frozenset[NdisStatus]]] = {
    "initiate": frozenset(
        {
            NdisStatus.SUCCESS,
            NdisStatus.OFFLOAD_PARTIAL_SUCCESS,
            NdisStatus.FAILURE,
            NdisStatus.RESOURCES,
            NdisStatus.OFFLOAD_TCP_ENTRIES,
            NdisStatus.OFFLOAD_PATH_ENTRIES,
            NdisStatus.OFFLOAD_NEIGHBOR_ENTRIES,
            NdisStatus.OFFLOAD_HW_ADDRESS_ENTRIES,
            NdisStatus.OFFLOAD_IP_ADDRESS_ENTRIES,
            NdisStatus.OFFLOAD_TCP_XMIT_BUFFER,
            NdisStatus.OFFLOAD_TCP_RCV_BUFFER,
            NdisStatus.OFFLOAD_TCP_RCV_WINDOW,
            NdisStatus.OFFLOAD_VLAN_ENTRIES,
            NdisStatus.OFFLOAD_VLAN_MISMATCH,
            NdisStatus.OFFLOAD_PATH_MTU,
            NdisStatus.OFFLOAD_CONNECTION_REJECTED,
        }
    ),
    "invalidate": _SUCCESS_OR_FAILURE,
    "query": _SUCCESS_OR_FAILURE,
    "update": _SUCCESS_OR_FAILURE,
    "terminate": _SUCCESS_OR_FAILURE,
    "send": frozenset(
        {
            NdisStatus.SUCCESS,
            NdisStatus.REQUEST_ABORTED,
            NdisStatus.UPLOAD_IN_PROGRESS,
            NdisStatus.REQUEST_UPLOAD,
            NdisStatus.UPLOAD_REQUESTED,
        }
    ),
    "receive": frozenset(
        {
            NdisStatus.SUCCESS,
            NdisStatus.REQUEST_ABORTED,
            NdisStatus.UPLOAD_IN_PROGRESS,
            NdisStatus.INVALID_STATE,
        }
    ),
    "disconnect": frozenset({NdisStatus.SUCCESS, NdisStatus.UPLOAD_IN_PROGRESS, NdisStatus.REQUEST_ABORTED}),
    # The page on the completion of forwards does not list its statuses any more (R-DIS-33).
    "forward": frozenset({NdisStatus.SUCCESS, NdisStatus.UPLOAD_IN_PROGRESS, NdisStatus.REQUEST_ABORTED}),
    "packet send": frozenset(
        {
            NdisStatus.SUCCESS,
            NdisStatus.FAILURE,
            NdisStatus.RESOURCES,
            NdisStatus.NOT_SUPPORTED,
            NdisStatus.RESET_IN_PROGRESS,
            NdisStatus.INVALID_LENGTH,
            NdisStatus.SEND_ABORTED,
            NdisStatus.PAUSED,
        }
    ),
    "receive_indication_return": frozenset(
        {
            NdisStatus.SUCCESS,
            NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED,
            NdisStatus.OFFLOAD_DATA_PARTIALLY_ACCEPTED,
        }
    ),
}
"""The statuses each operation may end with, by the name of the operation.

The first five are written to Status of every block of the tree, the next five to Status of every
NET_BUFFER_LIST, the last is the return value of a receive indication.
"""
