"""When each connection has to be looked at next: the hardware's timer wheel."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final

from target.model.contexts import TcpContext
from target.model.life import Life

__all__ = ["WakeList"]

#: Entries that are not worth removing.
_SLACK: Final = 64


class WakeList:
    """Connections by time (seconds of the driver's clock). A connection may have several entries.

    An entry whose time was replaced by an earlier one stays until it is due or until :meth:`sweep` removes
    it: looking at a connection too early is harmless.
    """

    __slots__ = ("_count", "_heap", "_tidy_at")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, TcpContext]] = []
        self._count = 0
        #: How long the heap may grow before it is tidied.
        self._tidy_at = _SLACK

    def __len__(self) -> int:
        return len(self._heap)

    def wake(self, tcp: TcpContext, at: float) -> None:
        """Look at a connection at a time."""
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, tcp))
        if len(self._heap) > self._tidy_at:
            self._tidy()

    def due(self, now: float) -> Iterator[TcpContext]:
        """Remove and return the connections whose time has come; one that is woken meanwhile may follow."""
        while self._heap and self._heap[0][0] <= now:
            yield heapq.heappop(self._heap)[2]

    def next_deadline(self) -> float | None:
        """When :meth:`due` has something to return."""
        return self._heap[0][0] if self._heap else None

    def sweep(self, connections: int) -> None:
        """Release connections that are gone if they are many; ``connections`` are left."""
        if len(self._heap) > _SLACK + 4 * connections:
            self._tidy()

    def clear(self) -> None:
        """Forget all."""
        self._heap.clear()

    def _tidy(self) -> None:
        """Remove connections that are gone and times that were replaced: they may be hours away."""
        self._heap = [
            entry for entry in self._heap if entry[2].life is not Life.GONE and _awaited(entry[2], entry[0])
        ]
        heapq.heapify(self._heap)
        self._tidy_at = 2 * len(self._heap) + _SLACK


def _awaited(tcp: TcpContext, at: float) -> bool:
    """Whether an entry still counts; one of a connection without a machine always does."""
    flow = tcp.flow
    return flow is None or flow.due is None or flow.due == at
