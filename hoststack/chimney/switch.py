"""Switching the chimney on and off: the OIDs at start (R-OID-01), refusal, pause and resume.

DDI pages oid-tcp-task-offload, oid-tcp-connection-offload-parameters, ndis-status-offload-resume.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hoststack.chimney import upload
from hoststack.model.events import ChimneyDisabled, ChimneyEnabled, ChimneyRefused, StatusIndicated
from ndisbus.ddi.enums import NdisRequestType, Oid
from ndisbus.ddi.status import NdisStatus, status_symbol
from ndisbus.ddi.structures import NdisOidRequest, NdisTaskOffload, NdisTaskOffloadHeader, Struct
from ndisbus.errors import DecodeError

if TYPE_CHECKING:
    from hoststack.chimney.engine import Engine, Script
    from hoststack.model.operation import Operation

#: Seconds to wait before asking again for a chimney that another protocol has; doubled up to the limit.
RETRY_FIRST: Final = 0.25
RETRY_LIMIT: Final = 4.0

__all__ = ["disable", "oid", "oid_completed", "retry", "start", "status_indicated"]


_ASKED: Final = ("asking", "refused")


def oid(host: Engine, number: Oid, value: Struct | bytes | None = None) -> Operation:
    """Make an OID request: a set if there is a value, else a query. ``target`` is the answer then."""
    operation = host.new_operation("oid")
    operation.statuses = [None]
    gone = host.why_gone()
    if gone or host.binding is None:
        return host.refuse(operation, int(NdisStatus.ADAPTER_REMOVED), gone)
    kind = NdisRequestType.NdisRequestQueryInformation
    if value is not None:
        kind = NdisRequestType.NdisRequestSetInformation
    host.chimney.oids[operation.id] = operation
    host.ndis.oid_request(
        host.binding.handle,
        NdisOidRequest(
            request_type=kind, oid=number, information_buffer=value, request_id=operation.id
        ).to_wire(),
    )
    return operation


def oid_completed(host: Engine, request: dict[str, Any], status: int, reason: str) -> None:
    """ProtocolOidRequestComplete."""
    operation = host.chimney.oids.pop(request.get("RequestId") or 0, None)
    if operation is None:
        host.violation(
            "R-OID-01",
            f"the OID request with RequestId {request.get('RequestId')} was completed and is not outstanding",
        )
        return
    operation.statuses = [status]
    operation.target = request
    if status != NdisStatus.SUCCESS:
        operation.refused = reason or status_symbol(status)
    host.finish(operation)


def start(host: Engine) -> Script:
    """Ask for the capabilities, enable the chimney, then set its parameters (R-OID-01)."""
    binding, chimney = host.binding, host.chimney
    if chimney.state != "refused":  # a retry leaves the state as it is until the answer differs
        chimney.state, chimney.reason = "asking", ""
    chimney.retry_at = None
    asked = yield oid(host, Oid.OID_TCP_TASK_OFFLOAD)
    if not asked.succeeded:
        return _refused(host, asked)
    try:
        answer = NdisOidRequest.from_wire(asked.target, "ProtocolOidRequestComplete.OidRequest")
        header = answer.information_buffer
        found = header.chimney() if isinstance(header, NdisTaskOffloadHeader) else None
    except DecodeError as e:
        host.violation(e.rule or "R-OID-01", str(e))
        asked.refused = str(e)
        return _refused(host, asked)
    if found is None or not isinstance(header, NdisTaskOffloadHeader):
        asked.statuses, asked.refused = [int(NdisStatus.NOT_SUPPORTED)], "the adapter reports no TCP chimney"
        return _refused(host, asked)
    wanted = NdisTaskOffloadHeader.of([NdisTaskOffload(task_buffer=found)])
    wanted.encapsulation_format = header.encapsulation_format
    enabled = yield oid(host, Oid.OID_TCP_TASK_OFFLOAD, wanted)
    if not enabled.succeeded:
        return _refused(host, enabled)
    host.parameters.validate()
    tuned = yield oid(host, Oid.OID_TCP_CONNECTION_OFFLOAD_PARAMETERS, host.parameters)
    if not tuned.succeeded:
        return _refused(host, tuned)
    if host.binding is not binding or chimney.state not in _ASKED:
        return "the binding changed while the chimney was being opened"
    chimney.state, chimney.status, chimney.reason = "enabled", int(NdisStatus.SUCCESS), ""
    chimney.retry_delay = 0.0
    chimney.capacity = found.tcp_connection_offload_capacity
    host.emit(ChimneyEnabled(host.ndis.now(), chimney.capacity))
    return None


def _refused(host: Engine, part: Operation) -> str:
    """Leave the chimney closed; keep the reason for users (R-OID-08)."""
    chimney = host.chimney
    reason = part.refused or "no reason was given"
    status = int(NdisStatus.FAILURE if part.statuses[0] is None else part.statuses[0])
    if chimney.state in _ASKED:
        changed = chimney.state != "refused" or chimney.reason != reason
        chimney.state = "refused" if host.binding is not None else "unbound"
        chimney.status, chimney.reason = status, reason
        if changed:
            host.emit(ChimneyRefused(host.ndis.now(), status, reason))
        if status == NdisStatus.OFFLOAD_POLICY and host.binding is not None:
            # The protocol that has the chimney may switch it off, or die.
            chimney.retry_delay = min(chimney.retry_delay * 2 or RETRY_FIRST, RETRY_LIMIT)
            chimney.retry_at = host.ndis.now() + chimney.retry_delay
    return reason


def retry(host: Engine) -> None:
    """Ask again for a chimney that another protocol had, once it is time."""
    at = host.chimney.retry_at
    if at is not None and at <= host.ndis.now():
        host.chimney.retry_at = None
        if host.chimney.state == "refused" and not host.why_gone():
            host.compose("enable", start(host))


def disable(host: Engine) -> Script:
    """Upload everything, then set OID_TCP_TASK_OFFLOAD with nothing in it (R-OID-06, R-OID-07)."""
    yield upload.everything(host, "upload for disable")
    part = yield oid(host, Oid.OID_TCP_TASK_OFFLOAD, NdisTaskOffloadHeader.of([]))
    if not part.succeeded:
        return part.refused
    host.chimney.state, host.chimney.reason = "disabled", "the host switched it off"
    host.emit(ChimneyDisabled(host.ndis.now()))
    return None


def status_indicated(host: Engine, code: int) -> None:
    """Act on NDIS_STATUS_OFFLOAD_PAUSE, _RESUME and UPLOAD_ALL; other codes are only reported."""
    chimney = host.chimney
    host.emit(StatusIndicated(host.ndis.now(), code))
    if code == NdisStatus.OFFLOAD_PAUSE and chimney.state == "enabled":
        chimney.state = "paused"
    elif code == NdisStatus.UPLOAD_ALL:
        if chimney.state == "enabled":
            chimney.state = "paused"
        upload.everything(host, "upload all")
    elif code == NdisStatus.OFFLOAD_RESUME and chimney.state == "paused":
        # The adapter's capabilities may have changed: ask again (R-PAUSE-04).
        host.compose("resume", start(host))
