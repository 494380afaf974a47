"""What moves a host driver's messages: the caller's own thread, or the simulation.

A :class:`Runner` is all that the API and the scenarios know of the world. :mod:`hoststack.api.thread_runner`
has the one with a thread of its own.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from hoststack.api.errors import HostClosed, HostForked
from hoststack.api.scripts import Script, Wait, drive, once, until
from ndisbus.ddi.status import NdisStatus
from ndisbus.errors import BusUnavailable, LocalProtocolError

if TYPE_CHECKING:
    from hoststack.chimney.driver import HostDriver
    from ndisbus.driver.port import DriverPort
    from ndisbus.runtime.driver_process import DriverProcess
    from ndisbus.sim import Simulation

__all__ = ["ACTIONS", "ProcessRunner", "Runner", "SimulationRunner", "ask_bus", "signal_process"]

T = TypeVar("T")

#: How long the bus has for a control request (seconds).
CONTROL_SECONDS: Final = 5.0

#: What can be done to a process by its name.
ACTIONS: Final = ("kill", "stall", "resume", "restart")


class Runner(ABC):
    """Runs the scripts of one host driver."""

    driver: HostDriver

    @abstractmethod
    def run(self, script: Script[T]) -> T:
        """Run a script to its end; what it sends goes out. Returns what it returns, raises what it raises."""

    @abstractmethod
    def now(self) -> float:
        """The runner's clock, in seconds."""

    @abstractmethod
    def control(self, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """A control request to the bus, as ``ndisbus fault`` makes it. Raises what the bus answers."""

    @abstractmethod
    def process(self, action: str, name: str) -> None:
        """One of :data:`ACTIONS` on the process that registered under ``name``."""

    @abstractmethod
    def close(self) -> None:
        """Leave the bus."""

    def abandon(self) -> bool:
        """Let go of a host of the parent process; whether this is a forked child, which can do no more."""
        return False

    def act(self, action: Callable[[], T]) -> T:
        """Let the driver do something; what it sends goes out."""
        return self.run(once(action))

    def run_until(self, done: Callable[[], object], timeout: float | None) -> bool:
        """Wait until ``done()`` or for ``timeout`` seconds; whether it holds in the end."""
        return self.run(until(done, timeout))


def ask_bus(port: DriverPort, verb: str, arguments: dict[str, Any]) -> Script[dict[str, Any]]:
    """A control request by the driver's own connection."""
    reply = port.control(verb, arguments)
    yield Wait(lambda: reply.answer is not None, CONTROL_SECONDS)
    if reply.answer is None:
        raise BusUnavailable(f"{verb}: the bus did not answer within {CONTROL_SECONDS:g} s")
    status, result = reply.answer
    if status != NdisStatus.SUCCESS:
        raise LocalProtocolError(f"{verb}: {result}")
    answer: dict[str, Any] = result
    return answer


def signal_process(survey: dict[str, Any], action: str, name: str) -> None:
    """SIGKILL, SIGSTOP or SIGCONT to the process that the bus knows by this name, on this machine.

    ``survey`` is the bus's answer to ``ps``. ``restart`` is a SIGKILL too: its supervisor starts it again.
    Raises :class:`LocalProtocolError` for a name that the bus does not know.
    """
    known = {p["Name"]: int(p["Pid"]) for p in survey["Processes"]}
    if name not in known:
        raise LocalProtocolError(
            f"no process is registered as {name!r}; there are: {', '.join(sorted(known)) or 'none'}"
        )
    signals = {"stall": signal.SIGSTOP, "resume": signal.SIGCONT}
    os.kill(known[name], signals.get(action, signal.SIGKILL))


class ProcessRunner(Runner):
    """A driver on the bus at ``endpoint``, served by the thread that calls, while it calls.

    One thread at a time: what two do at once raises :class:`LocalProtocolError`.
    """

    def __init__(self, driver: HostDriver, *, name: str, endpoint: str | None = None) -> None:
        from ndisbus.runtime.driver_process import DriverProcess  # noqa: PLC0415 - a simulation needs no sockets

        self.driver = driver
        self._process: DriverProcess = DriverProcess(driver, name=name, endpoint=endpoint)
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._closed = False

    def run(self, script: Script[T]) -> T:
        self._acquire()
        try:
            self._check_open()
            self._process.port.now = time.monotonic()
            return drive(script, self._run_until)
        finally:
            if not self._closed:
                self._process.run_until(lambda: True, 0.0)  # what the last step sent goes out
            self._lock.release()

    def _acquire(self) -> None:
        if self.abandon():
            raise HostForked(self._process.name, self._pid, os.getpid())
        if not self._lock.acquire(blocking=False):
            raise LocalProtocolError(
                f"host {self._process.name!r} is in use by another thread; "
                "a host that threads share needs threaded=True"
            )

    def _check_open(self) -> None:
        if self._closed:
            raise HostClosed(f"host {self._process.name!r} was closed")

    def _run_until(self, done: Callable[[], object], seconds: float) -> bool:
        held = self._process.run_until(done, seconds)
        self._check_open()  # a callback may have closed it
        return held

    def now(self) -> float:
        return time.monotonic()

    def control(self, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return self.run(ask_bus(self._process.port, verb, arguments))

    def process(self, action: str, name: str) -> None:
        """See :func:`signal_process`."""
        signal_process(self.control("ps", {}), action, name)

    def abandon(self) -> bool:
        return self._pid != os.getpid()

    def close(self) -> None:
        self._acquire()
        try:
            self._closed = True
            self._process.stop()  # a callback may be closing it
            self._process.close()
        finally:
            self._lock.release()


class SimulationRunner(Runner):
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

    def run(self, script: Script[T]) -> T:
        try:
            wait, returned = self._step(script, None)
            while wait is not None:
                wait, returned = self._step(script, self._run_until(wait.condition, wait.seconds))
            result: T = returned
            return result
        finally:
            script.close()

    def _step(self, script: Script[T], held: bool | None) -> tuple[Wait | None, Any]:
        """Run a script up to its next wait, or to its end and its result."""

        def step(_: object) -> tuple[Wait | None, Any]:
            try:
                return (next(script) if held is None else script.send(held)), None
            except StopIteration as stop:
                return None, stop.value

        stepped: tuple[Wait | None, Any] = self.simulation.act(self.name, step)
        return stepped

    def _run_until(self, done: Callable[[], object], seconds: float | None) -> bool:
        from ndisbus.sim import SimulationStuck  # noqa: PLC0415 - a process needs no simulation

        timeout = float("inf") if seconds is None else seconds
        end = self.simulation.now + timeout
        try:
            self.simulation.run_until(lambda: bool(done()) or self.simulation.now >= end, limit=timeout + 1.0)
        except SimulationStuck:
            return bool(done())
        return bool(done())

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
