"""Net buffer list pools (R-REG-08): one for chimney receive indications, one for ordinary ones."""

from __future__ import annotations

from ndisbus.lists.heap import Heap
from ndisbus.lists.nbl import NetBufferList, make_net_buffer_list
from ndisbus.lists.nbl_chain import NblChain

__all__ = ["NblPool"]


class NblPool:
    """The target's own lists. ``lent`` has those that the layers above hold (R-BRD-09, R-REG-12)."""

    def __init__(self, heap: Heap) -> None:
        self._heap = heap
        self.lent: dict[int, NetBufferList | None] = {}

    def __len__(self) -> int:
        return len(self.lent)

    def lend(self, data: bytes) -> NetBufferList:
        """Make a list with exactly one net buffer (R-REG-09) that holds ``data``."""
        nbl = make_net_buffer_list(self._heap.address, [data])
        self._heap.objects[nbl.address] = nbl
        self.lent[nbl.address] = nbl
        return nbl

    def lend_frames(self, frames: list[bytes]) -> NblChain:
        """Make a list for each frame, for one ordinary indication."""
        chain = NblChain.of_frames(self._heap, frames)
        lists = dict.fromkeys(chain.addresses)
        self._heap.objects.update(lists)
        self.lent.update(lists)
        return chain

    def take_back(self, address: int) -> bool:
        """Free a list that comes back. Returns False if this pool did not lend it."""
        if address not in self.lent:
            return False
        del self.lent[address]
        self._heap.free(address)
        return True

    def clear(self) -> None:
        """Free all lists: the layers above have gone."""
        for address in list(self.lent):
            self.take_back(address)
