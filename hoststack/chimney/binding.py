"""Binding to an adapter, unbinding from it, and losing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hoststack.chimney import switch, upload
from hoststack.chimney.adapter import Binding
from hoststack.model.events import Bound, Unbound
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import NdisTcpConnectionOffload

if TYPE_CHECKING:
    from hoststack.chimney.engine import Engine
    from hoststack.model.operation import Operation
    from ndisbus.driver.base import Steps

__all__ = ["bind", "release", "unbind"]


def bind(host: Engine, protocol_handle: int | None, parameters: dict[str, Any]) -> Steps:
    """ProtocolBindAdapterEx: open the adapter and its chimney (R-OID-01); one binding at a time."""
    if host.binding is not None:
        return NdisStatus.NOT_ACCEPTED
    found = parameters.get("TcpConnectionOffloadCapabilities")
    capabilities = None
    if found is not None:
        capabilities = NdisTcpConnectionOffload.from_wire(
            found, "ProtocolBindAdapterEx.BindParameters.TcpConnectionOffloadCapabilities"
        )
    adapter = str(parameters["AdapterName"])
    binding = Binding(0, 0, adapter)
    binding.mac = parameters.get("CurrentMacAddress")
    binding.mtu = parameters.get("MtuSize")
    binding.context = host.ndis.heap.allocate(binding)
    status, handle = yield host.ndis.open_adapter_ex(
        protocol_handle, binding.context, {"AdapterName": adapter}
    )
    if status != NdisStatus.SUCCESS:
        host.ndis.heap.free(binding.context)
        return status
    binding.handle = handle
    host.binding = binding
    host.emit(Bound(host.ndis.now(), adapter, capabilities))
    host.compose("start", switch.start(host))
    return NdisStatus.SUCCESS


def unbind(host: Engine) -> NdisStatus:
    """ProtocolUnbindAdapterEx: upload what is offloaded, then close the adapter. PENDING until then."""
    binding = host.binding
    if binding is None or binding.unbinding:
        return NdisStatus.SUCCESS
    binding.unbinding = True

    def close(_: Operation) -> None:
        if host.binding is binding:
            upload.return_lists(host)  # an adapter is not closed while it misses buffers (R-REG-12)
            host.ndis.close_adapter_ex(binding.handle)

    done = upload.everything(host, "unbind")
    done.when_done(close)
    return NdisStatus.SUCCESS if done.done else NdisStatus.PENDING


def release(host: Engine, binding: Binding) -> None:
    """The binding is gone: everything that was offloaded through it is the host's again, or lost."""
    gone = int(NdisStatus.ADAPTER_REMOVED)
    reason = f"the binding to {binding.adapter} is gone"
    held = host.held()
    for obj in held:
        host.lose(obj)
    host.binding = None
    host.cancel_waiting("", gone, reason)
    pending, host.pending = list(host.pending.values()), {}
    oids, host.chimney.oids = list(host.chimney.oids.values()), {}
    for operation in (*pending, *oids):
        host.refuse(operation, gone, reason)
    for obj in held:
        obj.dependents = obj.leaving = 0
    host.posted.clear()
    host.frames.unbound()
    host.returns.clear()
    host.uploads.clear()
    host.limbo.clear()
    host.due = None
    host.chimney.state, host.chimney.reason = "unbound", ""
    host.chimney.retry_at, host.chimney.retry_delay = None, 0.0
    host.ndis.heap.objects.pop(binding.context, None)
    host.emit(Unbound(host.ndis.now(), binding.adapter, binding.lost))
