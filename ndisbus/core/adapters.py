"""Adapters: initialize them, take their description from the miniport, halt them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ndisbus.core.model import Adapter, AdapterState, status_of
from ndisbus.core.violation import NAME_LIMIT, Violation
from ndisbus.ddi.characteristics import NdisTcpOffloadEventHandlers
from ndisbus.ddi.enums import NdisChimneyOffloadType
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import NdisTcpConnectionOffload
from ndisbus.errors import value_text

if TYPE_CHECKING:
    from ndisbus.core.bindings import Bindings
    from ndisbus.core.epochs import Epochs
    from ndisbus.core.hangs import HangWatch
    from ndisbus.core.model import Client, Handlers
    from ndisbus.core.outbound import Outbound
    from ndisbus.core.registry import Registry
    from ndisbus.lists.heap import Heap
    from ndisbus.messages.codec import Message

__all__ = ["Adapters"]

_SUCCESS: Final = int(NdisStatus.SUCCESS)
#: Longest link address in bytes (NDIS_MAX_PHYS_ADDRESS_LENGTH). Below: the other facts, each with its bound.
_MAX_MAC: Final = 32
_NUMBERS: Final = {"MtuSize": 1 << 32, "XmitLinkSpeed": 1 << 64, "RcvLinkSpeed": 1 << 64}


class Adapters:
    """The life of adapters."""

    __slots__ = ("bindings", "epochs", "hangs", "heap", "out", "registry")

    def __init__(
        self,
        out: Outbound,
        registry: Registry,
        heap: Heap,
        epochs: Epochs,
        bindings: Bindings,
        hangs: HangWatch,
    ) -> None:
        self.out = out
        self.registry = registry
        self.heap = heap
        self.epochs = epochs
        self.bindings = bindings
        self.hangs = hangs

    def handlers(self) -> Handlers:
        """Return the handlers by name of call."""
        return {
            "NdisMSetMiniportAttributes": self._set_attributes,
            "NdisMGetOffloadHandlers": self._get_offload_handlers,
            "NdisIMInitializeDeviceInstanceEx": self._im_initialize,
            "NdisIMDeInitializeDeviceInstance": self._im_deinitialize,
        }

    def initialize(
        self,
        client: Client,
        name: str,
        device_context: int | None,
        *,
        virtual: bool,
        then: Callable[[int, Adapter], None],
    ) -> None:
        """Call MiniportInitializeEx. ``then`` gets the status and the adapter, which is up on SUCCESS."""
        # Until one of the driver's adapters has ended, the driver's own epoch tells all lives apart.
        epoch = self.epochs.next() if client.adapters_ended else client.epoch
        adapter = Adapter(name, self.heap.address(), client, virtual, epoch)
        self.registry.adapters[adapter.handle] = adapter
        client.adapters.append(adapter)
        parameters = {"AdapterName": name, "IMDeviceInstanceContext": device_context, "Epoch": epoch}

        def initialized(values: list[Any] | None) -> None:
            status = status_of(values)
            if status == _SUCCESS and adapter.context is None:
                status = int(NdisStatus.FAILURE)
            if status == _SUCCESS and adapter.state is AdapterState.CLOSING:
                then(status, adapter)
                self.close(adapter)  # its removal was requested before it was up
                return
            if status == _SUCCESS and adapter.state is AdapterState.INITIALIZING:
                adapter.state = AdapterState.UP
                self.out.emit("adapter.up", adapter=name, driver=client.name, epoch=adapter.epoch)
                self.hangs.watch(client)
            else:
                self._drop(adapter)
                if adapter.on_halted is not None:
                    adapter.on_halted()
            then(status, adapter)
            self.bindings.bind_all()

        self.out.call(
            client, "MiniportInitializeEx", [adapter.handle, client.miniport_context, parameters], initialized
        )

    def _drop(self, adapter: Adapter) -> None:
        adapter.state = AdapterState.DEAD
        self.registry.adapters.pop(adapter.handle, None)
        adapter.driver.adapters_ended = True
        if adapter in adapter.driver.adapters:
            adapter.driver.adapters.remove(adapter)

    def _set_attributes(self, client: Client, message: Message, frames: Sequence[bytes]) -> None:
        handle, attributes = message[2]
        adapter = self.registry.adapter_of(client, handle, "NdisMiniportHandle")
        if type(attributes) is not dict:
            raise Violation("MiniportAttributes", "a map expected")
        context = attributes.get("MiniportAdapterContext")
        if type(context) is not int:
            raise Violation("MiniportAttributes.MiniportAdapterContext", "a pointer expected")
        capabilities = attributes.get("TcpConnectionOffloadCapabilities")
        if capabilities is not None:
            where = "MiniportAttributes.TcpConnectionOffloadCapabilities"
            if not NdisTcpConnectionOffload.from_wire(capabilities, where).is_recognised():
                capabilities = None  # R-OID-09
        adapter.context = context
        adapter.capabilities = capabilities
        adapter.facts = _facts(attributes)
        self.out.answer(client, message, _SUCCESS)

    def _get_offload_handlers(self, client: Client, message: Message, frames: Sequence[bytes]) -> None:
        handle, kind = message[2]
        self.registry.adapter_of(client, handle, "NdisMiniportHandle")
        if kind != int(NdisChimneyOffloadType.NdisTcpChimneyOffload):
            # R-REG-07: an unknown chimney type gets no table.
            self.out.answer(client, message, int(NdisStatus.NOT_SUPPORTED), None)
            return
        self.out.answer(client, message, _SUCCESS, NdisTcpOffloadEventHandlers.full().to_wire())

    def _im_initialize(self, client: Client, message: Message, frames: Sequence[bytes]) -> None:
        handle, name, context = message[2]
        if client.miniport_driver is None or handle != client.miniport_driver:
            raise Violation("NdisMiniportDriverHandle", "not the handle that NDIS gave on registration")
        if type(name) is not str or not 0 < len(name) <= NAME_LIMIT:
            raise Violation("DriverInstance", f"a name of 1 to {NAME_LIMIT} characters expected")
        if any(a.name == name for a in client.adapters):
            raise Violation("DriverInstance", f"this driver already has an adapter called {value_text(name)}")
        if self.registry.adapter_is_named(name):
            # Another driver took the name, and this one could not know it.
            self.out.emit("adapter.refused", adapter=name, driver=client.name, reason="the name is taken")
            self.out.answer(client, message, int(NdisStatus.FAILURE), None)
            return
        if context is not None and type(context) is not int:
            raise Violation("DeviceContext", "a pointer or nil expected")
        self.initialize(
            client,
            name,
            context,
            virtual=True,
            then=lambda status, adapter: self.out.answer(client, message, status, adapter.handle),
        )

    def _im_deinitialize(self, client: Client, message: Message, frames: Sequence[bytes]) -> None:
        adapter = self.registry.adapter_of(client, message[2][0], "NdisMiniportHandle")
        if not adapter.virtual:
            raise Violation("NdisMiniportHandle", f"{adapter.name} is not a virtual adapter")
        if adapter.state not in (AdapterState.INITIALIZING, AdapterState.UP):
            raise Violation("NdisMiniportHandle", f"{adapter.name} is already being halted")
        adapter.on_halted = lambda: self.out.answer(client, message, _SUCCESS)
        if adapter.state is AdapterState.INITIALIZING:
            adapter.state = AdapterState.CLOSING  # it is halted as soon as it is up
        else:
            self.close(adapter)

    def close(self, adapter: Adapter) -> None:
        """Unbind all protocols, then halt the adapter. MiniportHaltEx is its last call."""
        adapter.state = AdapterState.CLOSING
        adapter.on_unbound = partial(self._halt, adapter)
        for binding in list(adapter.bindings):
            self.bindings.unbind(binding, f"{adapter.name} is being halted")
        self._halt(adapter)

    def _halt(self, adapter: Adapter) -> None:
        """Halt a closing adapter once no protocol is bound to it."""
        if adapter.bindings or adapter.state is not AdapterState.CLOSING:
            return
        adapter.state = AdapterState.DEAD

        def halted(_: list[Any] | None) -> None:
            self._drop(adapter)
            self.out.emit("adapter.halted", adapter=adapter.name)
            if adapter.on_halted is not None:
                adapter.on_halted()

        self.out.call(adapter.driver, "MiniportHaltEx", [adapter.context, 0], halted)


def _facts(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the miniport's description of its adapter for BindParameters. A missing member is nil."""
    mac = attributes.get("CurrentMacAddress")
    if mac is not None and (type(mac) is not bytes or not 0 < len(mac) <= _MAX_MAC):
        raise Violation("MiniportAttributes.CurrentMacAddress", f"1 to {_MAX_MAC} bytes expected")
    facts: dict[str, Any] = {"CurrentMacAddress": mac}
    for name, limit in _NUMBERS.items():
        facts[name] = value = attributes.get(name)
        if value is not None and (type(value) is not int or not 0 <= value < limit):
            raise Violation(f"MiniportAttributes.{name}", f"a number from 0 to {limit - 1} expected")
    return facts
