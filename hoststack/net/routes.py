"""The routing table: the next hop of a datagram, by network, gateway or redirect.

Addresses are bytes, 4 or 16 of them, in network order. The longest prefix that matches wins (RFC 1122
3.3.1.2; RFC 4861 5.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hoststack.net.interface import Interface

__all__ = ["Route", "RoutingTable"]


@dataclass(slots=True, frozen=True, eq=False)
class Route:
    """A route to a network. ``gateway``: the router's address, None if the network is on the link.

    ``redirected``: a router's ICMP redirect put it there (for one host).
    """

    network: IPv4Network | IPv6Network
    interface: Interface
    gateway: bytes | None = None
    redirected: bool = False

    def next_hop(self, destination: bytes) -> bytes:
        """The address whose link address a datagram to ``destination`` is sent to."""
        return destination if self.gateway is None else self.gateway


class RoutingTable:
    """Routes by family (address length) and prefix; a lookup is one dict access per prefix length in use."""

    __slots__ = ("_tables",)

    def __init__(self) -> None:
        #: address length in bytes -> prefix length -> network as an integer -> route
        self._tables: dict[int, dict[int, dict[int, Route]]] = {4: {}, 16: {}}

    def __iter__(self) -> Iterator[Route]:
        return iter([r for t in self._tables.values() for nets in t.values() for r in nets.values()])

    def add(self, route: Route) -> None:
        """Add a route, or replace the one to the same network."""
        network = route.network
        table = self._tables[network.max_prefixlen // 8]
        table.setdefault(network.prefixlen, {})[int(network.network_address)] = route
        # Longest first, as they are tried.
        ordered = sorted(table.items(), reverse=True)
        table.clear()
        table.update(ordered)

    def remove(self, route: Route) -> None:
        """Forget a route. Raises KeyError if it is not in the table."""
        network = route.network
        table = self._tables[network.max_prefixlen // 8]
        nets = table[network.prefixlen]
        if nets[int(network.network_address)] is not route:
            raise KeyError(network)
        del nets[int(network.network_address)]
        if not nets:
            del table[network.prefixlen]

    def lookup(self, destination: bytes) -> Route | None:
        """The route to an address, None if there is none."""
        size = len(destination)
        address = int.from_bytes(destination, "big")
        bits = size * 8
        for prefix, nets in self._tables[size].items():
            route = nets.get(address >> (bits - prefix) << (bits - prefix))
            if route is not None:
                return route
        return None
