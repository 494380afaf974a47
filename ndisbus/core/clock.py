"""The core's clock: the time that was passed in last, and the actions that are due later."""

from __future__ import annotations

from collections.abc import Callable

from ndisbus.timer_queue import TimerQueue

__all__ = ["Clock"]


class Clock:
    """The time of the core, in seconds. It changes only when a call passes a time in."""

    __slots__ = ("_timers", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: TimerQueue[Callable[[], None]] = TimerQueue()

    def schedule(self, at: float, action: Callable[[], None]) -> None:
        """Run ``action`` when the clock reaches ``at``. Actions of the same time run in the order given."""
        self._timers.push(at, action)

    def next_deadline(self) -> float | None:
        """Return the time at which :meth:`advance` is due; None if nothing is scheduled."""
        return self._timers.next_deadline()

    def advance(self, now: float) -> None:
        """Set the time to ``now`` and run the actions that are due."""
        self.now = now
        for action in self._timers.due(now):
            action()
