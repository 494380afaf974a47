"""Tables of entry points: what drivers register with NDIS, and what NDIS gives a miniport.

A handler member has the *name* of the entry point (``"MiniportInitiateOffload"``), or None if the driver has
none: the functions themselves are in another process. DDI pages
ns-ndischimney-_ndis_provider_chimney_offload_generic_characteristics and so on.
"""

# ruff: noqa: RUF009 - member() and header() make dataclass fields, as field() does.

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from ndisbus.ddi.cstruct import NdisObjectHeader, Struct, header, member
from ndisbus.ddi.enums import (
    NDIS_CLIENT_CHIMNEY_OFFLOAD_GENERIC_CHARACTERISTICS_REVISION_1,
    NDIS_CLIENT_CHIMNEY_OFFLOAD_TCP_CHARACTERISTICS_REVISION_1,
    NDIS_OBJECT_TCP_OFFLOAD_REVISION_1,
    NdisChimneyOffloadType,
    ObjectType,
)

__all__ = [
    "Characteristics",
    "NdisClientChimneyOffloadGenericCharacteristics",
    "NdisClientChimneyOffloadTcpCharacteristics",
    "NdisProviderChimneyOffloadGenericCharacteristics",
    "NdisProviderChimneyOffloadTcpCharacteristics",
    "NdisTcpOffloadEventHandlers",
]

# No header defines a revision for the two provider structures: they exist in one form only.
_PROVIDER_REVISION = 1


@dataclass(kw_only=True, slots=True)
class Characteristics(Struct):
    """Base of the tables."""

    PREFIX: ClassVar[str] = ""
    """Prefix of the entry points' names that the members' names do not have."""

    @classmethod
    def entry_points(cls) -> dict[str, str]:
        """Return the name of the entry point for each handler member, by DDI member name."""
        return {
            m.name: cls.PREFIX + m.name.removesuffix("Handler") if cls.PREFIX else m.name
            for m in cls.MEMBERS
            if m.c_type == "HANDLER"
        }

    @classmethod
    def full(cls) -> Self:
        """Return the table of a driver that implements every entry point, header included."""
        return cls.of(cls.entry_points().values())

    @classmethod
    def of(cls, implemented: Iterable[str]) -> Self:
        """Return the table of a driver that implements the entry points in ``implemented``.

        Names that belong to other tables are ignored, so one set serves all tables of a driver.
        """
        names = frozenset(implemented)
        table = cls()
        entries = cls.entry_points()
        for m in cls.MEMBERS:
            if entries.get(m.name) in names:
                setattr(table, m.attr, entries[m.name])
        return table

    def handlers(self) -> frozenset[str]:
        """Return the entry points that the table names."""
        return frozenset(
            getattr(self, m.attr)
            for m in self.MEMBERS
            if m.c_type == "HANDLER" and getattr(self, m.attr) is not None
        )

    @classmethod
    def expected_header(cls) -> NdisObjectHeader:
        """Return the header with the Type, Revision and Size of this table (for R-REG-06)."""
        expected: NdisObjectHeader = cls().header  # type: ignore[attr-defined]
        return expected


@dataclass(kw_only=True, slots=True)
class NdisProviderChimneyOffloadGenericCharacteristics(Characteristics):
    """NDIS_PROVIDER_CHIMNEY_OFFLOAD_GENERIC_CHARACTERISTICS: miniport edge, state operations (R-REG-01)."""

    NAME: ClassVar[str] = "NDIS_PROVIDER_CHIMNEY_OFFLOAD_GENERIC_CHARACTERISTICS"
    SIZE: ClassVar[int] = 0x30
    PREFIX: ClassVar[str] = "Miniport"

    header: NdisObjectHeader = header(
        ObjectType.NDIS_OBJECT_TYPE_PROVIDER_CHIMNEY_OFFLOAD_GENERIC_CHARACTERISTICS,
        _PROVIDER_REVISION,
        0x30,
    )
    flags: int = member("Flags", "ULONG", 0x4, default=0)
    initiate_offload_handler: str | None = member("InitiateOffloadHandler", "HANDLER", 0x8, default=None)
    terminate_offload_handler: str | None = member("TerminateOffloadHandler", "HANDLER", 0x10, default=None)
    update_offload_handler: str | None = member("UpdateOffloadHandler", "HANDLER", 0x18, default=None)
    invalidate_offload_handler: str | None = member("InvalidateOffloadHandler", "HANDLER", 0x20, default=None)
    query_offload_handler: str | None = member("QueryOffloadHandler", "HANDLER", 0x28, default=None)


