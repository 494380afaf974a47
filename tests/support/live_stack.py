"""A whole stack with a wire, in the simulation: host with a network stack, drivers, target, remote host.

The remote host is on the wire and not on the bus. The simulation runs it as a driver without edges, so that
it has turns.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hoststack.live.nethost import NetHost
from hoststack.model.events import Violation
from hoststack.net.socket import Socket
from hoststack.net.socket_events import SocketEvent
from hoststack.net.stack import NetStack
from hoststack.net.station import Station
from hoststack.peer.peer import station_mac
from hoststack.peer.serving import Servants
from imdriver.config import ImConfig
from imdriver.driver import ImDriver
from ndisbus.core import CoreConfig
from ndisbus.ddi.structures import NdisTcpConnectionOffloadParameters
from ndisbus.driver.base import Driver
from ndisbus.sim import Simulation
from ndisbus.tcp.settings import TcpSettings
from ndisbus.wire.impair import ImpairedLink, Impairments
from ndisbus.wire.link import Link
from ndisbus.wire.memory import MemorySegment
from target.driver import TargetDriver
from target.hardware.config import TargetConfig

__all__ = ["HOST", "REMOTE", "Flow", "LiveStack", "RemoteDriver"]

HOST = ("10.77.0.1/24", "fd77::1/64")
REMOTE = ("10.77.0.2/24", "fd77::2/64")


class RemoteDriver(Driver):
    """A remote host in the simulation."""

    def __init__(self, link: Link, seed: int) -> None:
        self.stack = NetStack(TcpSettings(), random.Random(seed))
        self.station = Station(self.stack, link, station_mac(2), REMOTE, announce=False)
        self.servants = Servants(self.stack)

    def next_deadline(self) -> float | None:
        return self.station.next_deadline()

    def on_timer(self, now: float) -> None:
        self.station.poll(now)


class LiveStack:
    """A host, ``ims`` stacked intermediate drivers, a target, and a remote host on the target's wire.

    ``through_im`` False is the same as no intermediate driver. ``impairments`` hold for what the target hears
    and says. ``delay``: see :class:`Simulation`. ``config``: of each life of the target.
    """

    def __init__(
        self,
        seed: int,
        *,
        through_im: bool = True,
        impairments: Impairments | None = None,
        shuffle: bool = True,
        parameters: NdisTcpConnectionOffloadParameters | None = None,
        gateways: Sequence[tuple[str, str]] = (),
        ims: int = 1,
        delay: float = 0.0,
        config: TargetConfig | None = None,
        core: CoreConfig | None = None,
    ) -> None:
        self.sim = Simulation(seed, core, shuffle=shuffle, delay=delay)
        self.segment = MemorySegment()
        self.seed = seed
        self._plugs = 0
        self.impairments = impairments
        self.config = config or TargetConfig()
        self.remote = RemoteDriver(self.segment.station("peer"), seed)
        self.sim.start("target", self._target)
        #: The intermediate drivers, from the lowest to the highest.
        self.ims = _names(ims) if through_im else []
        below = "nic0"
        for i, name in enumerate(self.ims):
            shown = (f"{name}-a", f"{name}-b") if i == len(self.ims) - 1 else (f"{name}-a",)
            self.sim.start(name, partial(ImDriver, ImConfig(name=name, bind=below, adapters=shown)))
            below = shown[0]
        self.sim.start("peer", lambda: self.remote)
        # An automatic binding takes the first adapter that comes up, perhaps one of a lower driver.
        bind = "auto" if len(self.ims) == 1 else below
        self.host = NetHost(
            "host",
            addresses=HOST,
            rng=random.Random(f"{seed}/host"),
            gateways=gateways,
            bind=bind,
            parameters=parameters,
        )
        self._violations: list[Violation] = []
        self.host.events.subscribe(Violation, self._violations.append)
        self.sim.start("host", lambda: self.host)

    def _target(self) -> TargetDriver:
        # Another cable for each life of the target, as its predecessor cannot pull out its own any more.
        self._plugs += 1
        link: Link = self.segment.station(f"target{self._plugs}")
        if self.impairments is not None:
            rng = random.Random(f"{self.seed}/{self._plugs}")
            link = ImpairedLink(link, rng, ingress=self.impairments, egress=self.impairments)
        return TargetDriver(self.config, [link])

    def ready(self) -> None:
        self.sim.run_until(lambda: self.host.can_offload and self.host.interface is not None)

    def act(self, action: Callable[[NetHost], Any]) -> Any:
        """Let the host's owner do something; what comes of it goes out."""

        def do(host: NetHost) -> Any:
            host.stack.advance(host.ndis.now())
            result = action(host)
            host.stack.flush()
            return result

        return self.sim.act("host", do)

    def wait(self, done: Callable[[], bool], limit: float = 60.0) -> None:
        self.sim.run_until(done, limit=limit)

    def connect(self, address: str, port: int) -> Socket:
        """A connection; on a wire that loses frames, also those that look for the neighbor, not at once."""
        for _ in range(5 if self.impairments is not None else 1):
            socket = self._try(address, port)
            if socket.error is None:
                return socket
        raise AssertionError(f"{address} port {port} cannot be reached")

    def _try(self, address: str, port: int) -> Socket:
        """A socket that is connected or has failed."""
        socket: Socket = self.act(lambda h: h.stack.tcp_connect((address, port)))
        self.wait(lambda: socket.connected or socket.error is not None, limit=300)
        return socket

    def violations(self) -> list[str]:
        return [f"{e.rule}: {e.text}" for e in self._violations]


def _names(ims: int) -> list[str]:
    return ["im"] if ims == 1 else [f"im{i}" for i in range(ims)]


class Flow:
    """A stream to the echo service and back: what came must be what went, in order."""

    def __init__(self, stack: LiveStack, socket: Socket, size: int, seed: int, *, lazy: bool = False) -> None:
        """``lazy``: reads only when :meth:`pull` is called, so that unread data moves with the connection."""
        self.lazy = lazy
        self.stack = stack
        self.socket = socket
        self.data = random.Random(seed).randbytes(size)
        self.sent = 0
        self.got = bytearray()
        self.failed = False
        socket.on_event = self._event
        stack.act(lambda _: self._push())

    def _event(self, _: Socket, event: SocketEvent) -> None:
        if event is SocketEvent.FAILED:
            self.failed = True
        elif event in (SocketEvent.READABLE, SocketEvent.REMOTE_CLOSED) and not self.lazy:
            self.pull()
        elif event is SocketEvent.WRITABLE:
            self._push()

    def _push(self) -> None:
        while self.sent < len(self.data) and self.socket.error is None:
            taken = self.socket.send(self.data[self.sent : self.sent + 4096])
            self.sent += taken
            if not taken:
                return

    def pull(self) -> None:
        while self.socket.error is None:
            part = self.socket.recv(4096)
            if not part:
                return
            self.got += part

    @property
    def done(self) -> bool:
        return self.failed or len(self.got) >= len(self.data)

    def check(self) -> None:
        """What came is a prefix of what went; all of it, unless the connection failed."""
        assert bytes(self.got) == self.data[: len(self.got)]
        assert self.failed or len(self.got) == len(self.data)
