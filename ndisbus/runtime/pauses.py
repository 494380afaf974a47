"""Whether this process itself did not run for a while: it was stopped, or the whole machine was."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["PauseWatch"]


class PauseWatch:
    """Compares the time that has passed with what a loop knows about it: its waits and its work.

    ``wall`` only runs forward; ``cpu`` runs while this thread works.
    """

    __slots__ = ("_cpu", "_cpu_at", "_limit", "_paused", "_wall", "_wall_at")

    def __init__(
        self, wall: Callable[[], float] = time.monotonic, cpu: Callable[[], float] = time.thread_time
    ) -> None:
        self._wall = wall
        self._cpu = cpu
        self._wall_at = wall()
        self._cpu_at = cpu()
        self._limit = 0.0
        self._paused = 0.0

    def waits(self, limit: float) -> None:
        """Note that the loop is about to wait for at most ``limit`` seconds."""
        now, cpu = self._wall(), self._cpu()
        self._paused = (now - self._wall_at) - (cpu - self._cpu_at)
        self._wall_at, self._cpu_at, self._limit = now, cpu, limit

    def waited(self) -> tuple[float, float]:
        """Note the end of the wait. Returns the time, and the seconds without work or a reason to wait."""
        now = self._wall()
        paused = max(self._paused, 0.0) + max(now - self._wall_at - self._limit, 0.0)
        self._wall_at = now
        return now, paused
