"""What the tour works with: operations that are timed and counted, waits with deadlines, questions."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from hoststack.tour.step import Step
from ndisbus.errors import ChimneyError

if TYPE_CHECKING:
    from hoststack.live.nethost import NetHost
    from hoststack.model.events import HostEvent
    from hoststack.model.operation import Operation
    from ndisbus.driver.base import Reply
    from ndisbus.runtime.driver_process import DriverProcess

__all__ = ["Report", "Survey", "TourError", "TourRig", "stop"]

_PATIENCE: Final = 15.0

Report = Callable[[str], None]


class TourError(ChimneyError):
    """Something on the tour was not as it should be; the text says what."""


class TourRig:
    """The process, its driver, and what was counted so far."""

    def __init__(self, process: DriverProcess, driver: NetHost, report: Report) -> None:
        self.process = process
        self.driver = driver
        self.report = report
        self.steps: dict[str, Step] = {}

    def step(self, name: str) -> Step:
        """What is counted of one kind of operation."""
        return self.steps.setdefault(name, Step(name))

    def do(self, name: str, *calls: Callable[[], Operation]) -> list[Operation]:
        """Start operations, wait for them, take note of what came back; all of them must succeed."""
        step = self.step(name)
        operations = self.start(step, *calls)
        self.collect(step, operations, allowed=("NDIS_STATUS_SUCCESS",))
        step.blocks += sum(o.blocks for o in operations)
        return operations

    def start(self, step: Step, *calls: Callable[[], Operation]) -> list[Operation]:
        """Make the calls, one after the other at once; each operation is timed by itself."""
        operations: list[Operation] = []
        for call in calls:
            started = time.monotonic()
            self.process.port.now = started
            operation = call()
            operation.when_done(partial(self._note, step, started))
            operations.append(operation)
        step.requests += len(operations)
        return operations

    @staticmethod
    def _note(step: Step, started: float, _: Operation) -> None:
        step.completed(time.monotonic() - started)

    def collect(self, step: Step, operations: list[Operation], *, allowed: Sequence[str]) -> None:
        """Wait for operations; each status must be among those allowed."""
        self.until(lambda: all(o.done for o in operations), f"{step.name}: completions are missing")
        for o in operations:
            step.statuses.update(o.counts())
            if o.refused:
                raise TourError(f"{step.name}: refused: {o.refused}")
            wrong = [s for s in o.counts() if s not in allowed]
            if wrong:
                first = next(obj for obj, s in zip(o.objects, o.statuses, strict=True) if s)
                raise TourError(
                    f"{step.name}: {', '.join(wrong)}, {first!r} first: {o.reason_of(first) or 'no reason'}"
                )

    def until(
        self, condition: Callable[[], bool], otherwise: str, progress: Callable[[], object] | None = None
    ) -> float:
        """Let the process run until a condition holds; how long that took.

        Raises :class:`TourError` with the text ``otherwise`` if that takes too long; with ``progress``, if
        its value has not changed for too long.
        """
        started = time.monotonic()
        before = progress() if progress is not None else None
        while not self.process.run_until(condition, timeout=_PATIENCE):
            now = progress() if progress is not None else None
            if now == before:
                what = "waited" if progress is None else f"{now}, and no more of it for"
                raise TourError(f"{otherwise} ({what} {_PATIENCE:g} s)")
            before = now
        return time.monotonic() - started

    def pause(self, seconds: float) -> None:
        """Let the process run for a while."""
        self.process.run_until(lambda: False, timeout=seconds)

    def ask(self, verb: str) -> dict[str, Any]:
        """A control request over the host's own connection."""
        reply = self.process.port.control(verb, {})
        self.until(lambda: reply.answer is not None, f"the bus did not answer {verb!r}")
        assert reply.answer is not None
        if reply.answer[0] != 0:
            raise TourError(f"{verb}: {reply.answer[1]}")
        result: dict[str, Any] = reply.answer[1]
        return result

    @contextlib.contextmanager
    def recorded(self, *kinds: type[HostEvent]) -> Iterator[list[HostEvent]]:
        """Record the driver's events of some classes, in their order."""
        found: list[HostEvent] = []
        with contextlib.ExitStack() as subscriptions:
            for kind in kinds:
                subscriptions.callback(self.driver.events.subscribe(kind, found.append))
            yield found

    def find_target(self) -> tuple[str, int, int]:
        """Name, pid and epoch of the driver of the hardware at the bottom of the stack."""
        ps = self.ask("ps")
        names = [a["Driver"] for a in ps["Adapters"] if not a["Virtual"] and a["State"] == "up"]
        for p in ps["Processes"]:
            if p["Name"] in names:
                return p["Name"], p["Pid"], p["Epoch"]
        raise TourError("no offload target is on the bus")


class Survey:
    """Asks the bus again and again, without waiting for an answer, what the hardware has not completed."""

    def __init__(self, process: DriverProcess) -> None:
        self._process = process
        self._reply: Reply = process.port.control("ps", {})
        self._last = 0

    def outstanding(self) -> int:
        """Requests that the hardware's adapters had been given and had not completed, by the last answer."""
        if self._reply.answer is not None:
            status, ps = self._reply.answer
            if status != 0:
                raise TourError(f"ps: {ps}")
            self._last = sum(a["Outstanding"] for a in ps["Adapters"] if not a["Virtual"])
            self._reply = self._process.port.control("ps", {})
        return self._last


def stop(pid: int) -> None:
    """SIGSTOP. Call it inside the ``try`` that ends it: a signal of our own may come as it returns."""
    try:
        os.kill(pid, signal.SIGSTOP)
    except OSError as e:
        raise TourError(f"the target (pid {pid}) cannot be stopped: {e.strerror}") from e
