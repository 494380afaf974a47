"""The tables of entry points: the four that this driver registers, and the one that it gets.

DDI pages initializing-a-tcp-chimney-capable-intermediate-driver,
registering-an-intermediate-driver-s-protocolxxx-chimney-functions,
nf-ndischimney-ndismgetoffloadhandlers.
"""

from __future__ import annotations

from typing import Final

from ndisbus.ddi.structures import (
    NdisClientChimneyOffloadGenericCharacteristics,
    NdisClientChimneyOffloadTcpCharacteristics,
    NdisProviderChimneyOffloadGenericCharacteristics,
    NdisProviderChimneyOffloadTcpCharacteristics,
    NdisTcpOffloadEventHandlers,
)
from ndisbus.errors import RemoteProtocolError

__all__ = ["CLIENT_TABLES", "PROVIDER_TABLES", "check_event_handlers"]

#: For MiniportSetOptions (R-REG-01) and for ProtocolSetOptions (R-REG-02).
PROVIDER_TABLES: Final = (
    NdisProviderChimneyOffloadGenericCharacteristics,
    NdisProviderChimneyOffloadTcpCharacteristics,
)
CLIENT_TABLES: Final = (
    NdisClientChimneyOffloadGenericCharacteristics,
    NdisClientChimneyOffloadTcpCharacteristics,
)


def check_event_handlers(table: object) -> None:
    """Check the table of entry points that NdisMGetOffloadHandlers gave (R-REG-06).

    NDIS calls the entry points by name, so the table is not kept. Raises :class:`RemoteProtocolError` if its
    header is not that of the TCP chimney's table, and DecodeError if it is not such a table.
    """
    where = "NdisMGetOffloadHandlers.OffloadHandlers"
    handlers = NdisTcpOffloadEventHandlers.from_wire(table, where)
    if handlers.header != NdisTcpOffloadEventHandlers.expected_header():
        raise RemoteProtocolError(
            f"{where}.Header: {handlers.header} is not that of the TCP chimney", rule="R-REG-06"
        )
