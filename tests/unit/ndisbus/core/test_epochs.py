"""Epochs only grow: over hellos, restarts of the bus, clocks that are set back, and lives of adapters."""

from __future__ import annotations

from typing import Any

import pytest

from hoststack.chimney.driver import HostDriver
from imdriver.driver import ImDriver
from ndisbus.core import NdisCore
from ndisbus.core.epochs import MAX_LAST_EPOCH, epoch_base
from ndisbus.messages.codec import PROTOCOL_VERSION
from ndisbus.sim import Simulation
from target.driver import TargetDriver
from tests.support.core_bench import Bench, Client

#: 2026-12-01, in seconds since 1970.
NOW = 1_796_083_200.0


def hello(core: NdisCore, key: str, **identity: Any) -> dict[str, Any]:
    """What the core answers to a hello: the map of ready, or of refused."""
    core.receive(key, ["hello", 1, [PROTOCOL_VERSION, {"Name": key, **identity}]], (), 0.0)
    answers = [m for to, m, _ in core.drain() if to == key and m[0] in ("ready", "refused")]
    answer: dict[str, Any] = answers[-1][2][0]
    return answer


def test_a_bus_of_one_second_with_forty_hellos_is_below_the_next_one() -> None:
    first, second = NdisCore(epoch_base=epoch_base(NOW)), NdisCore(epoch_base=epoch_base(NOW + 1.0))
    before = [hello(first, f"d{i}")["Epoch"] for i in range(40)]
    assert before == sorted(set(before))
    assert hello(second, "d0")["Epoch"] > before[-1]


def test_a_bus_begins_above_the_epoch_that_a_driver_tells() -> None:
    core = NdisCore(epoch_base=epoch_base(NOW - 3600))  # the clock was set back
    told = epoch_base(NOW) + 5
    assert hello(core, "stranger")["Epoch"] < told
    loyal = hello(core, "loyal", LastEpoch=told)
    assert loyal["Epoch"] == told + 1
    assert hello(core, "next")["Epoch"] > loyal["Epoch"]
    assert hello(core, "older", LastEpoch=told - 3)["Epoch"] > loyal["Epoch"]


def test_a_driver_does_not_get_the_address_space_that_it_had() -> None:
    """Spaces are 24 bits wide, so their numbers start over; what a driver kept must not look valid."""
    spaces = (1 << 24) - 2
    core = NdisCore(epoch_base=1000 + spaces - 1)
    assert (
        hello(core, "loyal", LastEpoch=1000)["AddressSpace"]
        != hello(NdisCore(epoch_base=999), "x")["AddressSpace"]
    )


@pytest.mark.parametrize("told", [MAX_LAST_EPOCH, MAX_LAST_EPOCH + 7, (1 << 64) - 1])
def test_a_stranger_cannot_use_the_numbers_up(told: int) -> None:
    core = NdisCore(epoch_base=5)
    assert hello(core, "stranger", LastEpoch=told)["Epoch"] == MAX_LAST_EPOCH + 1
    assert hello(core, "other", LastEpoch=told)["Epoch"] == MAX_LAST_EPOCH + 2


@pytest.mark.parametrize("told", [-1, 1.5, "7", None, True])
def test_what_is_not_a_number_of_an_epoch_is_refused(told: object) -> None:
    answer = hello(NdisCore(), "odd", LastEpoch=told)
    assert answer == {"Call": "hello", "Reason": "identity.LastEpoch: the number of an epoch expected"}


def test_handles_of_one_bus_are_not_handles_of_the_next_one() -> None:
    handles = []
    for base in (0, 1, 2, epoch_base(NOW), epoch_base(NOW) + 1, epoch_base(NOW + 3600)):
        bench = Bench()
        bench.core = NdisCore(epoch_base=base)
        driver = bench.client(Client, "p")
        driver.send("NdisMRegisterMiniportDriver", None, {"Name": "p", "Adapters": []})
        handles.append(driver.take("MiniportSetOptions")[2][0])
    assert len(set(handles)) == len(handles)
    assert {h >> 40 for h in handles} == {1}


class Watcher(HostDriver):
    """Notes the epoch of each adapter that it is bound to."""

    def __init__(self) -> None:
        super().__init__("host")
        self.epochs: list[int] = []

    def protocol_bind_adapter_ex(self, context: Any, bind_context: int, parameters: dict[str, Any]) -> Any:
        self.epochs.append(parameters["Epoch"])
        return super().protocol_bind_adapter_ex(context, bind_context, parameters)


def bind_again(sim: Simulation, host: Watcher) -> None:
    n = len(host.epochs)
    sim.run_until(lambda: len(host.epochs) > n and host.can_offload, limit=30.0)


@pytest.mark.parametrize("seed", range(5))
def test_each_life_of_a_virtual_adapter_has_an_epoch_of_its_own(seed: int) -> None:
    """The intermediate driver lives on, its adapter does not: what was offloaded on it is gone."""
    sim = Simulation(seed)
    host = Watcher()
    sim.start("target", TargetDriver)
    sim.start("im", ImDriver)
    sim.start("host", lambda: host)
    bind_again(sim, host)
    for victim in ("target", "target", "im", "target"):
        sim.kill(victim)
        sim.run_for(0.5)
        sim.restart(victim)
        bind_again(sim, host)
        (shown,) = (a["Epoch"] for a in sim.control("ps")["Adapters"] if a["Name"] == "im0-a")
        assert shown == host.epochs[-1]
    assert host.epochs == sorted(set(host.epochs))
    assert len(host.epochs) == 5


@pytest.mark.parametrize("seed", range(5))
def test_a_restart_of_the_bus_does_not_repeat_an_epoch_even_if_its_clock_stands(seed: int) -> None:
    sim = Simulation(seed)
    host = Watcher()
    sim.start("target", TargetDriver)
    sim.start("im", ImDriver)
    sim.start("host", lambda: host)
    bind_again(sim, host)
    sim.kill("target")
    sim.run_for(0.5)
    sim.restart("target")
    bind_again(sim, host)
    for _ in range(3):
        before = sim.processes["host"].port.epoch
        sim.kill_bus()
        sim.start_bus()
        bind_again(sim, host)
        assert sim.processes["host"].port.epoch > before
    assert host.epochs == sorted(set(host.epochs))
