"""The seeded random numbers that sans-I/O code gets as an argument.

Code that must not import :mod:`random` names this protocol instead. :class:`random.Random` satisfies it.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["Randomness"]


class Randomness(Protocol):
    """A seeded generator, such as :class:`random.Random`."""

    def __init__(self, seed: int | str | None = None, /) -> None: ...

    def random(self) -> float:
        """Return a float in [0.0, 1.0)."""
        ...

    def randrange(self, start: int, stop: int, /) -> int:
        """Return an integer in [start, stop)."""
        ...

    def randint(self, a: int, b: int, /) -> int:
        """Return an integer in [a, b]."""
        ...

    def getrandbits(self, k: int, /) -> int:
        """Return an integer of ``k`` random bits."""
        ...

    def randbytes(self, n: int, /) -> bytes:
        """Return ``n`` random bytes."""
        ...
