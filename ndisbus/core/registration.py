"""Hello, registration of both edges, optional handlers, adapters coming and going."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from ndisbus.core.base import NAME_LIMIT, Core, Violation
from ndisbus.core.model import Adapter, AdapterState, BindingState, Peer
from ndisbus.ddi.characteristics import (
    Characteristics,
    NdisClientChimneyOffloadGenericCharacteristics,
    NdisClientChimneyOffloadTcpCharacteristics,
    NdisProviderChimneyOffloadGenericCharacteristics,
    NdisProviderChimneyOffloadTcpCharacteristics,
    NdisTcpOffloadEventHandlers,
)
from ndisbus.ddi.enums import NdisChimneyOffloadType, ObjectType
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import NdisTcpConnectionOffload
from ndisbus.errors import RemoteProtocolError
from ndisbus.lists.heap import space_of_epoch
from ndisbus.messages.codec import PROTOCOL_VERSION, Message

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["RegistrationPart"]

_SUCCESS: Final = int(NdisStatus.SUCCESS)
#: What a driver may be called: its name is part of file names, command lines and tables.
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
#: How many closed epochs are remembered.
_MAX_CLOSED: Final = 64

#: Longest link address (NDIS_MAX_PHYS_ADDRESS_LENGTH), and the other facts with the bound of each.
_MAX_MAC: Final = 32
_NUMBERS: Final = {"MtuSize": 1 << 32, "XmitLinkSpeed": 1 << 64, "RcvLinkSpeed": 1 << 64}

#: Header.Type -> what is registered by it, and its structure. Provider structures belong to the
#: miniport edge, client structures to the protocol edge (R-DIS-44).
_CHARACTERISTICS: Final[dict[int, tuple[str, type[Characteristics]]]] = {
    int(ObjectType.NDIS_OBJECT_TYPE_PROVIDER_CHIMNEY_OFFLOAD_GENERIC_CHARACTERISTICS): (
        "provider-generic",
        NdisProviderChimneyOffloadGenericCharacteristics,
    ),
    int(ObjectType.NDIS_OBJECT_TYPE_PROVIDER_CHIMNEY_OFFLOAD_CHARACTERISTICS): (
        "provider-tcp",
        NdisProviderChimneyOffloadTcpCharacteristics,
    ),
    int(ObjectType.NDIS_OBJECT_TYPE_CLIENT_CHIMNEY_OFFLOAD_GENERIC_CHARACTERISTICS): (
        "client-generic",
        NdisClientChimneyOffloadGenericCharacteristics,
    ),
    int(ObjectType.NDIS_OBJECT_TYPE_CLIENT_CHIMNEY_OFFLOAD_CHARACTERISTICS): (
        "client-tcp",
        NdisClientChimneyOffloadTcpCharacteristics,
    ),
}


class RegistrationPart(Core):
    """How drivers and adapters come to be."""

    def registration_handlers(self) -> dict[str, Callable[[Peer, Message, Sequence[bytes]], None]]:
        """Handlers by name of call."""
        return {
            "NdisMRegisterMiniportDriver": self._register_miniport,
            "NdisRegisterProtocolDriver": self._register_protocol,
            "NdisSetOptionalHandlers": self._set_optional_handlers,
            "NdisMSetMiniportAttributes": self._set_attributes,
            "NdisMGetOffloadHandlers": self._get_offload_handlers,
            "NdisIMInitializeDeviceInstanceEx": self._im_initialize,
            "NdisIMDeInitializeDeviceInstance": self._im_deinitialize,
            "NdisOpenAdapterEx": self._open,
            "NdisCloseAdapterEx": self._close,
        }

    # -- hello ---------------------------------------------------------------------------------

    def hello(self, key: Any, message: Message) -> None:
        """Let a process in: address space, epoch, limits. :class:`RemoteProtocolError` if it cannot be."""
        args = message[2]
        if len(args) != 2 or type(args[1]) is not dict:
            raise RemoteProtocolError("hello takes [protocol version, identity map]")
        if args[0] != PROTOCOL_VERSION:
            raise RemoteProtocolError(
                f"protocol version {args[0]!r}; this bus speaks version {PROTOCOL_VERSION}"
            )
        identity = args[1]
        name, pid = identity.get("Name"), identity.get("Pid", 0)
        if type(name) is not str or len(name) > NAME_LIMIT or _NAME.fullmatch(name) is None:
            raise RemoteProtocolError(
                f"identity.Name: 1 to {NAME_LIMIT} characters of A-Z a-z 0-9 . _ - expected, "
                "the first neither '.' nor '-'"
            )
        if type(pid) is not int or pid < 0:
            raise RemoteProtocolError("identity.Pid: a process id expected")
        created = identity.get("CreateTime", 0.0)
        # Encoders of some languages write a float without a fraction as an integer.
        if type(created) not in (int, float) or not 0 <= created < math.inf:
            raise RemoteProtocolError("identity.CreateTime: seconds since 1970 (float) expected")
        if type(identity.get("Host", "")) is not str:
            raise RemoteProtocolError("identity.Host: a string expected")
        for other in self.peers.values():
            if other.name == name and not other.closed:
                raise RemoteProtocolError(
                    f"identity.Name: a driver called {name!r} is here already (pid {other.pid}); "
                    "choose another name"
                )
        self._forget_closed()
        self.cut_off.pop(name, None)
        self._epochs += 1
        while space_of_epoch(self._epochs) in self.by_space:
            self._epochs += 1  # the numbers have started over, and somebody has kept his so long
        space = space_of_epoch(self._epochs)
        peer = Peer(key, name, pid, space, self._epochs, identity, self.now)
        self.peers[key] = peer
        self.by_space[peer.space] = peer
        self.emit("hello", driver=name, pid=pid, epoch=peer.epoch)
        c = self.config
        ready = {
            "Version": PROTOCOL_VERSION,
            "AddressSpace": peer.space,
            "Epoch": peer.epoch,
            "CheckInterval": c.check_interval,
            "HangLimit": c.hang_limit,
            "Seed": c.seed,
            **self.ready_extra,
        }
        self.send(peer, ["ready", message[1], [ready]])

    def _forget_closed(self) -> None:
        """Only the latest closed epochs are remembered: what comes late from one is known for what it is."""
        closed = [p for p in self.by_space.values() if p.closed and not p.bindings]
        for p in closed[:-_MAX_CLOSED]:
            del self.by_space[p.space]
            if self.peers.get(p.key) is p:
                del self.peers[p.key]

    #: What the runtime adds to a ready message: the bus's own pid and the like.
    ready_extra: dict[str, Any] = {}  # noqa: RUF012 - replaced, never changed

    # -- edges ---------------------------------------------------------------------------------

    def _register_miniport(self, peer: Peer, message: Message, frames: Sequence[bytes]) -> None:
        context, path = self._registry_path(message[2])
        if peer.miniport_driver is not None:
            raise Violation("MiniportDriverContext", "this driver registered a miniport edge already")
        names = _names(path.get("Adapters", []), "RegistryPath.Adapters")
        for n in names:
            if any(a.name == n and a.state is not AdapterState.DEAD for a in self.adapters.values()):
                raise Violation("RegistryPath.Adapters", f"an adapter called {n!r} is here already")
        peer.miniport_driver = handle = self.heap.address()
        peer.miniport_context = context

        def options_set(values: list[Any] | None) -> None:
            status = _status(values)
            if status != _SUCCESS:
                peer.miniport_driver = None
            self.answer(peer, message, status, handle)
            if status == _SUCCESS:
                for n in names:
                    self._initialize(peer, n, None, virtual=False, then=lambda *_: None)

        self.call(peer, "MiniportSetOptions", [handle, context], options_set)

    def _register_protocol(self, peer: Peer, message: Message, frames: Sequence[bytes]) -> None:
        context, path = self._registry_path(message[2])
        if peer.protocol_driver is not None:
            raise Violation("ProtocolDriverContext", "this driver registered a protocol edge already")
        bind = path.get("Bind", [])
        peer.bind = "auto" if bind == "auto" else tuple(_names(bind, "RegistryPath.Bind"))
        handle = self.heap.address()
        peer.protocol_context = context
        peer.protocol_handle = handle

        def options_set(values: list[Any] | None) -> None:
            status = _status(values)
            if status == _SUCCESS:
                peer.protocol_driver = handle
            self.answer(peer, message, status, handle)
            self.bind_all()

        self.call(peer, "ProtocolSetOptions", [handle, context], options_set)

    def _registry_path(self, args: list[Any]) -> tuple[int | None, dict[str, Any]]:
        context, path = args
        if context is not None and type(context) is not int:
            raise Violation("DriverContext", f"a pointer or nil expected, got {type(context).__name__}")
        if type(path) is not dict:
            raise Violation("RegistryPath", f"a map expected, got {type(path).__name__}")
        unknown = set(path) - {"Name", "Adapters", "Bind"}
        if unknown:
            raise Violation("RegistryPath", f"unknown member {sorted(unknown)[0]!r}")
        return context, path

    def _set_optional_handlers(self, peer: Peer, message: Message, frames: Sequence[bytes]) -> None:
        handle, characteristics = message[2]
        if type(characteristics) is not dict or type(characteristics.get("Header")) is not dict:
            raise Violation("OptionalHandlers", "a characteristics structure with a Header expected")
        number = characteristics["Header"].get("Type")
        kind = _CHARACTERISTICS.get(number) if type(number) is int else None
        if kind is None:
            self.answer(peer, message, int(NdisStatus.NOT_SUPPORTED))
            return
        name, structure = kind
        provider = name.startswith("provider")
        own = peer.miniport_driver if provider else peer.protocol_handle
        if handle is None or handle != own:
            edge = "miniport" if provider else "protocol"
            raise Violation(
                "NdisHandle", f"{name} characteristics belong to the {edge} edge's handle", "R-DIS-44"
            )
        if name.endswith("tcp") and characteristics.get("OffloadType") != int(
            NdisChimneyOffloadType.NdisTcpChimneyOffload
        ):
            raise Violation("OptionalHandlers.OffloadType", "must be NdisTcpChimneyOffload", "R-REG-04")
        structure.from_wire(characteristics, "OptionalHandlers")
        peer.handlers.add(name)
        self.answer(peer, message, _SUCCESS)

    # -- adapters ------------------------------------------------------------------------------

    def adapter_of(self, peer: Peer, handle: Any, parameter: str) -> Adapter:
        """The adapter a miniport names by its NdisMiniportHandle. :class:`Violation` if it is not its own."""
        adapter = self.adapters.get(handle) if type(handle) is int else None
        if adapter is None or adapter.driver is not peer:
            text = f"{handle:#x}" if type(handle) is int else repr(handle)
            raise Violation(parameter, f"{text} is no adapter of {peer.name}", "R-DIS-42")
        return adapter

    def _initialize(
        self,
        peer: Peer,
        name: str,
        device_context: int | None,
        *,
        virtual: bool,
        then: Callable[[int, Adapter], None],
    ) -> None:
        adapter = Adapter(name, self.heap.address(), peer, virtual)
        self.adapters[adapter.handle] = adapter
        peer.adapters.append(adapter)
        parameters = {"AdapterName": name, "IMDeviceInstanceContext": device_context}

        def initialized(values: list[Any] | None) -> None:
            status = _status(values)
            if status == _SUCCESS and adapter.context is None:
                status = int(NdisStatus.FAILURE)
            if status == _SUCCESS and adapter.state is AdapterState.CLOSING:
                then(status, adapter)
                self.close_adapter(adapter)  # it was told to go before it was up
                return
            if status == _SUCCESS and adapter.state is AdapterState.INITIALIZING:
                adapter.state = AdapterState.UP
                self.emit("adapter.up", adapter=name, driver=peer.name, epoch=peer.epoch)
                self.watch_hang(peer)
            else:
                self._drop_adapter(adapter)
                if adapter.on_halted is not None:
                    adapter.on_halted()
            then(status, adapter)
            self.bind_all()

        self.call(
            peer, "MiniportInitializeEx", [adapter.handle, peer.miniport_context, parameters], initialized
        )

    def _drop_adapter(self, adapter: Adapter) -> None:
        adapter.state = AdapterState.DEAD
        self.adapters.pop(adapter.handle, None)
        if adapter in adapter.driver.adapters:
            adapter.driver.adapters.remove(adapter)

    def _set_attributes(self, peer: Peer, message: Message, frames: Sequence[bytes]) -> None:
        handle, attributes = message[2]
        adapter = self.adapter_of(peer, handle, "NdisMiniportHandle")
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
        self.answer(peer, message, _SUCCESS)

    def _get_offload_handlers(self, peer: Peer, message: Message, frames: Sequence[bytes]) -> None:
        handle, kind = message[2]
        self.adapter_of(peer, handle, "NdisMiniportHandle")
        if kind != int(NdisChimneyOffloadType.NdisTcpChimneyOffload):
            # R-REG-07: an unknown chimney type gets no table.
            self.answer(peer, message, int(NdisStatus.NOT_SUPPORTED), None)
            return
        self.answer(peer, message, _SUCCESS, NdisTcpOffloadEventHandlers.full().to_wire())

    def _im_initialize(self, peer: Peer, message: Message, frames: Sequence[bytes]) -> None:
        handle, name, context = message[2]
        if peer.miniport_driver is None or handle != peer.miniport_driver:
            raise Violation("NdisMiniportDriverHandle", "not the handle that NDIS gave on registration")
        if type(name) is not str or not 0 < len(name) <= NAME_LIMIT:
            raise Violation("DriverInstance", f"a name of 1 to {NAME_LIMIT} characters expected")
        if any(a.name == name and a.state is not AdapterState.DEAD for a in self.adapters.values()):
            raise Violation("DriverInstance", f"an adapter called {name!r} is here already")
        if context is not None and type(context) is not int:
            raise Violation("DeviceContext", "a pointer or nil expected")
        self._initialize(
            peer,
            name,
            context,
            virtual=True,
            then=lambda status, adapter: self.answer(peer, message, status, adapter.handle),
        )

    def _im_deinitialize(self, peer: Peer, message: Message, frames: Sequence[bytes]) -> None:
        adapter = self.adapter_of(peer, message[2][0], "NdisMiniportHandle")
        if not adapter.virtual:
            raise Violation("NdisMiniportHandle", f"{adapter.name} is no virtual adapter")
        if adapter.state not in (AdapterState.INITIALIZING, AdapterState.UP):
            raise Violation("NdisMiniportHandle", f"{adapter.name} is being halted already")
        adapter.on_halted = lambda: self.answer(peer, message, _SUCCESS)
        if adapter.state is AdapterState.INITIALIZING:
            adapter.state = AdapterState.CLOSING  # it goes as soon as it is up
        else:
            self.close_adapter(adapter)

    def close_adapter(self, adapter: Adapter) -> None:
        """Unbind everybody above, then halt: MiniportHaltEx is the adapter's last call."""
        adapter.state = AdapterState.CLOSING
        for binding in list(adapter.bindings):
            self.unbind(binding, f"{adapter.name} is being halted")
        self.halt_when_idle(adapter)

    def halt_when_idle(self, adapter: Adapter) -> None:
        """Halt an adapter that is to go and that nobody is bound to any more."""
        if adapter.bindings or adapter.state is not AdapterState.CLOSING:
            return
        adapter.state = AdapterState.DEAD

        def halted(_: list[Any] | None) -> None:
            self._drop_adapter(adapter)
            self.emit("adapter.halted", adapter=adapter.name)
            if adapter.on_halted is not None:
                adapter.on_halted()

        self.call(adapter.driver, "MiniportHaltEx", [adapter.context, 0], halted)

    # -- bindings ------------------------------------------------------------------------------

    def _open(self, peer: Peer, message: Message, frames: Sequence[bytes]) -> None:
        binding = self.open_adapter(peer, *message[2])
        if binding is None:
            self.answer(peer, message, int(NdisStatus.ADAPTER_REMOVED), None)
        else:
            self.answer(peer, message, _SUCCESS, binding.handle)

    def _close(self, peer: Peer, message: Message, frames: Sequence[bytes]) -> None:
        handle = message[2][0]
        binding = self.bindings.get(handle) if type(handle) is int else None
        if binding is None or binding.protocol is not peer:
            if type(handle) is int and handle in peer.closed_handles:
                # NDIS closed it by force in the meantime: nothing is left to do.
                self.answer(peer, message, _SUCCESS)
                return
            raise Violation("NdisBindingHandle", f"{handle!r} is no binding of {peer.name}")
        if binding.state not in (BindingState.OPEN, BindingState.UNBINDING):
            self.answer(peer, message, _SUCCESS)
            return
        if binding.state is BindingState.OPEN:
            peer.given_up.add(binding.adapter.handle)
        self.answer(peer, message, _SUCCESS)
        self.close_binding(binding)


