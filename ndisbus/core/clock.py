"""The core's clock: the time that was passed in last, and what is to be done at a later time."""

from __future__ import annotations

import heapq
from collections.abc import Callable

__all__ = ["Clock"]


class Clock:
    """Time of the core. It stands still between the calls that pass a time in."""

    __slots__ = ("_count", "_timers", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def schedule(self, at: float, action: Callable[[], None]) -> None:
        """Run ``action`` when the clock reaches ``at``; actions of one instant run in this order."""
        self._count += 1
        heapq.heappush(self._timers, (at, self._count, action))

    def next_deadline(self) -> float | None:
        """When :meth:`advance` is due; None if nothing is scheduled."""
        return self._timers[0][0] if self._timers else None

    def advance(self, now: float) -> None:
        """Set the time and run what is due."""
        self.now = now
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()
