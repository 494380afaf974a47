"""A miniport and a protocol that do nothing but keep frames for a while, and take note of every list."""

from __future__ import annotations

from typing import Any

from ndisbus.ddi.enums import NDIS_RECEIVE_FLAGS_RESOURCES
from ndisbus.ddi.status import NdisStatus
from ndisbus.driver.base import MiniportDriver, ProtocolDriver, Reply, Steps
from ndisbus.lists.nbl_chain import NblChain

_SURPRISE = 1


class Untrue(AssertionError):
    """A list came back twice, or to a driver that does not own it."""


class PacketNic(MiniportDriver):
    """Keeps what it is given to send until it is told to complete it; indicates what it is told to."""

    def __init__(self) -> None:
        self.adapter: int | None = None
        self.handle: int | None = None
        #: Lists it has to complete: address -> SourceHandle; the frames it was given, in order.
        self.pending: dict[int, int | None] = {}
        self.frames: list[bytes] = []
        self.lent: set[int] = set()
        self.halting: Reply | None = None

    def driver_entry(self) -> Steps:
        yield self.ndis.m_register_miniport_driver(None, {"Name": "nic", "Adapters": ["nic0"]})

    def miniport_initialize_ex(
        self, ndis_miniport_handle: int, miniport_driver_context: int | None, parameters: dict[str, Any]
    ) -> Steps:
        self.adapter, self.handle = self.ndis.heap.address(), ndis_miniport_handle
        (status,) = yield self.ndis.m_set_miniport_attributes(
            ndis_miniport_handle, {"MiniportAdapterContext": self.adapter, "MtuSize": 1500}
        )
        return status

    def miniport_halt_ex(self, miniport_adapter_context: int, halt_action: int) -> Steps:
        if halt_action != _SURPRISE and self.lent:
            self.halting = Reply("MiniportHaltEx")
            yield self.halting
        self.forget()
        return NdisStatus.SUCCESS

    def forget(self) -> None:
        """Nothing is in flight any more: NDIS has seen to it."""
        self.pending.clear()
        self.lent.clear()
        self.adapter = self.handle = self.halting = None

    def detached(self, reason: str) -> None:
        self.forget()

    def adapter_handle(self, miniport_adapter_context: int) -> int:
        assert self.handle is not None
        return self.handle

    def miniport_send_net_buffer_lists(
        self, miniport_adapter_context: int, chain: NblChain, port_number: int, send_flags: int
    ) -> None:
        if not self.pending.keys().isdisjoint(chain.addresses):
            raise Untrue(f"{chain!r} was given twice")
        self.pending.update(dict.fromkeys(chain.addresses, chain.source_handle))
        self.frames += chain.frames()

    def complete(self, lists: list[int]) -> None:
        """Complete some of what is pending, lists of several sends in one call."""
        if not lists:
            return
        sources = {self.pending.pop(a) for a in lists}
        chain = NblChain(lists, statuses=[0] * len(lists))
        chain.source_handle = sources.pop() if len(sources) == 1 else None
        self.ndis.m_send_net_buffer_lists_complete(self.handle, chain, 0)

    def indicate(self, frames: list[bytes], flags: int = 0) -> None:
        """Indicate frames; do nothing without an adapter."""
        if self.handle is None:
            return
        chain = NblChain.of_frames(self.ndis.heap, frames, source_handle=self.handle)
        if not flags & NDIS_RECEIVE_FLAGS_RESOURCES:
            self.lent.update(chain.addresses)
        self.ndis.m_indicate_receive_net_buffer_lists(self.handle, chain, 0, len(chain), flags)

    def miniport_return_net_buffer_lists(
        self, miniport_adapter_context: int, chain: NblChain, return_flags: int
    ) -> None:
        if not self.lent.issuperset(chain.addresses):
            raise Untrue(f"{chain!r} was returned and not lent")
        self.lent.difference_update(chain.addresses)
        if self.halting is not None and not self.lent:
            reply, self.halting = self.halting, None
            self.ndis.resume(reply, (0,))


