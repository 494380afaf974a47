"""Both edges: registration, the binding below, the virtual adapters above, and how they begin and end.

DDI pages initializing-a-tcp-chimney-capable-intermediate-driver and
registering-an-intermediate-driver-s-protocolxxx-chimney-functions.
"""

from __future__ import annotations

from typing import Any, Final

from imdriver.adapter import FACTS, LowerBinding, VirtualAdapter
from imdriver.config import ChimneyPolicy, ImConfig
from imdriver.entries import (
    ImCallEntry,
    ImIoEntry,
    ImOffloadEntry,
    ImOidEntry,
    ImPacketEntry,
    free_offload_entries,
)
from imdriver.life import CALL_ENTRY, OFFLOAD_ENTRY, CallEntryEvent, OffloadEntryEvent
from imdriver.registration import CLIENT_TABLES, PROVIDER_TABLES, check_event_handlers
from ndisbus.ddi.enums import NdisChimneyOffloadType
from ndisbus.ddi.status import NdisStatus, status_symbol
from ndisbus.driver.base import MiniportDriver, ProtocolDriver, Reply, Steps
from ndisbus.errors import RemoteProtocolError

__all__ = ["ImEdges"]

_SUCCESS: Final = int(NdisStatus.SUCCESS)


class ImEdges(MiniportDriver, ProtocolDriver):
    """What all conversations of the driver share: its two edges and its counters."""

    def __init__(self, config: ImConfig | None = None) -> None:
        self.config = config or ImConfig()
        self.chimney = self.config.chimney
        #: Names of the virtual adapters to expose whenever the adapter below is up.
        self.names = list(self.config.adapters)
        self.miniport_driver: int | None = None
        self.protocol: int | None = None
        self.lower: LowerBinding | None = None
        #: MiniportAdapterContext -> virtual adapter that is initialised or about to be.
        self.adapters: dict[int, VirtualAdapter] = {}
        #: Net buffer list -> the I/O request in which it was passed down.
        self.io: dict[int, ImIoEntry] = {}
        #: Lists below for which no driver above waits any more, for example because their adapter was halted.
        self.orphans: set[int] = set()
        #: Indicated frames that are above: list -> how many adapters have it, SourceHandle from below.
        self.passed_up: dict[int, list[Any]] = {}
        #: Number of requests not passed down because the driver above named an unknown object.
        self.refused = 0
        #: Number of indications about objects that do not exist (any more).
        self.strays = 0

    # -- registration --------------------------------------------------------------------------

    def driver_entry(self) -> Steps:
        """DriverEntry: register both edges (R-REG-03)."""
        name = self.config.name
        status, self.miniport_driver = yield self.ndis.m_register_miniport_driver(
            None, {"Name": name, "Adapters": []}
        )
        _must("NdisMRegisterMiniportDriver", name, status)
        bind = self.config.bind
        status, self.protocol = yield self.ndis.register_protocol_driver(
            None, {"Name": name, "Bind": bind if bind == "auto" else [bind]}
        )
        _must("NdisRegisterProtocolDriver", name, status)

    def miniport_set_options(self, ndis_driver_handle: int, driver_context: int | None) -> Steps:
        """MiniportSetOptions: the two provider structures (R-REG-01, R-REG-03)."""
        return self._set_options(ndis_driver_handle, PROVIDER_TABLES)

    def protocol_set_options(self, ndis_driver_handle: int, driver_context: int | None) -> Steps:
        """ProtocolSetOptions: the two client structures, with all six TCP entry points (R-DIS-35)."""
        return self._set_options(ndis_driver_handle, CLIENT_TABLES)

    def _set_options(self, ndis_driver_handle: int, tables: tuple[Any, ...]) -> Steps:
        if self.config.register_chimney:
            for table in tables:
                (status,) = yield self.ndis.set_optional_handlers(ndis_driver_handle, table.full())
                if status != _SUCCESS:
                    return status
        return NdisStatus.SUCCESS

    # -- the virtual adapters ------------------------------------------------------------------

    def adapter_of(self, miniport_adapter_context: int) -> VirtualAdapter:
        """Return the adapter of a MiniportAdapterContext. Raises :class:`RemoteProtocolError`."""
        try:
            return self.adapters[miniport_adapter_context]
        except KeyError:
            raise RemoteProtocolError(
                f"{self.config.name} has no adapter at {miniport_adapter_context:#x}"
            ) from None

    def adapters_above(self, protocol_binding_context: int) -> list[VirtualAdapter]:
        """Return the adapters of the life with this ProtocolBindingContext. None are left once it is over."""
        return [
            a
            for a in self.adapters.values()
            if a.handle is not None and a.lower.context == protocol_binding_context and a.below is not None
        ]

    def _bring_up_all(self) -> Steps:
        """Bring up the configured virtual adapters that are not up."""
        for name in list(self.names):
            # An adapter of an earlier life may still have the name. Its halt brings up its successor.
            if self.lower is not None and self.lower.usable and not self._is_named(name):
                yield from self._bring_up(name, self.lower)

    def _is_named(self, name: str) -> bool:
        return any(a.name == name for a in self.adapters.values())

    def _bring_up(self, name: str, lower: LowerBinding) -> Steps:
        """Let NDIS initialise a virtual adapter. Returns the status."""
        adapter = VirtualAdapter(name, lower)
        adapter.context = self.ndis.heap.allocate(adapter)
        self.adapters[adapter.context] = adapter
        status, handle = yield self.ndis.im_initialize_device_instance_ex(
            self.miniport_driver, name, adapter.context
        )
        if status == _SUCCESS:
            adapter.handle = handle
            if not lower.usable:
                yield from self._take_down(adapter)  # the adapter below went away meanwhile
                yield from self._bring_up_all()
        elif adapter.context in self.adapters:
            self._free_adapter(adapter)
        return status

    def miniport_initialize_ex(
        self, ndis_miniport_handle: int, miniport_driver_context: int | None, parameters: dict[str, Any]
    ) -> Steps:
        """MiniportInitializeEx, because of NdisIMInitializeDeviceInstanceEx."""
        adapter = self.adapter_of(parameters["IMDeviceInstanceContext"])
        adapter.handle = ndis_miniport_handle
        lower = adapter.lower
        capabilities = lower.capabilities if self.chimney is ChimneyPolicy.PASS else None
        mac = self.config.macs.get(adapter.name)
        (status,) = yield self.ndis.m_set_miniport_attributes(
            ndis_miniport_handle,
            {
                "MiniportAdapterContext": adapter.context,
                "TcpConnectionOffloadCapabilities": capabilities,
                **lower.facts,
                **({"CurrentMacAddress": mac} if mac else {}),
            },
        )
        if status == _SUCCESS and self.config.register_chimney:
            status, table = yield self.ndis.m_get_offload_handlers(
                ndis_miniport_handle, NdisChimneyOffloadType.NdisTcpChimneyOffload
            )
            if status == _SUCCESS:
                check_event_handlers(table)
        return status

    def miniport_halt_ex(self, miniport_adapter_context: int, halt_action: int) -> NdisStatus:
        """MiniportHaltEx: free every entry of the adapter. Completions of what is still below are dropped."""
        adapter = self.adapters.get(miniport_adapter_context)
        if adapter is not None:
            self._free_adapter(adapter)
            self.wants_changed(adapter)
            if adapter.lower.close_last and not self._has_adapters(adapter.lower):
                self.ndis.run(self._close_below(adapter.lower))
        return NdisStatus.SUCCESS

    def wants_changed(self, adapter: VirtualAdapter) -> None:
        """Note that an adapter has gone: see :mod:`imdriver.oids`."""

    def _free_adapter(self, adapter: VirtualAdapter) -> None:
        heap = self.ndis.heap
        for o in list(heap.objects.values()):
            if type(o) is ImCallEntry and o.adapter is adapter:
                CALL_ENTRY.advance(o, CallEntryEvent.ABANDON)
                self.orphans.add(o.block_list.address)
                heap.free(o.address)
            elif type(o) is ImIoEntry and o.adapter is adapter:
                for nbl in list(o.left):
                    self.abandon(nbl)
            elif type(o) is ImPacketEntry and o.adapter is adapter:
                heap.free(o.address)
            elif type(o) is ImOidEntry and o.adapter is adapter:
                o.adapter = None
        # Each offload entry has two addresses: its own and its handle's.
        objects = [
            o
            for a, o in heap.objects.items()
            if type(o) is ImOffloadEntry and a == o.address and o.adapter is adapter
        ]
        OFFLOAD_ENTRY.advance_all(objects, OffloadEntryEvent.HALT)
        free_offload_entries(heap, objects)
        del self.adapters[adapter.context]
        heap.free(adapter.context)
        adapter.handle = None

    def abandon(self, net_buffer_list: int) -> None:
        """Drop the later completion of a net buffer list: the driver above does not wait for it any more."""
        entry = self.io.pop(net_buffer_list)
        entry.left.remove(net_buffer_list)
        self.orphans.add(net_buffer_list)
        if not entry.left:
            CALL_ENTRY.advance(entry, CallEntryEvent.ABANDON)
            self.ndis.heap.free(entry.address)

    def take_home(self, net_buffer_list: int) -> None:
        """Note that a net buffer list came back with its connection, and goes up with it (R-DIS-16)."""
        entry = self.io.pop(net_buffer_list)
        entry.left.remove(net_buffer_list)
        if not entry.left:
            CALL_ENTRY.advance(entry, CallEntryEvent.PROPAGATE)
            self.ndis.heap.free(entry.address)

    # -- the binding below ---------------------------------------------------------------------

    def protocol_bind_adapter_ex(
        self, protocol_driver_context: int | None, bind_context: int, parameters: dict[str, Any]
    ) -> Steps:
        """ProtocolBindAdapterEx: open the adapter below, then expose the virtual ones above."""
        if self.lower is not None:
            return NdisStatus.FAILURE
        lower = self.lower = LowerBinding(parameters["AdapterName"])
        lower.capabilities = parameters.get("TcpConnectionOffloadCapabilities")
        lower.facts = {name: parameters.get(name) for name in FACTS}
        lower.context = self.ndis.heap.allocate(lower)
        status, handle = yield self.ndis.open_adapter_ex(
            self.protocol, lower.context, {"AdapterName": lower.adapter_name}
        )
        if status != _SUCCESS:
            self._end_life()
            return status
        lower.handle = handle
        yield from self._bring_up_all()
        return NdisStatus.SUCCESS

    def protocol_unbind_adapter_ex(self, unbind_context: int, protocol_binding_context: int) -> Steps:
        """ProtocolUnbindAdapterEx: remove the virtual adapters, then close.

        NDIS unbinds the drivers above first. What they terminate meanwhile still passes through here.
        """
        lower = self.lower
        if lower is None or lower.context != protocol_binding_context:
            return NdisStatus.SUCCESS
        lower.closing = True
        yield from self._take_down_all(lower)
        if self._has_adapters(lower):  # something else removes them: the process ends, say
            lower.close_last = True
            return NdisStatus.PENDING
        return (yield from self._close_below(lower))

    def _has_adapters(self, lower: LowerBinding) -> bool:
        return any(a.lower is lower for a in self.adapters.values())

    def _close_below(self, lower: LowerBinding) -> Steps:
        """Close the adapter below. From here on nothing is passed down."""
        handle, lower.handle = lower.handle, None
        if handle is None:
            return NdisStatus.SUCCESS  # NDIS has closed it by force meanwhile
        (status,) = yield self.ndis.close_adapter_ex(handle)
        return status

    def _take_down_all(self, lower: LowerBinding) -> Steps:
        """Remove the virtual adapters of one life, all at the same time."""
        downs = [self._ask_down(a) for a in self.adapters.values() if a.lower is lower]
        for reply in downs:
            if reply is not None:
                yield reply
        yield from self._bring_up_all()  # NDIS may have bound us again meanwhile

    def _take_down(self, adapter: VirtualAdapter) -> Steps:
        reply = self._ask_down(adapter)
        if reply is None:
            return NdisStatus.SUCCESS
        (status,) = yield reply
        return status

    def _ask_down(self, adapter: VirtualAdapter) -> Reply | None:
        """Ask NDIS to remove an adapter. None: it is already being removed, or NDIS never had it."""
        if adapter.closing or adapter.handle is None:
            return None
        adapter.closing = True
        return self.ndis.im_de_initialize_device_instance(adapter.handle)

    def protocol_close_adapter_complete_ex(self, protocol_binding_context: int) -> Steps | None:
        """ProtocolCloseAdapterCompleteEx: this life of the binding is over.

        If NDIS closed it by force, its adapters are still there. They are removed, and what still comes from
        above for their objects is refused: it must not reach the next adapter below.
        """
        lower = self.lower
        if lower is None or lower.context != protocol_binding_context:
            return None
        self._end_life()
        return self._take_down_all(lower)

    def _end_life(self) -> None:
        """Forget the binding below, and complete the OID requests that did not come back from it."""
        heap, lower = self.ndis.heap, self.lower
        if lower is not None:
            heap.free(lower.context)
            lower.handle = None
            self.lower = None
        for o in [o for o in heap.objects.values() if type(o) is ImOidEntry]:
            heap.free(o.address)
            if o.adapter is not None and o.adapter.handle is not None:
                aborted = int(NdisStatus.REQUEST_ABORTED)
                self.ndis.m_oid_request_complete(o.adapter.handle, o.request, aborted)
        self.orphans.clear()
        self.passed_up.clear()

    def protocol_net_pnp_event(
        self, protocol_binding_context: int | None, notification: dict[str, Any]
    ) -> Any:
        """ProtocolNetPnPEvent: NetEventReconfigure adds or removes a virtual adapter."""
        buffer = notification.get("Buffer")
        if notification.get("NetEvent") == "NetEventReconfigure" and isinstance(buffer, dict):
            if "AddAdapter" in buffer:
                return self._add_adapter(str(buffer["AddAdapter"]))
            if "RemoveAdapter" in buffer:
                return self._remove_adapter(str(buffer["RemoveAdapter"]))
        return NdisStatus.NOT_SUPPORTED

    def _add_adapter(self, name: str) -> Steps:
        if name in self.names:
            return NdisStatus.FAILURE
        self.names.append(name)
        if self.lower is None or not self.lower.usable:
            return NdisStatus.SUCCESS  # it is brought up with the others when the adapter below is up
        if self._is_named(name):
            return NdisStatus.SUCCESS  # it was removed and is still being halted: it follows itself
        status = yield from self._bring_up(name, self.lower)
        if status != _SUCCESS and name in self.names:
            self.names.remove(name)
        return status

    def _remove_adapter(self, name: str) -> Steps:
        if name not in self.names:
            return NdisStatus.FAILURE
        self.names.remove(name)
        for adapter in list(self.adapters.values()):
            if adapter.name == name:
                return (yield from self._take_down(adapter))
        return NdisStatus.SUCCESS

    def depart(self) -> bool:
        """Remove the virtual adapters: the process was asked to end.

        NDIS unbinds the drivers above first, and they upload everything before they close.
        """
        if self.lower is not None:
            self.lower.closing = True
            self.ndis.run(self._take_down_all(self.lower))
        return True

    def departed(self) -> bool:
        """Return whether the virtual adapters are gone, and with them everything that was offloaded."""
        return not self.adapters

    def detached(self, reason: str) -> None:
        """Drop what an unfinished start left. The bus has gone: everything was halted and closed."""
        for adapter in list(self.adapters.values()):
            self._free_adapter(adapter)
        self._end_life()
        self.miniport_driver = self.protocol = None


def _must(call: str, name: str, status: int) -> None:
    if status != _SUCCESS:
        raise RemoteProtocolError(f"{call} of '{name}' was answered with {status_symbol(status)}")
