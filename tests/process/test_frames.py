"""Frames beside the chimney between real processes: there and back, and through deaths."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from ndisbus.ddi.status import NdisStatus
from ndisbus.runtime.driver_process import DriverProcess
from tests.process.conftest import until
from tests.support.packet_drivers import PacketHost

if TYPE_CHECKING:
    from tests.process.conftest import Bus

pytestmark = pytest.mark.process

DEADLINE = 20.0
ABORTED = int(NdisStatus.SEND_ABORTED)
FRAMES = [bytes([n % 251]) * (60 + n) for n in range(500)]

#: A miniport that sends everything back where it came from, or keeps what it is given; or a host that keeps
#: what it is indicated.
CHILD = """
import sys
from ndisbus.runtime.run_driver import run_driver
from tests.support.packet_drivers import PacketHost, PacketNic

class Echo(PacketNic):
    def miniport_send_net_buffer_lists(self, context, chain, port, flags):
        super().miniport_send_net_buffer_lists(context, chain, port, flags)
        self.complete(chain.addresses)
        self.indicate(self.frames)
        self.frames = []

kind = {"echo": Echo, "keep": PacketNic, "host": lambda: PacketHost("keeper", "im0-b")}[sys.argv[1]]
sys.exit(run_driver(kind(), name="keeper" if sys.argv[1] == "host" else "nic"))
"""


def nic(bus: Bus, kind: str) -> subprocess.Popen[str]:
    child = bus.spawn("-c", CHILD, kind)
    until(lambda: any(a["Name"] == "nic0" and a["State"] == "up" for a in bus.ps()["Adapters"]), "nic0 is up")
    return child


def im(bus: Bus) -> subprocess.Popen[str]:
    return bus.spawn("-m", "imdriver")


class Running:
    """A host of this process, above im0-a, whose messages a thread moves: ``ps`` asks it, too."""

    def __init__(self, endpoint: str) -> None:
        self.driver = PacketHost("host", "im0-a")
        self.process = DriverProcess(self.driver, name="host", endpoint=endpoint)
        self.failed: BaseException | None = None
        self._lock = threading.Lock()
        self._stop = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop:
                with self._lock:
                    self.process.run_until(lambda: self._stop, 0.005)
        except BaseException as e:
            self.failed = e

    def do(self, action: Callable[[PacketHost], object]) -> None:
        """Let the driver do something."""
        with self._lock:
            action(self.driver)

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Until a condition holds, or the host has failed."""
        until(lambda: self.failed or condition(), what)
        if self.failed is not None:
            raise self.failed

    def bound(self) -> None:
        self.wait(lambda: self.driver.binding is not None, "the host is bound")

    def give_back(self) -> None:
        self.do(lambda h: h.give_back(list(h.kept)))

    def close(self) -> None:
        self._stop = True
        self._thread.join(DEADLINE)
        self.process.close()


@pytest.fixture
def host(bus: Bus) -> Iterator[Running]:
    running = Running(bus.endpoint)
    try:
        yield running
    finally:
        running.close()


def counts(bus: Bus) -> dict[str, int]:
    """What is under way, as ps shows it; without what is zero."""
    ps = bus.ps()
    found = {f"sends of {a['Name']}": a["Sends"] for a in ps["Adapters"]}
    found |= {f"receives of {a['Name']}": a["Receives"] for a in ps["Adapters"]}
    found |= {f"kept by {b['Protocol']}": b["Received"] for b in ps["Bindings"]}
    for p in ps["Processes"]:
        found |= {f"{p['Name']}: {k}": p["Counters"].get(k, 0) for k in ("packet_entries", "packets_above")}
    assert not ps["BugChecks"]
    return {k: v for k, v in found.items() if v}


def kill(child: subprocess.Popen[Any]) -> None:
    os.kill(child.pid, signal.SIGKILL)
    child.wait(DEADLINE)


def test_frames_go_through_an_intermediate_driver_and_come_back_in_order(bus: Bus, host: Running) -> None:
    nic(bus, "echo")
    im(bus)
    host.bound()
    driver = host.driver
    assert driver.facts["MtuSize"] == 1500
    for at in range(0, len(FRAMES), 50):
        host.do(partial(PacketHost.transmit, frames=FRAMES[at : at + 50]))
    host.wait(lambda: len(driver.frames) == len(FRAMES) and not driver.sends, "all are back")
    assert driver.frames == FRAMES
    assert driver.statuses == [0] * len(FRAMES)
    expected = {
        "receives of nic0": 500,
        "receives of im0-a": 500,
        "kept by host": 500,
        "kept by im": 500,
        "im: packets_above": 500,
    }
    host.wait(lambda: counts(bus) == expected, "everything is counted")
    host.give_back()
    host.wait(lambda: not counts(bus), "nothing is under way")


@pytest.mark.parametrize("victim", ["nic", "im"])
def test_sends_are_aborted_when_a_driver_below_is_killed_and_go_on_when_it_is_back(
    bus: Bus, host: Running, victim: str
) -> None:
    children = {"nic": nic(bus, "keep"), "im": im(bus)}
    host.bound()
    driver = host.driver
    host.do(lambda h: h.transmit(FRAMES[:20]))
    host.wait(lambda: counts(bus).get("sends of nic0") == 20, "the hardware has them")
    kill(children[victim])
    host.wait(lambda: driver.binding is None and not driver.sends, "they are back")
    assert driver.statuses == [ABORTED] * 20
    if victim == "im":
        # The hardware still has them, and is not told; only its own death, or completion, ends that.
        host.wait(lambda: counts(bus) == {"sends of nic0": 20}, "only the hardware has them")
        kill(children["nic"])
    nic(bus, "echo")
    if victim == "im":
        im(bus)
    host.bound()
    host.do(lambda h: h.transmit(FRAMES[:20]))
    host.wait(lambda: len(driver.frames) == 20 and not driver.sends, "frames go again")
    assert driver.statuses[20:] == [0] * 20
    host.give_back()
    host.wait(lambda: not counts(bus), "nothing is under way")


def test_what_a_killed_host_has_kept_goes_back(bus: Bus, host: Running) -> None:
    """And frames go on for the host beside it."""
    nic(bus, "echo")
    im(bus)
    keeper = bus.spawn("-c", CHILD, "host")
    both = {"host", "keeper"}
    until(lambda: both <= {b["Protocol"] for b in bus.ps()["Bindings"]}, "both hosts are bound")
    host.bound()
    driver = host.driver
    host.do(lambda h: h.transmit(FRAMES[:30]))
    host.wait(lambda: len(driver.kept) == 30, "the frames are back")
    host.give_back()
    host.wait(lambda: "receives of im0-a" not in counts(bus), "one host has returned them")
    found = counts(bus)
    assert found["kept by keeper"] == found["receives of nic0"] == 30
    kill(keeper)
    host.wait(lambda: not counts(bus), "nothing is under way")
    host.do(lambda h: h.transmit(FRAMES[:1]))
    host.wait(lambda: len(driver.frames) == 31, "frames go on")
