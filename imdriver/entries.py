"""What the driver keeps of a call while it is below, and of an object while it is offloaded.

Entries have addresses in the driver's heap, and the address is the reference. ImReserved leads to the call
entry. The upper driver's cell has the address of the offload entry. NET_BUFFER_LIST.Context leads to the I/O
entry. DDI pages reusing-an-ndis-miniport-offload-block-list-structure and
referencing-offloaded-state-through-an-intermediate-driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from imdriver.adapter import VirtualAdapter
from imdriver.life import CALL_ENTRY, OFFLOAD_ENTRY, CallEntryState
from ndisbus.ddi.call_rows import OperationRow
from ndisbus.driver.pace import paced
from ndisbus.lists.blocklist import BlockList
from ndisbus.lists.heap import Heap, NdisOffloadHandle

if TYPE_CHECKING:
    from ndisbus.driver.ndis import Ndis

__all__ = [
    "ImCallEntry",
    "ImIoEntry",
    "ImOffloadEntry",
    "ImOidEntry",
    "ImPacketEntry",
    "create_offload_entries",
    "free_offload_entries",
]

#: Offset of NDIS_OFFLOAD_HANDLE in an IM offload entry, and the size of the entry with the cell, in bytes.
#: The handle is not the first member, so the two addresses cannot be confused.
_HANDLE_AT: Final = 0x20
_ENTRY_SIZE: Final = 0x40


class ImOffloadEntry(NdisOffloadHandle):
    """IM offload entry: one object that is offloaded through this driver (R-IM-07).

    It contains the driver's own NDIS_OFFLOAD_HANDLE, so it *is* one here. :attr:`address` is the address of
    the handle, which travels down as OffloadHandle. :attr:`entry_address` is the address of the whole entry,
    which the upper driver's cell has. ``ndis_offload_handle`` is the NdisOffloadHandle from above.
    """

    __slots__ = ("adapter", "entry_address", "ndis_offload_handle", "state")

    def __init__(self, adapter: VirtualAdapter, entry_address: int, ndis_offload_handle: int | None) -> None:
        # NdisOffloadHandle.__init__, written out: this runs once per block.
        self.address = entry_address + _HANDLE_AT
        self.context = None
        self.owner = None
        self.adapter = adapter
        self.entry_address = entry_address
        self.ndis_offload_handle = ndis_offload_handle
        self.state = OFFLOAD_ENTRY.initial

    def __repr__(self) -> str:
        return f"<IM offload entry {self.entry_address:#x} of {self.adapter.name}, {self.state.value}>"


def create_offload_entries(
    ndis: Ndis, adapter: VirtualAdapter, ndis_offload_handles: Sequence[int | None]
) -> list[ImOffloadEntry]:
    """Return an entry per object, each with its handle initialised (R-IM-08). Raises MemoryError."""
    if not ndis_offload_handles:
        return []
    heap = ndis.heap
    addresses = heap.addresses(len(ndis_offload_handles), _ENTRY_SIZE)
    offers = zip(addresses, ndis_offload_handles, strict=True)
    entries = [ImOffloadEntry(adapter, a, h) for a, h in paced(offers, ndis.working)]
    heap.objects.update(paced(zip(addresses, entries, strict=True), ndis.working))
    heap.objects.update(paced(((e.address, e) for e in entries), ndis.working))
    return entries


def free_offload_entries(heap: Heap, entries: Iterable[ImOffloadEntry]) -> None:
    """Free entries and their handles. Raises KeyError for an entry that does not exist."""
    objects = heap.objects
    for e in entries:
        del objects[e.entry_address], objects[e.address]


class ImCallEntry:
    """IM call entry: one state-manipulation call that was passed down (R-IM-02).

    ``saved`` has the columns that the overlay overwrites or this driver borrows: SourceHandle, ImReserved,
    MiniportOffloadContext and the values of the cells. ``fresh`` has the offload entries that an initiate
    made, ``fresh_at`` the indexes of their blocks, ``named`` the entries that the list names. ``sends`` has
    the I/O entries of send data that goes down with an initiate, by the index of its block; None if there are
    none. Each loses its lists as they are completed, which may be before the initiate is (R-CONC-03).
    """

    __slots__ = (
        "adapter",
        "address",
        "block_list",
        "fresh",
        "fresh_at",
        "named",
        "operation",
        "saved",
        "sends",
        "state",
    )

    def __init__(self, operation: OperationRow, adapter: VirtualAdapter, block_list: BlockList) -> None:
        self.operation = operation
        self.adapter = adapter
        self.block_list = block_list
        self.address = 0
        self.saved: dict[str, Any] = {}
        self.fresh: list[ImOffloadEntry] = []
        self.fresh_at: list[int] = []
        self.named: list[ImOffloadEntry] = []
        self.sends: dict[int, ImIoEntry] | None = None
        self.state: CallEntryState = CALL_ENTRY.initial

    def __repr__(self) -> str:
        what = f"{self.operation.op} from {self.adapter.name}, {self.state.value}"
        return f"<IM call entry {self.address:#x}: {what}>"


class ImIoEntry:
    """Call entry of an I/O request: the receiver of the completion of its lists (R-IM-15, R-IM-16).

    ``left`` has the lists that are still below. A chain may come back in parts.
    """

    __slots__ = ("adapter", "address", "context", "left", "operation", "source_handle", "state")

    def __init__(
        self,
        operation: OperationRow,
        adapter: VirtualAdapter,
        lists: Iterable[int],
        source_handle: int | None,
        context: int | None,
    ) -> None:
        self.operation = operation
        self.adapter = adapter
        self.address = 0
        self.left = set(lists)
        self.source_handle = source_handle
        self.context = context
        self.state: CallEntryState = CALL_ENTRY.initial

    def __repr__(self) -> str:
        what = f"{self.operation.op} from {self.adapter.name}, {self.state.value}"
        return f"<IM call entry {self.address:#x}: {what}>"


class ImPacketEntry:
    """The lists of one send of frames that are below, with their owner and their original values.

    ``left`` is how many are still below. A chain may come back in parts.
    """

    __slots__ = ("adapter", "address", "context", "left", "source_handle")

    def __init__(
        self, adapter: VirtualAdapter, left: int, source_handle: int | None, context: int | None
    ) -> None:
        self.adapter = adapter
        self.address = 0
        self.left = left
        self.source_handle = source_handle
        self.context = context

    def __repr__(self) -> str:
        return f"<IM packet entry {self.address:#x}: {self.left} lists of {self.adapter.name}>"


class ImOidEntry:
    """An OID request that was passed down under a RequestId of our own (the entry's address).

    ``adapter`` is None for a set that this driver makes itself. ``before`` is what the adapter wanted enabled
    before this request, in case it fails.
    """

    __slots__ = ("adapter", "address", "before", "is_task_set", "request")

    def __init__(self, adapter: VirtualAdapter | None, request: dict[str, Any]) -> None:
        self.adapter = adapter
        self.request = request
        self.address = 0
        self.is_task_set = False
        self.before: dict[str, Any] | None = None
