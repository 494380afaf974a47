"""The simulation: the same core and ports, virtual time, and runs that are a function of their seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from ndisbus.core import CoreConfig
from ndisbus.errors import ChimneyError
from ndisbus.sim import NOTICE, Simulation, SimulationStuck
from tests.support.toy_drivers import ToyHost, ToyTarget


def start(
    seed: int,
    *,
    hosts: int = 1,
    config: CoreConfig | None = None,
    shuffle: bool = True,
    delay: float = 0.0,
) -> Simulation:
    """A target and some hosts, each on an adapter of its own."""
    sim = Simulation(seed, config, shuffle=shuffle, delay=delay)
    adapters = [f"nic{i}" for i in range(hosts)]
    for i, adapter in enumerate(adapters):
        sim.start(f"host{i}", partial(ToyHost, adapter, name=f"host{i}"))
    sim.start("target", lambda: ToyTarget(*adapters))
    sim.run_until(lambda: all(sim.driver(f"host{i}").ready for i in range(hosts)))
    return sim


def play(seed: int, *, shuffle: bool = True, delay: float = 0.0) -> Simulation:
    """Something of everything."""
    sim = start(seed, hosts=3, shuffle=shuffle, delay=delay)
    handles = [sim.act(f"host{i}", lambda h: h.offload(4, 8, 17, 17)) for i in range(3)]
    sim.run_for(0.01)
    for i, (_, _, first, second) in enumerate(handles):
        sim.act(f"host{i}", partial(ToyHost.post, op="send", handle=first))
        sim.act(f"host{i}", partial(ToyHost.pass_down, op="query", blocks=[(17, second)]))
    sim.control("fault.add", {"Action": "drop", "Call": "NdisTcpOffloadSendComplete", "Probability": 0.5})
    sim.run_for(1.0)
    sim.stall("target", 1.0)
    sim.run_for(3.0)
    sim.kill("target")
    sim.run_for(0.5)
    sim.restart("target")
    sim.run_for(0.5)
    sim.kill("host1")
    sim.run_for(1.0)
    return sim


def trace(sim: Simulation) -> str:
    return "\n".join(json.dumps(e, sort_keys=True) for e in sim.trace_events)


# -- seeds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0.0, 0.02])
@pytest.mark.parametrize("seed", [0, 1, 77])
def test_the_same_seed_gives_the_same_trace_to_the_byte(seed: int, delay: float) -> None:
    first, second = trace(play(seed, delay=delay)), trace(play(seed, delay=delay))
    assert first == second
    assert len(first) > 10_000


def test_another_seed_gives_another_order() -> None:
    assert len({trace(play(seed)) for seed in range(4)}) == 4


def test_without_shuffling_the_order_is_the_same_for_every_seed() -> None:
    """All that is left to chance then is what faults draw; their seed is the core's."""
    traces = set()
    for seed in range(3):
        sim = start(seed, hosts=2, config=CoreConfig(seed=9), shuffle=False)
        sim.run_for(1)
        traces.add(trace(sim))
    assert len(traces) == 1


# -- time ----------------------------------------------------------------------------------------------


def test_time_jumps_to_what_is_due_next() -> None:
    sim = start(1)
    sim.run_for(600)
    assert sim.now >= 600
    assert sim.processes["target"].port.now <= sim.now


def test_a_condition_that_never_holds_is_an_error_and_not_a_hang() -> None:
    sim = Simulation(1)
    with pytest.raises(SimulationStuck, match="nothing is due"):
        sim.run_until(lambda: False)
    sim = start(1)
    with pytest.raises(SimulationStuck, match="the condition did not hold after 5 virtual seconds"):
        sim.run_until(lambda: False, limit=5)
    with pytest.raises(SimulationStuck, match="the condition did not hold after 10 steps"):
        sim.run_until(lambda: False, steps=10)


def test_things_happen_at_their_moment_and_in_order() -> None:
    sim = Simulation(1)
    seen: list[tuple[str, float]] = []
    for when, what in ((2.0, "b"), (1.0, "a"), (2.0, "c")):
        sim.at(when, partial(lambda what: seen.append((what, sim.now)), what))
    sim.run_for(5)
    assert seen == [("a", 1.0), ("b", 2.0), ("c", 2.0)]


# -- hops ----------------------------------------------------------------------------------------------


