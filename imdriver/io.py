"""TCP chimney I/O: send, receive, disconnect, forward, and receive return.

A request goes down with this driver's own NDIS_OFFLOAD_HANDLE and the unchanged chain (R-IM-10). The
completion goes up with the miniport handle of the adapter that it came from (R-IM-11, R-IM-16). The lists of
a chain may come back in other groups, even mixed with others: each list is propagated by itself. DDI pages
propagating-an-i-o-operation, propagating-the-completion-of-an-i-o-operation.
"""

from __future__ import annotations

from itertools import groupby
from typing import Final

from imdriver.adapter import VirtualAdapter
from imdriver.edges import ImEdges
from imdriver.entries import ImIoEntry, ImOffloadEntry
from imdriver.life import CALL_ENTRY, OFFLOAD_ENTRY, CallEntryEvent, OffloadEntryEvent
from ndisbus.ddi.call_rows import IO_OPERATIONS, OperationRow
from ndisbus.ddi.status import NdisStatus
from ndisbus.errors import RemoteProtocolError
from ndisbus.lists.nbl import chain as link_chain
from ndisbus.lists.nbl_chain import Attachments, NblChain

__all__ = ["IoOperations"]

_SEND, _RECEIVE, _DISCONNECT, _FORWARD = IO_OPERATIONS
_ABORTED: Final = int(NdisStatus.REQUEST_ABORTED)
_USABLE: Final = OFFLOAD_ENTRY.legal_in(OffloadEntryEvent.USE)


