"""A changed next hop: ICMP redirects, believed and forgotten again (RFC 1122 3.2.2.2, RFC 4861 section 8)."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final

from hoststack.net.routes import Route

if TYPE_CHECKING:
    from hoststack.net.clock import Clock
    from hoststack.net.hooks import StackHooks
    from hoststack.net.interface import Interface
    from hoststack.net.interfaces import Interfaces
    from hoststack.net.neighbors import NeighborCache, NeighborEntry
    from hoststack.net.paths import PathTable
    from hoststack.net.routes import RoutingTable
    from hoststack.net.statistics import Statistics

__all__ = ["Redirects"]

#: Redirected hosts in all; the oldest are forgotten.
MAX_REDIRECTS: Final = 1024


def _on_link(interface: Interface, destination: bytes, target: bytes) -> bool:
    address = ip_address(target)
    if any(address in own.network for own in interface.local.values()):
        return True
    return len(target) == 16 and (target == destination or address.is_link_local)


class Redirects:
    """Routes to single hosts that routers' redirects made. ``routes_to``: these routes, by destination."""

    __slots__ = (
        "_clock",
        "_hooks",
        "_interfaces",
        "_neighbors",
        "_paths",
        "_routes",
        "_statistics",
        "routes_to",
    )

    def __init__(
        self,
        *,
        clock: Clock,
        statistics: Statistics,
        hooks: StackHooks,
        interfaces: Interfaces,
        routes: RoutingTable,
        neighbors: NeighborCache,
        paths: PathTable,
    ) -> None:
        self._clock = clock
        self._statistics = statistics
        self._hooks = hooks
        self._interfaces = interfaces
        self._routes = routes
        self._neighbors = neighbors
        self._paths = paths
        self.routes_to: dict[bytes, Route] = {}

    def arrived(
        self,
        interface: Interface,
        router: bytes,
        destination: bytes,
        target: bytes,
        mac: bytes,
        now: float,
    ) -> None:
        """``router`` says: reach ``destination`` through ``target``, at link address ``mac`` (or ``b""``).

        Only the present next hop may say so. The new one must be on the link; it is the destination itself
        if the destination is on the link after all.
        """
        route = self._routes.lookup(destination)
        if route is None or route.interface is not interface or not self._is_hop(route, router):
            self._statistics.count("redirect: not by the next hop")
        elif not _on_link(interface, destination, target):
            self._statistics.count("redirect: target not on the link")
        elif target in self._interfaces.local:
            self._statistics.count("redirect: to ourselves")
        else:
            self._believe(interface, destination, target)
            entry = self._neighbors.get(interface, target)
            if mac:
                entry.heard(mac, now)
            self._move_paths(destination, entry)

    def _is_hop(self, route: Route, router: bytes) -> bool:
        """Whether ``router`` is the next hop of a route; IPv6 routers speak from their link-local address."""
        if route.gateway is None or route.gateway == router:
            return route.gateway == router
        gateway = self._neighbors.find(route.interface, route.gateway)
        sender = self._neighbors.find(route.interface, router)
        if len(router) == 4 or gateway is None or sender is None:
            return False
        return gateway.mac != b"" and gateway.mac == sender.mac

    def _believe(self, interface: Interface, destination: bytes, target: bytes) -> None:
        """Put a route to one host into the table, in place of an earlier redirect's."""
        self.routes_to.pop(destination, None)
        while len(self.routes_to) >= MAX_REDIRECTS:
            oldest = next(iter(self.routes_to))
            self._routes.remove(self.routes_to.pop(oldest))
        gateway = None if target == destination else target
        network = ip_network((destination, len(destination) * 8))
        route = Route(network, interface, gateway, redirected=True)
        self.routes_to[destination] = route
        self._routes.add(route)

    def neighbor_failed(self, entry: NeighborEntry, now: float) -> None:
        """Forget redirects to a neighbor that does not answer: the earlier routes hold (RFC 1122 3.3.1.6)."""
        for destination, route in list(self.routes_to.items()):
            if route.interface is entry.interface and route.next_hop(destination) == entry.address:
                self._routes.remove(self.routes_to.pop(destination))
                before = self._routes.lookup(destination)
                if before is not None:
                    hop = self._neighbors.get(before.interface, before.next_hop(destination))
                    self._move_paths(destination, hop)

    def _move_paths(self, destination: bytes, hop: NeighborEntry) -> None:
        """Move all paths to a destination to another next hop; offloaded ones need a relink (R-UPD-07)."""
        moved = []
        for entry in self._paths:
            if entry.path.const.destination_address != destination or entry.hop is hop:
                continue
            entry.move(hop)
            if entry.path.is_away:
                moved.append(entry.path)
            else:
                entry.path.neighbor = hop.neighbor
        if moved:
            hop.seek(self._clock.now)  # the host itself may never send through it
            self._hooks.relink(moved, hop.neighbor)
