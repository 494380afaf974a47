"""Anything at any moment: applications, offloads, deaths, changes in the network; nothing is left over."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import pytest

from hoststack.live.nethost import NetHost
from hoststack.net.errors import SocketError
from hoststack.net.options import SocketOptions
from hoststack.net.socket import Socket
from ndisbus.errors import ChimneyError
from ndisbus.wire.impair import Impairments
from tests.support.live_stack import LiveStack

#: What the host's counters say of forgotten connections.
KEPT = ("tcbs", "offloaded", "operations", "posted", "returns", "sends", "offloaded sockets")
DEATHS = ("target", "target", "target", "im", "bus", "stall")


def aborting(socket: Socket) -> Callable[[NetHost], None]:
    """What aborts this connection, for the host to do."""
    return lambda _: socket.abort()


class Chaos:
    """One play; everything in it follows from the seed."""

    def __init__(self, seed: int) -> None:
        rng = self.rng = random.Random(seed)
        loss = rng.choice((0.0, 0.0, 0.05))
        impairments = Impairments(loss=loss, delay=0.005, reorder=0.05) if rng.random() < 0.5 else None
        #: On a bad wire no process dies: with one kind of trouble at a time there is more of each.
        self.deadly = impairments is None
        self.through_im = rng.random() < 0.6
        self.stack = LiveStack(seed, through_im=self.through_im, impairments=impairments)
        self.stack.ready()
        self.sockets: list[Socket] = []

    def living(self) -> list[Socket]:
        known = self.stack.host.stack.transport.sockets
        return [s for s in self.sockets if known.get(s.key) is s]

    def play(self) -> None:
        moves = (
            (0.20, self.connect),
            (0.20, self.offload),
            (0.10, self.upload),
            (0.15, self.send),
            (0.10, self.receive),
            (0.10, self.close),
            (0.08, self.kill),
            (0.07, self.tell),
        )
        for _ in range(self.rng.randint(5, 40)):
            (move,) = self.rng.choices([m for _, m in moves], [w for w, _ in moves])
            # Refusals are ordinary: an application does what is not the time for, too.
            with contextlib.suppress(ChimneyError):
                move()
            self.stack.sim.run_for(self.rng.choice((0.0, 0.0005, 0.003, 0.1, 1.0)))

    def connect(self) -> None:
        rng = self.rng
        if self.stack.host.interface is None:
            return
        remote = rng.choice(("10.77.0.2", "fd77::2")), rng.choice((7, 9, 19, 80))
        options = SocketOptions(
            rcvbuf=rng.choice((2000, 65536)),
            sndbuf=rng.choice((1000, 65536)),
            keepalive=rng.random() < 0.3,
        )
        self.sockets.append(self.stack.act(lambda h: h.stack.tcp_connect(remote, options=options)))

    def offload(self) -> None:
        some = [s for s in self.living() if s.machine is not None and s.connected and self.rng.random() < 0.6]
        if some:
            self.stack.act(lambda h: h.offload_sockets(some))

    def upload(self) -> None:
        some = [s for s in self.living() if s.machine is None and self.rng.random() < 0.6]
        idle = self.rng.random() < 0.5
        if some:
            self.stack.act(lambda h: h.upload_sockets(some, idle=idle))

    def one(self) -> Socket | None:
        living = self.living()
        return self.rng.choice(living) if living else None

    def send(self) -> None:
        data = self.rng.randbytes(self.rng.randint(1, 9000))
        if (socket := self.one()) is not None:
            self.stack.act(lambda _: socket.send(data))

    def receive(self) -> None:
        size = self.rng.choice((None, 100))
        if (socket := self.one()) is not None:
            self.stack.act(lambda _: socket.recv(size))

    def close(self) -> None:
        how = self.rng.choice(("close", "shutdown", "abort"))
        if (socket := self.one()) is not None:
            self.stack.act(lambda _: getattr(socket, how)())

    def kill(self) -> None:
        sim, what = self.stack.sim, self.rng.choice(DEATHS)
        if not self.deadly or (what == "im" and not self.through_im):
            return
        pause = self.rng.choice((0.0, 0.01))
        if what == "bus":
            sim.kill_bus()
            sim.run_for(pause)
            sim.start_bus()
        elif what == "stall":
            sim.stall("target", self.rng.choice((0.01, 1.0)))
        else:
            sim.kill(what)
            sim.run_for(pause)
            sim.restart(what)

    def tell(self) -> None:
        """The network says something about the connection's path or neighbor."""
        mtu = self.rng.choice((None, 600, 1300, 1400))
        if (socket := self.one()) is None:
            return
        if mtu is None:
            self.stack.act(lambda h: socket.path_entry.hop.doubt(h.stack.now))
        else:
            self.stack.act(lambda h: socket.path_entry.learn(mtu, h.stack.now))

    def settle(self) -> None:
        """Let all recover, reset what is left, and look for anything that is still held."""
        stack, host = self.stack, self.stack.host
        stack.sim.run_for(5.0)
        stack.wait(lambda: host.can_offload)
        for socket in self.living():
            with contextlib.suppress(SocketError):
                stack.act(aborting(socket))
        stack.wait(lambda: not host.stack.transport.sockets, limit=200)
        stack.sim.run_for(3.0)
        assert {k: v for k, v in host.inspect().items() if v and k in KEPT} == {}
        upload = stack.act(lambda h: h.upload_everything())
        stack.wait(lambda: upload.done)
        assert host.held() == []
        assert not (host.offloaded_sockets or host.pending_updates)
        assert stack.violations() == []
        for adapter in stack.sim.driver("target").adapters.values():
            assert not any(adapter.hardware.in_use().values())
        survey = stack.sim.control("ps")
        assert survey["BugChecks"] == []


@pytest.mark.parametrize("seed", range(40))
def test_nothing_is_left_over(seed: int) -> None:
    chaos = Chaos(seed)
    chaos.play()
    chaos.settle()


@pytest.mark.soak
def test_nothing_is_left_over_a_thousand_times() -> None:
    for seed in range(1000, 2000):
        chaos = Chaos(seed)
        try:
            chaos.play()
            chaos.settle()
        except BaseException:
            print("seed", seed)  # noqa: T201 - the play to look at
            raise
