"""The tour's connections: finding the remote host, opening, moving data, offloading, closing."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from hoststack.tour.rig import TourError
from hoststack.tour.traffic import EXCHANGE_PORT, Round, exchange
from ndisbus.ddi.state_types import Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hoststack.model.objects import Neighbor, Path, Tcb
    from hoststack.net.pings import Ping
    from hoststack.net.socket import Socket
    from hoststack.tour.rig import TourRig
    from ndisbus.randomness import Randomness

__all__ = ["Connections"]

#: Seconds between two pings of an address that has not answered yet.
_PING_INTERVAL: Final = 0.25


class Connections:
    """All connections of the tour, to the addresses of one remote host in turn."""

    def __init__(self, rig: TourRig, addresses: Sequence[str], rng: Randomness) -> None:
        self.rig = rig
        self.stack = rig.driver.stack
        self.addresses = tuple(addresses)
        self.rng = rng
        self.sockets: list[Socket] = []
        #: What was exchanged, round by round.
        self.rounds: list[Round] = []

    @property
    def tcbs(self) -> list[Tcb]:
        """The connections as objects of the chimney."""
        return [s.tcb for s in self.sockets]

    @property
    def paths(self) -> list[Path]:
        """The paths in use, in the order of the connections."""
        return list(dict.fromkeys(t.path for t in self.tcbs))

    @property
    def neighbors(self) -> list[Neighbor]:
        """The neighbors in use, in the same order."""
        return list(dict.fromkeys(p.neighbor for p in self.paths))

    def connect(self, count: int) -> None:
        """Find the remote host, then open ``count`` connections at once."""
        report = self.rig.report
        report(f"looking for {', '.join(self.addresses)}")
        self.find_remote_host()
        self.sockets = self._open(count)
        families = Counter("IPv6" if ":" in s.remote[0] else "IPv4" for s in self.sockets)
        self.rig.facts |= {
            "connections": len(self.sockets),
            "paths": len(self.paths),
            "neighbors": len(self.neighbors),
            "families": dict(families),
            "notes": [],
        }
        kinds = ", ".join(f"{n} {f}" for f, n in sorted(families.items()))
        report(
            f"{len(self.sockets)} connections ({kinds}) on {len(self.paths)} paths on "
            f"{len(self.neighbors)} neighbors"
        )

    def replace_lost(self) -> None:
        """Open a new connection for each one that has ended with an error."""
        self.find_remote_host()
        kept = [s for s in self.sockets if s.error is None]
        self.sockets = kept + self._open(len(self.sockets) - len(kept))

    def find_remote_host(self) -> None:
        """Wait until each address answers a ping: the processes of a stack start in any order."""
        for address in self.addresses:
            self._find(address)

    def _find(self, address: str) -> None:
        stack = self.stack
        pings: list[Ping] = []

        def answered() -> bool:
            stack.advance(time.monotonic())
            if not pings or pings[-1].done or stack.now - pings[-1].sent > _PING_INTERVAL:
                pings.append(stack.ping(address))
                stack.flush()
            return any(p.seconds is not None for p in pings)

        self.rig.until(
            answered,
            f"{address} does not answer; is the remote host running ('hoststack peer'), and is the target on "
            "its wire ('--wire')?",
        )

    def _open(self, count: int) -> list[Socket]:
        stack = self.stack
        stack.advance(time.monotonic())
        addresses = self.addresses
        opened = [stack.tcp_connect((addresses[i % len(addresses)], EXCHANGE_PORT)) for i in range(count)]
        stack.flush()
        seconds = self.rig.until(
            lambda: all(s.connected or s.error is not None for s in opened),
            "connections were not established",
        )
        failed = [s.error for s in opened if s.error is not None]
        if failed:
            raise TourError(f"{len(failed)} of {count} connections failed, the first with: {failed[0]}")
        self.rig.report(f"{count} connections established in {seconds * 1e3:.0f} ms")
        return opened

    def exchange(self, name: str, sockets: Sequence[Socket] | None = None) -> None:
        """Send a message on every connection and receive its answer; both are checked."""
        self.rig.report(f"data {name}: a message and its answer on each connection, SHA-256 at both ends")
        self.stack.advance(time.monotonic())

        def wait(condition: Callable[[], bool], progress: Callable[[], str]) -> float:
            return self.rig.until(condition, f"data {name}: not everything arrived", progress)

        chosen = self.sockets if sockets is None else sockets
        self.rounds.append(exchange(name, chosen, self.rng, wait))

    def offload(self, step: str = "initiate") -> None:
        """Offload the connections that the host serves, with their paths and neighbors."""
        rig = self.rig
        rig.report("initiate: the whole tree in one list")
        here = [s for s in self.sockets if not s.tcb.is_offloaded]
        rig.do(step, lambda: rig.driver.offload_sockets(here))
        missing = [t for t in self.tcbs if not t.is_offloaded]
        if missing:
            raise TourError(
                f"{len(missing)} of {len(self.tcbs)} connections are not offloaded, {missing[0]!r} first"
            )
        for layer in (Layer.NEIGHBOR, Layer.PATH):
            if not rig.driver.held(layer):
                raise TourError(f"connections are offloaded, but not one {layer.name.lower()}")

    def upload(self) -> None:
        """Upload everything."""
        rig = self.rig
        rig.report("terminate: everything comes back to the host")
        rig.do("terminate", lambda: rig.driver.upload_sockets(self.sockets, idle=True))
        stay = [o for o in (*self.tcbs, *self.paths, *self.neighbors) if o.is_offloaded]
        if stay:
            raise TourError(f"{len(stay)} objects are still offloaded after the terminate, {stay[0]!r} first")

    def close(self) -> None:
        """Close every connection in an orderly way, on both sides."""
        self.rig.report("closing")
        for s in self.sockets:
            s.close()
        self.stack.flush()
        self.rig.until(
            lambda: all(s.finished or s.error is not None for s in self.sockets),
            "the remote host did not close its side of every connection",
        )
        wrong = [s.error for s in self.sockets if s.error is not None]
        if wrong:
            raise TourError(f"{len(wrong)} connections ended with an error, the first with: {wrong[0]}")
