"""Makes the parts of a stack and joins them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hoststack.net.clock import Clock
from hoststack.net.control import Control
from hoststack.net.datagrams import DatagramReceiver
from hoststack.net.detection import AddressDetection, DetectionTiming
from hoststack.net.discovery import Discovery
from hoststack.net.interfaces import Interfaces
from hoststack.net.link_output import LinkOutput
from hoststack.net.neighbors import NeighborCache
from hoststack.net.output import DatagramSender
from hoststack.net.paths import PathTable
from hoststack.net.pings import Pings
from hoststack.net.redirects import Redirects
from hoststack.net.routes import RoutingTable
from hoststack.net.statistics import Statistics
from hoststack.net.timers import StackTimers
from hoststack.net.transport import Transport
from ndisbus.net.identification import IpIdentification

if TYPE_CHECKING:
    from hoststack.net.hooks import StackHooks
    from ndisbus.randomness import Randomness
    from ndisbus.tcp.settings import TcpSettings

__all__ = ["Parts"]


class Parts:
    """The parts, each made with what it needs of those before it; callbacks lead the other way."""

    def __init__(
        self,
        settings: TcpSettings,
        rng: Randomness,
        hooks: StackHooks,
        timing: DetectionTiming,
        now: float,
    ) -> None:
        parameters = settings.parameters
        clock = self.clock = Clock(now, parameters.ticks_per_second)
        statistics = self.statistics = Statistics()
        timers = self.timers = StackTimers()
        interfaces = self.interfaces = Interfaces()
        routes = self.routes = RoutingTable()
        identification = IpIdentification(upper=False, start=rng.getrandbits(15))
        link = self.link = LinkOutput(interfaces)
        neighbors = self.neighbors = NeighborCache(
            clock=clock,
            statistics=statistics,
            timers=timers,
            hooks=hooks,
            interfaces=interfaces,
            link=link,
            reachable_time=parameters.nce_stale_ticks / parameters.ticks_per_second,
        )
        self.detection = AddressDetection(
            clock=clock,
            statistics=statistics,
            timers=timers,
            interfaces=interfaces,
            link=link,
            rng=rng,
            timing=timing,
        )
        discovery = self.discovery = Discovery(
            clock=clock,
            statistics=statistics,
            interfaces=interfaces,
            link=link,
            neighbors=neighbors,
            detection=self.detection,
        )
        paths = self.paths = PathTable(
            statistics=statistics, timers=timers, routes=routes, neighbors=neighbors
        )
        self.redirects = Redirects(
            clock=clock,
            statistics=statistics,
            hooks=hooks,
            interfaces=interfaces,
            routes=routes,
            neighbors=neighbors,
            paths=paths,
        )
        sender = self.sender = DatagramSender(
            clock=clock,
            statistics=statistics,
            interfaces=interfaces,
            routes=routes,
            neighbors=neighbors,
            paths=paths,
            identification=identification,
        )
        self.transport = Transport(
            settings=settings,
            rng=rng,
            clock=clock,
            statistics=statistics,
            timers=timers,
            hooks=hooks,
            interfaces=interfaces,
            routes=routes,
            paths=paths,
            sender=sender,
            identification=identification,
        )
        self.pings = Pings(
            clock=clock,
            statistics=statistics,
            routes=routes,
            sender=sender,
            number=rng.getrandbits(16) << 16,
        )
        control = Control(
            clock=clock,
            statistics=statistics,
            interfaces=interfaces,
            discovery=discovery,
            paths=paths,
            redirects=self.redirects,
            sender=sender,
            pings=self.pings,
            sockets=self.transport.sockets,
        )
        self.datagrams = DatagramReceiver(
            statistics=statistics,
            timers=timers,
            interfaces=interfaces,
            control=control,
            transport=self.transport,
        )
        neighbors.on_failed += [
            self.transport.neighbor_failed,
            self.pings.neighbor_failed,
            self.redirects.neighbor_failed,
        ]
        self.detection.on_assigned.append(neighbors.resume)
        self.detection.on_conflict.append(self.transport.address_lost)
        paths.on_mtu.append(self.transport.path_mtu_changed)
        paths.on_moved.append(self.transport.path_moved)
