"""A hop of the simulation: one direction of the connection between a process and the bus.

Packets stay in order within a hop, as in one ZeroMQ connection. Hops are independent of each other, so what
takes two hops may be overtaken by what takes one, or two others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from ndisbus.randomness import Randomness

__all__ = ["Hop"]

#: A hop keeps its pace for this many packets, so that it can be slow while another is fast.
_PACE: Final = 16


class Hop:
    """A queue of packets, each due at a moment of virtual time.

    ``longest``: the longest delay of a packet, in seconds. 0: each packet is due at once, and ``rng`` is not
    used. The hop draws a pace of its own from ``rng``, up to ``longest``, and the delay of each packet up to
    that pace.
    """

    __slots__ = ("_drawn", "_longest", "_pace", "_packets", "_rng")

    def __init__(self, rng: Randomness, longest: float) -> None:
        self._rng = rng
        self._longest = longest
        self._pace = 0.0
        self._drawn = 0
        self._packets: deque[tuple[float, bytes, Sequence[bytes]]] = deque()

    def put(self, head: bytes, payload: Sequence[bytes], now: float) -> None:
        """Send a packet."""
        due = now + self._delay() if self._longest else now
        if self._packets:
            due = max(due, self._packets[-1][0])
        self._packets.append((due, head, payload))

    def _delay(self) -> float:
        if self._drawn % _PACE == 0:
            self._pace = self._longest * self._rng.random()
        self._drawn += 1
        return self._pace * self._rng.random()

    def take(self) -> tuple[bytes, Sequence[bytes]]:
        """Remove and return the oldest packet, due or not."""
        _, head, payload = self._packets.popleft()
        return head, payload

    def ready(self, now: float) -> bool:
        """Return whether a packet has arrived."""
        return bool(self._packets) and self._packets[0][0] <= now

    @property
    def next_due(self) -> float | None:
        """When the oldest packet arrives; None while the hop is empty."""
        return self._packets[0][0] if self._packets else None

    def clear(self) -> None:
        """Lose everything that is under way."""
        self._packets.clear()

    def __iter__(self) -> Iterator[tuple[bytes, Sequence[bytes]]]:
        """Iterate over the packets under way, the oldest first."""
        return ((head, payload) for _, head, payload in self._packets)

    def __len__(self) -> int:
        return len(self._packets)