def completion_times(seed: int, delay: float) -> list[str]:
    """Which of two hosts has its completion first: the one that asks first, or the other."""
    sim = start(seed, hosts=2, delay=delay)
    order: list[str] = []
    for name in ("host0", "host1"):
        sim.act(name, lambda h: h.offload())
        sim.run_for(delay / 4 if delay else 0.001)
    while len(order) < 2:
        sim.step()
        order += [n for n in ("host0", "host1") if n not in order and sim.driver(n).completed]
    return order


def test_with_delays_a_completion_overtakes_another_ones() -> None:
    """Each direction of each process has its own delays, so requests of two hosts race."""
    assert all(completion_times(seed, 0.0) == ["host0", "host1"] for seed in range(20))
    orders = [completion_times(seed, 0.05)[0] for seed in range(20)]
    assert set(orders) == {"host0", "host1"}


@pytest.mark.parametrize("packets", range(1, 13))
def test_a_death_between_two_packets(packets: int) -> None:
    """It comes when exactly that many have been handled, whatever their delays; the request still ends."""
    sim = start(packets, delay=0.01)
    sim.act("host0", lambda h: h.offload())
    died: list[int] = []
    due = sim.handled + packets

    def kill() -> None:
        died.append(sim.handled)
        sim.kill("target")

    sim.between(packets, kill)
    sim.run_until(lambda: bool(sim.driver("host0").completed) and bool(died))
    assert died == [due]


# -- what happens to processes -------------------------------------------------------------------------


def outstanding(sim: Simulation) -> int:
    """What NDIS says is outstanding, and what drivers hold of one another."""
    ps = sim.control("ps")
    held: list[int] = [a["Outstanding"] for a in ps["Adapters"]]
    between: list[int] = [p["Sent"] + p["Lent"] for p in ps["Processes"]]
    return sum(held) + sum(between)


def test_a_killed_target_is_noticed_at_once_and_comes_back() -> None:
    sim = start(3)
    target = sim.driver("target")
    target.hold = True
    sim.act("host0", lambda h: h.offload())
    sim.run_until(lambda: bool(target.later))
    sim.kill("target")
    host = sim.driver("host0")
    before = sim.now
    sim.run_until(lambda: bool(host.completed))
    assert host.completed == [("initiate", [0xC0000001] * 3)]
    assert sim.now - before <= NOTICE + 1e-9
    sim.restart("target")
    assert sim.driver("target") is not target
    sim.run_until(lambda: host.ready and len(host.oids) == 2)
    sim.act("host0", lambda h: h.offload())
    sim.run_until(lambda: len(host.completed) == 2)
    assert host.completed[1] == ("initiate", [0, 0, 0])
    assert outstanding(sim) == 0


def test_a_driver_may_come_back_before_its_death_is_noticed() -> None:
    sim = start(3)
    sim.kill("target")
    sim.restart("target")
    host = sim.driver("host0")
    sim.run_until(lambda: host.unbound == 1 and host.ready)
    assert sim.refusals == []


@pytest.mark.parametrize("delay", [0.0, 0.02])
def test_a_process_that_leaves_is_gone_when_the_bus_has_answered(delay: float) -> None:
    sim = start(3, delay=delay)
    target, host = sim.driver("target"), sim.driver("host0")
    sim.act("host0", lambda h: h.offload())
    sim.run_until(lambda: bool(host.completed))
    sim.leave("target")
    sim.run_until(lambda: not sim.processes["target"].alive)
    assert not target.ndis.attached
    sim.run_until(lambda: host.unbound == 1)
    sim.restart("target")
    sim.run_until(lambda: host.ready)
    sim.run_for(1)
    assert outstanding(sim) == 0
    assert sim.core is not None
    assert sim.core.bug_checks.reports == []


def test_a_process_that_leaves_while_the_bus_dies_is_gone_too() -> None:
    sim = start(3, delay=0.02)
    sim.leave("target")
    sim.kill_bus()
    assert not sim.processes["target"].alive
    sim.leave("host0")  # the bus is away: there is nothing to wait for
    assert not sim.processes["host0"].alive


def test_what_a_killed_process_had_sent_is_delivered() -> None:
    sim = start(3)
    target, host = sim.driver("target"), sim.driver("host0")
    target.hold = True
    sim.act("host0", lambda h: h.offload())
    sim.run_until(lambda: bool(target.later))
    sim.act("target", lambda t: t.release())
    sim.kill("target")
    sim.run_for(1)
    assert host.completed == [("initiate", [0, 0, 0])]
    assert [e[1:] for e in host.events] == [(3, 11), (4, 0)]


