"""A target's process on a cable: an offloaded connection talks to a station there."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from hoststack.api.host import Host
from hoststack.api.runners import ProcessRunner
from hoststack.chimney.driver import HostDriver
from ndisbus.state.images import TcpOffloadStateDelegated
from ndisbus.wire.cable import CableLink
from tests.process.conftest import until
from tests.sim.test_target_wire import connection
from tests.support.wired import FAR_MAC, Far, FarEnd

if TYPE_CHECKING:
    from tests.process.conftest import Bus

pytestmark = pytest.mark.process

DEADLINE = 20.0


def test_an_offloaded_connection_talks_on_a_cable(bus: Bus) -> None:
    """Data both ways, a query with live variables, and the upload; while the host's process does nothing."""
    target = bus.spawn("-m", "target", "--wire", "cable:lan", "--mac", "02-00-00-00-00-01")
    until(lambda: any(a["Name"] == "nic0" and a["State"] == "up" for a in bus.ps()["Adapters"]), "nic0 is up")
    far = Far(CableLink(bus.directory / "cable-lan", "far"))  # type: ignore[arg-type]
    tcb = connection()
    end = FarEnd(tcb.const, tcb.cached, tcb.delegated)
    start = time.monotonic()
    host = Host(
        ProcessRunner(HostDriver("host", bind="nic0"), name="host", endpoint=bus.endpoint), timeout=DEADLINE
    )
    try:
        host.wait_bound()
        far.send(b"\xff" * 6 + FAR_MAC + b"\x88\xb5hello", time.monotonic())

        def talk() -> None:
            now = time.monotonic()
            end.hear(far.listen(now), now - start)
            for frame in end.frames(now - start):
                far.send(frame, now)

        def until_heard(size: int) -> bool:
            talk()
            return len(end.received) >= size

        assert host.offload([tcb]).succeeded
        payload = os.urandom(200_000)
        for i in range(0, len(payload), 10_000):
            host.send(tcb, payload[i : i + 10_000])
        until(lambda: until_heard(len(payload)), "the far end has heard everything")
        assert bytes(end.received) == payload

        def finished() -> bool:
            talk()
            return not host.driver.posted

        assert host.pump(finished, DEADLINE)
        host.receive(tcb, 50_000)
        answer = os.urandom(50_000)
        end.machine.send(answer)

        def answered() -> bool:
            talk()
            return len(tcb.receive_buffer or b"") == len(answer)

        assert host.pump(answered, DEADLINE)
        assert bytes(tcb.receive_buffer or b"") == answer
        structures = host.query([tcb]).result_of(tcb)
        assert structures is not None
        now = structures[-1]
        assert isinstance(now, TcpOffloadStateDelegated)
        assert (now.snd_una - 1000, now.rcv_nxt - 5000) == (len(payload), len(answer))
        assert now.s_rtt > 0
        assert host.terminate([tcb], idle=True).succeeded
    finally:
        host.close()
        far.link.close()
    target.terminate()
    assert target.wait(DEADLINE) == 0


def test_a_wire_that_cannot_be_opened_is_named(bus: Bus) -> None:
    """Before anything else happens."""
    child = bus.spawn("-m", "target", "--wire", "cable:lan?lost=1%")
    output, _ = child.communicate(timeout=DEADLINE)
    assert child.returncode == 78
    assert "lost" in output
