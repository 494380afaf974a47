"""OID requests: passed down, or answered here if the chimney is blocked.

Several hosts may be above one adapter. A set of OID_TCP_TASK_OFFLOAD enables what it names and disables
everything else (R-OID-05). So the union of the latest sets of all virtual adapters goes down: one host that
disables the chimney does not disable it for another. DDI pages
querying-and-setting-an-intermediate-driver-s-tcp-chimney-offload-capa, oid-tcp-task-offload.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from imdriver.adapter import VirtualAdapter
from imdriver.config import ChimneyPolicy
from imdriver.edges import ImEdges
from imdriver.entries import ImOidEntry
from ndisbus.ddi.enums import NdisRequestType, Oid
from ndisbus.ddi.status import NdisStatus, is_success
from ndisbus.ddi.structures import NdisTaskOffload, NdisTaskOffloadHeader, NdisTaskTcpConnectionOffload
from ndisbus.errors import DecodeError, RemoteProtocolError, value_text

__all__ = ["OidRequests", "union"]

_TASK_OFFLOAD: Final = int(Oid.OID_TCP_TASK_OFFLOAD)
_QUERY: Final = int(NdisRequestType.NdisRequestQueryInformation)
_SET: Final = int(NdisRequestType.NdisRequestSetInformation)


class OidRequests(ImEdges):
    """OID requests that pass through."""

    def miniport_oid_request(self, miniport_adapter_context: int, oid_request: dict[str, Any]) -> Any:
        """MiniportOidRequest: returns (status, OidRequest).

        A query of OID_TCP_TASK_OFFLOAD is not passed down if the chimney is blocked (R-OID-02, R-OID-04). A
        set of it always passes (R-OID-03), as does every other request.
        """
        adapter = self.adapter_of(miniport_adapter_context)
        is_task = oid_request["Oid"] == _TASK_OFFLOAD
        if is_task and oid_request["RequestType"] == _QUERY and self.chimney is ChimneyPolicy.BLOCK:
            return NdisStatus.NOT_SUPPORTED, oid_request
        below = adapter.below
        if below is None:
            return NdisStatus.FAILURE, oid_request
        entry = ImOidEntry(adapter, oid_request)
        down = dict(oid_request)
        if is_task and oid_request["RequestType"] == _SET:
            entry.is_task_set = True
            entry.before, wanted = adapter.wants, oid_request["InformationBuffer"]
            others = self._wants_of_others(adapter)
            try:
                down["InformationBuffer"] = union(wanted, others)
            except DecodeError:
                return NdisStatus.FAILURE, oid_request
            adapter.wants = wanted
        self._pass(entry, below, down)
        return NdisStatus.PENDING, oid_request

    def _wants_of_others(self, adapter: VirtualAdapter) -> list[dict[str, Any]]:
        """Return what the other adapters of the same life want enabled."""
        lower = adapter.lower
        all_of = (a for a in self.adapters.values() if a is not adapter and a.lower is lower)
        return [a.wants for a in all_of if a.wants is not None]

    def _pass(self, entry: ImOidEntry, below: int, down: dict[str, Any]) -> None:
        """Pass a request down under a RequestId of our own. Two hosts may have chosen the same one."""
        entry.address = self.ndis.heap.allocate(entry)
        down["RequestId"] = entry.address
        self.ndis.oid_request(below, down)

    def protocol_oid_request_complete(
        self, protocol_binding_context: int, oid_request: dict[str, Any], status: int, reason: str
    ) -> None:
        """ProtocolOidRequestComplete: give the requester its own request back, a query with the answer."""
        entry = self.ndis.heap.objects.get(oid_request.get("RequestId") or 0)
        if type(entry) is not ImOidEntry:
            if self.lower is None or self.lower.context != protocol_binding_context:
                return  # it crossed the end of that life, when it was completed above
            number = value_text(oid_request.get("RequestId"))
            raise RemoteProtocolError(
                f"ProtocolOidRequestComplete: RequestId {number} is not one of this driver"
            )
        self.ndis.heap.free(entry.address)
        adapter, request = entry.adapter, entry.request
        if adapter is None:
            return
        failed = entry.is_task_set and not is_success(status)
        if failed and adapter.wants is request["InformationBuffer"]:
            adapter.wants = entry.before
        answer = dict(request)
        if request["RequestType"] == _QUERY:
            answer["InformationBuffer"] = oid_request.get("InformationBuffer")
        self.ndis.m_oid_request_complete(adapter.handle, answer, status)

    def wants_changed(self, adapter: VirtualAdapter) -> None:
        """Disable below what only a halted adapter wanted."""
        wants, adapter.wants = adapter.wants, None
        below = adapter.below
        if wants is None or not wants.get("Tasks") or below is None or adapter.lower.closing:
            return
        others = self._wants_of_others(adapter)
        request = {
            "RequestType": _SET,
            "Oid": _TASK_OFFLOAD,
            "InformationBuffer": union({**wants, "OffsetFirstTask": 0, "Tasks": []}, others),
            "RequestId": None,
        }
        self._pass(ImOidEntry(None, request), below, request)


def union(wanted: dict[str, Any], others: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return NDIS_TASK_OFFLOAD_HEADER (as a map) that enables what ``wanted`` and ``others`` enable.

    If several want the chimney, each member is the larger one, and flags and encapsulations are united. For
    any other task ``wanted``'s version counts. If no other adapter wants anything, the result is ``wanted``
    itself, unread. Raises :class:`DecodeError`.
    """
    headers = [o for o in others if o.get("Tasks")]
    if not headers:
        return wanted
    where = "OID_TCP_TASK_OFFLOAD.InformationBuffer"
    first = NdisTaskOffloadHeader.from_wire(wanted, where)
    tasks = {t.task: t for t in first.tasks}
    for header in headers:
        for task in NdisTaskOffloadHeader.from_wire(header, where).tasks:
            mine = tasks.get(task.task)
            tasks[task.task] = task if mine is None else _larger(mine, task)
    merged = NdisTaskOffloadHeader.of(tasks.values())
    merged.encapsulation_format = first.encapsulation_format
    return merged.to_wire()


def _larger(a: NdisTaskOffload, b: NdisTaskOffload) -> NdisTaskOffload:
    x, y = a.task_buffer, b.task_buffer
    if not isinstance(x, NdisTaskTcpConnectionOffload) or not isinstance(y, NdisTaskTcpConnectionOffload):
        return a
    both = NdisTaskTcpConnectionOffload(
        encapsulation=x.encapsulation | y.encapsulation,
        support_ipv4=max(x.support_ipv4, y.support_ipv4),
        support_ipv6=max(x.support_ipv6, y.support_ipv6),
        support_ipv6_extension_headers=max(
            x.support_ipv6_extension_headers, y.support_ipv6_extension_headers
        ),
        support_sack=max(x.support_sack, y.support_sack),
        tcp_connection_offload_capacity=max(
            x.tcp_connection_offload_capacity, y.tcp_connection_offload_capacity
        ),
        flags=x.flags | y.flags,
    )
    return replace(a, task_buffer=both)
