"""A link that passes a limited number of frames a second, behind a short queue, on virtual time."""

from __future__ import annotations

import math
from collections import deque

from ndisbus.wire.link import Link, LinkWrapper

__all__ = ["NarrowLink"]


class NarrowLink(LinkWrapper):
    """``rate``: frames per second. Senders wait from ``room`` frames on; beyond ``limit`` frames are dropped.

    ``open`` is False while the station at the other end takes nothing.
    """

    __slots__ = ("_at", "_limit", "_queue", "_rate", "_room", "dropped", "longest", "open")

    def __init__(self, inner: Link, *, rate: float = math.inf, room: int = 64, limit: int = 512) -> None:
        super().__init__(inner)
        self._rate = rate
        self._room = room
        self._limit = limit
        self._queue: deque[bytes] = deque()
        self._at = 0.0
        self.dropped = 0
        self.longest = 0
        self.open = True

    def send(self, frame: bytes, now: float) -> None:
        if len(self._queue) >= self._limit:
            self.dropped += 1
            return
        if not self._queue:
            self._at = max(self._at, now)
        self._queue.append(frame)
        self.longest = max(self.longest, len(self._queue))
        self._pass_on(now)

    def takes(self, mac: bytes) -> bool:
        return len(self._queue) < self._room

    def receive(self, now: float) -> list[bytes]:
        self._pass_on(now)
        return self._inner.receive(now)

    def next_deadline(self) -> float | None:
        mine, inner = self._at if self._queue and self.open else None, self._inner.next_deadline()
        return min((t for t in (mine, inner) if t is not None), default=None)

    def _pass_on(self, now: float) -> None:
        while self.open and self._queue and self._at <= now:
            self._inner.send(self._queue.popleft(), now)
            self._at += 1 / self._rate
