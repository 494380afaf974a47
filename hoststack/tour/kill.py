"""kill -9 of the target with requests in flight, and the recovery from it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING

from hoststack.net.errors import SocketError
from hoststack.tour.rig import TourError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hoststack.tour.connections import Connections
    from hoststack.tour.rig import TourRig
    from ndisbus.driver.base import Reply
    from ndisbus.runtime.driver_process import DriverProcess

__all__ = ["kill_target", "recover", "sigkill"]


def sigkill(pid: int) -> None:
    """End a process as ``kill -9`` does."""
    os.kill(pid, signal.SIGKILL)


def kill_target(rig: TourRig, connections: Connections, kill: Callable[[int], None]) -> None:
    """Kill the target with a query of each connection in flight; wait until it is back."""
    driver, tcbs = rig.driver, connections.tcbs
    target, pid, epoch = _find_target(rig)
    rig.report(f"kill -9 of {target} (pid {pid}) with {len(tcbs)} queries in flight")
    step = rig.step("query, killed")
    try:  # the target is stopped first, so that the queries are in flight when it is killed
        _stop(pid)
        operations = rig.start(step, *(partial(driver.query, [t]) for t in tcbs))
        step.blocks += len(operations)
        survey = _Survey(rig.process)
        rig.until(lambda: survey.outstanding() >= len(operations), "the queries did not reach the target")
        killed = time.monotonic()
        kill(pid)
    finally:
        with contextlib.suppress(ProcessLookupError):  # normally it is dead by now
            os.kill(pid, signal.SIGCONT)
    rig.collect(step, operations, allowed=("NDIS_STATUS_SUCCESS", "NDIS_STATUS_FAILURE"))
    completed = time.monotonic()
    rig.until(lambda: driver.binding is None, "the host was not unbound after the target's death")
    noticed = time.monotonic()
    rig.until(lambda: driver.can_offload, "the target did not come back")
    back = _find_target(rig)
    if back[2] <= epoch:
        raise TourError(f"{target} is back in epoch {back[2]}, which is not later than {epoch}")
    rig.facts["kill"] = {
        "pid": pid,
        "epoch_before": epoch,
        "epoch_after": back[2],
        "completed_after_ms": round((completed - killed) * 1e3, 1),
        "unbound_after_ms": round((noticed - killed) * 1e3, 1),
        "back_after_ms": round((time.monotonic() - killed) * 1e3, 1),
    }


def recover(rig: TourRig, connections: Connections) -> None:
    """Check that the application got an error for each lost connection; connect and offload again."""
    lost = [s for s in connections.sockets if s.error is not None]
    wrong = [s for s in lost if not isinstance(s.error, SocketError)]
    if wrong:
        raise TourError(f"{wrong[0]!r} was lost with {wrong[0].error!r}, which is not a SocketError")
    rig.facts["kill"]["connections_lost"] = len(lost)
    rig.report(
        f"recovery: {len(lost)} connections were lost with the target; connecting and offloading again"
    )
    connections.replace_lost()
    connections.exchange("after the kill")
    connections.offload("re-offload")


def _find_target(rig: TourRig) -> tuple[str, int, int]:
    """Name, pid and epoch of the driver of the hardware at the bottom of the stack."""
    ps = rig.ask("ps")
    names = [a["Driver"] for a in ps["Adapters"] if not a["Virtual"] and a["State"] == "up"]
    for p in ps["Processes"]:
        if p["Name"] in names:
            return p["Name"], p["Pid"], p["Epoch"]
    raise TourError("no offload target is on the bus; is 'python -m target' running?")


class _Survey:
    """Asks the bus again and again, without waiting, how many requests the hardware has not completed."""

    def __init__(self, process: DriverProcess) -> None:
        self._process = process
        self._reply: Reply = process.port.control("ps", {})
        self._last = 0

    def outstanding(self) -> int:
        """The number of outstanding requests of hardware adapters, by the last answer."""
        if self._reply.answer is not None:
            status, ps = self._reply.answer
            if status != 0:
                raise TourError(f"ps: {ps}")
            self._last = sum(a["Outstanding"] for a in ps["Adapters"] if not a["Virtual"])
            self._reply = self._process.port.control("ps", {})
        return self._last


def _stop(pid: int) -> None:
    """SIGSTOP. Call it inside the ``try`` that ends it: a signal to this process may arrive as it returns."""
    try:
        os.kill(pid, signal.SIGSTOP)
    except OSError as e:
        raise TourError(f"the target (pid {pid}) cannot be stopped: {e.strerror}") from e
