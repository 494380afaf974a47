"""The addresses of a host: those that it was given, or a pair of its own choice that is free.

Without addresses, a host takes one pair after the other from the network of ``hoststack peer``, beginning at
a place that follows from its name, until detection finds no other host that has the pair. So the same name
has the same addresses again, as long as they are free.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from math import gcd
from typing import TYPE_CHECKING, Final
from zlib import crc32

from hoststack.net.errors import AddressConflict
from hoststack.net.interface import IPV6_MINIMUM_MTU

if TYPE_CHECKING:
    from hoststack.net.detection import Conflict
    from hoststack.net.interface import Interface
    from hoststack.net.stack import NetStack

__all__ = ["HostAddresses", "default_addresses"]

#: The numbers of default addresses, 16 to 239; below are the hosts of the Procfile and of examples.
_FIRST: Final = 16
_COUNT: Final = 224


def default_addresses(name: str, attempt: int = 0) -> tuple[str, str]:
    """The pair that a host of this name tries: 10.77.0.16 to .239, and fd77::16 to fd77::239.

    Each of the attempts 0 to 223 gives a different pair.
    """
    digest = crc32(name.encode())
    step = digest // _COUNT % _COUNT | 1
    while gcd(step, _COUNT) != 1:
        step += 2
    number = _FIRST + (digest + attempt * step) % _COUNT
    return f"10.77.0.{number}/24", f"fd77::{number}/64"


class HostAddresses:
    """What addresses a host asks for, and whether it has them.

    ``refused``: the conflicts that left the host without an address that it asked for.
    """

    __slots__ = ("_attempt", "_given", "_mtu", "_name", "_stack", "refused", "wanted")

    def __init__(
        self,
        stack: NetStack,
        name: str,
        addresses: Iterable[IPv4Interface | IPv6Interface | str] | None,
    ) -> None:
        self._stack = stack
        self._name = name
        self._given = addresses is not None
        self._attempt = 0
        self._mtu = IPV6_MINIMUM_MTU
        #: What the host asks for at present.
        if isinstance(addresses, str | IPv4Interface | IPv6Interface):
            raise TypeError(f"addresses is a list, such as ['{addresses}'], not one address: '{addresses}'")
        self.wanted = self._pair() if addresses is None else [ip_interface(a) for a in addresses]
        self.refused: list[Conflict] = []
        stack.detection.on_conflict.append(self._conflict)

    def _pair(self) -> list[IPv4Interface | IPv6Interface]:
        return [ip_interface(a) for a in default_addresses(self._name, self._attempt)]

    def usable(self, mtu: int) -> list[IPv4Interface | IPv6Interface]:
        """The addresses for an adapter with this MTU: IPv6 needs 1280 bytes (RFC 8200 section 5)."""
        self._mtu = mtu
        return [a for a in self.wanted if a.version == 4 or mtu >= IPV6_MINIMUM_MTU]

    @property
    def assigned(self) -> tuple[IPv4Interface | IPv6Interface, ...]:
        """Those that the host has."""
        known = self._stack.interfaces.local
        return tuple(a for a in self.wanted if a.ip.packed in known)

    @property
    def settled(self) -> bool:
        """Whether each address is assigned or refused."""
        known = self._stack.interfaces.local
        lost = {c.address for c in self.refused}
        return all(a.ip.packed in known or a.ip.packed in lost for a in self.usable(self._mtu))

    def check(self) -> None:
        """Raise AddressConflict if an address was refused."""
        if self.refused:
            what = "; ".join(map(str, self.refused))
            advice = (
                "give this host an address that is free, or leave the addresses out: then it finds free ones"
                if self._given
                else f"all {_COUNT} default addresses are taken; give this host addresses of its own"
            )
            raise AddressConflict(f"{what}: {advice}")

    def _conflict(self, interface: Interface, conflict: Conflict) -> None:
        """Another host has an address: refuse one that was given, replace one of our own choice."""
        if conflict.address not in (a.ip.packed for a in self.wanted):
            return
        if self._given or self._attempt + 1 == _COUNT:
            self.refused.append(conflict)
            return
        # An address that is in use already stays: connections may depend on it.
        kept = [a for a in self.wanted if a.ip.packed in self._stack.interfaces.local]
        for address in self.wanted:
            if address not in kept:
                self._stack.detection.withdraw(interface, address.ip.packed)
        self._attempt += 1
        versions = {a.version for a in kept}
        self.wanted = kept + [a for a in self._pair() if a.version not in versions]
        for address in self.usable(self._mtu):
            if address not in kept:
                self._stack.add_address(interface, address)
