"""The registry: the clients, adapters and bindings, and how a handle finds one of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ndisbus.core.model import AdapterState, BindingState
from ndisbus.core.violation import Violation
from ndisbus.errors import value_text

if TYPE_CHECKING:
    from ndisbus.core.model import Adapter, Binding, Client
    from ndisbus.messages.codec import Message

__all__ = ["Registry", "handle_text"]


class Registry:
    """The tables. This class only looks things up; the parts of the core add and remove."""

    __slots__ = ("adapters", "bindings", "by_space", "clients", "cut_off")

    def __init__(self) -> None:
        #: By the key of the connection. A closed client stays until it says hello again or is forgotten.
        self.clients: dict[Any, Client] = {}
        #: By address space: the open clients, and the latest closed ones.
        self.by_space: dict[int, Client] = {}
        #: Removed drivers that hung, by name, until they die or say hello.
        self.cut_off: dict[str, Client] = {}
        self.adapters: dict[int, Adapter] = {}
        self.bindings: dict[int, Binding] = {}

    def open_clients(self) -> Iterator[Client]:
        """Iterate over the clients whose epoch is open."""
        return (c for c in self.clients.values() if not c.closed)

    def client_named(self, name: Any) -> Client | None:
        """Return the open client of that name, or None."""
        return next((c for c in self.open_clients() if c.name == name), None)

    def adapter_is_named(self, name: str) -> bool:
        """Return whether an adapter that is not dead has this name."""
        return any(a.name == name and a.state is not AdapterState.DEAD for a in self.adapters.values())

    def adapter_up(self, name: str) -> Adapter | None:
        """Return the adapter of that name if it is up, or None."""
        for adapter in self.adapters.values():
            if adapter.name == name and adapter.state is AdapterState.UP:
                return adapter
        return None

    def adapter_of(self, client: Client, handle: Any, parameter: str) -> Adapter:
        """Return the adapter of a NdisMiniportHandle. Raises :class:`Violation` if it is not the client's."""
        adapter = self.adapters.get(handle) if type(handle) is int else None
        if adapter is None or adapter.driver is not client:
            raise Violation(
                parameter, f"{handle_text(handle)} is not an adapter of {client.name}", "R-DIS-42"
            )
        return adapter

    def binding_of(self, client: Client, handle: Any) -> Binding:
        """Return an open binding by its handle. Raises :class:`Violation` if the client does not have it."""
        binding = self.bindings.get(handle) if type(handle) is int else None
        if binding is None or binding.protocol is not client:
            # An example of docs/protocol.md has these words, byte by byte.
            reason = f"{handle_text(handle)} is no binding of {client.name}"
            raise Violation("NdisBindingHandle", reason, "R-HND-08")
        if binding.state not in (BindingState.OPEN, BindingState.UNBINDING):
            raise Violation("NdisBindingHandle", f"the binding to {binding.adapter.name} is closed")
        return binding

    def adapter_named_in(self, client: Client, message: Message) -> Adapter | None:
        """Return the adapter that a call's first parameter names, as a handle or as a context."""
        args = message[2]
        first = args[0] if args else None
        if type(first) is not int:
            return None
        if first in self.adapters:
            return self.adapters[first]
        binding = self.bindings.get(first)
        if binding is not None:
            return binding.adapter
        for adapter in client.adapters:
            if adapter.context == first:
                return adapter
        for b in client.bindings:
            if b.context == first:
                return b.adapter
        return None


def handle_text(handle: Any) -> str:
    """Return a handle that a driver sent, as text for an error."""
    return f"{handle:#x}" if type(handle) is int else value_text(handle)
