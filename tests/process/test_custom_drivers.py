"""The examples: a protocol driver, an intermediate driver, a host without a network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hoststack import Host, LiveHost
from tests.process.conftest import until
from tests.sim.test_target_wire import connection
from tools.torture_stack import RealStack, with_peer

if TYPE_CHECKING:
    from tests.process.conftest import Bus

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
DEADLINE = 20.0


def test_a_protocol_driver_sees_the_frames_of_its_adapter() -> None:
    with RealStack(with_peer()) as stack:
        listener = subprocess.Popen(
            [sys.executable, "examples/custom_protocol.py", "nic0"],
            cwd=ROOT,
            env={**stack.environment, "NDISBUS_ENDPOINT": stack.endpoint},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert listener.stdout is not None
            lines = iter(listener.stdout)
            while "bound to nic0" not in next(lines):
                pass
            with LiveHost.attach("host", stack.endpoint, timeout=DEADLINE) as host:
                host.ping("10.77.0.2")
            while "frames" not in next(lines):
                pass
            listener.terminate()
            assert "Traceback" not in "".join(lines)
            assert listener.wait(DEADLINE) == 0
        finally:
            listener.kill()
            listener.communicate()


def test_the_example_of_a_host_without_a_network_does_what_it_says(bus: Bus) -> None:
    bus.spawn("-m", "target")
    bus.spawn("-m", "imdriver")
    until(lambda: sum(a["State"] == "up" for a in bus.ps()["Adapters"]) >= 2, "the adapters are up")
    done = bus.spawn("examples/custom_host.py")
    said, _ = done.communicate(timeout=DEADLINE)
    assert done.returncode == 0
    assert "offload: {'NDIS_STATUS_SUCCESS': 102}" in said
    assert "upload: {'NDIS_STATUS_SUCCESS': 102}" in said


def test_an_intermediate_driver_says_what_passes_through_it(bus: Bus) -> None:
    bus.spawn("-m", "target")
    middle = bus.spawn("examples/custom_im.py")
    until(
        lambda: any(a["Name"] == "myim0" and a["State"] == "up" for a in bus.ps()["Adapters"]), "myim0 is up"
    )
    with Host.attach("host", bus.endpoint, bind="myim0", timeout=DEADLINE) as host:
        tcb = connection()
        assert host.offload([tcb]).succeeded
        assert host.terminate([tcb], idle=True).succeeded
    middle.terminate()
    said, _ = middle.communicate(timeout=DEADLINE)
    assert middle.returncode == 0
    assert [line for line in said.splitlines() if "blocks" in line] == [
        "down: initiate, 3 blocks",
        "up: initiate, 3 blocks",
        "up: terminate, 3 blocks",
    ]
