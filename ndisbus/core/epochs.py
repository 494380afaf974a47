"""Epochs: numbers of registrations and of lives of adapters, which only grow.

The bus stores nothing, so three things keep a later bus above an earlier one. It counts from the milliseconds
since 2026. It begins above the last epoch that a driver tells in its hello. And nothing takes a number twice
while one bus runs.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from ndisbus.lists.heap import ADDRESS_BITS, space_of_epoch

__all__ = ["MAX_LAST_EPOCH", "Epochs", "epoch_base", "heap_start"]

#: 2026-01-01 in seconds since 1970. Epochs count from the number of milliseconds since then.
_YEAR_ZERO: Final = 1_767_225_600
#: A driver that tells a higher last epoch is taken at this one: numbers of 64 bits stay far from their end.
MAX_LAST_EPOCH: Final = 1 << 62
#: Bits of the addresses that NDIS can give out in one millisecond, on average, before handles repeat.
_BITS_PER_MILLISECOND: Final = 16


def epoch_base(unix_time: float) -> int:
    """Return the number from which a bus that starts at ``unix_time`` counts its epochs.

    It is above the epochs of all buses before it, unless one of them gave out more than a thousand a second
    in its whole life, or the clock was set back. Then the last epochs that drivers tell must help.
    """
    return max(0, int((unix_time - _YEAR_ZERO) * 1000))


def heap_start(base: int) -> int:
    """Return where a bus with this base begins to give out handles, in its address space.

    So a handle of an earlier bus is not valid by chance. Half of the space is left for each bus.
    """
    return (base << _BITS_PER_MILLISECOND) & ((1 << (ADDRESS_BITS - 1)) - 1)


class Epochs:
    """Gives out the epochs of one bus."""

    __slots__ = ("_last",)

    def __init__(self, base: int) -> None:
        self._last = base

    def next(self) -> int:
        """Return a number above all that were given out."""
        self._last += 1
        return self._last

    def next_registration(self, told: int, in_use: Container[int]) -> int:
        """Return the epoch of a driver that tells its last epoch (0: none).

        It is above that one. Its address space is not ``in_use``, nor is it the one of the told epoch.
        """
        self._last = max(self._last, min(told, MAX_LAST_EPOCH))
        former = space_of_epoch(told) if told else 0
        while True:
            epoch = self.next()
            space = space_of_epoch(epoch)
            if space != former and space not in in_use:
                return epoch
