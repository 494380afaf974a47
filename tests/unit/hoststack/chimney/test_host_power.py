"""Power management on the host's side."""

from __future__ import annotations

from hoststack.chimney.driver import HostDriver
from hoststack.chimney.power import DeviceState
from imdriver.driver import ImDriver
from ndisbus.ddi.enums import Oid
from ndisbus.sim import Simulation
from target.driver import TargetDriver
from tests.support.host_rig import FAILURE, Rig


def test_connections_are_terminated_before_the_power_goes() -> None:
    """R-PWR-01: OID_PNP_SET_POWER is requested only when every terminate has completed."""
    rig = Rig()
    neighbor, paths, tcbs = rig.offloaded(3)
    operation = rig.act(lambda h: h.power_down())
    assert rig.names() == ["NdisTerminateOffload"]
    assert rig.terminated() == tcbs
    assert rig.names() == ["NdisTerminateOffload"]
    assert rig.terminated() == [neighbor, *paths]
    request = rig.answer_oid()
    assert request["Oid"] == Oid.OID_PNP_SET_POWER
    assert request["InformationBuffer"] == b"\4\0\0\0"
    assert operation.succeeded
    assert "NdisDeviceStateD3" in rig.act(lambda h: h.offload(tcbs)).refused


def test_after_power_up_the_chimney_is_asked_for_again() -> None:
    rig = Rig()
    rig.act(lambda h: h.power_down(DeviceState.NdisDeviceStateD1))
    rig.answer_oid()
    operation = rig.act(lambda h: h.power_up())
    asked = [r["Oid"] for r in rig.answer_oids()]
    assert asked[0] == Oid.OID_PNP_SET_POWER
    assert asked[1:] == [
        Oid.OID_TCP_TASK_OFFLOAD,
        Oid.OID_TCP_TASK_OFFLOAD,
        Oid.OID_TCP_CONNECTION_OFFLOAD_PARAMETERS,
    ]
    assert operation.succeeded
    assert rig.host.can_offload


def test_an_adapter_that_stays_awake_is_offloaded_to_again() -> None:
    rig = Rig()
    operation = rig.act(lambda h: h.power_down())
    rig.answer_oid(FAILURE, "somebody needs it")
    rig.answer_oids()
    assert operation.refused == "somebody needs it"
    assert rig.host.can_offload


def test_power_goes_down_and_comes_back_through_the_whole_stack() -> None:
    """R-PWR-01: the target never has to let the request wait, since nothing is offloaded any more."""
    sim = Simulation(3)
    sim.start("target", TargetDriver)
    sim.start("im", ImDriver)
    host = sim.start("host", lambda: HostDriver("host"))
    driver = host.driver
    assert isinstance(driver, HostDriver)
    sim.run_until(lambda: driver.can_offload)
    _, _, tcbs = Rig().tree(5)
    down = sim.act("host", lambda d: d.offload(tcbs))
    sim.run_until(lambda: down.done)
    assert down.succeeded
    down = sim.act("host", lambda d: d.power_down())
    sim.run_until(lambda: down.done)
    assert down.succeeded
    assert not driver.held()
    up = sim.act("host", lambda d: d.power_up())
    sim.run_until(lambda: up.done)
    assert driver.can_offload
