"""The timers of a stack: things that know their own deadlines, in one queue (:mod:`ndisbus.timer_queue`).

A deadline that is put off need not be announced: it is asked for again at the time that the queue knows.
"""

from __future__ import annotations

from typing import Final

from ndisbus.timer_queue import Timer, TimerQueue

__all__ = ["StackTimers", "Timed"]


#: Most items that are woken at once, so that a tick with a crowd of timers leaves time for what arrives.
WAKES: Final = 512


class Timed:
    """Something with a deadline. ``queued`` is its timer, None if the queue will not look at it."""

    __slots__ = ("queued",)

    queued: Timer[Timed] | None

    def deadline(self) -> float | None:
        """When :meth:`on_timer` is wanted (seconds), None if it is not."""
        raise NotImplementedError

    def on_timer(self, now: float) -> None:
        """The deadline is here."""
        raise NotImplementedError


class StackTimers:
    """What waits for the clock. Give an item whose deadline was brought forward to :meth:`refresh`."""

    __slots__ = ("_queue",)

    def __init__(self) -> None:
        self._queue: TimerQueue[Timed] = TimerQueue()

    def __len__(self) -> int:
        """How many items are waited for."""
        return len(self._queue)

    def refresh(self, item: Timed) -> None:
        """Look at an item's deadline; to be called when it may have come nearer."""
        due = item.deadline()
        if due is None:
            return
        timer = item.queued
        if timer is None:
            item.queued = self._queue.push(due, item)
        elif timer.at is None or due < timer.at:
            self._queue.reschedule(timer, due)

    def drop(self, item: Timed) -> None:
        """The item is not to be woken any more."""
        if item.queued is not None:
            self._queue.cancel(item.queued)
            item.queued = None

    def next_deadline(self) -> float | None:
        """The earliest deadline of all, in seconds."""
        while (timer := self._queue.first()) is not None:
            due = timer.item.deadline()
            if due is not None and timer.at is not None and due <= timer.at:
                return timer.at
            self._put_off(timer, due)
        return None

    def run(self, now: float) -> int:
        """Wake what is due, at most :data:`WAKES` items; returns how many. The rest stays due."""
        woken = 0
        while woken < WAKES and (timer := self._queue.pop(now)) is not None:
            item = timer.item
            due = item.deadline()
            if due is None or due > now:
                self._put_off(timer, due)
                continue
            item.queued = None
            woken += 1
            item.on_timer(now)
            self.refresh(item)
        return woken

    def _put_off(self, timer: Timer[Timed], due: float | None) -> None:
        """The deadline that the queue knew has moved, or is not one any more."""
        if due is None:
            self.drop(timer.item)
        else:
            self._queue.reschedule(timer, due)
