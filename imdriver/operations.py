"""The five state-manipulation conversations: initiate, query, update, invalidate, terminate.

Down: a call entry is made, and the objects are found (an initiate makes new ones). The overlay gives the list
the PROTOCOL form, and the request of the same name goes down (R-IM-01). Up: ImReserved leads to the call
entry, the list gets back what was borrowed, and the completion of the same name goes up. DDI pages
propagating-a-state-manipulation-operation, propagating-the-completion-of-a-state-manipulation-operation,
referencing-offloaded-state-through-an-intermediate-driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from imdriver.adapter import VirtualAdapter
from imdriver.config import ChimneyPolicy
from imdriver.edges import ImEdges
from imdriver.entries import (
    ImCallEntry,
    ImIoEntry,
    ImOffloadEntry,
    create_offload_entries,
    free_offload_entries,
)
from imdriver.life import CALL_ENTRY, OFFLOAD_ENTRY, CallEntryEvent, OffloadEntryEvent, OffloadEntryState
from imdriver.overlay import go_down, leads_to, put_back
from imdriver.stamps import stamp
from ndisbus.ddi.call_rows import IO_OPERATIONS, STATE_OPERATIONS, OperationRow
from ndisbus.ddi.status import NdisStatus
from ndisbus.driver.pace import paced
from ndisbus.errors import RemoteProtocolError
from ndisbus.lists.blocklist import BlockList, Column, Key, values
from ndisbus.lists.nbl_chain import chain_addresses

__all__ = ["StateOperations"]

_SUCCESS: Final = int(NdisStatus.SUCCESS)
_FAILURE: Final = int(NdisStatus.FAILURE)
_RESOURCES: Final = int(NdisStatus.RESOURCES)
#: The statuses of a new block whose object is offloaded.
_OFFLOADED: Final = frozenset((_SUCCESS, int(NdisStatus.OFFLOAD_PARTIAL_SUCCESS)))
_INITIATE, _QUERY, _UPDATE, _INVALIDATE, _TERMINATE = STATE_OPERATIONS
_SEND: Final = next(o for o in IO_OPERATIONS if o.op == "send")
_NAMABLE: Final = OFFLOAD_ENTRY.legal_in(OffloadEntryEvent.NAME)
_TERMINABLE: Final = OFFLOAD_ENTRY.legal_in(OffloadEntryEvent.TERMINATE)


class _Refused(Exception):
    """The list cannot be passed down. It is completed upward at once with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class StateOperations(ImEdges):
    """Requests on block lists. Several may be in flight and complete in any order."""

    # -- down ----------------------------------------------------------------------------------

    def miniport_initiate_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
        """MiniportInitiateOffload."""
        self._down(_INITIATE, miniport_adapter_context, block_list)

    def miniport_query_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
        """MiniportQueryOffload: goes down as NdisQueryOffloadState (R-DIS-08)."""
        self._down(_QUERY, miniport_adapter_context, block_list)

    def miniport_update_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
        """MiniportUpdateOffload."""
        self._down(_UPDATE, miniport_adapter_context, block_list)

    def miniport_invalidate_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
        """MiniportInvalidateOffload."""
        self._down(_INVALIDATE, miniport_adapter_context, block_list)

    def miniport_terminate_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
        """MiniportTerminateOffload."""
        self._down(_TERMINATE, miniport_adapter_context, block_list)

    def _down(self, operation: OperationRow, miniport_adapter_context: int, block_list: BlockList) -> None:
        adapter = self.adapter_of(miniport_adapter_context)
        entry = ImCallEntry(operation, adapter, block_list)
        try:
            if not self.ndis.takes(block_list):
                raise _Refused(_FAILURE)
            entry.address = self.ndis.heap.allocate(entry)
            handles = self._handles(entry)
        except _Refused as e:
            self.refused += 1
            self._refuse_down(entry, e.status)
            return
        except MemoryError:
            self._home_again(entry, entry.sends or ())
            self._refuse_down(entry, _RESOURCES if operation is _INITIATE else _FAILURE)
            return
        if operation is _INITIATE:
            OFFLOAD_ENTRY.advance_all(entry.fresh, OffloadEntryEvent.OFFER)
            if self.config.vlan_id is not None or self.config.user_priority is not None:
                stamp(block_list, entry.fresh_at, self.config)
        elif operation is _TERMINATE:
            OFFLOAD_ENTRY.advance_all(entry.named, OffloadEntryEvent.TERMINATE)
        self.ndis.working()
        go_down(entry, handles)
        self.ndis.working()
        CALL_ENTRY.advance(entry, CallEntryEvent.PASS_DOWN)
        self.ndis.call(operation.request, adapter.below, block_list)

    def _handles(self, entry: ImCallEntry) -> list[int | None]:
        """Return this driver's NDIS_OFFLOAD_HANDLE for every block, and set ``fresh`` and ``named``.

        Raises :class:`_Refused` before anything was created, and MemoryError.
        """
        cols = entry.block_list.columns
        n = len(cols[Key.BLOCK])
        cells = values(cols.get(Key.CELL), n)
        contexts = values(cols.get(Key.CONTEXT), n)
        initiating = entry.operation is _INITIATE
        handles: list[int | None] = [None] * n
        # Placeholders have no cell. A cell with NULL offers a new object, any other value names one.
        named_at = [i for i, v in enumerate(contexts) if v is not None and cells[i] is not None]
        fresh_at = [i for i, c in enumerate(cells) if c is not None and contexts[i] is None]
        if named_at:
            legal = _TERMINABLE if entry.operation is _TERMINATE else _NAMABLE
            entry.named = named = self._named(entry.adapter, [contexts[i] for i in named_at], legal)
            if entry.operation is _TERMINATE and len(set(named)) != len(named):
                raise _Refused(_FAILURE)
            for i, e in paced(zip(named_at, named, strict=True), self.ndis.working):
                handles[i] = e.address
        if entry.adapter.below is None:
            if entry.operation is _TERMINATE:
                self._gone(entry.named)
            raise _Refused(_FAILURE)
        if fresh_at:
            if not initiating or self.chimney is ChimneyPolicy.BLOCK:
                raise _Refused(_FAILURE)
            above = values(cols.get(Key.NDIS_OFFLOAD_HANDLE), n)
            entry.fresh_at = fresh_at
            self._take_along(entry)
            offered = [above[i] for i in fresh_at]
            entry.fresh = create_offload_entries(self.ndis, entry.adapter, offered)
            for i, e in paced(zip(fresh_at, entry.fresh, strict=True), self.ndis.working):
                handles[i] = e.address
        return handles

    def _named(
        self, adapter: VirtualAdapter, pointers: Sequence[int], legal: frozenset[OffloadEntryState]
    ) -> list[ImOffloadEntry]:
        """Return the entries that values of the upper driver's cells designate. All must be its own."""
        get = self.ndis.heap.objects.get
        found: list[Any] = [get(p) for p in pointers]
        for e, p in paced(zip(found, pointers, strict=True), self.ndis.working):
            if (
                type(e) is not ImOffloadEntry
                or e.entry_address != p
                or e.adapter is not adapter
                or e.state not in legal
            ):
                raise _Refused(_FAILURE)
        return found

    def _take_along(self, entry: ImCallEntry) -> None:
        """Record send data that goes down with a connection. It may come back as sends do (R-OSD-10)."""
        block_list = entry.block_list
        pointers = block_list.columns.get(Key.NBL_CHAIN)
        if pointers is None or block_list.attachments is None:
            return
        n = len(block_list)
        chains = chain_addresses(block_list.attachments.wire, Key.NET_BUFFER_LISTS)
        source = values(block_list.columns.get(Key.SOURCE_HANDLE), n)
        entry.sends = {}
        for i, pointer in enumerate(values(pointers, n)):
            if pointer in chains:
                lists = chains[pointer]
                io = ImIoEntry(_SEND, entry.adapter, lists, source[i], None)
                io.address = self.ndis.heap.allocate(io)
                CALL_ENTRY.advance(io, CallEntryEvent.PASS_DOWN)
                self.io.update(dict.fromkeys(lists, io))
                entry.sends[i] = io

    def _home_again(self, entry: ImCallEntry, indexes: Iterable[int]) -> None:
        """Take send data back: the connections of these blocks stay with the driver above.

        Lists that were completed before the initiate are back already.
        """
        sends = entry.sends or {}
        for i in indexes:
            if i in sends:
                for a in list(sends[i].left):
                    self.take_home(a)

    def _gone(self, entries: Sequence[ImOffloadEntry]) -> None:
        OFFLOAD_ENTRY.advance_all(entries, OffloadEntryEvent.TERMINATE)
        OFFLOAD_ENTRY.advance_all(entries, OffloadEntryEvent.TERMINATED)
        free_offload_entries(self.ndis.heap, entries)

    def _refuse_down(self, entry: ImCallEntry, status: int) -> None:
        """Complete a list that is not passed down. Only its Status changes."""
        cols = entry.block_list.columns
        cells = cols.get(Key.CELL)
        if type(cells) is list and None in cells:
            # A placeholder always succeeds (R-TREE-02).
            cols[Key.STATUS] = [_SUCCESS if c is None else status for c in cells]
        else:
            cols[Key.STATUS] = status
        CALL_ENTRY.advance(entry, CallEntryEvent.REFUSE)
        if entry.address:
            self.ndis.heap.free(entry.address)
        self.ndis.call(entry.operation.completion, entry.adapter.handle, entry.block_list)

    # -- up ------------------------------------------------------------------------------------

    def protocol_initiate_offload_complete(
        self, protocol_binding_context: int, block_list: BlockList
    ) -> None:
        """ProtocolInitiateOffloadComplete: our PVOIDs are stored when this is called."""
        self._up(_INITIATE, block_list)

    def protocol_query_offload_complete(self, protocol_binding_context: int, block_list: BlockList) -> None:
        """ProtocolQueryOffloadComplete."""
        self._up(_QUERY, block_list)

    def protocol_update_offload_complete(self, protocol_binding_context: int, block_list: BlockList) -> None:
        """ProtocolUpdateOffloadComplete."""
        self._up(_UPDATE, block_list)

    def protocol_invalidate_offload_complete(
        self, protocol_binding_context: int, block_list: BlockList
    ) -> None:
        """ProtocolInvalidateOffloadComplete."""
        self._up(_INVALIDATE, block_list)

    def protocol_terminate_offload_complete(
        self, protocol_binding_context: int, block_list: BlockList
    ) -> None:
        """ProtocolTerminateOffloadComplete."""
        self._up(_TERMINATE, block_list)

    def _up(self, operation: OperationRow, block_list: BlockList) -> None:
        pointer = leads_to(block_list)
        entry = self.ndis.heap.objects.get(pointer or 0)
        if type(entry) is ImCallEntry and entry.block_list is block_list and entry.operation is operation:
            self._finish(entry)
        else:
            self._astray(operation, block_list, pointer)

    def _finish(self, entry: ImCallEntry) -> None:
        """Restore the list, complete it with our miniport handle (R-DIS-09), free the entry (R-IM-06)."""
        contexts: Column = entry.saved.get(Key.CONTEXT)
        if entry.operation is _INITIATE:
            contexts = self._settle_initiate(entry, contexts)
        elif entry.operation is _TERMINATE:
            self._settle_terminate(entry)
        self.ndis.working()
        put_back(entry, contexts)
        self.ndis.working()
        CALL_ENTRY.advance(entry, CallEntryEvent.PROPAGATE)
        self.ndis.heap.free(entry.address)
        self.ndis.call(entry.operation.completion, entry.adapter.handle, entry.block_list)

    def _settle_terminate(self, entry: ImCallEntry) -> None:
        """Free what was terminated. An object that failed for the first time may be terminated once more."""
        attached = entry.block_list.attachments
        if attached is not None and self.io:
            for lists in chain_addresses(attached.wire, Key.NET_BUFFER_LISTS).values():
                for a in lists:
                    if a in self.io:  # received data that comes up in the same way is the lower driver's
                        self.take_home(a)
        named = entry.named
        status = entry.block_list.columns[Key.STATUS]
        if status == _SUCCESS or not named:
            OFFLOAD_ENTRY.advance_all(named, OffloadEntryEvent.TERMINATED)
            self.ndis.working()
            free_offload_entries(self.ndis.heap, paced(named, self.ndis.working))
            return
        by_address = {e.address: e for e in named}
        handles = values(entry.block_list.columns[Key.OFFLOAD_HANDLE], len(entry.block_list))
        done: list[ImOffloadEntry] = []
        failed: list[ImOffloadEntry] = []
        statuses = values(status, len(entry.block_list))
        for handle, s in paced(zip(handles, statuses, strict=True), self.ndis.working):
            e = by_address.get(handle)
            if e is not None:
                (done if s == _SUCCESS else failed).append(e)
        OFFLOAD_ENTRY.advance_all(done, OffloadEntryEvent.TERMINATED)
        self.ndis.working()
        OFFLOAD_ENTRY.advance_all(failed, OffloadEntryEvent.NOT_TERMINATED)
        freed = [*done, *(e for e in failed if e.state is OffloadEntryState.FREED)]
        free_offload_entries(self.ndis.heap, paced(freed, self.ndis.working))

    def _settle_initiate(self, entry: ImCallEntry, contexts: Column) -> Column:
        """Keep the entries of what was offloaded and free the others. Returns the values of the upper cells.

        The value for the upper driver is the address of our entry (R-IM-09). It is not the value that the
        driver below stored in our cell, which is that driver's own context (R-DIS-30).
        """
        fresh, fresh_at = entry.fresh, entry.fresh_at
        if not fresh:
            return contexts
        status = entry.block_list.columns[Key.STATUS]
        n = len(entry.block_list)
        if type(status) is not list:
            accepted, rejected = (fresh, []) if status in _OFFLOADED else ([], fresh)
            at = fresh_at if accepted else []
        else:
            good = [status[i] in _OFFLOADED for i in fresh_at]
            accepted = [e for e, g in zip(fresh, good, strict=True) if g]
            rejected = [e for e, g in zip(fresh, good, strict=True) if not g]
            at = [i for i, g in zip(fresh_at, good, strict=True) if g]
        if entry.sends:
            self._home_again(entry, set(fresh_at).difference(at))
        OFFLOAD_ENTRY.advance_all(accepted, OffloadEntryEvent.ACCEPT)
        OFFLOAD_ENTRY.advance_all(rejected, OffloadEntryEvent.REJECT)
        free_offload_entries(self.ndis.heap, rejected)
        after = list(values(contexts, n))
        for i, e in paced(zip(at, accepted, strict=True), self.ndis.working):
            after[i] = e.entry_address
        return after

    def _astray(self, operation: OperationRow, block_list: BlockList, pointer: int | None) -> None:
        """Handle an ImReserved that does not lead to the call entry: the driver below overwrote it.

        The list itself shows which call it was, so the driver above still gets its completion. Then the
        violation is raised.
        """
        if block_list.address in self.orphans:
            self.orphans.discard(block_list.address)
            return
        where = f"{operation.completion_handler}.OffloadBlockList.{Key.IM_RESERVED[0]}"
        held = "no single value" if pointer is None else f"{pointer:#x}"
        reason = (
            f"{where} of list {block_list.address:#x}: {held} where an IM call entry's address was (R-IM-05)"
        )
        for o in list(self.ndis.heap.objects.values()):
            if type(o) is ImCallEntry and o.block_list is block_list and o.operation is operation:
                self._finish(o)
                break
        raise RemoteProtocolError(reason, rule="R-BLK-12")
