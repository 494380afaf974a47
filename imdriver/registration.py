"""The tables of entry points: the four that this driver registers, and the one it gets.

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

__all__ = ["CLIENT_TABLES", "PROVIDER_TABLES", "entry_points"]

#: For MiniportSetOptions (R-REG-01) and for ProtocolSetOptions (R-REG-02).
PROVIDER_TABLES: Final = (
    NdisProviderChimneyOffloadGenericCharacteristics,
    NdisProviderChimneyOffloadTcpCharacteristics,
)
CLIENT_TABLES: Final = (
    NdisClientChimneyOffloadGenericCharacteristics,
    NdisClientChimneyOffloadTcpCharacteristics,
)


def entry_points(table: object) -> dict[str, str]:
    """Copy the entry points out of the table that NdisMGetOffloadHandlers gave (R-REG-06).

    Raises :class:`RemoteProtocolError` for a table whose header is not that of the TCP chimney's, and
    DecodeError for what is no table at all.
    """
    where = "NdisMGetOffloadHandlers.OffloadHandlers"
    handlers = NdisTcpOffloadEventHandlers.from_wire(table, where)
    if handlers.header != NdisTcpOffloadEventHandlers.expected_header():
        raise RemoteProtocolError(
            f"{where}.Header: {handlers.header} is not that of the TCP chimney", rule="R-REG-06"
        )
    return {name: name for name in handlers.handlers()}
