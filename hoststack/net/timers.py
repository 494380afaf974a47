"""One heap for all timers of a stack, updated lazily.

What has a timer is a :class:`Timed`: it can say when it wants to be woken. Putting a deadline off, the
usual case (each ACK restarts the retransmission timer), costs nothing: the entry in the heap stays where it
is and is looked at again when it comes up. Bringing one forward is one push. So everything is O(log n).
"""

from __future__ import annotations

import heapq
from typing import Final

__all__ = ["Timed", "TimerQueue"]

#: The heap is tidied when it has this many entries more than twice the number of live ones.
_SLACK: Final = 64


class Timed:
    """Something with a deadline. ``queued``: when the queue will look at it, None if it will not."""

    __slots__ = ("queued",)

    queued: float | None

    def deadline(self) -> float | None:
        """When :meth:`on_timer` is wanted (seconds), None if it is not."""
        raise NotImplementedError

    def on_timer(self, now: float) -> None:
        """The deadline is here."""
        raise NotImplementedError


class TimerQueue:
    """The heap. An item whose deadline was brought forward is to be given to :meth:`refresh`."""

    __slots__ = ("_heap", "_live", "_order")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timed]] = []
        self._order = 0
        #: Items in the queue; entries beyond these are out of date.
        self._live = 0

    def __len__(self) -> int:
        """Entries in the heap, those out of date included."""
        return len(self._heap)

    def refresh(self, item: Timed) -> None:
        """Look at an item's deadline; to be called when it may have come nearer."""
        due = item.deadline()
        if due is None:
            return
        queued = item.queued
        if queued is None:
            self._live += 1
        elif queued <= due:
            return
        self._push(due, item)
        if len(self._heap) > 2 * self._live + _SLACK:
            self._tidy()

    def drop(self, item: Timed) -> None:
        """The item is not to be woken any more."""
        if item.queued is not None:
            item.queued = None
            self._live -= 1

    def next_deadline(self) -> float | None:
        """The earliest deadline of all, in seconds."""
        heap = self._heap
        while heap:
            due, _, item = heap[0]
            if item.queued == due:
                real = item.deadline()
                if real is not None and real <= due:
                    return due
                self._put_off(item, real)
            else:
                heapq.heappop(heap)
        return None

    def run(self, now: float) -> int:
        """Wake everything that is due; returns how many."""
        heap = self._heap
        woken = 0
        while heap and heap[0][0] <= now:
            due, _, item = heap[0]
            if item.queued != due:
                heapq.heappop(heap)
                continue
            real = item.deadline()
            if real is None or real > now:
                self._put_off(item, real)
                continue
            heapq.heappop(heap)
            item.queued = None
            self._live -= 1
            woken += 1
            item.on_timer(now)
            self.refresh(item)
        return woken

    def _put_off(self, item: Timed, due: float | None) -> None:
        """The entry on top stands for a deadline that has moved, or is none any more."""
        if due is None:
            heapq.heappop(self._heap)
            item.queued = None
            self._live -= 1
        else:
            item.queued = due
            self._order += 1
            heapq.heapreplace(self._heap, (due, self._order, item))

    def _push(self, due: float, item: Timed) -> None:
        item.queued = due
        self._order += 1
        heapq.heappush(self._heap, (due, self._order, item))

    def _tidy(self) -> None:
        """Drop the entries that are out of date."""
        latest = {id(e[2]): e for e in self._heap if e[2].queued == e[0]}
        self._heap = list(latest.values())
        heapq.heapify(self._heap)
