"""Real processes and the simulation agree: one script, the same statuses, the same calls in every layer."""

from __future__ import annotations

import itertools
import random
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from hoststack.api.host import Host
from hoststack.api.runners import ProcessRunner, SimulationRunner
from hoststack.chimney.driver import HostDriver
from hoststack.model import synthetic
from hoststack.model.operation import Operation
from imdriver import ImConfig, ImDriver
from ndisbus.runtime.trace_link import TraceSubscriber
from ndisbus.sim import Simulation
from target.driver import TargetDriver
from target.hardware.config import TargetConfig
from tests.process.conftest import until

if TYPE_CHECKING:
    from tests.process.conftest import Bus

pytestmark = pytest.mark.process

DEADLINE = 20.0
LAYERS = ("host", "im", "target")
ADAPTER = "im0-a"


class World(Protocol):
    """A stack to play on: bus, target, intermediate driver and host, all of them traced from the start."""

    host: Host

    def stall(self, name: str) -> None: ...

    def kill(self, name: str) -> None: ...

    def restart(self, name: str) -> None: ...

    def trace(self) -> list[dict[str, Any]]: ...


class RealWorld:
    """On processes; none of them has a supervisor, so the test decides who comes back, and when."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        bus.start()
        self._subscriber = TraceSubscriber(bus.endpoint)
        until(lambda: self._subscriber.read(0.1) is not None, "the trace is there")
        self._events: list[dict[str, Any]] = []
        self._processes = {}
        # With one virtual adapter only: how two of them come up at once is a matter of microseconds.
        for name, adapter, *command in (
            ("target", "nic0", "target"),
            ("im", ADAPTER, "imdriver", "--adapter", ADAPTER),
        ):
            self._processes[name] = bus.spawn("-m", *command)
            until(partial(self._is_up, adapter), f"{adapter} is up")
        driver = HostDriver("host", bind=ADAPTER)
        self.host = Host(ProcessRunner(driver, name="host", endpoint=bus.endpoint), timeout=DEADLINE)
        self.host.wait_bound()

    def _up(self) -> set[str]:
        return {a["Name"] for a in self._bus.ps()["Adapters"] if a["State"] == "up"}

    def _is_up(self, name: str) -> bool:
        return name in self._up()

    def stall(self, name: str) -> None:
        self._processes[name].send_signal(signal.SIGSTOP)

    def kill(self, name: str) -> None:
        self._processes[name].kill()
        self._processes[name].wait(DEADLINE)

    def restart(self, name: str) -> None:
        self._processes[name] = self._bus.spawn("-m", name)

    def trace(self) -> list[dict[str, Any]]:
        self.host.close()

        def left() -> bool:
            self._events += self._subscriber.read(0.1) or ()
            return any(_is_the_end(e) for e in self._events)

        until(left, "the host has left")
        assert self._subscriber.lost == 0
        return self._events

    def close(self) -> None:
        self.host.close()
        self._subscriber.__exit__()


class SimulatedWorld:
    """In the simulation, in a fixed order."""

    def __init__(self) -> None:
        self._sim = sim = Simulation(shuffle=False)
        sim.start("target", lambda: TargetDriver(TargetConfig()))
        self._until_up("nic0")
        sim.start("im", lambda: ImDriver(ImConfig(adapters=(ADAPTER,))))
        self._until_up(ADAPTER)
        sim.start("host", lambda: HostDriver("host", bind=ADAPTER))
        self.host = Host(SimulationRunner(sim, "host"), timeout=DEADLINE)
        self.host.wait_bound()

    def _until_up(self, name: str) -> None:
        core = self._sim.core
        assert core is not None
        self._sim.run_until(lambda: any(a.name == name and a.alive for a in core.registry.adapters.values()))

    def stall(self, name: str) -> None:
        self._sim.stall(name)

    def kill(self, name: str) -> None:
        self._sim.kill(name)

    def restart(self, name: str) -> None:
        self._sim.restart(name)

    def trace(self) -> list[dict[str, Any]]:
        self._sim.processes["host"].port.goodbye()
        self._sim.processes["host"].flush()
        self._sim.run_for(1.0)
        return self._sim.trace_events


# --- the script ----------------------------------------------------------------------------------


@dataclass
class Outcomes:
    """What the script saw, step by step."""

    steps: list[tuple[str, Any]] = field(default_factory=list)

    def note(self, name: str, *operations: Operation) -> None:
        for o in operations:
            assert o.done, f"{name}: {o!r}"
            self.steps.append((name, (o.op, o.statuses, o.refused, o.blocks)))

    def value(self, name: str, value: Any) -> None:
        self.steps.append((name, value))


def play(world: World) -> Outcomes:
    """Everything a host does, a kill among it. What is waited for is an effect, never a time."""
    host, out = world.host, Outcomes()
    driver = host.driver

    def reach(condition: Callable[[], Any], what: str) -> None:
        assert host.pump(lambda: bool(condition()), DEADLINE), what

    def target(command: str, **arguments: Any) -> None:
        host.control("driver", {"Name": "target", "Command": command, "Arguments": arguments})

    rng = random.Random(7)
    near, far, spare = (
        synthetic.neighbor(b"\x02" + rng.randbytes(5), name=n) for n in ("near", "far", "spare")
    )
    p4, p6 = (
        synthetic.path(near, rng.randbytes(4), rng.randbytes(4)),
        synthetic.path(far, rng.randbytes(16), rng.randbytes(16)),
    )
    ours = synthetic.connections(p4, 4, rng=rng)
    theirs = synthetic.connections(p6, 3, rng=rng)
    ours[0].send_queue = [b"written before the offload"]

    out.note("whole tree", host.offload([*ours[:2], *theirs]))
    out.note("linked", host.offload(ours[2:]))
    for kind in ("const", "cached", "delegated", "whole"):
        read = host.query([near, p4, *ours], kind)
        out.note(f"query {kind}", read)
        out.value(f"{kind} state", [read.result_of(o) for o in (near, p4, *ours[1:])])
    p4.cached.path_mtu = 1280
    out.note("update", host.update([p4]), host.update(theirs), host.update([near, far]))

    host.send(ours[1], b"to be sent")
    host.receive(ours[1], 1000)
    assert host.deliver(theirs[0], [b"a segment", b"another"])
    host.disconnect(theirs[1])
    out.note("failover", host.failover(near, spare, invalidate=False))

    target("knob.set", point="query", mode="once")
    out.note("failing query", host.query([ours[3]]))
    reach(lambda: not ours[3].is_offloaded and ours[3].handle is None, "a failed object is uploaded")
    target("knob.set", point="initiate.tcp", status="RESOURCES", mode="once")
    out.note("refused", host.offload([ours[3]]))
    out.note("again", host.offload([ours[3]]))

    target("indicate", event="retrieve", reason="LowActivity")
    target("indicate", event="disconnect")
    reach(lambda: all(t.remote_closed for t in (*ours, *theirs)), "disconnects are indicated")

    target("pause")
    reach(lambda: driver.chimney.state == "paused", "the chimney is paused")
    out.note("while paused", host.offload(synthetic.connections(p4, 1, rng=rng, first_port=1000)))
    target("resume")
    reach(lambda: driver.can_offload, "the chimney is open again")

    out.note("invalidate", host.invalidate(theirs[:2]))
    reach(lambda: not any(t.is_offloaded for t in theirs[:2]), "what is invalid is asked for")
    out.note("disable", host.disable_chimney())
    out.value("held", len(driver.held()))
    out.note("enable", host.enable_chimney())

    out.note("for the kill", host.offload([*ours, *theirs]))
    world.stall("target")
    operations = [host.query([p4, *ours], wait=False), host.update([p6], wait=False)]
    operations += [host.terminate(theirs, wait=False)]
    ps = host.control("ps")
    until_held = (a["Outstanding"] for a in ps["Adapters"] if a["Name"] == "nic0")
    out.value("held by the target", list(until_held))
    world.kill("target")
    reach(lambda: driver.binding is None, "the host is unbound")
    out.note("killed", *operations)
    out.value("held after the kill", len(driver.held()))
    world.restart("target")
    reach(lambda: driver.can_offload, "the target is back")
    out.note("after the kill", host.offload([*ours, *theirs]))
    out.note("all up", host.terminate([*ours, *theirs], idle=True))
    left = [t for t in (*ours, *theirs) if t.is_offloaded]
    out.value("left", left)
    return out


# --- what is compared ----------------------------------------------------------------------------


def _is_the_end(event: dict[str, Any]) -> bool:
    return bool(event["event"] == "closed" and event["driver"] == "host")


def calls_of(layer: str, events: list[dict[str, Any]]) -> dict[tuple[str, str], list[tuple[Any, ...]]]:
    """The calls that a layer made and got, up, down, and to and from NDIS, each in order.

    Which of two calls in different directions is first is a matter of microseconds: those are apart. Lists
    and objects are numbered as they come. Left out is MiniportCheckForHangEx: how often it is asked depends
    on the time, which is another in the simulation.
    """
    numbers: dict[tuple[str, str], dict[int, int]] = defaultdict(dict)
    found: dict[tuple[str, str], list[tuple[Any, ...]]] = defaultdict(list)
    for e in itertools.takewhile(lambda e: not _is_the_end(e), events):
        if e["event"] != "call" or e["call"] == "MiniportCheckForHangEx":
            continue
        for who, did in (("from", "makes"), ("to", "gets")):
            if e[who] == layer:
                way = did, e["direction"]
                about = e.get("list")
                number = None if about is None else numbers[way].setdefault(about, len(numbers[way]))
                what = (e.get(k) for k in ("adapter", "blocks", "status", "information"))
                found[way].append((e["call"], number, *what))
    return found


@pytest.fixture
def real(idle_bus: Bus) -> Iterator[RealWorld]:
    world = RealWorld(idle_bus)
    try:
        yield world
    finally:
        world.close()


def test_the_same_statuses_and_the_same_calls_in_every_layer(real: RealWorld) -> None:
    simulated = SimulatedWorld()
    on_processes, in_simulation = play(real), play(simulated)
    assert on_processes.steps == in_simulation.steps
    real_events, simulated_events = real.trace(), simulated.trace()
    for layer in LAYERS:
        found, expected = calls_of(layer, real_events), calls_of(layer, simulated_events)
        assert found.keys() == expected.keys()
        assert sum(map(len, expected.values())) > 90
        for way, calls in expected.items():
            for i, (a, b) in enumerate(zip(found[way], calls, strict=False)):
                assert a == b, f"{layer} {' '.join(way)}, call {i}, after {calls[max(0, i - 3) : i]}"
            assert len(found[way]) == len(calls)