@dataclass(kw_only=True, slots=True)
class NdisProviderChimneyOffloadTcpCharacteristics(Characteristics):
    """NDIS_PROVIDER_CHIMNEY_OFFLOAD_TCP_CHARACTERISTICS: miniport edge, TCP I/O (R-REG-01, R-REG-04)."""

    NAME: ClassVar[str] = "NDIS_PROVIDER_CHIMNEY_OFFLOAD_TCP_CHARACTERISTICS"
    SIZE: ClassVar[int] = 0x38
    PREFIX: ClassVar[str] = "Miniport"

    header: NdisObjectHeader = header(
        ObjectType.NDIS_OBJECT_TYPE_PROVIDER_CHIMNEY_OFFLOAD_CHARACTERISTICS, _PROVIDER_REVISION, 0x38
    )
    flags: int = member("Flags", "ULONG", 0x4, default=0)
    offload_type: int = member(
        "OffloadType", "ULONG", 0x8, default=NdisChimneyOffloadType.NdisTcpChimneyOffload
    )
    tcp_offload_send_handler: str | None = member("TcpOffloadSendHandler", "HANDLER", 0x10, default=None)
    tcp_offload_receive_handler: str | None = member(
        "TcpOffloadReceiveHandler", "HANDLER", 0x18, default=None
    )
    tcp_offload_disconnect_handler: str | None = member(
        "TcpOffloadDisconnectHandler", "HANDLER", 0x20, default=None
    )
    tcp_offload_forward_handler: str | None = member(
        "TcpOffloadForwardHandler", "HANDLER", 0x28, default=None
    )
    tcp_offload_receive_return_handler: str | None = member(
        "TcpOffloadReceiveReturnHandler", "HANDLER", 0x30, default=None
    )


@dataclass(kw_only=True, slots=True)
class NdisClientChimneyOffloadGenericCharacteristics(Characteristics):
    """NDIS_CLIENT_CHIMNEY_OFFLOAD_GENERIC_CHARACTERISTICS: protocol edge, state operations (R-REG-02)."""

    NAME: ClassVar[str] = "NDIS_CLIENT_CHIMNEY_OFFLOAD_GENERIC_CHARACTERISTICS"
    SIZE: ClassVar[int] = 0x38
    PREFIX: ClassVar[str] = "Protocol"

    header: NdisObjectHeader = header(
        ObjectType.NDIS_OBJECT_TYPE_CLIENT_CHIMNEY_OFFLOAD_GENERIC_CHARACTERISTICS,
        NDIS_CLIENT_CHIMNEY_OFFLOAD_GENERIC_CHARACTERISTICS_REVISION_1,
        0x38,
    )
    flags: int = member("Flags", "ULONG", 0x4, default=0)
    initiate_offload_complete_handler: str | None = member(
        "InitiateOffloadCompleteHandler", "HANDLER", 0x8, default=None
    )
    terminate_offload_complete_handler: str | None = member(
        "TerminateOffloadCompleteHandler", "HANDLER", 0x10, default=None
    )
    update_offload_complete_handler: str | None = member(
        "UpdateOffloadCompleteHandler", "HANDLER", 0x18, default=None
    )
    invalidate_offload_complete_handler: str | None = member(
        "InvalidateOffloadCompleteHandler", "HANDLER", 0x20, default=None
    )
    query_offload_complete_handler: str | None = member(
        "QueryOffloadCompleteHandler", "HANDLER", 0x28, default=None
    )
    indicate_offload_event_handler: str | None = member(
        "IndicateOffloadEventHandler", "HANDLER", 0x30, default=None
    )


