"""Registration of drivers: the miniport edge, the protocol edge, and the optional handlers of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ndisbus.core.model import status_of
from ndisbus.core.violation import NAME_LIMIT, Violation
from ndisbus.ddi.characteristics import (
    Characteristics,
    NdisClientChimneyOffloadGenericCharacteristics,
    NdisClientChimneyOffloadTcpCharacteristics,
    NdisProviderChimneyOffloadGenericCharacteristics,
    NdisProviderChimneyOffloadTcpCharacteristics,
)
from ndisbus.ddi.enums import NdisChimneyOffloadType, ObjectType
from ndisbus.ddi.status import NdisStatus
from ndisbus.errors import value_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ndisbus.core.adapters import Adapters
    from ndisbus.core.bindings import Bindings
    from ndisbus.core.model import Client, Handlers
    from ndisbus.core.outbound import Outbound
    from ndisbus.core.registry import Registry
    from ndisbus.lists.heap import Heap
    from ndisbus.messages.codec import Message

__all__ = ["Registration"]

_SUCCESS: Final = int(NdisStatus.SUCCESS)
#: Header.Type -> what it registers, and its structure. Provider structures belong to the miniport edge,
#: client structures to the protocol edge (R-DIS-44).
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


class Registration:
    """Registers drivers."""

    __slots__ = ("adapters", "bindings", "heap", "out", "registry")

    def __init__(
        self, out: Outbound, registry: Registry, heap: Heap, bindings: Bindings, adapters: Adapters
    ) -> None:
        self.out = out
        self.registry = registry
        self.heap = heap
        self.bindings = bindings
        self.adapters = adapters

    def handlers(self) -> Handlers:
        """Return the handlers by name of call."""
        return {
            "NdisMRegisterMiniportDriver": self._register_miniport,
            "NdisRegisterProtocolDriver": self._register_protocol,
            "NdisSetOptionalHandlers": self._set_optional_handlers,
        }

    # -- edges ---------------------------------------------------------------------------------

    def _register_miniport(self, client: Client, message: Message, frames: Sequence[bytes]) -> None:
        context, path = self._registry_path(message[2])
        if client.miniport_driver is not None:
            raise Violation("MiniportDriverContext", "this driver has already registered a miniport edge")
        names = _names(path.get("Adapters", []), "RegistryPath.Adapters")
        for n in names:
            if self.registry.adapter_is_named(n):
                raise Violation(
                    "RegistryPath.Adapters", f"there is already an adapter called {value_text(n)}"
                )
        client.miniport_driver = handle = self.heap.address()
        client.miniport_context = context

        def options_set(values: list[Any] | None) -> None:
            status = status_of(values)
            if status != _SUCCESS:
                client.miniport_driver = None
            self.out.answer(client, message, status, handle)
            if status == _SUCCESS:
                for n in names:
                    self.adapters.initialize(client, n, None, virtual=False, then=lambda *_: None)

        self.out.call(client, "MiniportSetOptions", [handle, context], options_set)

    def _register_protocol(self, client: Client, message: Message, frames: Sequence[bytes]) -> None:
        context, path = self._registry_path(message[2])
        if client.protocol_driver is not None:
            raise Violation("ProtocolDriverContext", "this driver has already registered a protocol edge")
        bind = path.get("Bind", [])
        client.bind = "auto" if bind == "auto" else tuple(_names(bind, "RegistryPath.Bind"))
        handle = self.heap.address()
        client.protocol_context = context
        client.protocol_handle = handle

        def options_set(values: list[Any] | None) -> None:
            status = status_of(values)
            if status == _SUCCESS:
                client.protocol_driver = handle
            self.out.answer(client, message, status, handle)
            self.bindings.bind_all()

        self.out.call(client, "ProtocolSetOptions", [handle, context], options_set)

    def _registry_path(self, args: list[Any]) -> tuple[int | None, dict[str, Any]]:
        context, path = args
        if context is not None and type(context) is not int:
            raise Violation("DriverContext", f"a pointer or nil expected, got {value_text(context)}")
        if type(path) is not dict:
            raise Violation("RegistryPath", f"a map expected, got {value_text(path)}")
        unknown = set(path) - {"Name", "Adapters", "Bind"}
        if unknown:
            raise Violation("RegistryPath", f"unknown member {value_text(sorted(unknown)[0])}")
        return context, path

    def _set_optional_handlers(self, client: Client, message: Message, frames: Sequence[bytes]) -> None:
        handle, characteristics = message[2]
        if type(characteristics) is not dict or type(characteristics.get("Header")) is not dict:
            raise Violation("OptionalHandlers", "a characteristics structure with a Header expected")
        number = characteristics["Header"].get("Type")
        kind = _CHARACTERISTICS.get(number) if type(number) is int else None
        if kind is None:
            self.out.answer(client, message, int(NdisStatus.NOT_SUPPORTED))
            return
        name, structure = kind
        provider = name.startswith("provider")
        own = client.miniport_driver if provider else client.protocol_handle
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
        client.handlers.add(name)
        self.out.answer(client, message, _SUCCESS)


def _names(value: Any, where: str) -> Iterable[str]:
    if type(value) is not list or any(type(v) is not str or not 0 < len(v) <= NAME_LIMIT for v in value):
        raise Violation(where, f"an array of names of 1 to {NAME_LIMIT} characters expected")
    if len(set(value)) != len(value):
        raise Violation(where, "a name occurs twice")
    return list(value)
