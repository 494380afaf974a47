"""MiniportOidRequest: capabilities, which of them are enabled, statistics, and parameters of TCP."""

from __future__ import annotations

from typing import Any, Final

from ndisbus.ddi.enums import NdisRequestType, Oid
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import (
    NdisOidRequest,
    NdisTaskOffloadHeader,
    NdisTaskTcpConnectionOffload,
    NdisTcpConnectionOffloadParameters,
)
from ndisbus.errors import DecodeError, LocalProtocolError
from target.hardware.adapter import Adapter

__all__ = ["oid_request"]

_QUERY: Final = NdisRequestType.NdisRequestQueryInformation
Result = tuple[NdisStatus, dict[str, Any]]


def oid_request(adapter: Adapter, wire: dict[str, Any]) -> Result:
    """Serve a request. Returns (status, OidRequest). After PENDING, NdisMOidRequestComplete follows."""
    if adapter.knobs.at("oid") and (status := adapter.knobs.fire("oid")) is not None:
        return status, wire
    if wire.get("Oid") == Oid.OID_PNP_SET_POWER:
        return _set_power(adapter, wire)
    try:
        request = NdisOidRequest.from_wire(wire, "MiniportOidRequest.OidRequest")
    except DecodeError:
        adapter.refuse("OID request is not well formed")
        return NdisStatus.FAILURE, wire
    query = request.request_type == _QUERY
    if request.oid == Oid.OID_TCP_TASK_OFFLOAD:
        if query:
            request.information_buffer = adapter.config.task_header()
            return NdisStatus.SUCCESS, request.to_wire()
        assert isinstance(request.information_buffer, NdisTaskOffloadHeader)
        return _enable(adapter, request.information_buffer.chimney()), wire
    if request.oid == Oid.OID_TCP_CONNECTION_OFFLOAD_PARAMETERS and not query:
        assert isinstance(request.information_buffer, NdisTcpConnectionOffloadParameters)
        try:
            adapter.set_parameters(request.information_buffer)
        except LocalProtocolError:
            adapter.refuse("TicksPerSecond is not 10, 100 or 1000")
            return NdisStatus.FAILURE, wire
        return NdisStatus.SUCCESS, wire
    return _statistics(adapter, request, wire, query=query)


def _statistics(adapter: Adapter, request: NdisOidRequest, wire: dict[str, Any], *, query: bool) -> Result:
    """Serve the counters of offloaded connections: a query returns them, a set zeroes them (R-STAT-02)."""
    if query:
        request.information_buffer = adapter.stats.report(request.oid, adapter.connections())
        if request.information_buffer is not None:
            return NdisStatus.SUCCESS, request.to_wire()
    elif adapter.stats.zero(request.oid):
        return NdisStatus.SUCCESS, wire
    return NdisStatus.NOT_SUPPORTED, wire


def _enable(adapter: Adapter, wanted: NdisTaskTcpConnectionOffload | None) -> NdisStatus:
    """Enable exactly what the latest set names (R-OID-05), unless the hardware does not support it."""
    if wanted is not None:
        can = adapter.config.task()
        for member in ("support_ipv4", "support_ipv6", "support_ipv6_extension_headers", "support_sack"):
            if getattr(wanted, member) and not getattr(can, member):
                adapter.refuse(f"OID_TCP_TASK_OFFLOAD enables {member}, which the hardware lacks")
                return NdisStatus.NOT_SUPPORTED
    elif adapter.enabled is not None:
        # The parameters belong to the protocol that had the chimney. The next one may leave them out.
        adapter.set_parameters(NdisTcpConnectionOffloadParameters())
    adapter.enabled = wanted
    return NdisStatus.SUCCESS


def _set_power(adapter: Adapter, wire: dict[str, Any]) -> Result:
    """Answer OID_PNP_SET_POWER when no connection is offloaded any more (R-PWR-02)."""
    if not adapter.hardware.connections:
        return NdisStatus.SUCCESS, wire

    def done() -> None:
        adapter.ndis.m_oid_request_complete(adapter.handle, wire, int(NdisStatus.SUCCESS))

    adapter.when(lambda: not adapter.hardware.connections, done)
    return NdisStatus.PENDING, wire
