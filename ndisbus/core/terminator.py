"""Terminates that NDIS makes itself, for objects that the driver above does not terminate.

That driver is dead, closed its binding without terminating, or did not repeat a terminate that failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ndisbus.core.model import BindingState, Request
from ndisbus.ddi.call_rows import STATE_OPERATIONS
from ndisbus.ddi.state_types import Layer, OffloadStateType
from ndisbus.lists.blocklist import BLOCK_SIZE, Key

if TYPE_CHECKING:
    from ndisbus.core.clock import Clock
    from ndisbus.core.model import Binding, CoreConfig
    from ndisbus.core.request_books import RequestBooks
    from ndisbus.lists.heap import Heap

__all__ = ["MAX_SWEPT", "Terminator"]

#: How many objects that NDIS terminated are remembered for each binding.
MAX_SWEPT: Final = 65536

_TERMINATE: Final = next(o for o in STATE_OPERATIONS if o.op == "terminate")
_DELEGATED: Final = {
    Layer.NEIGHBOR: int(OffloadStateType.NeighborOffloadDelegatedState),
    Layer.PATH: int(OffloadStateType.Ip4OffloadDelegatedState),
    Layer.TCP: int(OffloadStateType.TcpOffloadDelegatedState),
}


class Terminator:
    """Terminates objects for drivers that do not."""

    __slots__ = ("books", "clock", "config", "heap")

    def __init__(self, config: CoreConfig, clock: Clock, heap: Heap, books: RequestBooks) -> None:
        self.config = config
        self.clock = clock
        self.heap = heap
        self.books = books

    def lose(self, binding: Binding, lost: dict[int, tuple[int, int]]) -> None:
        """Keep objects whose terminate failed. They may be terminated once more; at last NDIS does it.

        A driver with others above it waits for their terminate, so its limit is longer by theirs: for each
        layer the limit itself, and a stall of the driver that passes the terminate on.
        """
        if lost:
            binding.lost.update(lost)
            c = self.config
            limit = c.lost_limit + binding.protocol.height() * (c.lost_limit + c.hang_limit)
            self.clock.schedule(self.clock.now + limit, lambda: self._sweep(binding, list(lost)))

    def _sweep(self, binding: Binding, handles: list[int]) -> None:
        """Terminate objects whose first terminate failed and whose second one did not come in time."""
        left = [h for h in handles if h in binding.lost and h not in binding.terminating]
        if not left or not binding.adapter.alive or binding.state is not BindingState.OPEN:
            return  # the end of the binding terminates them
        swept = binding.swept
        swept.update(dict.fromkeys(left))
        while len(swept) > MAX_SWEPT:
            del swept[next(iter(swept))]
        self.terminate(binding, left)

    def refused(self, binding: Binding, handles: Sequence[int | None]) -> None:
        """Note a terminate that NDIS refused, since the driver below is there but must not get it.

        Its objects are still there below: those that were not lost before are lost now. Those that NDIS
        itself is terminating stay in the books until that is completed.
        """
        objects = binding.objects
        fresh = {h: objects.pop(h) for h in handles if h is not None and h in objects}
        for handle in handles:
            if handle not in binding.terminating:
                binding.swept.pop(handle, None)  # the driver above has named it, for the last time
        self.lose(binding, fresh)

    def terminate(self, binding: Binding, handles: list[int]) -> None:
        """Terminate objects by ordinary lists of siblings, highest layer first."""
        known = {h: binding.objects.get(h) or binding.lost[h] for h in handles}
        layer = max(layer for layer, _ in known.values())
        now = [h for h, (at, _) in known.items() if at == layer]
        later = [h for h, (at, _) in known.items() if at != layer]
        blocks = list(self.heap.addresses(len(now), BLOCK_SIZE))
        n = len(blocks)
        contexts: list[int | None] = [known[h][1] for h in now]
        columns: dict[str, Any] = {
            Key.BLOCK: blocks,
            Key.TYPE: _DELEGATED[Layer(layer)],
            Key.REVISION: 1,
            Key.SIZE: BLOCK_SIZE,
            Key.NEXT: [*blocks[1:], None],
            Key.CONTEXT: contexts,
        }
        cells: list[int | None] = [h + 0x10 for h in now]
        request = Request(
            _TERMINATE,
            binding,
            blocks[0],
            blocks,
            [layer] * n,
            [*now],
            cells,
            [*contexts],
            columns,
            self.clock.now,
        )

        def then() -> None:
            left = [h for h in later if h in binding.objects or h in binding.lost]
            if left and binding.adapter.alive and binding.state is BindingState.OPEN:
                self.terminate(binding, left)

        request.then = then
        self.books.pass_down(request, ())