@pytest.mark.parametrize(("seconds", "dead"), [(1.5, False), (5.0, True)])
def test_a_stall_delays_or_kills(seconds: float, dead: bool) -> None:
    sim = start(4)
    host = sim.driver("host0")
    sim.stall("target", seconds)
    sim.act("host0", lambda h: h.offload())
    sim.run_for(seconds + 2)
    assert host.completed == [("initiate", [0xC0000001 if dead else 0] * 3)]
    assert sim.driver("target").detachments == (
        ["no answer to MiniportCheckForHangEx for 2 s"] if dead else []
    )
    assert host.ready  # in any case it is back, under a new epoch if it was cut off
    assert bool(sim.closings) is dead
    assert outstanding(sim) == 0


def test_the_bus_may_die_and_come_back() -> None:
    sim = start(5, hosts=2)
    hosts = [sim.driver(f"host{i}") for i in range(2)]
    target = sim.driver("target")
    target.hold = True
    for i in range(2):
        sim.act(f"host{i}", lambda h: h.offload())
    sim.run_until(lambda: len(target.later) == 2)
    sim.kill_bus()
    assert [h.completed for h in hosts] == [[("initiate", [0xC0000001] * 3)]] * 2
    assert [h.detachments for h in hosts] == [["the bus is gone"]] * 2
    assert (target.detachments, target.halts) == (["the bus is gone"], 2)
    sim.run_for(3)
    target.hold = False
    sim.start_bus()
    sim.run_until(lambda: all(h.ready for h in hosts))
    sim.act("host0", lambda h: h.offload())
    sim.run_until(lambda: len(hosts[0].completed) == 2)
    assert hosts[0].completed[1] == ("initiate", [0, 0, 0])


def test_bytes_that_are_not_a_packet_disturb_no_driver() -> None:
    sim = start(6)
    sim.processes["host0"].to_bus.put(b"\xc1", (), sim.now)
    sim.run_for(1)
    assert [name for name, _ in sim.refusals] == ["host0"]
    assert sim.driver("host0").ready


def test_a_message_may_be_put_into_a_drivers_mouth() -> None:
    sim = start(6)
    sim.inject("host0", ["NdisFrobnicate", None, []])
    sim.run_for(1)
    assert sim.core is not None
    assert [r.driver for r in sim.core.bug_checks.reports] == ["host0"]
    assert sim.closings[0][0] == "host0"
    assert sim.driver("host0").ready  # it came back under a new epoch


def test_a_refused_control_request_is_an_error() -> None:
    sim = start(6)
    with pytest.raises(ChimneyError, match="unknown verb"):
        sim.control("frobnicate")


# -- every fault at every moment -----------------------------------------------------------------------


def settle(sim: Simulation, done: Callable[[], bool]) -> None:
    sim.run_until(done, limit=60)
    sim.run_for(1)
    assert outstanding(sim) == 0


@pytest.mark.parametrize("who", ["target", "host0", "bus"])
@pytest.mark.parametrize("steps", range(0, 60, 4))
def test_a_death_at_any_step_leaves_nothing_behind(who: str, steps: int) -> None:
    """From the first hello on; the others are served, no driver is blamed, and all works again afterwards."""
    sim = Simulation(steps)
    sim.start("host0", lambda: ToyHost("nic0", name="host0"))
    sim.start("host1", lambda: ToyHost("nic1", name="host1"))
    sim.start("target", lambda: ToyTarget("nic0", "nic1"))
    for i in range(steps):
        if i == 40 and sim.driver("host0").ready:
            sim.act("host0", lambda h: h.offload())
        sim.step()
    if who == "bus":
        sim.kill_bus()
        sim.start_bus()
    else:
        sim.kill(who)
        sim.run_for(0.5)
        sim.restart(who)
    settle(sim, lambda: sim.driver("host0").ready and sim.driver("host1").ready)
    handles: Any = sim.act("host0", lambda h: h.offload())
    host = sim.driver("host0")
    sim.run_until(lambda: not host.lists)
    assert host.completed[-1] == ("initiate", [0, 0, 0])
    sim.act("host0", lambda h: h.pass_down("terminate", list(zip((4, 8, 17), handles, strict=True))))
    settle(sim, lambda: not host.lists)
    assert host.completed[-1] == ("terminate", [0, 0, 0])
    assert sim.core is not None
    assert sim.core.bug_checks.reports == []