def _facts(attributes: dict[str, Any]) -> dict[str, Any]:
    """What a miniport says of its adapter, for BindParameters; a member that is missing is nil."""
    mac = attributes.get("CurrentMacAddress")
    if mac is not None and (type(mac) is not bytes or not 0 < len(mac) <= _MAX_MAC):
        raise Violation("MiniportAttributes.CurrentMacAddress", f"1 to {_MAX_MAC} bytes expected")
    facts: dict[str, Any] = {"CurrentMacAddress": mac}
    for name, limit in _NUMBERS.items():
        facts[name] = value = attributes.get(name)
        if value is not None and (type(value) is not int or not 0 <= value < limit):
            raise Violation(f"MiniportAttributes.{name}", f"{value!r} is no number of its size")
    return facts


def _names(value: Any, where: str) -> Iterable[str]:
    if type(value) is not list or any(type(v) is not str or not 0 < len(v) <= NAME_LIMIT for v in value):
        raise Violation(where, f"an array of names of 1 to {NAME_LIMIT} characters expected")
    if len(set(value)) != len(value):
        raise Violation(where, "a name stands there twice")
    return list(value)


def _status(values: list[Any] | None) -> int:
    if not values or type(values[0]) is not int:
        return int(NdisStatus.FAILURE)
    return int(values[0])
