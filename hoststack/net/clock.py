"""The time that a stack was told last, in seconds and in the ticks of its TCP machines."""

from __future__ import annotations

from ndisbus.tcp.owner import ticks_of

__all__ = ["Clock"]


class Clock:
    """``now`` in seconds and ``tick`` in ticks. The stack moves them; its parts read them."""

    __slots__ = ("now", "tick", "ticks_per_second")

    def __init__(self, now: float, ticks_per_second: int) -> None:
        self.ticks_per_second = ticks_per_second
        self.now = now
        self.tick = self.at(now)

    def at(self, now: float) -> int:
        """``now`` in ticks."""
        return ticks_of(now, self.ticks_per_second)

    def advance(self, now: float) -> None:
        """Move to ``now``; an earlier time changes nothing."""
        if now > self.now:
            self.now = now
            self.tick = self.at(now)
