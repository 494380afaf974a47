"""One run: applications at both ends of some connections, moves, faults, and a look at all owners meanwhile.

Everything follows from the seed: the stack (none, one or two intermediate drivers), how slow each hop and the
wire are, what applications do and when, which process dies between which packets, and at which steps the
owners are looked at.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from hoststack.live.nethost import NetHost
from hoststack.model.events import HostEvent
from hoststack.model.operation import Operation
from hoststack.net.listener import Listener
from hoststack.net.options import SocketOptions
from ndisbus.core import CoreConfig
from ndisbus.errors import ChimneyError
from ndisbus.wire.impair import Impairments
from target.hardware.config import TargetConfig
from tests.support.live_stack import LiveStack
from tests.support.ownership.apps import Connection, End, stream
from tests.support.ownership.broken import Broken
from tests.support.ownership.ending import leave_nothing
from tests.support.ownership.faults import Faults
from tests.support.ownership.walk import Walk

__all__ = ["Broken", "Play"]

PORT: Final = 4000
_SIZES: Final = (1, 7, 100, 100, 1000, 1460, 3000)
#: How long all connections may take to finish, in virtual seconds, once nothing is broken any more.
_FINISH: Final = 200.0
#: More than any run takes.
_STEPS: Final = 200_000


class Play:
    """One run. :meth:`run` raises :class:`Broken`, or what a driver raised.

    ``tell`` is called with a line of text for everything that happens. ``count`` has how often what happened.
    """

    def __init__(self, seed: int, tell: Callable[[str], object] | None = None) -> None:
        self.seed = seed
        self._tell = tell
        rng = self.rng = random.Random(f"ownership {seed}")
        self.deadly = rng.random() < 0.6
        delay = rng.choice((0.0, 0.0005, 0.005, 0.05))
        impairments = None
        if rng.random() < 0.6:
            loss = 0.0 if self.deadly else rng.choice((0.0, 0.02))
            impairments = Impairments(loss=loss, delay=rng.choice((0.001, 0.01, 0.05)), jitter=0.005)
        self.stack = LiveStack(
            seed,
            ims=rng.choice((0, 1, 1, 2)),
            shuffle=rng.random() < 0.8,
            delay=delay,
            # Fewer questions whether a driver hangs: most of the time nothing else would happen.
            core=CoreConfig(seed=seed, check_interval=1.0),
            impairments=impairments,
            config=TargetConfig(
                latency=rng.choice((0.0, 0.01, 0.05, 0.3)),
                tcp_entries=rng.choice((1, 262144, 262144, 262144)),
            ),
        )
        self.sim = self.stack.sim
        #: The owners are looked at after every step whose number this divides.
        self.every = rng.choice((1, 3, 10, 30))
        self.steps = 0
        self.count: Counter[str] = Counter()
        self.connections: list[Connection] = []
        self._waiting: dict[int, Connection] = {}
        self.stack.remote.stack.tcp_listen(None, PORT, 16, on_accept=self._accept, options=self._options())
        self.stack.ready()
        self.faults = Faults(self.stack, rng, self.tell)
        self._weights = self._weigh()
        if tell is not None:
            tell(
                f"{len(self.stack.ims)} intermediate drivers, hops up to {delay:g} s, shuffle "
                f"{self.sim.shuffle}, {self.stack.config.latency:g} s latency, "
                f"{self.stack.config.tcp_entries} entries, {impairments}, a look every {self.every} steps"
            )
            self.stack.host.events.subscribe(HostEvent, lambda event: self.tell(f"  host: {event}"))

    def tell(self, text: str) -> None:
        """Tell what happens."""
        if self._tell is not None:
            self._tell(f"{self.sim.now:9.4f} s, step {self.steps:5}: {text}")

    # -- the run -------------------------------------------------------------------------------

    def run(self) -> None:
        """Play, repair everything, let all connections finish, and look for what is left over."""
        for _ in range(self.rng.randint(1, 3)):
            self.connect()
        for _ in range(self.rng.randint(10, 30)):
            self._act()
            self._pass()
        self._settle()
        leave_nothing(self)

    def step(self) -> None:
        """One step of the simulation, and perhaps a look."""
        if not self.sim.step():
            raise Broken("nothing is due any more")
        self.steps += 1
        if self.steps > _STEPS:
            raise Broken(f"it does not end: {_STEPS} steps")
        now = self.sim.now
        for connection in self.connections:
            connection.note(now)
        if self.steps % self.every == 0:
            self.look()

    def look(self) -> None:
        """Check who owns every byte and every list, and that only faults have taken connections."""
        self.faults.note()
        problems = self.stack.violations()
        walk: Walk | None = None
        for connection in self.connections:
            remote = connection.remote
            for end in (connection.local, remote):
                if end is not None:
                    problems += end.problems
            problems += self._unexplained(connection)
            if not connection.intact or (connection.away and self.faults.explains(connection)):
                continue
            walk = walk or Walk(self.stack)
            for account in walk.accounts(connection):
                problems += account.problems()
            if connection.away:
                problems += walk.misplaced(connection)
        self.count["looks"] += 1
        problems += self.faults.reports()
        if problems:
            raise Broken("\n".join(problems))

    def _unexplained(self, connection: Connection) -> list[str]:
        """Errors that neither a fault nor one of the applications explains."""
        local, remote = connection.local, connection.remote
        found = []
        left = local.left or (remote is not None and remote.left)
        if local.error is not None and not left and not self.faults.explains(connection):
            found.append(f"{connection}: no fault explains the error at the host: {local.error}")
        if remote is not None and remote.error is not None and not left and local.error is None:
            found.append(f"{connection}: nothing explains the error at the remote host: {remote.error}")
        return found

    def _pass(self) -> None:
        """Let some steps or some time pass."""
        if self.rng.random() < 0.7:
            for _ in range(self.rng.choice((0, 1, 2, 3, 5, 10, 20))):
                self.step()
        else:
            self.run_for(self.rng.choice((0.0005, 0.01, 0.1, 1.0)))

    def run_for(self, seconds: float) -> None:
        """Let virtual time pass."""
        end = self.sim.now + seconds
        self.sim.at(end, lambda: None)
        while self.sim.now < end:
            self.step()

    def wait(self, done: Callable[[], bool], limit: float, what: str) -> None:
        """Run until ``done`` holds."""
        end = self.sim.now + limit
        while not done():
            if self.sim.now > end:
                raise Broken(f"{what}: not within {limit:g} virtual seconds")
            self.step()

    # -- what happens --------------------------------------------------------------------------

    def _weigh(self) -> dict[Callable[[], None], float]:
        """How often each action happens: each run has its own mixture, so that rare ones meet."""
        weights: dict[Callable[[], None], float] = {
            self._write: 4,
            self._read: 4,
            self._remote_write: 4,
            self._remote_read: 3,
            self._offload: 6,
            self._upload: 4,
            self._query: 1,
            self._shut: 1,
            self._leave: 0.4,
            self.faults.strike: 2 if self.deadly else 0,
        }
        return {action: weight * self.rng.choice((0.2, 1, 1, 3)) for action, weight in weights.items()}

    def _act(self, *only: Callable[[], None]) -> None:
        actions = {a: w for a, w in self._weights.items() if not only or a in only}
        (action,) = self.rng.choices(list(actions), list(actions.values()))
        # What is not the time for is refused, as it is for an application.
        with contextlib.suppress(ChimneyError):
            action()
        for connection in self.connections:
            connection.note(self.sim.now)
        name = action.__name__.strip("_").replace("_", " ")
        self.count[name] += 1
        self.tell(f"{name}: {self._states()}")

    def _states(self) -> str:
        return "; ".join(f"{c} {c.local.socket.tcb.state}" for c in self.connections)

    def _options(self) -> SocketOptions:
        return SocketOptions(
            rcvbuf=self.rng.choice((2000, 8000, 65536)), sndbuf=self.rng.choice((1000, 65536))
        )

    def connect(self) -> None:
        """Open a connection to the remote host, and wait for it."""
        number = len(self.connections)
        name = f"{self.seed}/{number}"
        remote = self.rng.choice(("10.77.0.2", "fd77::2")), PORT
        options = self._options()
        socket = self.stack.act(lambda h: h.stack.tcp_connect(remote, options=options))
        local = End(f"connection {number}, host", socket, stream(f"{name}/host", self._size()))
        connection = Connection(number, local)
        self._waiting[socket.local[1]] = connection
        self.wait(
            lambda: (socket.connected and connection.remote is not None) or local.error is not None,
            60.0,
            f"connecting {connection}",
        )
        self.connections.append(connection)

    def _size(self) -> int:
        return self.rng.choice((0, 3000, 30000, 30000))

    def _accept(self, listener: Listener) -> None:
        while (socket := listener.accept()) is not None:
            connection = self._waiting.pop(socket.remote[1])
            name = f"{self.seed}/{connection.number}/remote"
            connection.remote = End(f"{connection}, remote host", socket, stream(name, self._size()))
            connection.remote.other, connection.local.other = connection.local, connection.remote

    def _one(self) -> Connection:
        return self.rng.choice(self.connections)

    def _some(self, away: bool) -> list[Any]:
        sockets = [c.local.socket for c in self.connections if c.local.error is None]
        return [s for s in sockets if (s.machine is None) is away and self.rng.random() < 0.7]

    def _write(self) -> None:
        end, size = self._one().local, self.rng.choice(_SIZES)
        self.stack.act(lambda _: end.write(size))

    def _read(self) -> None:
        end, size = self._one().local, self.rng.choice((None, None, *_SIZES))
        self.stack.act(lambda _: end.read(size))

    def _remote_write(self) -> None:
        end, size = self._one().remote, self.rng.choice(_SIZES)
        if end is not None:
            self._at_remote(lambda: end.write(size))

    def _remote_read(self) -> None:
        end, size = self._one().remote, self.rng.choice((None, None, *_SIZES))
        if end is not None:
            self._at_remote(lambda: end.read(size))

    def _at_remote(self, action: Callable[[], Any]) -> None:
        def do(driver: Any) -> None:
            driver.stack.advance(self.sim.now)
            action()
            driver.stack.flush()

        self.sim.act("peer", do)

    def _offload(self) -> None:
        if some := self._some(away=False):
            self._fill(some)
            self._perhaps_wait(self.stack.act(lambda h: h.offload_sockets(some)))

    def _fill(self, sockets: list[Any]) -> None:
        """Let there be data that goes down with the connections, in both directions."""
        rng = self.rng
        for connection in self.connections:
            local, remote = connection.local, connection.remote
            if local.socket not in sockets or remote is None:
                continue
            if rng.random() < 0.3:
                self._at_remote(partial(remote.write, rng.choice(_SIZES)))
                if rng.random() < 0.3:
                    self._at_remote(remote.shutdown)
                for _ in range(rng.choice((0, 1, 5))):
                    self.step()
            if rng.random() < 0.5:
                self.stack.act(_writing(local, rng.choice(_SIZES)))

    def _upload(self) -> None:
        idle = self.rng.random() < 0.5
        if some := self._some(away=True):
            self._perhaps_wait(self.stack.act(lambda h: h.upload_sockets(some, idle=idle)))

    def _query(self) -> None:
        if some := self._some(away=True):
            self._perhaps_wait(self.stack.act(lambda h: h.query([s.tcb for s in some])))

    def _perhaps_wait(self, operation: Operation) -> None:
        for connection in self.connections:
            connection.note(self.sim.now)
        self._meanwhile()
        if self.rng.random() < 0.3:
            self.wait(lambda: operation.done, 60.0, f"{operation.op} to be done")

    def _meanwhile(self) -> None:
        """What happens while connections are on their way."""
        if self.deadly and self.rng.random() < 0.25:
            self.faults.strike()
        for _ in range(self.rng.choice((0, 0, 1, 2, 4))):
            for _ in range(self.rng.choice((0, 1, 2, 4, 8))):
                self.step()
            self._act(self._read, self._write, self._remote_write, self._remote_read, self._shut)

    def _shut(self) -> None:
        connection = self._one()
        if self.rng.random() < 0.5:
            self.stack.act(lambda _: connection.local.shutdown())
        elif (remote := connection.remote) is not None:
            self._at_remote(remote.shutdown)

    def _leave(self) -> None:
        connection, close = self._one(), self.rng.random() < 0.5
        if self.rng.random() < 0.5:
            local = connection.local
            self.stack.act(lambda _: local.close() if close else local.abort())
        elif (remote := connection.remote) is not None:
            self._at_remote(remote.close if close else remote.abort)

    # -- the end -------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Repair everything, and let all connections finish."""
        self.faults.repair()
        self.wait(lambda: not self.faults.missing and self.stack.host.can_offload, 60.0, "a new binding")
        end = self.sim.now + _FINISH
        while self._finish():
            if self.sim.now > end:
                stuck = [c for c in self.connections if not _done(c)]
                raise Broken("\n".join(f"{c} is stuck: {_progress(c)}" for c in stuck))
            self.run_for(0.2)
        self.look()
        for c in self.connections:
            self._account(c)

    def _account(self, connection: Connection) -> None:
        """Count how a connection ended, and its bytes."""
        local, remote = connection.local, connection.remote
        self.count["connections"] += 1
        if connection.intact:
            self.count["delivered"] += 1
        elif local.left or (remote is not None and remote.left):
            self.count["aborted"] += 1
        else:
            self.count["lost"] += 1
        self.count["bytes"] += local.read_count + (remote.read_count if remote is not None else 0)

    def _finish(self) -> bool:
        """Let all applications go on; returns whether one is not done."""
        for c in self.connections:
            self.stack.act(_finishing(c.local))
            if c.remote is not None:
                self._at_remote(c.remote.finish)
            c.note(self.sim.now)
        return not all(_done(c) for c in self.connections)


def _writing(end: End, size: int) -> Callable[[NetHost], int]:
    return lambda _: end.write(size)


def _finishing(end: End) -> Callable[[NetHost], None]:
    return lambda _: end.finish()


def _done(connection: Connection) -> bool:
    local, remote = connection.local, connection.remote
    if local.error is not None or local.left or remote is None or remote.left:
        return True  # the wire may have lost the reset that would tell the other end
    return local.done and remote.done


def _progress(connection: Connection) -> str:
    ends = [e for e in (connection.local, connection.remote) if e is not None]
    return "; ".join(
        f"{e.name} has written {e.written} of {len(e.stream)} and read {e.read_count}"
        + (f", {e.error}" if e.error else "")
        for e in ends
    )
