"""What moves a host driver's messages: a process on the bus, or the simulation.

A :class:`Runner` is all that the blocking API and the scenarios know of the world. This module is the
only one in the package that knows the runtime of processes.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from ndisbus.ddi.status import NdisStatus
from ndisbus.errors import BusUnavailable, LocalProtocolError

if TYPE_CHECKING:
    from hoststack.chimney.driver import HostDriver
    from ndisbus.runtime.driver_process import DriverProcess
    from ndisbus.sim import Simulation

__all__ = ["ACTIONS", "ProcessRunner", "Runner", "SimulationRunner"]

T = TypeVar("T")

#: How long the bus has for a control request (seconds).
CONTROL_SECONDS: Final = 5.0

#: What can be done to a process by its name.
ACTIONS: Final = ("kill", "stall", "resume", "restart")


class Runner(Protocol):
    """Runs one host driver."""

    driver: HostDriver

    def act(self, action: Callable[[], T]) -> T:
        """Let the driver do something; what it sends goes out."""
        ...

    def run_until(self, done: Callable[[], bool], timeout: float) -> bool:
        """Move messages until ``done()`` or for ``timeout`` seconds; whether it holds in the end."""
        ...

    def now(self) -> float:
        """The runner's clock, in seconds."""
        ...

    def control(self, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """A control request to the bus, as ``ndisbus fault`` makes it. Raises what the bus answers."""
        ...

    def process(self, action: str, name: str) -> None:
        """One of :data:`ACTIONS` on the process that registered under ``name``."""
        ...

    def close(self) -> None:
        """Leave the bus."""
        ...


class ProcessRunner:
    """A driver in this process, on the bus at ``endpoint`` (default: where every process looks)."""

    def __init__(self, driver: HostDriver, *, name: str, endpoint: str | None = None) -> None:
        from ndisbus.runtime.driver_process import DriverProcess  # noqa: PLC0415 - a simulation needs no sockets

        self.driver = driver
        self._process: DriverProcess = DriverProcess(driver, name=name, endpoint=endpoint)

    def act(self, action: Callable[[], T]) -> T:
        self._process.port.now = time.monotonic()
        result = action()
        self._process.run_until(lambda: True, 0.0)
        return result

    def run_until(self, done: Callable[[], bool], timeout: float) -> bool:
        return self._process.run_until(done, timeout)

    def now(self) -> float:
        return time.monotonic()

    def control(self, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
        reply = self._process.port.control(verb, arguments)
        if not self.run_until(lambda: reply.answer is not None, CONTROL_SECONDS):
            raise BusUnavailable(f"the bus did not answer the control request {verb!r} in time")
        assert reply.answer is not None
        status, result = reply.answer
        if status != NdisStatus.SUCCESS:
            raise LocalProtocolError(f"{verb}: {result}")
        answer: dict[str, Any] = result
        return answer

    def process(self, action: str, name: str) -> None:
        """SIGKILL, SIGSTOP or SIGCONT to the process that the bus knows by this name, on this machine.

        ``restart`` is a SIGKILL too: what starts it again is its supervisor. Raises
        :class:`LocalProtocolError` for a name that the bus does not know.
        """
        known = {p["Name"]: int(p["Pid"]) for p in self.control("ps", {})["Processes"]}
        if name not in known:
            raise LocalProtocolError(
                f"no process is registered as {name!r}; there are: {', '.join(sorted(known)) or 'none'}"
            )
        signals = {"stall": signal.SIGSTOP, "resume": signal.SIGCONT}
        os.kill(known[name], signals.get(action, signal.SIGKILL))

    def close(self) -> None:
        self._process.close()


class SimulationRunner:
    """A driver among others in one simulated machine, on virtual time (:mod:`ndisbus.sim`).

    ``name`` is the host's process in the simulation; it must have been started.
    """

    def __init__(self, simulation: Simulation, name: str) -> None:
        self.simulation = simulation
        self.name = name

    @property
    def driver(self) -> HostDriver:
        driver: HostDriver = self.simulation.driver(self.name)
        return driver

    @driver.setter
    def driver(self, driver: HostDriver) -> None:
        raise AttributeError("the simulation decides which driver runs")

    def act(self, action: Callable[[], T]) -> T:
        result: T = self.simulation.act(self.name, lambda _: action())
        return result

    def run_until(self, done: Callable[[], bool], timeout: float) -> bool:
        from ndisbus.sim import SimulationStuck  # noqa: PLC0415 - a process needs no simulation

        end = self.simulation.now + timeout
        try:
            self.simulation.run_until(lambda: done() or self.simulation.now >= end, limit=timeout + 1.0)
        except SimulationStuck:
            return done()
        return done()

    def now(self) -> float:
        return self.simulation.now

    def control(self, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = self.simulation.control(verb, arguments)
        return result

    def process(self, action: str, name: str) -> None:
        if name not in self.simulation.processes:
            raise LocalProtocolError(f"no simulated process is called {name!r}")
        if action == "restart":
            self.simulation.kill(name)
            self.simulation.run_for(0.01)
            self.simulation.restart(name)
        else:
            getattr(self.simulation, action)(name)

    def close(self) -> None:
        self.simulation.act(self.name, lambda driver: None)
