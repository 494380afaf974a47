"""Echo requests of this host and their replies."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from hoststack.net.errors import Unreachable
from ndisbus.net import icmp, icmpv6
from ndisbus.net.icmp import Echo

if TYPE_CHECKING:
    from hoststack.net.clock import Clock
    from hoststack.net.neighbors import NeighborEntry
    from hoststack.net.output import DatagramSender
    from hoststack.net.routes import RoutingTable
    from hoststack.net.statistics import Statistics

__all__ = ["MAX_PINGS", "Ping", "Pings"]

#: Echo requests that wait for their reply; the oldest are forgotten.
MAX_PINGS: Final = 1024


class Ping:
    """One echo request. ``seconds``: the round trip, once the reply is there; ``error``: why none comes."""

    __slots__ = ("data", "destination", "error", "seconds", "sent")

    def __init__(self, destination: bytes, sent: float) -> None:
        self.destination = destination
        self.sent = sent
        self.seconds: float | None = None
        self.data = b""
        self.error = ""

    @property
    def done(self) -> bool:
        """Whether there is a reply or an error."""
        return self.seconds is not None or bool(self.error)


class Pings:
    """The requests that wait for a reply. ``number``: identifier and sequence number before the first one."""

    __slots__ = ("_clock", "_number", "_routes", "_sender", "_statistics", "_waiting")

    def __init__(
        self,
        *,
        clock: Clock,
        statistics: Statistics,
        routes: RoutingTable,
        sender: DatagramSender,
        number: int,
    ) -> None:
        self._clock = clock
        self._statistics = statistics
        self._routes = routes
        self._sender = sender
        self._number = number
        self._waiting: dict[tuple[int, int], Ping] = {}

    def send(self, destination: bytes, size: int) -> Ping:
        """Send a request with ``size`` bytes. Raises Unreachable without a route."""
        route = self._routes.lookup(destination)
        source = None if route is None else route.interface.source_for(route.next_hop(destination))
        if source is None:
            raise Unreachable(f"no route to {ip_address(destination)}")
        self._number = (self._number + 1) & 0xFFFFFFFF
        key = self._number >> 16, self._number & 0xFFFF
        while len(self._waiting) >= MAX_PINGS:
            del self._waiting[next(iter(self._waiting))]
        ping = self._waiting[key] = Ping(destination, self._clock.now)
        echo = Echo(*key, bytes(i & 0xFF for i in range(size)))
        if len(source) == 4:
            sent = self._sender.send(source, destination, icmp.PROTOCOL, icmp.build(echo))
        else:
            payload = icmpv6.build(echo, source, destination)
            sent = self._sender.send(source, destination, icmpv6.PROTOCOL, payload)
        if not sent:
            ping.error = "cannot be sent"
            del self._waiting[key]
        return ping

    def replied(self, reply: Echo, now: float) -> None:
        """An echo reply arrived."""
        ping = self._waiting.pop((reply.identifier, reply.sequence), None)
        if ping is None:
            self._statistics.count("icmp: stray echo reply")
        else:
            ping.seconds = now - ping.sent
            ping.data = reply.data

    def failed(self, destination: bytes, text: str) -> None:
        """A router reported that datagrams to a destination do not arrive."""
        for key, ping in list(self._waiting.items()):
            if ping.destination == destination:
                ping.error = text
                del self._waiting[key]

    def neighbor_failed(self, entry: NeighborEntry, now: float) -> None:
        """A neighbor does not answer: end the requests that went through it."""
        for key, ping in list(self._waiting.items()):
            route = self._routes.lookup(ping.destination)
            if route is not None and route.next_hop(ping.destination) == entry.address:
                ping.error = f"neighbor {entry.neighbor.name} does not answer"
                del self._waiting[key]
