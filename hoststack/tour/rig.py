"""What every step of the tour uses: timed and counted operations, waits with deadlines, control requests."""

from __future__ import annotations

import contextlib
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
    from ndisbus.runtime.driver_process import DriverProcess

__all__ = ["Report", "TourError", "TourRig"]

#: How long to wait for one condition (seconds).
_PATIENCE: Final = 15.0

#: Called with a line of text at the beginning of each part of the tour.
Report = Callable[[str], None]


class TourError(ChimneyError):
    """Something on the tour was not as it should be; the text says what."""


class TourRig:
    """The host's process and driver, and what was counted and measured so far."""

    def __init__(self, process: DriverProcess, driver: NetHost, report: Report) -> None:
        self.process = process
        self.driver = driver
        self.report = report
        self.steps: dict[str, Step] = {}
        #: Measured values, for the summary at the end.
        self.facts: dict[str, Any] = {}

    def step(self, name: str) -> Step:
        """The counters of one kind of operation."""
        return self.steps.setdefault(name, Step(name))

    def do(self, name: str, *calls: Callable[[], Operation]) -> list[Operation]:
        """Start operations, wait for them and count what came back; all of them must succeed."""
        step = self.step(name)
        operations = self.start(step, *calls)
        self.collect(step, operations, allowed=("NDIS_STATUS_SUCCESS",))
        step.blocks += sum(o.blocks for o in operations)
        return operations

    def start(self, step: Step, *calls: Callable[[], Operation]) -> list[Operation]:
        """Start operations without waiting between them; each is timed by itself."""
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
        """Wait for operations. Each status must be one of ``allowed``."""
        self.until(lambda: all(o.done for o in operations), f"{step.name}: completions are missing")
        for o in operations:
            step.statuses.update(o.counts())
            if o.refused:
                raise TourError(f"{step.name}: refused: {o.refused}")
            wrong = [s for s in o.counts() if s not in allowed]
            if wrong:
                first = next(obj for obj, s in zip(o.objects, o.statuses, strict=True) if s)
                reason = o.reason_of(first) or "no reason was given"
                raise TourError(f"{step.name}: {', '.join(wrong)}, first of {first!r}: {reason}")

    def until(
        self, condition: Callable[[], bool], otherwise: str, progress: Callable[[], object] | None = None
    ) -> float:
        """Run the process until a condition holds; returns the seconds that this took.

        Raises :class:`TourError` with the text ``otherwise`` if it takes too long, or, with ``progress``, if
        its value does not change for too long.
        """
        started = time.monotonic()
        before = progress() if progress is not None else None
        while not self.process.run_until(condition, timeout=_PATIENCE):
            now = progress() if progress is not None else None
            if now == before:
                what = "waited" if progress is None else f"{now}, unchanged for"
                raise TourError(f"{otherwise} ({what} {_PATIENCE:g} s)")
            before = now
        return time.monotonic() - started

    def pause(self, seconds: float) -> None:
        """Run the process for a while."""
        self.process.run_until(lambda: False, timeout=seconds)

    def ask(self, verb: str) -> dict[str, Any]:
        """Make a control request over the host's own connection to the bus."""
        reply = self.process.port.control(verb, {})
        self.until(lambda: reply.answer is not None, f"the bus did not answer the control request {verb!r}")
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
