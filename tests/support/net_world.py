"""Network stacks on one segment in memory, on virtual time.

    world = NetWorld()
    a, b = world.host("a"), world.host("b")
    world.run_until(lambda: ..., timeout=5.0)

Host number n has 10.77.0.n/24 and fd77::n/64.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Protocol

from hoststack.api.network import Network, PollingRunner
from hoststack.net import NetStack, StackHooks, Station
from ndisbus.tcp.settings import TcpSettings
from ndisbus.wire.impair import ImpairedLink, Impairments
from ndisbus.wire.link import Link, LinkWrapper
from ndisbus.wire.memory import MemorySegment


class Tap(LinkWrapper):
    """Remembers what a station sent and received, and lets a test swallow or change what it sends."""

    __slots__ = ("change", "received", "sent", "thin")

    def __init__(self, inner: Link) -> None:
        super().__init__(inner)
        self.sent: list[bytes] = []
        self.received: list[bytes] = []
        self.change: Callable[[bytes], bytes | None] | None = None
        self.thin: Callable[[list[bytes]], list[bytes]] | None = None
        """Which of the frames that have arrived together the station gets."""

    def send(self, frame: bytes, now: float) -> None:
        self.sent.append(frame)
        changed = frame if self.change is None else self.change(frame)
        if changed is not None:
            self._inner.send(changed, now)

    def receive(self, now: float) -> list[bytes]:
        frames = self._inner.receive(now)
        if self.thin is not None:
            frames = self.thin(frames)
        self.received += frames
        return frames


class Served(Protocol):
    """Something that has its turn when it is due."""

    def next_deadline(self) -> float | None: ...

    def poll(self, now: float) -> None: ...


class Host(Station):
    """A station of a world, and the network that its applications see."""

    tap: Tap
    network: Network


class WorldRunner(PollingRunner):
    """What the blocking sockets need of a world."""

    def __init__(self, world: NetWorld) -> None:
        self.world = world

    def run_until(self, done: Callable[[], object], timeout: float) -> bool:
        return self.world.run_until(done, timeout)

    def now(self) -> float:
        return self.world.now()


class NetWorld:
    """Hosts on a segment. ``now`` is virtual and jumps to the next thing that is due."""

    def __init__(self, seed: int = 1, *, mtu: int = 1500, start: float = 1000.0) -> None:
        self.now_ = start
        self.rng = random.Random(seed)
        self.segment = MemorySegment("net", mtu=mtu)
        self.hosts: list[Host] = []
        #: Whatever else is on the segment and wants to be served.
        self.others: list[Served] = []

    def now(self) -> float:
        return self.now_

    def host(
        self,
        name: str,
        *,
        addresses: Iterable[str] | None = None,
        settings: TcpSettings | None = None,
        egress: Impairments | None = None,
        ingress: Impairments | None = None,
        hooks: StackHooks | None = None,
        mtu: int | None = None,
        announce: bool = True,
        vlan_id: int = 0,
        wrap: Callable[[Link], Link] = lambda link: link,
    ) -> Host:
        """A new host on the segment. ``wrap`` goes around its link."""
        number = len(self.hosts) + 1
        tap = Tap(self.segment.station(name))
        link = wrap(tap)
        if egress is not None or ingress is not None:
            link = ImpairedLink(
                link,
                random.Random(self.rng.getrandbits(32)),
                ingress=ingress or Impairments(),
                egress=egress or Impairments(),
            )
        stack = NetStack(
            settings or TcpSettings(), random.Random(self.rng.getrandbits(32)), hooks=hooks, now=self.now_
        )
        host = Host(
            stack,
            link,
            bytes((2, 0, 0, 0, 0, number)),
            addresses if addresses is not None else [f"10.77.0.{number}/24", f"fd77::{number}/64"],
            mtu=mtu,
            announce=announce,
            vlan_id=vlan_id,
        )
        host.tap = tap
        host.network = Network(stack, WorldRunner(self), timeout=60.0)
        self.hosts.append(host)
        return host

    def quiet(self) -> None:
        """Let announcements pass and forget them."""
        self.run(2.0)
        for host in self.hosts:
            host.tap.sent.clear()
            host.tap.received.clear()

    def _poll(self) -> bool:
        """Serve all stacks once; whether anything was due."""
        busy = False
        for served in self._served():
            due = served.next_deadline()
            if due is not None and due <= self.now_:
                served.poll(self.now_)
                busy = True
        return busy

    def _served(self) -> list[Served]:
        return [*self.hosts, *self.others]

    def run_until(self, done: Callable[[], object], timeout: float) -> bool:
        """Move virtual time until ``done()`` or by ``timeout`` seconds."""
        end = self.now_ + timeout
        while True:
            rounds = 0
            while self._poll():
                if done():
                    return True
                rounds += 1
                assert rounds < 100_000, "time stands still"
            if done():
                return True
            due = min((d for s in self._served() if (d := s.next_deadline()) is not None), default=None)
            if due is None or due > end:
                self.now_ = end
                self._poll()
                return bool(done())
            self.now_ = max(self.now_, due)

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        self.run_until(lambda: False, seconds)
