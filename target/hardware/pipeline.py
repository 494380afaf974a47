"""Operations of one adapter on their way to completion.

A handler begins its operation at once and submits its end to the pipeline. The pipeline finishes operations
in the order in which they came (R-BLK-15 allows any time). If the latency is zero and no operation waits, it
does so inside the handler, else when the latency has passed. An operation may have to wait longer: a
terminate waits until receive indications have returned (R-TERM-09). The operations behind it wait too, so the
order is kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Pipeline"]


def _always() -> bool:
    return True


class _Job(NamedTuple):
    due: float
    finish: Callable[[], None]
    ready: Callable[[], bool]


class Pipeline:
    """A queue, first in, first out. ``latency``: seconds from an operation's beginning to its end."""

    def __init__(self, latency: float) -> None:
        self.latency = latency
        self._jobs: deque[_Job] = deque()
        self._running = False

    def __len__(self) -> int:
        return len(self._jobs)

    def submit(self, finish: Callable[[], None], now: float, ready: Callable[[], bool] = _always) -> None:
        """Add an operation that began ``now``. It finishes when it is due and ``ready()`` is true."""
        self._jobs.append(_Job(now + self.latency, finish, ready))
        self.run(now)

    def run(self, now: float) -> None:
        """Finish operations that are due and ready. A call from inside ``finish`` does nothing."""
        if self._running:
            return
        self._running = True
        try:
            while self._jobs and self._jobs[0].due <= now and self._jobs[0].ready():
                self._jobs.popleft().finish()
        finally:
            self._running = False

    def next_deadline(self) -> float | None:
        """Return when :meth:`run` is due; None if no operation waits for a time."""
        if self._jobs and self._jobs[0].ready():
            return self._jobs[0].due
        return None

    def clear(self) -> None:
        """Forget all operations: the adapter is halted, and NDIS has completed them."""
        self._jobs.clear()