@dataclass(kw_only=True, slots=True)
class NdisClientChimneyOffloadTcpCharacteristics(Characteristics):
    """NDIS_CLIENT_CHIMNEY_OFFLOAD_TCP_CHARACTERISTICS: protocol edge, TCP I/O, all six (R-DIS-35)."""

    NAME: ClassVar[str] = "NDIS_CLIENT_CHIMNEY_OFFLOAD_TCP_CHARACTERISTICS"
    SIZE: ClassVar[int] = 0x40
    PREFIX: ClassVar[str] = "Protocol"

    header: NdisObjectHeader = header(
        ObjectType.NDIS_OBJECT_TYPE_CLIENT_CHIMNEY_OFFLOAD_CHARACTERISTICS,
        NDIS_CLIENT_CHIMNEY_OFFLOAD_TCP_CHARACTERISTICS_REVISION_1,
        0x40,
    )
    flags: int = member("Flags", "ULONG", 0x4, default=0)
    offload_type: int = member(
        "OffloadType", "ULONG", 0x8, default=NdisChimneyOffloadType.NdisTcpChimneyOffload
    )
    tcp_offload_send_complete_handler: str | None = member(
        "TcpOffloadSendCompleteHandler", "HANDLER", 0x10, default=None
    )
    tcp_offload_receive_complete_handler: str | None = member(
        "TcpOffloadReceiveCompleteHandler", "HANDLER", 0x18, default=None
    )
    tcp_offload_disconnect_complete_handler: str | None = member(
        "TcpOffloadDisconnectCompleteHandler", "HANDLER", 0x20, default=None
    )
    tcp_offload_forward_complete_handler: str | None = member(
        "TcpOffloadForwardCompleteHandler", "HANDLER", 0x28, default=None
    )
    tcp_offload_event_handler: str | None = member("TcpOffloadEventHandler", "HANDLER", 0x30, default=None)
    tcp_offload_receive_indicate_handler: str | None = member(
        "TcpOffloadReceiveIndicateHandler", "HANDLER", 0x38, default=None
    )


@dataclass(kw_only=True, slots=True)
class NdisTcpOffloadEventHandlers(Characteristics):
    """NDIS_TCP_OFFLOAD_EVENT_HANDLERS: NDIS's own entry points, by NdisMGetOffloadHandlers (R-REG-05).

    The members' names are the functions' names. DDI page ns-ndischimney-_ndis_tcp_offload_event_handlers.
    """

    NAME: ClassVar[str] = "NDIS_TCP_OFFLOAD_EVENT_HANDLERS"
    SIZE: ClassVar[int] = 0x38

    header: NdisObjectHeader = header(
        NdisChimneyOffloadType.NdisTcpChimneyOffload, NDIS_OBJECT_TCP_OFFLOAD_REVISION_1, 0x38
    )
    ndis_tcp_offload_event_handler: str | None = member(
        "NdisTcpOffloadEventHandler", "HANDLER", 0x8, default=None
    )
    ndis_tcp_offload_receive_handler: str | None = member(
        "NdisTcpOffloadReceiveHandler", "HANDLER", 0x10, default=None
    )
    ndis_tcp_offload_send_complete: str | None = member(
        "NdisTcpOffloadSendComplete", "HANDLER", 0x18, default=None
    )
    ndis_tcp_offload_receive_complete: str | None = member(
        "NdisTcpOffloadReceiveComplete", "HANDLER", 0x20, default=None
    )
    ndis_tcp_offload_disconnect_complete: str | None = member(
        "NdisTcpOffloadDisconnectComplete", "HANDLER", 0x28, default=None
    )
    ndis_tcp_offload_forward_complete: str | None = member(
        "NdisTcpOffloadForwardComplete", "HANDLER", 0x30, default=None
    )
