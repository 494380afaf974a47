"""The time that a stack was told last, in seconds and in the ticks of its TCP machines."""

from __future__ import annotations

from typing import Final

__all__ = ["Clock"]

#: Part of a tick by which a deadline in seconds may be short of the tick it stands for (rounding).
_ROUNDING: Final = 1e-3


class Clock:
    """``now`` in seconds and ``tick`` in ticks. The stack moves them; its parts read them."""

    __slots__ = ("now", "tick", "ticks_per_second")

    def __init__(self, now: float, ticks_per_second: int) -> None:
        self.ticks_per_second = ticks_per_second
        self.now = now
        self.tick = self.at(now)

    def at(self, now: float) -> int:
        """``now`` in ticks."""
        return int(now * self.ticks_per_second + _ROUNDING)

    def advance(self, now: float) -> None:
        """Move to ``now``; an earlier time changes nothing."""
        if now > self.now:
            self.now = now
            self.tick = self.at(now)