class IoOperations(ImEdges):
    """I/O requests that pass through."""

    #: Number of sends that will still find no memory (a fault that a test arms), and of those that have.
    no_memory_sends = 0
    no_memory_fired = 0

    # -- down ----------------------------------------------------------------------------------

    def miniport_tcp_offload_send(self, miniport_adapter_context: int, context: int, chain: NblChain) -> None:
        """MiniportTcpOffloadSend: without memory the send is not passed on at all (R-IM-14)."""
        if self.no_memory_sends:
            self.no_memory_sends -= 1
            self.no_memory_fired += 1
            self._no_memory(self.adapter_of(miniport_adapter_context), chain)
            return
        self._io_down(_SEND, miniport_adapter_context, context, chain)

    def miniport_tcp_offload_receive(
        self, miniport_adapter_context: int, context: int, chain: NblChain
    ) -> None:
        """MiniportTcpOffloadReceive."""
        self._io_down(_RECEIVE, miniport_adapter_context, context, chain)

    def miniport_tcp_offload_disconnect(
        self, miniport_adapter_context: int, context: int, chain: NblChain, flags: int
    ) -> None:
        """MiniportTcpOffloadDisconnect: the flags pass unchanged (R-IM-12)."""
        self._io_down(_DISCONNECT, miniport_adapter_context, context, chain, flags)

    def miniport_tcp_offload_forward(
        self, miniport_adapter_context: int, context: int, chain: NblChain
    ) -> None:
        """MiniportTcpOffloadForward."""
        self._io_down(_FORWARD, miniport_adapter_context, context, chain)

    def miniport_tcp_offload_receive_return(self, miniport_adapter_context: int, chain: NblChain) -> None:
        """MiniportTcpOffloadReceiveReturn: names the binding. It may cover several connections (R-DIS-10)."""
        lower = self.adapter_of(miniport_adapter_context).below
        if lower is not None:
            self.ndis.offload_tcp_receive_return(lower, chain)

    def _io_down(
        self,
        operation: OperationRow,
        miniport_adapter_context: int,
        context: int,
        chain: NblChain,
        *flags: int,
    ) -> None:
        adapter = self.adapter_of(miniport_adapter_context)
        heap = self.ndis.heap
        connection = heap.objects.get(context)
        if (
            type(connection) is not ImOffloadEntry
            or connection.entry_address != context
            or connection.adapter is not adapter
            or connection.state not in _USABLE
            or adapter.below is None
        ):
            self.refused += 1
            self._complete(operation, adapter, chain, [_ABORTED] * len(chain))
            return
        io = self.io
        twins = [a for a in chain.addresses if a in io]
        if twins:
            # NDIS gives no list twice: it gave up the earlier request, though the list is still below.
            for a in twins:
                self.abandon(a)
            self.refused += 1
            self._complete(operation, adapter, chain, [_ABORTED] * len(chain))
            return
        entry = ImIoEntry(operation, adapter, chain.addresses, chain.source_handle, chain.context)
        try:
            entry.address = heap.allocate(entry)
        except MemoryError:
            if operation is _SEND:
                self._no_memory(adapter, chain)
            else:
                self._complete(operation, adapter, chain, [_ABORTED] * len(chain))
            return
        for a in chain.addresses:
            io[a] = entry
        chain.context = entry.address
        CALL_ENTRY.advance(entry, CallEntryEvent.PASS_DOWN)
        self.ndis.call(operation.request, connection.address, chain, *flags)

    def _no_memory(self, adapter: VirtualAdapter, chain: NblChain) -> None:
        """Ask for an upload, once. Then the host sends by itself, and the data waits for it (R-IM-14)."""
        rest = [int(NdisStatus.UPLOAD_REQUESTED)] * (len(chain) - 1)
        self._complete(_SEND, adapter, chain, [int(NdisStatus.REQUEST_UPLOAD), *rest])

    def _complete(
        self, operation: OperationRow, adapter: VirtualAdapter, chain: NblChain, statuses: list[int]
    ) -> None:
        chain.statuses = statuses
        self.ndis.call(operation.completion, adapter.handle, chain)

    # -- up ------------------------------------------------------------------------------------

    def protocol_tcp_offload_send_complete(self, protocol_binding_context: int, chain: NblChain) -> None:
        """ProtocolTcpOffloadSendComplete."""
        self._io_up(_SEND, chain)

    def protocol_tcp_offload_receive_complete(self, protocol_binding_context: int, chain: NblChain) -> None:
        """ProtocolTcpOffloadReceiveComplete."""
        self._io_up(_RECEIVE, chain)

    def protocol_tcp_offload_disconnect_complete(
        self, protocol_binding_context: int, chain: NblChain
    ) -> None:
        """ProtocolTcpOffloadDisconnectComplete: the entry of the list is freed here (R-IM-15)."""
        self._io_up(_DISCONNECT, chain)

    def protocol_tcp_offload_forward_complete(self, protocol_binding_context: int, chain: NblChain) -> None:
        """ProtocolTcpOffloadForwardComplete."""
        self._io_up(_FORWARD, chain)

    def _io_up(self, operation: OperationRow, chain: NblChain) -> None:
        entries = self._entries_of(operation, chain)
        first = entries[0]
        if first is not None and all(e is first for e in entries):
            self._propagate(operation, first, chain)
        else:
            for e, run in groupby(range(len(entries)), key=entries.__getitem__):
                if e is not None:
                    self._propagate(operation, e, _part(chain, list(run)))

    def _entries_of(self, operation: OperationRow, chain: NblChain) -> list[ImIoEntry | None]:
        """Return the entry of each list, None for one whose adapter has gone.

        Raises :class:`RemoteProtocolError`, before any change, for a list that was not passed down in such a
        request.
        """
        mine = self.ndis.heap.objects.get(chain.context or 0)
        if type(mine) is ImIoEntry and mine.operation is operation and mine.left.issuperset(chain.addresses):
            return [mine] * len(chain)
        entries: list[ImIoEntry | None] = []
        for a in chain.addresses:
            entry = self.io.get(a)
            if entry is None and a in self.orphans:
                self.orphans.discard(a)
            elif entry is None or entry.operation is not operation:
                held = (
                    "it was not passed down"
                    if entry is None
                    else f"it was passed down as a {entry.operation.op}"
                )
                raise RemoteProtocolError(
                    f"{operation.completion_handler}: net buffer list {a:#x}: {held}", rule="R-IM-11"
                )
            entries.append(entry)
        return entries

    def _propagate(self, operation: OperationRow, entry: ImIoEntry, chain: NblChain) -> None:
        """Restore SourceHandle and Context, and hand the lists of one request up.

        The last frees the entry.
        """
        for a in chain.addresses:
            del self.io[a]
        entry.left.difference_update(chain.addresses)
        chain.source_handle = entry.source_handle
        chain.context = entry.context
        if not entry.left:
            CALL_ENTRY.advance(entry, CallEntryEvent.PROPAGATE)
            self.ndis.heap.free(entry.address)
        self.ndis.call(operation.completion, entry.adapter.handle, chain)


def _part(chain: NblChain, indexes: list[int]) -> NblChain:
    """Return some lists of a chain as a chain of their own, with their statuses and their data.

    Raises DecodeError if the attached descriptors must be read and are malformed.
    """
    addresses = [chain.addresses[i] for i in indexes]
    statuses = [chain.statuses[i] for i in indexes] if chain.statuses is not None else None
    attachments = None
    if chain.attachments is not None:
        objects = chain.attachments.read()
        first = link_chain(objects[a] for a in addresses if a in objects)
        attachments = Attachments.of([first]) if first is not None else None
    return NblChain(addresses, attachments, source_handle=chain.source_handle, statuses=statuses)
