"""The bus dies and comes back with live connections: those in the host go on, the others fail once."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial

import pytest

from hoststack.model.life import State
from hoststack.net.socket import Socket
from hoststack.net.socket_events import SocketEvent
from ndisbus.core.epochs import epoch_base
from tests.support.live_stack import Flow, LiveStack
from tools.torture_stack import leftovers

SIZE = 30_000
#: 2026-12-01, in seconds since 1970.
NOW = 1_796_083_200.0


class Reported(Flow):
    """Counts the reports of its failure."""

    failures = 0

    def _event(self, socket: Socket, event: SocketEvent) -> None:
        self.failures += event is SocketEvent.FAILED
        super()._event(socket, event)


def move(stack: LiveStack, rng: random.Random, flows: list[Reported]) -> None:
    """Begin to move some connections, in one direction or the other."""
    fine = [f.socket for f in flows if f.socket.error is None]
    here = [s for s in fine if s.machine is not None and rng.random() < 0.6]
    away = [
        s for s in fine if s.tcb.state is State.OFFLOADED and s.tcb.waiting is None and rng.random() < 0.3
    ]
    if here and stack.host.can_offload:
        stack.act(lambda h: h.offload_sockets(here))
    elif away:
        stack.act(lambda h: h.upload_sockets(away, idle=True))


@pytest.mark.parametrize("seed", [*range(30), 114, 212, 251])
def test_connections_over_restarts_of_the_bus(seed: int) -> None:
    rng = random.Random(seed)
    stack = LiveStack(seed, ims=rng.choice((1, 1, 2)), delay=rng.choice((0.0, 0.0002, 0.002)))
    stack.ready()
    settled = Reported(stack, stack.connect("10.77.0.2", 7), SIZE, seed)
    flows = [Reported(stack, stack.connect("10.77.0.2", 7), SIZE, seed + i) for i in range(1, 6)]
    for i in range(3):
        for _ in range(rng.randrange(1, 5)):
            move(stack, rng, flows)
            for _ in range(rng.choice((0, 3, 10, 30, 100, 300))):
                stack.sim.step()
        away = [f for f in flows if f.socket.tcb.is_offloaded and not f.failed]
        stack.sim.kill_bus()
        assert all(f.failed for f in away)
        assert stack.host.binding is None
        stack.sim.run_for(rng.choice((0.0, 0.05, 1.0)))
        stack.sim.start_bus(epoch_base(NOW + i))
        stack.wait(lambda: stack.host.can_offload, limit=30)
    stack.wait(lambda: settled.done and all(f.done for f in flows), limit=600)
    assert not settled.failed
    for f in (settled, *flows):
        f.check()
        assert f.failures == f.failed
        if f.failed:
            assert "connection lost: " in str(f.socket.error)
    assert stack.violations() == []
    stack.sim.stop("target")
    stack.sim.restart("target")
    stack.wait(lambda: stack.host.can_offload)
    stack.wait(partial(_nothing_left, stack), limit=30)
    assert stack.sim.core is not None
    assert not stack.sim.core.bug_checks.reports
    assert Counter(stack.sim.refusals) == Counter()


def _nothing_left(stack: LiveStack) -> bool:
    return not leftovers(stack.sim.control("ps"))