class PacketHost(ProtocolDriver):
    """Keeps what it is indicated until it is told to return it; counts what becomes of its sends."""

    def __init__(self, name: str, bind: str) -> None:
        self.name = name
        self.bind = bind
        self.protocol: int | None = None
        self.context: int | None = None
        self.binding: int | None = None
        #: Lists that are below, and how those ended that were.
        self.sends: set[int] = set()
        self.statuses: list[int] = []
        #: Lists from below that are kept: address -> SourceHandle.
        self.kept: dict[int, int | None] = {}
        self.frames: list[bytes] = []
        self.facts: dict[str, Any] = {}

    def driver_entry(self) -> Steps:
        _, self.protocol = yield self.ndis.register_protocol_driver(
            None, {"Name": self.name, "Bind": [self.bind]}
        )

    def protocol_bind_adapter_ex(
        self, protocol_driver_context: int | None, bind_context: int, parameters: dict[str, Any]
    ) -> Steps:
        context = self.ndis.heap.address()
        status, handle = yield self.ndis.open_adapter_ex(
            self.protocol, context, {"AdapterName": parameters["AdapterName"]}
        )
        if status == NdisStatus.SUCCESS:
            self.context, self.binding, self.facts = context, handle, parameters
        return status

    def protocol_unbind_adapter_ex(self, unbind_context: int, protocol_binding_context: int) -> Steps:
        """Returns everything and closes, whatever is still to be completed."""
        self.give_back(list(self.kept))
        handle, self.binding = self.binding, None
        (status,) = yield self.ndis.close_adapter_ex(handle)
        return status

    def protocol_close_adapter_complete_ex(self, protocol_binding_context: int) -> None:
        if protocol_binding_context == self.context:
            self._ended("the binding is closed")

    def detached(self, reason: str) -> None:
        self._ended("the bus is gone")
        self.protocol = None

    def _ended(self, why: str) -> None:
        if self.sends:
            raise Untrue(f"{self.name}: {why}, and {len(self.sends)} sends were not completed")
        self.kept.clear()
        self.binding = self.context = None

    def transmit(self, frames: list[bytes]) -> None:
        """Send frames, if there is a binding."""
        if self.binding is None:
            return
        chain = NblChain.of_frames(self.ndis.heap, frames, source_handle=self.binding)
        self.sends.update(chain.addresses)
        self.ndis.send_net_buffer_lists(self.binding, chain, 0, 0)

    def protocol_send_net_buffer_lists_complete(
        self, protocol_binding_context: int, chain: NblChain, send_complete_flags: int
    ) -> None:
        if not self.sends.issuperset(chain.addresses):
            raise Untrue(f"{self.name}: {chain!r} was completed and not sent")
        self.sends.difference_update(chain.addresses)
        assert chain.statuses is not None
        self.statuses += chain.statuses

    def protocol_receive_net_buffer_lists(
        self, protocol_binding_context: int, chain: NblChain, port_number: int, count: int, receive_flags: int
    ) -> None:
        if protocol_binding_context != self.context:
            return  # held back until the binding was closed
        self.frames += chain.frames()
        if not receive_flags & NDIS_RECEIVE_FLAGS_RESOURCES:
            if not self.kept.keys().isdisjoint(chain.addresses):
                raise Untrue(f"{self.name}: {chain!r} was indicated twice")
            self.kept.update(dict.fromkeys(chain.addresses, chain.source_handle))

    def give_back(self, lists: list[int]) -> None:
        """Return some of what is kept."""
        if lists and self.binding is not None:
            source = self.kept[lists[0]]
            self.ndis.return_net_buffer_lists(self.binding, NblChain(lists, source_handle=source), 0)
            for a in lists:
                del self.kept[a]
