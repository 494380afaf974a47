"""Paths: pairs of addresses, the next hop between them, and the MTU that was learned (RFC 1191, RFC 8201)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from hoststack.model.objects import Path
from hoststack.net.interface import IPV6_MINIMUM_MTU
from hoststack.net.timers import Timed
from ndisbus.state.images import PathOffloadStateCached, PathOffloadStateConst, PathOffloadStateDelegated

if TYPE_CHECKING:
    from hoststack.net.neighbors import NeighborCache, NeighborEntry
    from hoststack.net.routes import RoutingTable
    from hoststack.net.statistics import Statistics
    from hoststack.net.timers import StackTimers

__all__ = ["MTU_LIFETIME", "SMALLEST_PATH_MTU", "PathEntry", "PathTable", "plateau"]

#: Seconds after which a path MTU that was learned is forgotten and a larger one tried (RFC 1191 6.3).
MTU_LIFETIME: Final = 600.0
#: Paths in all; the oldest that no connection uses make room.
MAX_PATHS: Final = 4096
#: RFC 791: no link has less.
IPV4_MINIMUM_MTU: Final = 68
#: Below this a path MTU of IPv4 is not followed, as in Linux (min_pmtu): with a forged ICMP error, a stranger
#: could make segments so small that headers are most of the traffic. Packets may be fragmented instead (RFC
#: 1191 3: a host may clear DF), and each host puts together 576 bytes at least (RFC 791).
SMALLEST_PATH_MTU: Final = 552
#: RFC 1191 section 7: what to try after a router that does not tell its MTU.
_PLATEAUS: Final = (32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68)


def plateau(size: int) -> int:
    """The next smaller likely MTU for a datagram of ``size`` bytes that did not get through."""
    return next((p for p in _PLATEAUS if p < size), IPV4_MINIMUM_MTU)


class PathEntry(Timed):
    """One entry of the path table. ``path`` is the object that can be offloaded."""

    __slots__ = ("expires", "fragmentable", "hop", "path", "table", "tally", "users")

    def __init__(self, table: PathTable, hop: NeighborEntry, source: bytes, destination: bytes) -> None:
        self.queued = None
        self.table = table
        #: The counters of its IP version.
        self.tally = table.statistics.of(source)
        self.hop = hop
        self.path = Path(
            hop.neighbor,
            PathOffloadStateConst(source_address=source, destination_address=destination),
            PathOffloadStateCached(path_mtu=hop.interface.mtu),
            PathOffloadStateDelegated(),
            name=f"{ip_address(source)} -> {ip_address(destination)}",
        )
        #: Connections over it.
        self.users = 0
        #: When an MTU that was learned is forgotten.
        self.expires: float | None = None
        #: Whether packets leave without DF, because a router reported less than SMALLEST_PATH_MTU.
        self.fragmentable = False

    def __repr__(self) -> str:
        return f"<path {self.path.name} through {self.hop!r}, MTU {self.mtu}>"

    @property
    def mtu(self) -> int:
        """PathMtu, bytes."""
        return self.path.cached.path_mtu

    def deadline(self) -> float | None:
        return self.expires

    def on_timer(self, now: float) -> None:
        """Try the interface's own MTU again."""
        self.expires = None
        self.fragmentable = False
        self._set(self.hop.interface.mtu)

    def learn(self, mtu: int, now: float) -> bool:
        """A router reported that the path carries at most ``mtu`` bytes; returns whether PathMtu shrank.

        A value is never raised (RFC 8201 section 4). What no link has is ignored: less than 68 bytes for IPv4
        (RFC 1191 section 3), or 1280 for IPv6 (RFC 8201 section 4).
        """
        four = len(self.path.const.source_address) == 4
        if mtu < (IPV4_MINIMUM_MTU if four else IPV6_MINIMUM_MTU):
            return False
        narrow = four and mtu < SMALLEST_PATH_MTU
        if narrow:
            mtu = SMALLEST_PATH_MTU
        shrinks = mtu < self.mtu
        if shrinks or narrow:
            self.fragmentable = self.fragmentable or narrow
            self.expires = now + MTU_LIFETIME
            self.table.timers.refresh(self)
        if shrinks:
            self._set(mtu)
        return shrinks

    def refit(self, mtu: int) -> None:
        """The interface has another MTU. A smaller MTU that was learned from a router stays."""
        if self.expires is None or mtu < self.mtu:
            self._set(mtu)

    def _set(self, mtu: int) -> None:
        if mtu != self.mtu:
            self.path.cached.path_mtu = mtu
            for changed in self.table.on_mtu:
                changed(self)

    def move(self, hop: NeighborEntry) -> None:
        """Use another next hop from now on."""
        self.hop.users -= 1
        self.hop = hop
        hop.users += 1
        for moved in self.table.on_moved:
            moved(self)


class PathTable:
    """The paths in use, by (source, destination).

    ``on_mtu(entry)`` and ``on_moved(entry)``, each in turn: PathMtu or the next hop has changed.
    """

    __slots__ = ("_entries", "_neighbors", "_routes", "on_moved", "on_mtu", "statistics", "timers")

    def __init__(
        self, *, statistics: Statistics, timers: StackTimers, routes: RoutingTable, neighbors: NeighborCache
    ) -> None:
        self.statistics = statistics
        self.timers = timers
        self._routes = routes
        self._neighbors = neighbors
        self._entries: dict[tuple[bytes, bytes], PathEntry] = {}
        self.on_mtu: list[Callable[[PathEntry], object]] = []
        self.on_moved: list[Callable[[PathEntry], object]] = []

    def __iter__(self) -> Iterator[PathEntry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, source: bytes, destination: bytes) -> PathEntry | None:
        """The path, if it is in use."""
        return self._entries.get((source, destination))

    def get(self, source: bytes, destination: bytes) -> PathEntry | None:
        """Return the path, made if necessary; None without a route."""
        entry = self._entries.get((source, destination))
        if entry is None:
            route = self._routes.lookup(destination)
            if route is None:
                return None
            if len(self._entries) >= MAX_PATHS:
                self._make_room()
            hop = self._neighbors.get(route.interface, route.next_hop(destination))
            hop.users += 1
            entry = self._entries[source, destination] = PathEntry(self, hop, source, destination)
        return entry

    def of(self, path: Path) -> PathEntry | None:
        """Return the entry of a path object."""
        entry = self._entries.get((path.const.source_address, path.const.destination_address))
        return entry if entry is not None and entry.path is path else None

    def _make_room(self) -> None:
        for key, entry in self._entries.items():
            if not entry.users and not entry.path.is_offloaded:
                del self._entries[key]
                entry.hop.users -= 1
                self.timers.drop(entry)
                return
