"""Who is taken for hung: a driver that does not advance, and none that was stopped together with the bus."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from ndisbus.runtime.control_client import Refused
from ndisbus.runtime.trace_link import TraceSubscriber
from tests.process.conftest import until

if TYPE_CHECKING:
    from tests.process.conftest import Bus

pytestmark = pytest.mark.process

#: A miniport that works on a command for the given time, or for ever, with or without signs of life.
CHILD = """
import sys, time
from ndisbus.driver.base import MiniportDriver
from ndisbus.ddi.status import NdisStatus
from ndisbus.runtime.run_driver import run_driver

class Worker(MiniportDriver):
    def driver_entry(self):
        yield self.ndis.m_register_miniport_driver(None, {"Name": "worker", "Adapters": ["worker0"]})
    def miniport_initialize_ex(self, handle, context, parameters):
        there = self.ndis.heap.address()
        attributes = {"MiniportAdapterContext": there, "TcpConnectionOffloadCapabilities": None}
        yield self.ndis.m_set_miniport_attributes(handle, attributes)
        return NdisStatus.SUCCESS
    def control(self, command, arguments):
        end = time.monotonic() + arguments["Seconds"]
        while time.monotonic() < end:
            if command == "work":
                self.ndis.working()
        return {"done": 1}

sys.exit(run_driver(Worker(), name="worker"))
"""
LIMIT = 1.0
DEADLINE = 20.0


def started(bus: Bus, limit: float) -> int:
    """The epoch of a worker on a bus with this hang limit, once its adapter is up."""
    bus.start("--check-interval", "0.05", "--hang-limit", str(limit))
    bus.spawn("-c", CHILD)
    until(lambda: any(a["State"] == "up" for a in bus.ps()["Adapters"]), "the worker is up")
    return epoch(bus)


def epoch(bus: Bus) -> int:
    line = bus.driver("worker")
    assert line is not None
    return int(line["Epoch"])


def command(bus: Bus, name: str, seconds: float) -> dict[str, Any]:
    request = {"Name": "worker", "Command": name, "Arguments": {"Seconds": seconds}}
    result: dict[str, Any] = bus.request("driver", request)
    return result


def test_a_handler_that_does_not_end_is_found_in_about_the_limit(idle_bus: Bus) -> None:
    started(idle_bus, LIMIT)
    begun = time.monotonic()
    with pytest.raises(Refused):
        command(idle_bus, "spin", 1e6)
    assert LIMIT <= time.monotonic() - begun < LIMIT + 10.0
    assert [p["State"] for p in idle_bus.ps()["CutOff"]] == ["cut off: hung"]
    idle_bus.children[-1].kill()


def test_a_handler_that_advances_may_take_longer_than_the_limit(idle_bus: Bus) -> None:
    first = started(idle_bus, LIMIT)
    assert command(idle_bus, "work", 3 * LIMIT) == {"done": 1}
    assert epoch(idle_bus) == first


def test_a_pause_of_the_whole_machine_makes_no_driver_hang(idle_bus: Bus) -> None:
    """All processes are stopped for longer than the limit. The driver goes on after the bus does."""
    bus, limit = idle_bus, 3.0
    first = started(bus, limit)
    worker = bus.children[-1]
    with TraceSubscriber(bus.endpoint) as trace:
        bus.owe_answer(trace, worker)  # an answer is owed when the bus is stopped, too
    with bus.paused(limit + 0.5):
        pass
    assert epoch(bus) == first
    worker.send_signal(signal.SIGCONT)
    assert command(bus, "work", 0.0) == {"done": 1}
    assert epoch(bus) == first
