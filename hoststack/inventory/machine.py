"""The network of this machine: interfaces, and the first hop towards an address.

Interfaces come from psutil on every system. Routes and neighbors come from :mod:`hoststack.inventory.kernel`
if it is available. What a system does not tell is replaced by the nearest available value, and a note says
so.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Final, Protocol

import psutil

from hoststack.inventory.facts import NO_MAC, NUD_NOARP, NUD_REACHABLE, InterfaceFacts, NeighborFacts
from hoststack.inventory.kernel import Route
from ndisbus.errors import LocalProtocolError
from ndisbus.net.ethernet import parse_mac

__all__ = ["Hop", "Machine", "RouteSource", "parse_arp_table", "read_interfaces"]

_LOOPBACK_NEXT_HOP: Final = {4: ip_address("127.0.0.1").packed, 16: ip_address("::1").packed}
_DEFAULT_MTU: Final = 1500
# The total length of an IPv4 datagram is a 16-bit field (RFC 791), for any MTU of the interface.
_IPV4_MAXIMUM_MTU: Final = 0xFFFF
_ATF_COM: Final = 0x02
_ATF_PERM: Final = 0x04


class RouteSource(Protocol):
    """Answers about routes and neighbors: :class:`hoststack.inventory.kernel.Kernel`."""

    def route(self, destination: bytes, interface: str = "") -> Route | None:
        """Return where a datagram to this address would go."""
        ...

    def neighbors(self) -> list[NeighborFacts]:
        """Return the neighbor tables."""
        ...


@dataclass(slots=True, frozen=True)
class Hop:
    """The first hop towards an address: interface, next hop's IP address, MTU in bytes."""

    interface: str
    next_hop: bytes
    mtu: int


def _mac(text: str) -> bytes:
    """Return the 6 bytes of "02:fc:00:00:00:05" or "02-FC-..."; all zero for anything else."""
    try:
        return parse_mac(text)
    except LocalProtocolError:
        return NO_MAC


def read_interfaces() -> tuple[tuple[InterfaceFacts, ...], tuple[str, ...]]:
    """Return (interfaces by name, notes) as psutil reports them."""
    try:
        stats, addresses = psutil.net_if_stats(), psutil.net_if_addrs()
    except (OSError, psutil.Error) as error:
        return (), (f"interfaces: {error}; an MTU of {_DEFAULT_MTU} is assumed",)
    found = []
    for name in sorted(stats):
        mac, ips, prefixes = NO_MAC, [], []
        for entry in addresses.get(name, []):
            if entry.family == psutil.AF_LINK:
                mac = _mac(entry.address)
            elif entry.family in (socket.AF_INET, socket.AF_INET6):
                ip = ip_address(entry.address.partition("%")[0])
                mask = int(ip_address(entry.netmask)) if entry.netmask else 2**ip.max_prefixlen - 1
                ips.append(ip.packed)
                prefixes.append(mask.bit_count())
        loopback = "loopback" in stats[name].flags or any(ip_address(ip).is_loopback for ip in ips)
        found.append(InterfaceFacts(name, stats[name].mtu, mac, tuple(ips), tuple(prefixes), loopback))
    return tuple(found), ()


def parse_arp_table(text: str) -> list[NeighborFacts]:
    """Return the IPv4 neighbors in /proc/net/arp (proc(5)). Incomplete entries have no MAC."""
    found = []
    for line in text.splitlines()[1:]:
        columns = line.split()
        if len(columns) < 6:
            continue
        flags = int(columns[2], 16)
        complete = flags & (_ATF_COM | _ATF_PERM)
        state = NUD_REACHABLE if complete else 0
        mac = _mac(columns[3]) if complete else NO_MAC
        found.append(NeighborFacts(ip_address(columns[0]).packed, columns[5], mac, state))
    return found


