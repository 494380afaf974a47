"""Bindings: open, unbind and close them, and clean up what their protocol left.

A protocol is bound to an adapter that it asked for as soon as the adapter is up and the protocol has no
earlier binding to the same name. A binding closes when nothing that it passed down is outstanding and
nothing that it offloaded is left below. A protocol may die, or close without terminating. Then NDIS
terminates what is left: first connections, then paths, then neighbors (R-TERM-02).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ndisbus.core.model import AdapterState, Binding, BindingState
from ndisbus.core.registry import handle_text
from ndisbus.core.violation import Violation, free_name
from ndisbus.ddi.state_types import Layer
from ndisbus.ddi.status import NdisStatus
from ndisbus.errors import value_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ndisbus.core.clock import Clock
    from ndisbus.core.io import Io
    from ndisbus.core.model import Adapter, Client, CoreConfig, Handlers
    from ndisbus.core.oids import Oids
    from ndisbus.core.outbound import Outbound
    from ndisbus.core.packets import Packets
    from ndisbus.core.registry import Registry
    from ndisbus.core.terminator import Terminator
    from ndisbus.lists.heap import Heap
    from ndisbus.messages.codec import Message

__all__ = ["Bindings"]

_SUCCESS: Final = int(NdisStatus.SUCCESS)


class Bindings:
    """Owns the bindings from their opening to their end."""

    __slots__ = ("clock", "config", "heap", "io", "oids", "out", "packets", "registry", "terminator")

    def __init__(
        self,
        config: CoreConfig,
        clock: Clock,
        out: Outbound,
        registry: Registry,
        heap: Heap,
        io: Io,
        packets: Packets,
        oids: Oids,
        terminator: Terminator,
    ) -> None:
        self.config = config
        self.clock = clock
        self.out = out
        self.registry = registry
        self.heap = heap
        self.io = io
        self.packets = packets
        self.oids = oids
        self.terminator = terminator

    def handlers(self) -> Handlers:
        """Return the handlers by name of call."""
        return {"NdisOpenAdapterEx": self._open, "NdisCloseAdapterEx": self._close}

    def bind_all(self) -> None:
        """Offer each adapter that is up to the protocols that ask for it and are not bound to it."""
        for client in list(self.registry.clients.values()):
            if client.closed or client.protocol_driver is None:
                continue
            wanted = client.bind
            if wanted == "auto":
                name = self._automatic(client)
                wanted = (name,) if name else ()
            for name in wanted:
                adapter = self.registry.adapter_up(name)
                if adapter is None or name in client.binding_now or adapter.handle in client.given_up:
                    continue
                if any(b.adapter.name == name for b in client.bindings):
                    continue
                if adapter.driver is client:
                    continue
                self._bind(client, adapter)

    def _automatic(self, client: Client) -> str | None:
        """Return a topmost adapter without a protocol, for one that asks for "auto"; or None."""
        if client.assigned is not None:
            if not any(a.name == client.assigned for a in self.registry.adapters.values()):
                self._ask_for_adapter(client)  # the driver that exposed it has restarted and does not know it
            return client.assigned
        spoken_for = {p.assigned for p in self.registry.clients.values() if not p.closed}
        for p in self.registry.clients.values():
            if not p.closed and isinstance(p.bind, tuple):
                spoken_for.update(p.bind)
        free = [
            a
            for a in self.registry.adapters.values()
            if a.state is AdapterState.UP
            and a.virtual
            and a.name not in spoken_for
            and not a.bindings
            and a.chimney_owner is None
        ]
        # Only virtual adapters. Otherwise the first protocol could take the hardware from an intermediate
        # driver that is still starting. A protocol that needs the hardware asks for it by name.
        if free:
            client.assigned = min(a.name for a in free)
            return client.assigned
        return self._ask_for_adapter(client)

    def _ask_for_adapter(self, client: Client) -> str | None:
        """Ask an intermediate driver to expose an adapter for ``client``: its earlier one, or a new one."""
        for im in self.registry.clients.values():
            up = [a for a in im.adapters if a.state is AdapterState.UP]
            if im.closed or not im.is_intermediate or im is client or not up:
                continue
            if any(b.protocol.is_intermediate for a in up for b in a.bindings):
                continue
            if client.asked_epoch == im.epoch:
                return None
            client.asked_epoch = im.epoch
            if client.assigned is None:
                taken = {a.name for a in self.registry.adapters.values()}
                taken |= {p.assigned or "" for p in self.registry.clients.values() if not p.closed}
                stem = up[0].name.rsplit("-", 1)[0]
                client.assigned = free_name(stem, taken)
            self._request_adapter(im, client)
            return None
        return None

    def _request_adapter(self, im: Client, client: Client) -> None:
        name = client.assigned

        def asked(values: list[Any] | None) -> None:
            refused = not values or values[0] != NdisStatus.SUCCESS
            if (
                refused
                and client.assigned == name
                and not any(a.name == name for a in self.registry.adapters.values())
            ):
                client.assigned = None
                self.bind_all()

        self.reconfigure(im, {"AddAdapter": name}, asked)

    def reconfigure(self, client: Client, buffer: dict[str, Any], then: Any) -> None:
        """Send NetEventReconfigure: ask an intermediate driver to change its virtual adapters."""
        notification = {"NetEvent": "NetEventReconfigure", "Buffer": buffer}
        self.out.call(client, "ProtocolNetPnPEvent", [None, notification], then)

    def _bind(self, client: Client, adapter: Adapter) -> None:
        client.binding_now.add(adapter.name)
        parameters = {
            "AdapterName": adapter.name,
            "TcpConnectionOffloadCapabilities": adapter.capabilities,
            "Epoch": adapter.epoch,
            **adapter.facts,
        }

        def bound(_: list[Any] | None) -> None:
            client.binding_now.discard(adapter.name)
            if adapter.state is not AdapterState.UP:
                self.bind_all()  # the adapter was removed during the offer; its successor may already be up

        context = self.heap.address()
        self.out.call(client, "ProtocolBindAdapterEx", [client.protocol_context, context, parameters], bound)

    def _open(self, client: Client, message: Message, frames: Sequence[bytes]) -> None:
        binding = self._open_offered(client, *message[2])
        if binding is None:
            self.out.answer(client, message, int(NdisStatus.ADAPTER_REMOVED), None)
        else:
            self.out.answer(client, message, _SUCCESS, binding.handle)

    def _open_offered(self, client: Client, protocol: Any, context: Any, parameters: Any) -> Binding | None:
        """Open an offered adapter (NdisOpenAdapterEx). Returns None if it was removed during the offer.

        Raises :class:`Violation` for a wrong handle or an adapter that was not offered.
        """
        if client.protocol_driver is None or protocol != client.protocol_driver:
            raise Violation("NdisProtocolHandle", "not the handle that NDIS gave on registration")
        if type(context) is not int:
            raise Violation("ProtocolBindingContext", f"a pointer expected, got {value_text(context)}")
        name = parameters.get("AdapterName") if type(parameters) is dict else None
        if type(name) is not str:
            raise Violation("OpenParameters.AdapterName", "a string expected")
        if name not in client.binding_now:
            raise Violation(
                "OpenParameters.AdapterName", f"{value_text(name)} was not offered by ProtocolBindAdapterEx"
            )
        adapter = self.registry.adapter_up(name)
        if adapter is None:
            return None
        binding = Binding(self.heap.address(), client, adapter, context)
        self.registry.bindings[binding.handle] = binding
        client.bindings.append(binding)
        adapter.bindings.append(binding)
        self.out.emit("bound", protocol=client.name, adapter=adapter.name)
        return binding

    def _close(self, client: Client, message: Message, frames: Sequence[bytes]) -> None:
        handle = message[2][0]
        binding = self.registry.bindings.get(handle) if type(handle) is int else None
        if binding is None or binding.protocol is not client:
            if client.ended.closable(handle):
                # NDIS has closed it. Nothing is left to do.
                self.out.answer(client, message, _SUCCESS)
                return
            raise Violation("NdisBindingHandle", f"{handle_text(handle)} is not a binding of {client.name}")
        if binding.state not in (BindingState.OPEN, BindingState.UNBINDING):
            self.out.answer(client, message, _SUCCESS)
            return
        if binding.state is BindingState.OPEN:
            client.given_up.add(binding.adapter.handle)
        self.out.answer(client, message, _SUCCESS)
        self.close(binding)

    def unbind(self, binding: Binding, why: str) -> None:
        """Ask a protocol to close a binding. Close it by force if the protocol takes too long."""
        if binding.state is not BindingState.OPEN:
            return
        binding.state = BindingState.UNBINDING
        self.out.emit("unbinding", protocol=binding.protocol.name, adapter=binding.adapter.name, reason=why)
        context = self.heap.address()

        def answered(values: list[Any] | None) -> None:
            # SUCCESS: the protocol has given the binding up. PENDING: it will close it later.
            if values and values[0] == NdisStatus.SUCCESS and binding.state is BindingState.UNBINDING:
                self.close(binding, closable=True)

        self.out.call(binding.protocol, "ProtocolUnbindAdapterEx", [context, binding.context], answered)
        self._begin_limit(binding)

    def _begin_limit(self, binding: Binding) -> None:
        """Begin the time within which a protocol must close a binding, or begin it anew.

        It measures how long this protocol itself delays the end. An intermediate driver that waits until its
        virtual adapters are unbound delays nothing: the protocols above have limits of their own, and its
        own begins when the last of those has ended. So an outer limit never ends before an inner one.
        """
        binding.close_by = self.clock.now + self.config.unbind_limit
        self.clock.schedule(binding.close_by, partial(self._overdue, binding))

    def _overdue(self, binding: Binding) -> None:
        if binding.state is not BindingState.UNBINDING or self.clock.now < binding.close_by:
            return
        if binding.protocol.waits_above:
            return  # the end of the last binding above begins the limit anew
        self.out.emit("unbind.forced", protocol=binding.protocol.name, adapter=binding.adapter.name)
        self.close(binding, forced=True, closable=True)

    def close(self, binding: Binding, *, forced: bool = False, closable: bool = False) -> None:
        """Close the binding once nothing is in flight or left below (NdisCloseAdapterEx, or by force).

        ``forced`` and ``closable``: see :class:`ndisbus.core.ended.EndedBindings`.
        """
        if binding.state in (BindingState.OPEN, BindingState.UNBINDING):
            binding.state = BindingState.CLOSING
            ended = binding.protocol.ended
            ended.begin(binding.handle, binding.context, forced=forced, closable=closable)
            self._settle_from_now(binding)

    def abandon(self, binding: Binding) -> None:
        """Clean up after a dead protocol, in any state of the binding."""
        binding.state = BindingState.ABANDONED
        self._settle_from_now(binding)

    def _settle_from_now(self, binding: Binding) -> None:
        binding.on_return = partial(self._settle, binding)
        self._settle(binding)

    def _settle(self, binding: Binding) -> None:
        """Close a closing binding if possible. Otherwise terminate what it left, layer by layer.

        Block lists that are outstanding must come back first. Net buffer lists need not: a posted receive
        may wait for data forever, and the terminate of its connection ends it (R-TERM-08).
        """
        if binding.state not in (BindingState.CLOSING, BindingState.ABANDONED):
            return
        self.packets.take_back(binding)
        self.io.take_back_received(binding)
        if binding.lists:
            return
        adapter = binding.adapter
        left = binding.objects | binding.lost
        if left and adapter.alive:
            layer = max(layer for layer, _ in left.values())
            count = sum(1 for at, _ in left.values() if at == layer)
            self.out.emit(
                "cleanup",
                protocol=binding.protocol.name,
                adapter=adapter.name,
                layer=Layer(layer).name,
                objects=count,
            )
            self.terminator.terminate(binding, list(left))
            return
        self.io.abort(adapter, binding)
        self.packets.abort(adapter, binding)
        if binding.outstanding or binding.handle not in self.registry.bindings:
            return
        if self.oids.release(binding):
            return  # its completion leads here again
        binding.objects.clear()
        binding.lost.clear()
        abandoned = binding.state is BindingState.ABANDONED
        binding.state = BindingState.CLOSED
        del self.registry.bindings[binding.handle]
        adapter.bindings.remove(binding)
        binding.protocol.bindings.remove(binding)
        if adapter.chimney_owner is binding:  # the adapter is gone, or about to be halted
            adapter.chimney_owner = adapter.config = adapter.parameters = None
        self.out.emit("unbound", protocol=binding.protocol.name, adapter=adapter.name)
        if not abandoned:
            binding.protocol.ended.told(binding.handle, binding.protocol.next_call)
            self.out.send(binding.protocol, ["ProtocolCloseAdapterCompleteEx", None, [binding.context]])
        if not adapter.bindings:
            for below in adapter.driver.bindings:
                if below.state is BindingState.UNBINDING:
                    self._begin_limit(below)
            if adapter.on_unbound is not None:
                adapter.on_unbound()
        self.bind_all()
