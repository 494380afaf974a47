"""A queue of timers: the only one, used wherever something waits for a clock.

The queue has no clock. The time is an argument, in the unit of its owner. Items that are due at the same time
come in the order in which they were pushed or last rescheduled, so that a run repeats from its seed.

Most often a timer is postponed, because each acknowledgement restarts a retransmission timer. That costs
nothing: the entry stays in the heap and is moved when it reaches the top. Stopping a timer and starting it
again for a later time costs nothing either. Everything else is O(log n). Stale entries are removed when there
are more of them than running timers plus 64.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

__all__ = ["Timer", "TimerQueue"]

T = TypeVar("T")

#: This number of stale entries is too small to remove them.
_SLACK: Final = 64


class Timer(Generic[T]):
    """An item in a queue. ``at`` is when it is due; None if the timer does not run."""

    __slots__ = ("_entry", "_entry_at", "_order", "at", "item")

    def __init__(self, item: T) -> None:
        self.item: Final = item
        self.at: float | None = None
        #: Number of the last push or reschedule. Decides between timers that are due at the same time.
        self._order = 0
        #: Order and time of its entry in the heap; the time may be earlier than ``at``. Order 0: no entry. A
        #: cancelled timer may have an entry.
        self._entry = 0
        self._entry_at = 0.0

    def __repr__(self) -> str:
        return f"<Timer at {self.at}: {self.item}>"


class TimerQueue(Generic[T]):
    """Items by the time at which they are due."""

    __slots__ = ("_heap", "_live", "_order")

    def __init__(self) -> None:
        #: Time, order, timer. An entry is out of date unless the timer runs and names the entry's order.
        self._heap: list[tuple[float, int, Timer[T]]] = []
        self._order = 0
        self._live = 0

    def __len__(self) -> int:
        """Number of running timers."""
        return self._live

    @property
    def entries(self) -> int:
        """Number of entries in the heap: at most twice the number of running timers, plus 64."""
        return len(self._heap)

    def push(self, at: float, item: T) -> Timer[T]:
        """Start a timer for an item. Keep the result to cancel or reschedule the timer."""
        timer = Timer(item)
        self.reschedule(timer, at)
        return timer

    def reschedule(self, timer: Timer[T], at: float) -> None:
        """Change when a timer of this queue is due. A timer that does not run is started again."""
        self._order = order = self._order + 1
        timer._order = order
        if timer.at is None:
            self._live += 1
        timer.at = at
        if timer._entry and at >= timer._entry_at:
            return  # the entry is moved when it reaches the top
        timer._entry, timer._entry_at = order, at
        heapq.heappush(self._heap, (at, order, timer))
        if len(self._heap) > 2 * self._live + _SLACK:
            self._tidy()

    def cancel(self, timer: Timer[T]) -> None:
        """Stop a timer. A timer that does not run is not changed."""
        if timer.at is not None:
            timer.at = None
            self._live -= 1
            if len(self._heap) > 2 * self._live + _SLACK:
                self._tidy()

    def first(self) -> Timer[T] | None:
        """Return the timer that is due next, or None. It stays in the queue."""
        heap = self._heap
        while heap:
            _, order, timer = heap[0]
            at = timer.at
            if timer._entry != order:
                heapq.heappop(heap)
            elif at is None:
                timer._entry = 0
                heapq.heappop(heap)
            elif timer._order != order:
                timer._entry, timer._entry_at = timer._order, at
                heapq.heapreplace(heap, (at, timer._order, timer))
            else:
                return timer
        return None

    def next_deadline(self) -> float | None:
        """Return when the next timer is due; None if no timer runs."""
        heap = self._heap
        if not heap:
            return None
        at, order, timer = heap[0]
        if timer._order == order and timer.at == at:
            return at
        first = self.first()
        return None if first is None else first.at

    def pop(self, now: float) -> Timer[T] | None:
        """Remove and return the next timer that is due ``now``; None if there is none."""
        heap = self._heap
        if not heap or heap[0][0] > now:
            return None  # no entry is later than its timer
        timer = self.first()
        if timer is None or heap[0][0] > now:
            return None
        heapq.heappop(heap)
        timer.at = None
        timer._entry = 0
        self._live -= 1
        if len(heap) > 2 * self._live + _SLACK:
            self._tidy()
        return timer

    def due(self, now: float) -> Iterator[T]:
        """Remove the items that are due ``now``, one by one. Timers may be pushed and cancelled meanwhile."""
        while (timer := self.pop(now)) is not None:
            yield timer.item

    def clear(self) -> None:
        """Stop all timers."""
        for _, _, timer in self._heap:
            timer.at = None
            timer._entry = 0
        self._heap.clear()
        self._live = 0

    def _tidy(self) -> None:
        """Remove the stale entries, because there are too many."""
        heap = []
        for entry in self._heap:
            timer = entry[2]
            if timer._entry != entry[1]:
                continue
            if timer.at is None:
                timer._entry = 0
            else:
                heap.append(entry)
        heapq.heapify(heap)
        self._heap = heap
