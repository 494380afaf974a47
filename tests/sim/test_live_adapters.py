"""Hosts with a network stack on adapters that are not as they would like them."""

from __future__ import annotations

import random

import pytest

from hoststack.live.nethost import NetHost
from hoststack.peer.peer import station_mac
from ndisbus.sim import Simulation
from ndisbus.wire.memory import MemorySegment
from target.driver import TargetDriver
from target.hardware.config import TargetConfig
from tests.support.live_stack import Flow, LiveStack


def test_an_adapter_with_a_small_mtu_has_no_ipv6_and_ends_no_host() -> None:
    simulation = Simulation(1)
    segment = MemorySegment(mtu=576)
    simulation.start(
        "target", lambda: TargetDriver(TargetConfig(mac=station_mac(1)), [segment.station("nic")])
    )
    host = NetHost(addresses=["10.77.0.1/24", "fd77::1/64"], rng=random.Random(1), bind="nic0")
    simulation.start("host", lambda: host)
    simulation.run_until(lambda: host.can_offload)
    assert host.interface is not None
    assert host.interface.mtu == 576
    assert {len(a) for a in host.interface.local} == {4}
    assert host.stack.counters["ipv6: the adapter's MTU is too small"] == 1


def test_what_is_no_address_is_refused_before_the_host_is_on_the_bus() -> None:
    with pytest.raises(ValueError, match=r"10\.77\.0\.1/99"):
        NetHost(addresses=["10.77.0.1/99"], rng=random.Random(1))


def test_an_adapter_that_is_back_is_used_at_once() -> None:
    """A connection that backed off while there was no adapter does not wait until its next try is due."""
    stack = LiveStack(5)
    stack.ready()
    flow = Flow(stack, stack.connect("10.77.0.2", 7), 1_000, 1)
    stack.wait(lambda: flow.done)
    stack.sim.kill("target")
    stack.wait(lambda: stack.host.binding is None)
    again = Flow(stack, flow.socket, 1_000, 2)
    stack.sim.run_for(3.0)
    machine = flow.socket.machine
    assert machine is not None
    due = machine.next_deadline()
    assert due is not None
    waiting = due / 1000 - stack.sim.now
    assert waiting > 0.5
    stack.sim.restart("target")
    stack.wait(lambda: stack.host.binding is not None)
    back = stack.sim.now
    stack.wait(lambda: again.done)
    again.check()
    assert stack.sim.now - back < 0.3
