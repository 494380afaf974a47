"""A target of one's own, made of what ``target`` exports: examples/custom_target.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hoststack.api.host import Host
from hoststack.api.runners import ProcessRunner
from hoststack.chimney.driver import HostDriver
from tests.process.conftest import until
from tests.sim.test_target_wire import connection

if TYPE_CHECKING:
    from tests.process.conftest import Bus

pytestmark = pytest.mark.process

DEADLINE = 20.0


def test_a_subclass_runs_on_a_cable_and_serves_a_host(bus: Bus) -> None:
    """The example's handlers are called, and the work is done by the target it is made of."""
    target = bus.spawn("examples/custom_target.py")
    until(
        lambda: any(a["Name"] == "mynic0" and a["State"] == "up" for a in bus.ps()["Adapters"]),
        "mynic0 is up",
    )
    assert (bus.directory / "cable-lan").is_dir()
    driver = HostDriver("host", bind="mynic0")
    host = Host(ProcessRunner(driver, name="host", endpoint=bus.endpoint), timeout=DEADLINE)
    try:
        host.wait_bound()
        tcb = connection()
        assert host.offload([tcb]).succeeded
        assert host.terminate([tcb], idle=True).succeeded
    finally:
        host.close()
    target.terminate()
    said, _ = target.communicate(timeout=DEADLINE)
    assert target.returncode == 0
    assert [line for line in said.splitlines() if "blocks" in line] == [
        "initiate: 3 blocks",
        "terminate: 3 blocks",
    ]
