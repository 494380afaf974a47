"""Hosts on one bus never share an address, although hosts behind one adapter share its MAC address."""

from __future__ import annotations

import random

import pytest

from hoststack.live.addresses import default_addresses
from hoststack.live.nethost import NetHost
from hoststack.net.errors import AddressConflict
from imdriver.driver import ImDriver
from ndisbus.sim import Simulation
from ndisbus.wire.memory import MemorySegment
from target.driver import TargetDriver
from target.hardware.config import TargetConfig

COUNT = 12
#: Both of these names begin at the same place.
TWINS = ("host9", "host43")


class Bus:
    """A target on a wire of its own, and hosts above it: behind an intermediate driver, or bound directly."""

    def __init__(self, seed: int, *, through_im: bool) -> None:
        self.sim = Simulation(seed)
        self.through_im = through_im
        segment = MemorySegment()
        self.sim.start("target", lambda: TargetDriver(TargetConfig(), [segment.station("target")]))
        if through_im:
            self.sim.start("im", ImDriver)
        self.hosts: list[NetHost] = []

    def host(self, name: str, addresses: tuple[str, ...] | None = None) -> NetHost:
        bind = "auto" if self.through_im else "nic0"
        host = NetHost(name, addresses=addresses, rng=random.Random(name), bind=bind)
        self.sim.start(name, lambda: host)
        self.hosts.append(host)
        return host

    def settle(self) -> None:
        self.sim.run_until(lambda: all(h.interface is not None and h.addresses.settled for h in self.hosts))


def own(host: NetHost) -> set[str]:
    return {str(a) for a in host.addresses.wanted}


@pytest.fixture(params=[True, False], ids=["through im", "bound to the adapter"])
def bus(request: pytest.FixtureRequest) -> Bus:
    return Bus(1, through_im=request.param)


def test_many_hosts_with_default_addresses_are_all_different(bus: Bus) -> None:
    names = sorted({*TWINS, *(f"host{i}" for i in range(COUNT - 1))})
    assert len(names) == COUNT
    for name in names:
        bus.host(name)
    bus.settle()
    taken = [a for h in bus.hosts for a in own(h)]
    assert len(set(taken)) == len(taken) == 2 * COUNT
    local = [a for h in bus.hosts for a in h.stack.interfaces.local]
    assert len(set(local)) == len(local), "link-local addresses are different as well"
    assert len({h.binding.mac for h in bus.hosts if h.binding is not None}) == 1


@pytest.mark.parametrize("seed", range(8))
def test_two_hosts_that_begin_at_the_same_place_at_the_same_time(seed: int) -> None:
    assert default_addresses(TWINS[0]) == default_addresses(TWINS[1])
    bus = Bus(seed, through_im=True)
    a, b = map(bus.host, TWINS)
    bus.settle()
    assert not own(a) & own(b)
    assert not a.stack.interfaces.local.keys() & b.stack.interfaces.local.keys()


@pytest.mark.parametrize("address", ["10.77.0.30/24", "fd77::30/64"])
def test_an_address_that_another_host_has_is_refused(bus: Bus, address: str) -> None:
    first = bus.host("first", (address,))
    bus.settle()
    second = bus.host("second", (address,))
    bus.settle()
    first.addresses.check()
    plain = address.partition("/")[0]
    wanted = rf"{plain} is already in use by another host behind the same adapter \(02:.*\): give this host"
    with pytest.raises(AddressConflict, match=wanted):
        second.addresses.check()
    assert own(first) == {address}
    assert first.stack.counters["address conflict"] == 0


def test_a_default_address_that_a_host_was_given_is_left_to_it(bus: Bus) -> None:
    first = bus.host("given", default_addresses("late"))
    bus.settle()
    late = bus.host("late")
    bus.settle()
    assert not own(first) & own(late)
    late.addresses.check()


def test_hosts_that_come_back_after_the_target_keep_their_addresses(bus: Bus) -> None:
    for name in TWINS:
        bus.host(name)
    bus.settle()
    before = [(own(h), h.stack.counters["address conflict"]) for h in bus.hosts]
    bus.sim.kill("target")
    bus.sim.run_until(lambda: all(h.binding is None for h in bus.hosts))
    segment = MemorySegment()
    bus.sim.start("target", lambda: TargetDriver(TargetConfig(), [segment.station("target")]))
    bus.sim.run_until(lambda: all(h.binding is not None for h in bus.hosts))
    bus.sim.run_for(5.0)
    assert [(own(h), h.stack.counters["address conflict"]) for h in bus.hosts] == before
