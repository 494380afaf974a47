"""Frames beside the chimney while everything dies: each send is completed, each indicated list returned.

Three hosts, two of them above intermediate drivers and one on the hardware itself, and a miniport that keeps
what it is given. Whatever they do, and whichever of them is killed or stalled: in the end no driver holds
anything, no list has come back twice or to another driver, and there was no bug check.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imdriver import ImConfig, ImDriver
from ndisbus.core import CoreConfig
from ndisbus.ddi.enums import NDIS_RECEIVE_FLAGS_RESOURCES
from ndisbus.ddi.status import ALLOWED_STATUS, NdisStatus
from ndisbus.driver.port import Outgoing
from ndisbus.sim import Simulation
from tests.support.packet_drivers import PacketHost, PacketNic
from tools.torture_stack import leftovers

_RUN = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
_ABORTED = int(NdisStatus.SEND_ABORTED)
#: What may be dropped: frames get lost, lists do not.
_LOSSY = ("NdisMIndicateReceiveNetBufferLists", "ProtocolReceiveNetBufferLists")
_SLOW = (
    "NdisSendNetBufferLists",
    "MiniportSendNetBufferLists",
    "NdisMSendNetBufferListsComplete",
    *_LOSSY,
    "NdisReturnNetBufferLists",
)


class Stack:
    """nic0 below; host2 and the first intermediate driver on it; host0 and host1 on the topmost one."""

    def __init__(self, seed: int, ims: int = 1) -> None:
        self.rng = random.Random(seed)
        # No driver is cut off for holding a send: that would clean up what this test looks for.
        self.sim = Simulation(seed, CoreConfig(seed=seed, request_limit=1000.0))
        below = "nic0"
        self.ims = [f"im{i}" for i in range(ims)]
        for i, name in enumerate(self.ims):
            shown = tuple(f"{name}-{c}" for c in ("ab" if i == ims - 1 else "a"))
            settings = ImConfig(name=name, bind=below, adapters=shown, register_chimney=False)
            self.sim.start(name, partial(ImDriver, settings))
            below = shown[0]
        top = [f"{self.ims[-1]}-a", f"{self.ims[-1]}-b"] if ims else ["nic0", "nic0"]
        for i, adapter in enumerate((*top, "nic0")):
            name = f"host{i}"
            self.sim.start(name, partial(PacketHost, name, adapter))
        self.sim.start("nic", PacketNic)
        self.names = [*self.ims, "nic", "host0", "host1", "host2"]
        self.dead: set[str] = set()
        self.bus_dead = False

    @property
    def nic(self) -> PacketNic:
        driver = self.sim.driver("nic")
        assert isinstance(driver, PacketNic)
        return driver

    def host(self, i: int) -> PacketHost:
        driver = self.sim.driver(f"host{i}")
        assert isinstance(driver, PacketHost)
        return driver

    def ready(self) -> None:
        """Until every host is bound."""
        self.sim.run_until(lambda: all(self.host(i).binding is not None for i in range(3)), limit=60.0)

    def frames(self) -> list[bytes]:
        return [self.rng.randbytes(self.rng.randint(14, 40)) for _ in range(self.rng.randint(1, 5))]

    def some(self, lists: Any) -> list[int]:
        everything = sorted(lists)
        return self.rng.sample(everything, self.rng.randint(0, len(everything)))

    def act(self, action: str) -> None:
        getattr(self, f"do_{action}")()

    def _can(self, name: str) -> bool:
        return name not in self.dead and bool(self.sim.driver(name).ndis.attached)

    def do_transmit(self) -> None:
        name = f"host{self.rng.randrange(3)}"
        if self._can(name):
            self.sim.act(name, lambda h: h.transmit(self.frames()))

    def do_complete(self) -> None:
        if self._can("nic") and self.nic.handle is not None:
            self.sim.act("nic", lambda n: n.complete(self.some(n.pending)))

    def do_indicate(self) -> None:
        flags = NDIS_RECEIVE_FLAGS_RESOURCES if self.rng.random() < 0.2 else 0
        if self._can("nic"):
            self.sim.act("nic", lambda n: n.indicate(self.frames(), flags))

    def do_return(self) -> None:
        name = f"host{self.rng.randrange(3)}"
        if self._can(name):
            self.sim.act(name, lambda h: h.give_back(self.some(h.kept)))

    def do_run(self) -> None:
        for _ in range(self.rng.randint(1, 30)):
            if not self.sim.step():
                break

    def do_wait(self) -> None:
        self.sim.run_for(self.rng.choice((0.01, 0.3, 1.0)))

    def do_kill(self) -> None:
        name = self.rng.choice(self.names)
        if name not in self.dead:
            self.sim.kill(name)
            self.dead.add(name)

    def do_kill_bus(self) -> None:
        if not self.bus_dead:
            self.sim.kill_bus()
            self.bus_dead = True

    def do_restart(self) -> None:
        if self.bus_dead:
            self.sim.start_bus()
            self.bus_dead = False
        for name in sorted(self.dead):
            self.sim.restart(name)
        self.dead.clear()

    def do_stall(self) -> None:
        name = self.rng.choice([n for n in self.names if n not in self.dead] or [""])
        if name:
            self.sim.stall(name, self.rng.choice((0.3, 1.0, 3.0, 8.0)))

    def _fault(self, **rule: Any) -> None:
        if not self.bus_dead:
            self.sim.control("fault.add", {"Times": self.rng.randint(1, 3), **rule})

    def do_lose(self) -> None:
        self._fault(Action="drop", Call=self.rng.choice(_LOSSY))

    def do_delay(self) -> None:
        self._fault(Action="delay", Call=self.rng.choice(_SLOW), Delay=self.rng.choice((0.01, 0.5, 3.0)))

    def do_fail(self) -> None:
        call = self.rng.choice(("NdisSendNetBufferLists", "MiniportSendNetBufferLists"))
        self._fault(Action="fail", Call=call, Status="RESOURCES")

    def settle(self) -> None:
        """Bring all drivers back, complete and return everything."""
        self.do_restart()
        self.sim.control("fault.reset")
        self.sim.run_for(15.0)
        self.ready()
        self.sim.run_for(1.0)
        self.sim.act("nic", lambda n: n.complete(sorted(n.pending)))
        for i in range(3):
            self.sim.act(f"host{i}", lambda h: h.give_back(sorted(h.kept)))
        self.sim.run_for(1.0)

    def check(self) -> None:
        """No driver holds anything, and there was no bug check."""
        assert leftovers(self.sim.control("ps")) == {}
        assert not self.nic.pending
        assert not self.nic.lent
        for i in range(3):
            host = self.host(i)
            assert not host.sends
            assert not host.kept
            assert set(host.statuses) <= ALLOWED_STATUS["packet send"]
        for process in self.sim.processes.values():
            assert process.port.sent_nbls == {}
        assert not [why for _, why in self.sim.closings if "bug check" in why]


FLOW = ("transmit", "transmit", "complete", "indicate", "indicate", "return", "run", "run", "wait")
TROUBLE = ("kill", "kill", "kill_bus", "restart", "stall")
FAULTS = ("lose", "delay", "fail")


def play(seed: int, actions: list[str], ims: int) -> Stack:
    stack = Stack(seed, ims)
    stack.ready()
    for action in actions:
        stack.act(action)
    stack.settle()
    stack.check()
    return stack


@_RUN
@given(
    seed=st.integers(0, 2**32 - 1),
    actions=st.lists(st.sampled_from((*FLOW, *TROUBLE)), max_size=60),
    ims=st.integers(0, 2),
)
def test_every_list_comes_back_once_whichever_driver_dies(seed: int, actions: list[str], ims: int) -> None:
    play(seed, actions, ims)


@_RUN
@given(
    seed=st.integers(0, 2**32 - 1),
    actions=st.lists(st.sampled_from((*FLOW, *TROUBLE, *FAULTS)), max_size=60),
    ims=st.integers(0, 2),
)
def test_faults_lose_frames_and_no_lists(seed: int, actions: list[str], ims: int) -> None:
    play(seed, actions, ims)


@pytest.mark.parametrize("ims", [0, 1, 2])
def test_without_trouble_every_frame_arrives_in_its_order(ims: int) -> None:
    """In both directions, and at every host that is bound, whatever the drivers between do."""
    stack = Stack(7, ims)
    stack.ready()
    down, up = stack.frames() * 3, stack.frames() * 3
    stack.sim.act("host0", lambda h: [h.transmit([frame]) for frame in down])
    stack.sim.act("nic", lambda n: [n.indicate([frame]) for frame in up])
    stack.sim.run_for(1.0)
    stack.settle()
    stack.check()
    assert stack.nic.frames == down
    assert [stack.host(i).frames for i in range(3)] == [up] * 3
    assert stack.host(0).statuses == [0] * len(down)
    assert stack.host(0).facts["MtuSize"] == 1500


@pytest.mark.parametrize(
    ("victim", "ims"),
    [(v, n) for v in ("nic", "im0", "host0", "bus") for n in (0, 1, 2) if n or v != "im0"],
)
def test_a_death_with_frames_in_flight_both_ways(victim: str, ims: int) -> None:
    """Sends are aborted at once, not when the dead driver is back; what was indicated goes home."""
    stack = Stack(3, ims)
    stack.ready()
    for i in range(3):
        stack.sim.act(f"host{i}", lambda h: h.transmit(stack.frames()))
    stack.sim.act("nic", lambda n: n.indicate([b"x" * 60] * 4))
    stack.sim.run_for(0.1)
    assert all(stack.host(i).sends and stack.host(i).kept for i in range(3))
    before = [len(stack.host(i).sends) for i in range(3)]
    if victim == "bus":
        stack.sim.kill_bus()
        stack.bus_dead = True
    else:
        stack.sim.kill(victim)
        stack.dead.add(victim)
        stack.sim.run_for(0.1)
    hit = {"nic": range(3), "bus": range(3), "im0": range(2), "host0": range(0)}[victim]
    for i in hit:
        assert stack.host(i).statuses == [_ABORTED] * before[i]
    if victim == "host0":
        assert not set(stack.host(1).statuses + stack.host(2).statuses)
    stack.settle()
    stack.check()


def test_many_frames_in_one_call_are_one_message_per_hop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Host, bus, intermediate driver, bus, adapter, and back: what a call costs is shared by its frames."""

    def messages(frames: int) -> Counter[str]:
        stack = Stack(1)
        stack.ready()
        found: Counter[str] = Counter()
        pack = stack.sim.packets

        def counting(outgoing: Sequence[Outgoing], divisible: bool) -> Iterator[list[Any]]:
            found.update(str(message[0]) for message, _ in outgoing)
            return pack(outgoing, divisible)

        monkeypatch.setattr(stack.sim, "packets", counting)
        stack.sim.act("host0", lambda h: h.transmit([bytes(1514)] * frames))
        stack.sim.run_for(0.01)
        stack.sim.act("nic", lambda n: n.complete(list(n.pending)))
        stack.sim.run_for(0.01)
        assert stack.host(0).statuses == [int(NdisStatus.SUCCESS)] * frames
        return found

    one = messages(1)
    assert sum(n for name, n in one.items() if "NetBufferLists" in name) == 8
    assert messages(64) == one


@pytest.mark.soak
def test_a_frame_among_many_costs_less_than_a_tenth_of_a_millisecond() -> None:
    """All processes together, codec included, through one intermediate driver; ten times less is usual."""
    stack = Stack(1)
    stack.ready()
    assert stack.sim.core is not None
    stack.sim.core.out.trace = None
    frames, calls = [bytes(1514)] * 64, 20
    begun = time.process_time()
    for _ in range(calls):
        stack.sim.act("host0", lambda h: h.transmit(frames))
        stack.sim.run_for(0.01)
        stack.sim.act("nic", lambda n: n.complete(list(n.pending)))
        stack.sim.run_for(0.01)
    spent = time.process_time() - begun
    assert len(stack.host(0).statuses) == calls * len(frames)
    assert spent / (calls * len(frames)) < 100e-6
