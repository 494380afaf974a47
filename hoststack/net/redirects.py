"""A changed next hop: ICMP redirects, believed and forgotten again (RFC 1122 3.2.2.2, RFC 4861 section 8)."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final

from hoststack.net.routes import Route

if TYPE_CHECKING:
    from hoststack.net.interface import Interface
    from hoststack.net.neighbors import NeighborEntry
    from hoststack.net.stack import NetStack

__all__ = ["arrived", "forget"]

#: Redirected hosts in all; the oldest are forgotten.
MAX_REDIRECTS: Final = 1024


def arrived(
    stack: NetStack,
    interface: Interface,
    router: bytes,
    destination: bytes,
    target: bytes,
    mac: bytes,
    now: float,
) -> None:
    """``router`` says that ``destination`` is reached by ``target``, at link address ``mac`` (or ``b""``).

    It may say so if it is the present next hop; the new one has to be on the link, and is the destination
    itself if that is on the link after all.
    """
    route = stack.routes.lookup(destination)
    if route is None or route.interface is not interface or not _is_hop(stack, route, router):
        stack.count("redirect: not by the next hop")
    elif not _on_link(interface, destination, target):
        stack.count("redirect: target not on the link")
    elif target in stack.local_addresses:
        stack.count("redirect: to ourselves")
    else:
        _believe(stack, interface, destination, target)
        entry = stack.neighbors.get(interface, target)
        if mac:
            entry.heard(mac, now)
        _move_paths(stack, destination, entry)


def _is_hop(stack: NetStack, route: Route, router: bytes) -> bool:
    """Whether ``router`` is the next hop of a route; IPv6 routers speak from their link-local address."""
    if route.gateway is None or route.gateway == router:
        return route.gateway == router
    gateway = stack.neighbors.find(route.interface, route.gateway)
    sender = stack.neighbors.find(route.interface, router)
    if len(router) == 4 or gateway is None or sender is None:
        return False
    return gateway.mac != b"" and gateway.mac == sender.mac


def _on_link(interface: Interface, destination: bytes, target: bytes) -> bool:
    address = ip_address(target)
    if any(address in own.network for own in interface.local.values()):
        return True
    return len(target) == 16 and (target == destination or address.is_link_local)


def _believe(stack: NetStack, interface: Interface, destination: bytes, target: bytes) -> None:
    """Put a route to one host into the table, in place of an earlier redirect's."""
    stack.redirects.pop(destination, None)
    while len(stack.redirects) >= MAX_REDIRECTS:
        oldest = next(iter(stack.redirects))
        stack.routes.remove(stack.redirects.pop(oldest))
    gateway = None if target == destination else target
    network = ip_network((destination, len(destination) * 8))
    route = Route(network, interface, gateway, redirected=True)
    stack.redirects[destination] = route
    stack.routes.add(route)


def forget(stack: NetStack, entry: NeighborEntry) -> None:
    """Nobody answers where redirects pointed: back to the routes from before (RFC 1122 3.3.1.6)."""
    for destination, route in list(stack.redirects.items()):
        if route.interface is entry.interface and route.next_hop(destination) == entry.address:
            stack.routes.remove(stack.redirects.pop(destination))
            before = stack.routes.lookup(destination)
            if before is not None:
                hop = stack.neighbors.get(before.interface, before.next_hop(destination))
                _move_paths(stack, destination, hop)


def _move_paths(stack: NetStack, destination: bytes, entry: NeighborEntry) -> None:
    """All paths to a destination have another next hop; offloaded ones need a relink (R-UPD-07)."""
    moved = []
    for way in stack.paths:
        if way.path.const.destination_address != destination or way.hop is entry:
            continue
        way.move(entry)
        if way.path.is_away:
            moved.append(way.path)
        else:
            way.path.neighbor = entry.neighbor
        for socket in stack.transport.over(way):
            socket.builder = None
    if moved:
        entry.seek(stack.now)  # nobody here may ever send through it
        stack.hooks.relink(moved, entry.neighbor)
