"""An orderly end of a target or of an intermediate driver loses nothing: all is given back first."""

from __future__ import annotations

import random

import pytest

from ndisbus.ddi.status import NdisStatus
from tests.support.live_stack import Flow, LiveStack
from tools.torture_stack import leftovers

SIZE = 40_000


def start(seed: int, *, connections: int = 3, ims: int = 1) -> tuple[LiveStack, list[Flow]]:
    """A stack whose connections are offloaded and have data under way."""
    stack = LiveStack(seed, ims=ims)
    stack.ready()
    flows = [Flow(stack, stack.connect("10.77.0.2", 7), SIZE, seed + i) for i in range(connections)]
    stack.act(lambda h: h.offload_sockets([f.socket for f in flows]))
    return stack, flows


def finish(stack: LiveStack, flows: list[Flow]) -> None:
    """All data arrives, no connection fails, and when the target has left once more, nothing is left."""
    stack.wait(lambda: all(f.done for f in flows), limit=600)
    stack.wait(lambda: stack.host.can_offload)
    stack.sim.stop("target")
    stack.sim.restart("target")
    stack.wait(lambda: stack.host.can_offload)
    for f in flows:
        assert not f.failed, f.socket.error
        f.check()
    assert stack.violations() == []
    stack.wait(lambda: not leftovers(stack.sim.control("ps")), limit=30)
    assert stack.sim.core is not None
    assert not stack.sim.core.bug_checks.reports


@pytest.mark.parametrize("seed", range(30))
def test_an_orderly_restart_loses_no_byte(seed: int) -> None:
    rng = random.Random(seed)
    victims = rng.choices(("target", "im"), k=rng.randrange(1, 4))
    pause = rng.choice((0.0, 0.0005, 0.002, 0.02))
    stack, flows = start(seed)
    for victim in victims:
        stack.sim.run_for(pause)
        stack.sim.stop(victim)
        assert not any(f.failed for f in flows), [str(f.socket.error) for f in flows]
        assert all(not f.socket.tcb.is_offloaded for f in flows)
        stack.sim.restart(victim)
        stack.wait(lambda: stack.host.can_offload)
        here = [f.socket for f in flows if f.socket.machine is not None]
        if here:
            stack.act(lambda h, here=here: h.offload_sockets(here))  # type: ignore[misc]
    finish(stack, flows)


@pytest.mark.parametrize("victim", ["target", "im0", "im1"])
@pytest.mark.parametrize("seed", range(4))
def test_an_orderly_restart_under_stacked_drivers(seed: int, victim: str) -> None:
    stack, flows = start(seed, ims=2)
    stack.sim.run_for(0.001 * seed)
    stack.sim.stop(victim)
    stack.sim.restart(victim)
    finish(stack, flows)


@pytest.mark.parametrize("steps", range(0, 60, 4))
def test_an_initiate_that_comes_too_late_is_refused(steps: int) -> None:
    """It is anywhere between host and target when the target, which has nothing, leaves."""
    stack, flows = start(steps)
    for _ in range(steps):
        stack.sim.step()
    stack.sim.stop("target")
    assert not any(f.failed for f in flows), [str(f.socket.error) for f in flows]
    stack.sim.restart("target")
    finish(stack, flows)


@pytest.mark.parametrize("seed", range(4))
def test_a_departing_target_takes_nothing_new(seed: int) -> None:
    """An initiate that waits, or that comes later, is refused by the target itself: nothing can be lost."""
    stack, flows = start(seed)
    stack.wait(lambda: all(f.socket.tcb.is_offloaded for f in flows))
    stack.sim.act("target", lambda d: d.control("pause", {}))
    stack.wait(lambda: stack.host.chimney.state == "paused")
    late = Flow(stack, stack.connect("10.77.0.2", 7), SIZE, seed + 9)
    stack.host.chimney.state = "enabled"  # a host that has not heard of the pause
    operation = stack.act(lambda h: h.offload_sockets([late.socket]))
    stack.sim.run_for(0.1)
    assert not operation.done
    stack.sim.act("target", lambda d: d.depart())
    stack.wait(lambda: operation.done)
    assert NdisStatus.SUCCESS not in operation.statuses
    stack.sim.stop("target")
    stack.sim.restart("target")
    finish(stack, [*flows, late])


def test_the_end_does_not_wait_longer_than_its_limit() -> None:
    """A stalled host does not upload anything. What it had is lost, as after a kill."""
    stack, _ = start(1)
    stack.sim.run_for(0.01)
    stack.sim.stall("host")
    before = stack.sim.now
    stack.sim.stop("target")
    assert 2.0 - 1e-6 <= stack.sim.now - before < 2.5
    stack.sim.resume("host")
    stack.sim.restart("target")
    stack.wait(lambda: stack.host.can_offload, limit=60)


def test_the_end_does_not_wait_if_the_bus_has_gone() -> None:
    stack, _ = start(1)
    stack.sim.run_for(0.01)
    stack.sim.kill_bus()
    before = stack.sim.now
    stack.sim.stop("target")
    stack.sim.stop("im")
    assert stack.sim.now == before


@pytest.mark.parametrize("seed", range(12))
def test_two_stacked_drivers_that_are_asked_to_end_at_once_lose_nothing(seed: int) -> None:
    """The lower one takes the upper one's adapter away, while that still uploads through it."""
    rng = random.Random(seed)
    stack, flows = start(seed, ims=2)
    sim = stack.sim
    for _ in range(rng.randrange(60)):
        sim.step()
    going = ["im0", "im1"]
    rng.shuffle(going)
    for name in going:
        sim.act(name, lambda driver: driver.depart())

    def gone() -> bool:
        for name in list(going):
            if sim.driver(name).departed():
                sim.leave(name)
                going.remove(name)
        return not going

    stack.wait(gone, limit=2)
    stack.wait(lambda: not any(sim.processes[name].alive for name in ("im0", "im1")))
    for name in ("im0", "im1"):
        sim.restart(name)
    finish(stack, flows)
