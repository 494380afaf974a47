"""Bindings: who is bound to which adapter, opening, unbinding, closing, and cleaning up after the careless.

A protocol is bound to every adapter it asked for as soon as that is up and no earlier binding of the
same protocol to the same name is left. A binding closes when nothing it passed down is outstanding and
nothing it offloaded is left below: for a protocol that died or closed carelessly NDIS terminates that
itself, connections first, then paths, then neighbors (R-TERM-02).
"""

from __future__ import annotations

from typing import Any

from ndisbus.core.base import Core, Violation, free_name
from ndisbus.core.model import Adapter, AdapterState, Binding, BindingState, Peer
from ndisbus.ddi.enums import Layer
from ndisbus.ddi.status import NdisStatus

__all__ = ["BindingPart"]


class BindingPart(Core):
    """The life of bindings."""

    def binding_of(self, peer: Peer, handle: Any) -> Binding:
        """The open binding that a protocol names. :class:`Violation` if it is not its own or is closed."""
        binding = self.bindings.get(handle) if type(handle) is int else None
        if binding is None or binding.protocol is not peer:
            text = f"{handle:#x}" if type(handle) is int else repr(handle)
            raise Violation("NdisBindingHandle", f"{text} is no binding of {peer.name}", "R-HND-08")
        if binding.state not in (BindingState.OPEN, BindingState.UNBINDING):
            raise Violation("NdisBindingHandle", f"the binding to {binding.adapter.name} is closed")
        return binding

    def bind_all(self) -> None:
        """Offer every adapter that is up to the protocols that want it and are not bound to it."""
        for peer in list(self.peers.values()):
            if peer.closed or peer.protocol_driver is None:
                continue
            wanted = peer.bind
            if wanted == "auto":
                name = self._automatic(peer)
                wanted = (name,) if name else ()
            for name in wanted:
                adapter = self._adapter_up(name)
                if adapter is None or name in peer.binding_now or adapter.handle in peer.given_up:
                    continue
                if any(b.adapter.name == name for b in peer.bindings):
                    continue
                if adapter.driver is peer:
                    continue
                self._bind(peer, adapter)

    def _adapter_up(self, name: str) -> Adapter | None:
        for adapter in self.adapters.values():
            if adapter.name == name and adapter.state is AdapterState.UP:
                return adapter
        return None

    def _automatic(self, peer: Peer) -> str | None:
        """A topmost adapter that nobody has, for a protocol that does not mind which."""
        if peer.assigned is not None:
            if not any(a.name == peer.assigned for a in self.adapters.values()):
                self._ask_for_adapter(
                    peer
                )  # the driver that exposed it is a new process and knows nothing of it
            return peer.assigned
        spoken_for = {p.assigned for p in self.peers.values() if not p.closed}
        for p in self.peers.values():
            if not p.closed and isinstance(p.bind, tuple):
                spoken_for.update(p.bind)
        free = [
            a
            for a in self.adapters.values()
            if a.state is AdapterState.UP
            and a.virtual
            and a.name not in spoken_for
            and not a.bindings
            and a.chimney_owner is None
        ]
        # Only virtual adapters: whoever comes first must not take the hardware from under an intermediate
        # driver that is still starting. A protocol that wants the hardware names it.
        if free:
            peer.assigned = min(a.name for a in free)
            return peer.assigned
        return self._ask_for_adapter(peer)

    def _ask_for_adapter(self, peer: Peer) -> str | None:
        """Have an intermediate driver expose an adapter for ``peer``: another one, or the one it had."""
        for im in self.peers.values():
            up = [a for a in im.adapters if a.state is AdapterState.UP]
            if im.closed or not im.is_intermediate or im is peer or not up:
                continue
            if any(b.protocol.is_intermediate for a in up for b in a.bindings):
                continue
            if peer.asked_epoch == im.epoch:
                return None
            peer.asked_epoch = im.epoch
            if peer.assigned is None:
                taken = {a.name for a in self.adapters.values()}
                taken |= {p.assigned or "" for p in self.peers.values() if not p.closed}
                stem = up[0].name.rsplit("-", 1)[0]
                peer.assigned = free_name(stem, taken)
            self._request_adapter(im, peer)
            return None
        return None

    def _request_adapter(self, im: Peer, peer: Peer) -> None:
        name = peer.assigned

        def asked(values: list[Any] | None) -> None:
            refused = not values or values[0] != NdisStatus.SUCCESS
            if refused and peer.assigned == name and not any(a.name == name for a in self.adapters.values()):
                peer.assigned = None
                self.bind_all()

        self.reconfigure(im, {"AddAdapter": name}, asked)

    def reconfigure(self, peer: Peer, buffer: dict[str, Any], then: Any) -> None:
        """NetEventReconfigure: tell an intermediate driver to change its virtual adapters."""
        notification = {"NetEvent": "NetEventReconfigure", "Buffer": buffer}
        self.call(peer, "ProtocolNetPnPEvent", [None, notification], then)

    def _bind(self, peer: Peer, adapter: Adapter) -> None:
        peer.binding_now.add(adapter.name)
        parameters = {
            "AdapterName": adapter.name,
            "TcpConnectionOffloadCapabilities": adapter.capabilities,
            "Epoch": adapter.driver.epoch,
            **adapter.facts,
        }

        def bound(_: list[Any] | None) -> None:
            peer.binding_now.discard(adapter.name)
            if adapter.state is not AdapterState.UP:
                self.bind_all()  # it went away while it was offered; its successor may be up already

        context = self.heap.address()
        self.call(peer, "ProtocolBindAdapterEx", [peer.protocol_context, context, parameters], bound)

    def open_adapter(self, peer: Peer, protocol: Any, context: Any, parameters: Any) -> Binding | None:
        """NdisOpenAdapterEx; None if the adapter went away while it was being offered.

        Raises :class:`Violation` for a forged handle or an adapter that was not offered.
        """
        if peer.protocol_driver is None or protocol != peer.protocol_driver:
            raise Violation("NdisProtocolHandle", "not the handle that NDIS gave on registration")
        if type(context) is not int:
            raise Violation("ProtocolBindingContext", f"a pointer expected, got {type(context).__name__}")
        name = parameters.get("AdapterName") if type(parameters) is dict else None
        if type(name) is not str:
            raise Violation("OpenParameters.AdapterName", "a string expected")
        if name not in peer.binding_now:
            raise Violation(
                "OpenParameters.AdapterName", f"{name!r} was not offered by ProtocolBindAdapterEx"
            )
        adapter = self._adapter_up(name)
        if adapter is None:
            return None
        binding = Binding(self.heap.address(), peer, adapter, context)
        self.bindings[binding.handle] = binding
        peer.bindings.append(binding)
        adapter.bindings.append(binding)
        self.emit("bound", protocol=peer.name, adapter=adapter.name)
        return binding

    def unbind(self, binding: Binding, why: str) -> None:
        """Tell a protocol to give a binding up; it is forced when the protocol takes too long."""
        if binding.state is not BindingState.OPEN:
            return
        binding.state = BindingState.UNBINDING
        self.emit("unbinding", protocol=binding.protocol.name, adapter=binding.adapter.name, reason=why)
        context = self.heap.address()

        def answered(values: list[Any] | None) -> None:
            # SUCCESS says that the protocol is through with it; PENDING that it will close it later.
            if values and values[0] == NdisStatus.SUCCESS and binding.state is BindingState.UNBINDING:
                binding.protocol.closed_handles[binding.handle] = None
                self.close_binding(binding)

        self.call(binding.protocol, "ProtocolUnbindAdapterEx", [context, binding.context], answered)

        def overdue() -> None:
            if binding.state is BindingState.UNBINDING:
                binding.protocol.closed_handles[binding.handle] = binding.context
                self.emit("unbind.forced", protocol=binding.protocol.name, adapter=binding.adapter.name)
                self.close_binding(binding)

        self.schedule(self.now + self.config.unbind_limit, overdue)

    def close_binding(self, binding: Binding) -> None:
        """NdisCloseAdapterEx, or the same by force: closed once nothing is in flight or left below."""
        if binding.state in (BindingState.OPEN, BindingState.UNBINDING):
            binding.state = BindingState.CLOSING
            binding.protocol.past_bindings.add(binding.handle)
            self.settle(binding)

    def settle(self, binding: Binding) -> None:
        """See whether a binding that is to go can go; terminate what it left behind, layer by layer.

        Block lists that are under way come back first. Net buffer lists need not: a posted receive may wait
        for data forever, and its connection's terminate is what ends it (R-TERM-08).
        """
        if binding.state not in (BindingState.CLOSING, BindingState.ABANDONED):
            return
        self.take_back_packets(binding)
        self.take_back_received(binding)
        if binding.lists:
            return
        adapter = binding.adapter
        left = binding.objects | binding.lost
        if left and adapter.alive:
            layer = max(layer for layer, _ in left.values())
            count = sum(1 for at, _ in left.values() if at == layer)
            self.emit(
                "cleanup",
                protocol=binding.protocol.name,
                adapter=adapter.name,
                layer=Layer(layer).name,
                objects=count,
            )
            self.ndis_terminate(binding, list(left))
            return
        self.abort_nbls(adapter, binding)
        self.abort_packets(adapter, binding)
        if binding.outstanding or binding.handle not in self.bindings:
            return
        binding.objects.clear()
        binding.lost.clear()
        abandoned = binding.state is BindingState.ABANDONED
        binding.state = BindingState.CLOSED
        del self.bindings[binding.handle]
        adapter.bindings.remove(binding)
        binding.protocol.bindings.remove(binding)
        if adapter.chimney_owner is binding:
            adapter.chimney_owner = None
            adapter.config = None
        self.emit("unbound", protocol=binding.protocol.name, adapter=adapter.name)
        if not abandoned:
            self.send(binding.protocol, ["ProtocolCloseAdapterCompleteEx", None, [binding.context]])
        self.halt_when_idle(adapter)
        self.bind_all()
