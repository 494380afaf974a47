"""The interfaces of a stack, the addresses they have, and whether frames wait to be sent."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from typing import TYPE_CHECKING

from ndisbus.errors import LocalProtocolError

if TYPE_CHECKING:
    from hoststack.net.interface import Interface

__all__ = ["Interfaces"]


class Interfaces:
    """``local``: each assigned address and its interface. ``pending``: there is something to send.

    An address that is being tested is not in ``local``: the host does not answer for it.
    """

    __slots__ = ("_by_name", "local", "pending")

    def __init__(self) -> None:
        self._by_name: dict[str, Interface] = {}
        self.local: dict[bytes, Interface] = {}
        self.pending = False

    def __iter__(self) -> Iterator[Interface]:
        return iter(self._by_name.values())

    def add(self, interface: Interface) -> None:
        """Add an interface. Raises LocalProtocolError if its name or one of its addresses is in use."""
        if interface.name in self._by_name:
            raise LocalProtocolError(f"interface {interface.name}: the stack already has one of this name")
        for address in interface.local:
            self._check(interface, address)
        self._by_name[interface.name] = interface

    def _check(self, interface: Interface, address: bytes) -> None:
        other = next((i.name for i in self if address in i.local), None)
        if other is not None:
            raise LocalProtocolError(
                f"interface {interface.name}: {ip_address(address)} is already an address of {other}"
            )

    def extend(self, interface: Interface, address: IPv4Interface | IPv6Interface) -> bytes:
        """Add an address to an interface; returns its bytes. Raises LocalProtocolError as :meth:`add`."""
        self._check(interface, address.ip.packed)
        return interface.add(address)

    def owns(self, address: bytes) -> bool:
        """Whether an address is one of ours, assigned or being tested."""
        return any(address in interface.local for interface in self)

    def assign(self, interface: Interface, address: bytes) -> None:
        """Begin to use an address."""
        self.local[address] = interface

    def withdraw(self, interface: Interface, address: bytes) -> None:
        """Stop using an address."""
        interface.withdraw(address)
        self.local.pop(address, None)

    def soon(self) -> None:
        """Ask for a flush at the end of the batch."""
        self.pending = True

    def flush(self) -> None:
        """Give every frame that waits to its link."""
        self.pending = False
        for interface in self._by_name.values():
            interface.flush()
