"""One direction of a simulated network: when, how often and whether a segment arrives."""

from __future__ import annotations

from random import Random

from tests.support.tcp_plan import Impairments

__all__ = ["Direction"]


class Direction:
    """Impairments at work. Times: microseconds. The counters say what became of the segments."""

    __slots__ = (
        "_bad",
        "_free",
        "_last",
        "_rng",
        "corrupted",
        "delivered",
        "duplicated",
        "lost",
        "plan",
        "sent",
    )

    def __init__(self, plan: Impairments, rng: Random) -> None:
        self.plan = plan
        self._rng = rng
        self._bad = False
        self._free = 0  # when the transmitter has sent all that waits
        self._last = 0
        self.sent = self.lost = self.corrupted = self.duplicated = self.delivered = 0

    def arrivals(self, now: int, size: int) -> list[int]:
        """The times at which copies of a segment of ``size`` bytes, sent now, arrive."""
        self.sent += 1
        plan = self.plan
        chance = self._rng.random
        start = now
        if plan.rate:
            start = max(now, self._free)
            if (start - now) * plan.rate > plan.queue * 1_000_000:
                self.lost += 1
                return []
            start = self._free = start + size * 1_000_000 // plan.rate
        if plan.burst_start:
            self._bad = chance() >= plan.burst_end if self._bad else chance() < plan.burst_start
            if self._bad and chance() < 0.8:
                self.lost += 1
                return []
        if plan.loss and chance() < plan.loss:
            self.lost += 1
            return []
        if plan.corruption and chance() < plan.corruption:
            self.corrupted += 1
            return []
        times = [self._arrival(start)]
        if plan.duplication and chance() < plan.duplication:
            self.duplicated += 1
            times.append(self._arrival(start))
        self.delivered += len(times)
        return times

    def _arrival(self, start: int) -> int:
        plan = self.plan
        at = start + plan.delay
        if plan.jitter:
            at += int(self._rng.random() * plan.jitter)
        if not plan.reordering:
            at = max(at, self._last)
            self._last = at
        return at