class Machine:
    """Finds the first hop to an address.

    ``routes`` is ``None`` if the system has no netlink. Then an address on a local prefix is its own next
    hop, and the gateway's address is unknown (all zero).
    """

    def __init__(self, interfaces: Iterable[InterfaceFacts], routes: RouteSource | None) -> None:
        self.interfaces = tuple(interfaces)
        self.notes: list[str] = []
        self._routes = routes
        self._by_name = {interface.name: interface for interface in self.interfaces}
        self._by_address = {ip: interface for interface in self.interfaces for ip in interface.addresses}
        self._loopback = next((i.name for i in self.interfaces if i.loopback), "lo")
        self._hops: dict[tuple[bytes, bytes, str], Hop] = {}

    def hop(self, local: bytes, remote: bytes, interface: str = "") -> Hop:
        """Return the first hop from ``local`` to ``remote``. A link-local address needs ``interface``."""
        key = (local, remote, interface)
        if key not in self._hops:
            self._hops[key] = self._find(local, remote, interface)
        return self._hops[key]

    def _find(self, local: bytes, remote: bytes, interface: str) -> Hop:
        address = ip_address(remote)
        if address.is_loopback or remote in self._by_address:
            return self._to(self._loopback, _LOOPBACK_NEXT_HOP[len(remote)], remote, None)
        if self._routes is not None:
            if address.is_link_local and not interface and local in self._by_address:
                interface = self._by_address[local].name
            try:
                route = self._routes.route(remote, interface)
            except OSError as error:
                self.notes.append(f"route to {address}: {error}; taken from the interface's prefix")
            else:
                if route is not None:
                    return self._along(route, remote)
                self.notes.append(f"route to {address}: the kernel has none (any more)")
        return self._by_prefix(local, remote)

    def _along(self, route: Route, remote: bytes) -> Hop:
        if route.local:
            return self._to(self._loopback, _LOOPBACK_NEXT_HOP[len(remote)], remote, route.mtu)
        return self._to(route.interface, route.gateway or remote, remote, route.mtu)

    def _by_prefix(self, local: bytes, remote: bytes) -> Hop:
        interface = self._by_address.get(local)
        if interface is None:
            return self._to("?", bytes(len(remote)), remote, None)
        length = interface.prefix_lengths[interface.addresses.index(local)]
        on_link = ip_address(remote) in ip_network((local, length), strict=False)
        return self._to(interface.name, remote if on_link else bytes(len(remote)), remote, None)

    def _to(self, name: str, next_hop: bytes, remote: bytes, mtu: int | None) -> Hop:
        interface = self._by_name.get(name)
        if mtu is None:
            if interface is None or interface.mtu <= 0:
                self.notes.append(f"MTU of interface {name}: not told; {_DEFAULT_MTU} is assumed")
                mtu = _DEFAULT_MTU
            else:
                mtu = interface.mtu
        return Hop(name, next_hop, min(mtu, _IPV4_MAXIMUM_MTU) if len(remote) == 4 else mtu)

    def neighbors(self, wanted: Iterable[tuple[str, bytes]]) -> tuple[NeighborFacts, ...]:
        """Return the entries for the wanted (interface, next hop) pairs, sorted.

        A pair that is missing in the tables, or unresolved there, gets an entry without a MAC, and a note.
        Pairs of the loopback interface need no table.
        """
        table = {(entry.interface, entry.next_hop): entry for entry in self._neighbor_table()}
        found = []
        for interface, next_hop in sorted(set(wanted)):
            facts = self._by_name.get(interface)
            if interface == self._loopback or (facts is not None and facts.loopback):
                found.append(NeighborFacts(next_hop, interface, NO_MAC, NUD_NOARP))
                continue
            entry = table.get((interface, next_hop)) or NeighborFacts(next_hop, interface, NO_MAC, 0)
            if entry.mac == NO_MAC and not entry.state & NUD_NOARP:
                self.notes.append(f"neighbor {ip_address(next_hop)} on {interface}: no link address is known")
            found.append(entry)
        return tuple(found)

    def _neighbor_table(self) -> list[NeighborFacts]:
        if self._routes is not None:
            try:
                return self._routes.neighbors()
            except OSError as error:
                self.notes.append(f"neighbor table over netlink: {error}")
        self.notes.append("neighbor table of IPv6: only netlink gives it")
        try:
            return parse_arp_table(Path("/proc/net/arp").read_text(encoding="ascii"))
        except OSError as error:
            self.notes.append(f"neighbor table of IPv4: /proc/net/arp: {error.strerror}")
            return []
