"""The core's clock: the time that was passed in last, and what is to be done at a later time."""

from __future__ import annotations

from collections.abc import Callable

from ndisbus.timer_queue import TimerQueue

__all__ = ["Clock"]


class Clock:
    """Time of the core. It stands still between the calls that pass a time in."""

    __slots__ = ("_timers", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: TimerQueue[Callable[[], None]] = TimerQueue()

    def schedule(self, at: float, action: Callable[[], None]) -> None:
        """Run ``action`` when the clock reaches ``at``; actions of one instant run in this order."""
        self._timers.push(at, action)

    def next_deadline(self) -> float | None:
        """When :meth:`advance` is due; None if nothing is scheduled."""
        return self._timers.next_deadline()

    def advance(self, now: float) -> None:
        """Set the time and run what is due."""
        self.now = now
        for action in self._timers.due(now):
            action()
