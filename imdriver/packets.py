"""The ordinary data path: all frames pass in both directions, unread.

A send goes down with the unchanged chain. SourceHandle becomes this driver's own binding and is restored
before the completion goes up. A frame from below goes up on every virtual adapter. Its list goes back down
when all of them have returned it. DDI pages nf-ndis-ndissendnetbufferlists,
nf-ndis-ndismindicatereceivenetbufferlists.
"""

from __future__ import annotations

from typing import Final

from imdriver.edges import ImEdges
from imdriver.entries import ImPacketEntry
from ndisbus.ddi.enums import NDIS_RECEIVE_FLAGS_RESOURCES
from ndisbus.ddi.status import NdisStatus
from ndisbus.lists.nbl_chain import NblChain

__all__ = ["Packets"]

_PAUSED: Final = int(NdisStatus.PAUSED)


class Packets(ImEdges):
    """Frames that pass through."""

    # -- down ----------------------------------------------------------------------------------

    def miniport_send_net_buffer_lists(
        self, miniport_adapter_context: int, chain: NblChain, port_number: int, send_flags: int
    ) -> None:
        """MiniportSendNetBufferLists: pass down; complete at once if there is no adapter below."""
        adapter = self.adapter_of(miniport_adapter_context)
        lower = adapter.below
        if lower is None:
            chain.statuses = [_PAUSED] * len(chain)
            self.ndis.m_send_net_buffer_lists_complete(adapter.handle, chain, 0)
            return
        entry = ImPacketEntry(adapter, len(chain), chain.source_handle, chain.context)
        chain.context = entry.address = self.ndis.heap.allocate(entry)
        chain.source_handle = lower
        self.ndis.send_net_buffer_lists(lower, chain, port_number, send_flags)

    def protocol_send_net_buffer_lists_complete(
        self, protocol_binding_context: int, chain: NblChain, send_complete_flags: int
    ) -> None:
        """ProtocolSendNetBufferListsComplete: pass up to the sender. The last list frees the entry.

        Lists of an adapter that was halted meanwhile are dropped.
        """
        entry = self.ndis.heap.objects.get(chain.context or 0)
        if type(entry) is not ImPacketEntry:
            return
        entry.left -= len(chain)
        if entry.left <= 0:
            self.ndis.heap.free(entry.address)
        chain.source_handle = entry.source_handle
        chain.context = entry.context
        self.ndis.m_send_net_buffer_lists_complete(entry.adapter.handle, chain, send_complete_flags)

    # -- up ------------------------------------------------------------------------------------

    def protocol_receive_net_buffer_lists(
        self, protocol_binding_context: int, chain: NblChain, port_number: int, count: int, receive_flags: int
    ) -> None:
        """ProtocolReceiveNetBufferLists: every protocol above gets every frame and selects its own."""
        if self.lower is None or self.lower.context != protocol_binding_context:
            return  # a fault delayed it until that binding was closed, and NDIS has returned the lists
        adapters = self.adapters_above(protocol_binding_context)
        if not receive_flags & NDIS_RECEIVE_FLAGS_RESOURCES:
            if not adapters:
                self.return_packets(protocol_binding_context, chain)
                return
            below = chain.source_handle
            self.passed_up.update((a, [len(adapters), below]) for a in chain.addresses)
        for adapter in adapters:
            chain.source_handle = adapter.handle
            self.ndis.m_indicate_receive_net_buffer_lists(
                adapter.handle, chain, port_number, count, receive_flags
            )

    def miniport_return_net_buffer_lists(
        self, miniport_adapter_context: int, chain: NblChain, return_flags: int
    ) -> None:
        """MiniportReturnNetBufferLists: pass back down when all drivers above have returned them."""
        passed_up = self.passed_up
        home: list[int] = []
        below = None
        for a in chain.addresses:
            held = passed_up.get(a)
            if held is None:
                continue  # the adapter below was replaced, and these lists ended with it
            held[0] -= 1
            if not held[0]:
                del passed_up[a]
                home.append(a)
                below = held[1]
        # The adapter may be halted: NDIS returns at once what was indicated on its way to us.
        if home and self.lower is not None and self.lower.handle is not None:
            chain = NblChain(home, source_handle=below)
            self.ndis.return_net_buffer_lists(self.lower.handle, chain, return_flags)
