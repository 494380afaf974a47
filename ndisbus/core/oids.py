"""OID requests: NDIS answers some itself, decides who has the chimney, and passes the rest down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ndisbus.core.model import AdapterState, BindingState, OidRequest
from ndisbus.core.violation import Violation
from ndisbus.ddi.enums import NdisRequestType, Oid
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import NdisOidRequest, NdisTaskOffloadHeader
from ndisbus.errors import value_text

if TYPE_CHECKING:
    from ndisbus.core.clock import Clock
    from ndisbus.core.model import Adapter, Binding, Client, Handlers, Injected
    from ndisbus.core.outbound import Outbound
    from ndisbus.core.registry import Registry
    from ndisbus.lists.heap import Heap
    from ndisbus.messages.codec import Message

__all__ = ["Oids"]

_SUCCESS: Final = int(NdisStatus.SUCCESS)
_QUERY: Final = int(NdisRequestType.NdisRequestQueryInformation)
_SET: Final = int(NdisRequestType.NdisRequestSetInformation)


class Oids:
    """Serves NdisOidRequest and its completion."""

    __slots__ = ("clock", "heap", "injected", "out", "registry")

    def __init__(
        self, clock: Clock, out: Outbound, registry: Registry, heap: Heap, injected: Injected
    ) -> None:
        self.clock = clock
        self.out = out
        self.registry = registry
        self.heap = heap
        self.injected = injected

    def handlers(self) -> Handlers:
        """Return the handlers by name of call."""
        return {"NdisOidRequest": self._oid_request, "NdisMOidRequestComplete": self._oid_complete}

    def _oid_request(self, client: Client, message: Message, frames: Sequence[bytes]) -> None:
        handle, wire = message[2]
        request = NdisOidRequest.from_wire(wire, "NdisOidRequest.OidRequest")
        context = client.ended.crossed(handle)
        if context is not None:
            # NDIS has closed the binding by force.
            late = [context, wire, int(NdisStatus.FAILURE), "the binding is closed"]
            self.out.send(client, ["ProtocolOidRequestComplete", None, late])
            return
        binding = self.registry.binding_of(client, handle)
        adapter = binding.adapter
        if self.injected.status is not None:
            self.complete(binding, wire, self.injected.status, "a fault was injected")
            return
        if not adapter.alive:
            self.complete(binding, wire, int(NdisStatus.FAILURE), f"adapter {adapter.name} is gone")
            return
        answer = self._ndis_answers(adapter, request)
        if answer is not None:
            status, buffer = answer
            if buffer is not None:
                wire = {**wire, "InformationBuffer": buffer}
            self.complete(binding, wire, status, "")
            return
        if request.oid == Oid.OID_TCP_TASK_OFFLOAD and request.request_type == _SET:
            refusal = self._claim(binding, request)
            if refusal:
                self.complete(binding, wire, int(NdisStatus.OFFLOAD_POLICY), refusal)
                return
        self._ask(adapter, OidRequest(binding, wire, self.clock.now, enabling=_enables(request)))

    def _ask(self, adapter: Adapter, oid: OidRequest) -> None:
        """Pass a request to the miniport."""
        key, wire = self.heap.address(), oid.request
        adapter.oids[key] = oid
        oid.binding.outstanding += 1

        def returned(values: list[Any] | None) -> None:
            if values is None or key not in adapter.oids:
                return  # the adapter died; its removal completed the request
            if values[0] != NdisStatus.PENDING:
                done = values[1] if len(values) > 1 else {**wire, "RequestId": key}
                self._finish(adapter, key, done, values[0], "MiniportOidRequest.OidRequest")

        # RequestId names the request between NDIS and the miniport. The requester gets its own one back.
        self.out.call(
            adapter.driver, "MiniportOidRequest", [adapter.context, {**wire, "RequestId": key}], returned
        )

    def _ndis_answers(
        self, adapter: Adapter, request: NdisOidRequest
    ) -> tuple[int, dict[str, Any] | None] | None:
        """Return the answer of NDIS itself (R-OID-12, R-OID-13); None if the miniport has to be asked."""
        known: dict[int, dict[str, Any] | None] = {
            int(Oid.OID_TCP_CONNECTION_OFFLOAD_CURRENT_CONFIG): adapter.config,
            int(Oid.OID_TCP_CONNECTION_OFFLOAD_HARDWARE_CAPABILITIES): adapter.capabilities,
            int(Oid.OID_TCP_CONNECTION_OFFLOAD_PARAMETERS): adapter.parameters,
        }
        if request.oid not in known or (
            request.request_type == _SET and request.oid == Oid.OID_TCP_CONNECTION_OFFLOAD_PARAMETERS
        ):
            return None
        value = known[request.oid]
        if request.request_type == _SET or value is None:
            return int(NdisStatus.NOT_SUPPORTED), None
        return _SUCCESS, value

    def _claim(self, binding: Binding, request: NdisOidRequest) -> str:
        """Return why a protocol may not set the offload capabilities; "" if it may (R-OID-08)."""
        adapter, enabling = binding.adapter, _enables(request)
        owner = adapter.chimney_owner
        if owner is not None and owner.state not in (BindingState.OPEN, BindingState.UNBINDING):
            # Its protocol has gone. NDIS cleans up after it and needs no chimney for that.
            return ""
        if owner is None and enabling:
            # A set request that the miniport has not answered yet also claims the chimney.
            pending = (
                o.binding for o in adapter.oids.values() if o.enabling and not o.binding.protocol.closed
            )
            owner = next(pending, None)
        if owner is not None and owner is not binding:
            if not enabling:
                return f"only {owner.protocol.name} may disable the chimney of {adapter.name} [R-OID-08]"
            return (
                f"the chimney of {adapter.name} is enabled by {owner.protocol.name} (pid "
                f"{owner.protocol.pid}), and only one protocol at a time may have it [R-OID-08]. Get an "
                "adapter of your own: attach with "
                "bind \"auto\", or run 'ndisbus adapter add' and bind to the adapter it names"
            )
        return ""

    def _oid_complete(self, client: Client, message: Message, frames: Sequence[bytes]) -> None:
        handle, wire, status = message[2]
        adapter = self.registry.adapter_of(client, handle, "MiniportAdapterHandle")
        key = wire.get("RequestId")
        if type(key) is not int or key not in adapter.oids:
            raise Violation(
                "OidRequest.RequestId", f"request {value_text(key)} is not outstanding on {adapter.name}"
            )
        self._finish(adapter, key, wire, status, "NdisMOidRequestComplete.OidRequest")

    def _finish(self, adapter: Adapter, key: int, wire: Any, status: int, where: str) -> None:
        """End a request that the miniport completed. Raises :class:`Violation` if it was changed."""
        oid = adapter.oids[key]
        request = NdisOidRequest.from_wire(oid.request, "OidRequest")
        answer = NdisOidRequest.from_wire(wire, where)
        if (answer.oid, answer.request_type, answer.request_id) != (request.oid, request.request_type, key):
            raise Violation(
                "OidRequest", f"not the request that was given: {request.oid:#x} came as {answer.oid:#x}"
            )
        if not 0 <= status < 1 << 32 or status == NdisStatus.PENDING:
            raise Violation("Status", f"{status:#x} is not a final NDIS_STATUS")
        del adapter.oids[key]
        oid.binding.outstanding -= 1
        if oid.releasing:
            if adapter.chimney_owner is oid.binding:
                self._disabled(oid.binding)
            oid.binding.came_back()
            return
        if status == _SUCCESS and request.request_type == _SET:
            if request.oid == Oid.OID_TCP_TASK_OFFLOAD:
                self._enabled(oid.binding, request)
            elif request.oid == Oid.OID_TCP_CONNECTION_OFFLOAD_PARAMETERS:
                adapter.parameters = oid.request["InformationBuffer"]
        self.complete(oid.binding, {**wire, "RequestId": oid.request.get("RequestId")}, status, "")
        oid.binding.came_back()

    def _enabled(self, binding: Binding, request: NdisOidRequest) -> None:
        """Record a set of OID_TCP_TASK_OFFLOAD: only what it names is enabled (R-OID-05, R-OID-07)."""
        adapter = binding.adapter
        if not _enables(request):
            self._disabled(binding)
            return
        adapter.chimney_owner, adapter.config = binding, adapter.capabilities
        self.out.emit("chimney.enabled", adapter=adapter.name, protocol=binding.protocol.name)

    def _disabled(self, binding: Binding) -> None:
        """Forget what was enabled, and the parameters that were set with it."""
        adapter = binding.adapter
        adapter.chimney_owner = adapter.config = adapter.parameters = None
        self.out.emit("chimney.disabled", adapter=adapter.name, protocol=binding.protocol.name)

    def release(self, binding: Binding) -> bool:
        """Disable what a protocol that leaves had enabled of an adapter. Returns whether this takes time.

        NDIS makes the set that the protocol would have made (R-OID-07). So an intermediate driver below
        learns of it as well, and disables further down what no other protocol above it wants. Whether the
        miniport accepts it or not: afterwards the chimney belongs to no protocol.
        """
        adapter = binding.adapter
        if adapter.chimney_owner is not binding or adapter.state is not AdapterState.UP:
            return False
        wire = NdisOidRequest(
            request_type=_SET,
            oid=int(Oid.OID_TCP_TASK_OFFLOAD),
            information_buffer=NdisTaskOffloadHeader.of([]),
        ).to_wire()
        self._ask(adapter, OidRequest(binding, wire, self.clock.now, releasing=True))
        return True

    def complete(self, binding: Binding, request: dict[str, Any], status: int, reason: str) -> None:
        """Call ProtocolOidRequestComplete. ``reason`` says why NDIS itself refused; "" if it did not."""
        for own in binding.protocol.adapters:
            for above in own.oids.values():
                above.back_at = (
                    self.clock.now
                )  # a request of the layer above became this one, with a different RequestId
        if binding.adapter.state is AdapterState.DEAD and not reason:
            reason = f"adapter {binding.adapter.name} is gone"
        self.out.send(
            binding.protocol, ["ProtocolOidRequestComplete", None, [binding.context, request, status, reason]]
        )

    def abort(self, adapter: Adapter) -> None:
        """Fail the OID requests that a dead adapter holds."""
        for oid in list(adapter.oids.values()):
            oid.binding.outstanding -= 1
            if oid.releasing:
                continue
            self.complete(
                oid.binding, oid.request, int(NdisStatus.REQUEST_ABORTED), f"adapter {adapter.name} is gone"
            )
        adapter.oids.clear()


def _enables(request: NdisOidRequest) -> bool:
    """Return whether a request is a set request that enables the chimney."""
    header = request.information_buffer
    return (
        request.request_type == _SET
        and isinstance(header, NdisTaskOffloadHeader)
        and header.chimney() is not None
    )
