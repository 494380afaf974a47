"""Indications: each goes up with the same name, about the upper driver's own object (R-IM-01, R-IM-13).

DDI page propagating-an-indication. Status indications go to every virtual adapter.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from imdriver.adapter import VirtualAdapter
from imdriver.config import ChimneyPolicy
from imdriver.edges import ImEdges
from imdriver.entries import ImOffloadEntry
from ndisbus.ddi.state_types import OffloadStateType
from ndisbus.ddi.status import NdisStatus
from ndisbus.driver.base import Answer, Reply, Steps
from ndisbus.lists.blocklist import BlockList, Form, Key, values
from ndisbus.lists.nbl_chain import NblChain
from ndisbus.state.images import NeighborOffloadStateCached, NeighborOffloadStateConst

__all__ = ["Indications"]

#: Indications that the drivers above do not get while the chimney is blocked.
_CHIMNEY_STATUS: Final = frozenset(
    int(s)
    for s in (
        NdisStatus.OFFLOAD_PAUSE,
        NdisStatus.OFFLOAD_RESUME,
        NdisStatus.UPLOAD_ALL,
        NdisStatus.TCP_CONNECTION_OFFLOAD_HARDWARE_CAPABILITIES,
    )
)
_DELTA_OFFSET: Final = NeighborOffloadStateCached.offset_of("HostReachabilityDelta")
#: Offset of HostReachabilityDelta behind a block, by type. Constant, cached and delegated state follow each
#: other (R-DIS-26).
_DELTA_AT: Final = {
    int(OffloadStateType.NeighborOffloadState): NeighborOffloadStateConst.SIZE + _DELTA_OFFSET,
    int(OffloadStateType.NeighborOffloadCachedState): _DELTA_OFFSET,
}


class Indications(ImEdges):
    """Indications that pass through."""

    def _object(self, offload_context: int | None) -> ImOffloadEntry | None:
        """Return the entry of an NDIS_OFFLOAD_HANDLE.

        Returns None, and counts it, if there is none any more.
        """
        entry = self.ndis.heap.objects.get(offload_context or 0)
        if type(entry) is ImOffloadEntry and entry.address == offload_context:
            return entry
        self.strays += 1
        return None

    def protocol_tcp_offload_event(
        self, offload_context: int, event_type: int, event_specific_information: int
    ) -> None:
        """ProtocolTcpOffloadEvent: passed up with the NdisOffloadHandle from above (R-IM-13)."""
        entry = self._object(offload_context)
        if entry is not None:
            self.ndis.tcp_offload_event_handler(
                entry.ndis_offload_handle, event_type, event_specific_information
            )

    def protocol_tcp_offload_receive_indicate(
        self, offload_context: int, chain: NblChain, status: int
    ) -> Steps:
        """ProtocolTcpOffloadReceiveIndicate: returns the upper driver's (status, BytesConsumed).

        NetBufferList and Status are the arguments, not those of an event (R-DIS-36).
        """
        entry = self._object(offload_context)
        if entry is None:
            return NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED, 0
        answer = yield self.ndis.tcp_offload_receive_handler(entry.ndis_offload_handle, chain, status)
        return answer

    def protocol_indicate_offload_event(
        self, protocol_binding_context: int, block_list: BlockList | None, indication_code: int
    ) -> Steps:
        """ProtocolIndicateOffloadEvent: ask the driver above, and copy HostReachabilityDelta back.

        This answers R-OPEN-04. Only the header of the block is set (R-NUD-07), so it does not say which
        virtual adapter has the neighbor. All are asked, and the best answer counts: a host that does not know
        the neighbor answers zero. If the block has a handle, it names the adapter. Returns (None, the list
        from below). An indication without a list goes to every virtual adapter.
        """
        if block_list is None:
            for adapter in self.adapters_above(protocol_binding_context):
                if adapter.handle is not None:  # it may have been halted meanwhile
                    yield self.ndis.call("NdisMOffloadEventIndicate", adapter.handle, None, indication_code)
            return None, None
        cols = block_list.columns
        handles = cols.get(Key.OFFLOAD_HANDLE) or cols.get(Key.NDIS_OFFLOAD_HANDLE)
        handle = values(handles, len(block_list))[0]
        if handle is None:
            adapters = self.adapters_above(protocol_binding_context)
            return None, (yield from self._ask_all(adapters, block_list, indication_code))
        entry = self._object(handle)
        if entry is None:
            return None, block_list
        columns = {k: c for k, c in cols.items() if k not in (Key.OFFLOAD_HANDLE, Key.HANDLE_CELL)}
        columns[Key.NDIS_OFFLOAD_HANDLE] = [entry.ndis_offload_handle]
        upper = BlockList(Form.MINIPORT, columns)
        answer = yield self.ndis.m_offload_event_indicate(entry.adapter.handle, upper, indication_code)
        _copy_delta(block_list, answer[1])
        return None, block_list

    def _ask_all(
        self, adapters: list[VirtualAdapter], block_list: BlockList, indication_code: int
    ) -> Generator[Reply, Answer, BlockList]:
        """Ask above every virtual adapter of this life. The most recent confirmation is the answer."""
        columns = {
            k: c for k, c in block_list.columns.items() if k not in (Key.OFFLOAD_HANDLE, Key.HANDLE_CELL)
        }
        best, chosen = 0, None
        for adapter in adapters:
            if adapter.handle is None:
                continue  # it was halted meanwhile
            upper = BlockList(Form.MINIPORT, dict(columns))
            answer = yield self.ndis.m_offload_event_indicate(adapter.handle, upper, indication_code)
            age = _delta(block_list, answer[1])
            if age and (not best or age < best):
                best, chosen = age, answer[1]
        if best:
            _copy_delta(block_list, chosen)
        else:
            _write_delta(block_list, bytes(4))
        return block_list

    def protocol_status_ex(self, protocol_binding_context: int, status_indication: dict[str, Any]) -> None:
        """ProtocolStatusEx: passed to all protocols above (R-PAUSE-08). A resume brings new capabilities."""
        code = status_indication.get("StatusCode")
        lower = self.lower
        if lower is None or lower.context != protocol_binding_context:
            return  # it is about an adapter whose binding is closed
        if code == NdisStatus.OFFLOAD_RESUME:
            lower.capabilities = status_indication.get("StatusBuffer") or lower.capabilities
        if self.chimney is ChimneyPolicy.BLOCK and code in _CHIMNEY_STATUS:
            return
        for adapter in self.adapters_above(protocol_binding_context):
            self.ndis.m_indicate_status_ex(adapter.handle, dict(status_indication))


def _place(block_list: BlockList) -> int | None:
    """Return the offset of HostReachabilityDelta in the state behind the block; None if it has none."""
    return _DELTA_AT.get(values(block_list.columns.get(Key.TYPE, 0), len(block_list))[0])


def _answered(block_list: BlockList, answer: Any) -> bytes | None:
    """Return the four bytes of HostReachabilityDelta in an answer; None if they are missing."""
    at = _place(block_list)
    if at is None or not isinstance(answer, dict):
        return None
    state = values(answer.get(Key.STATE), len(block_list))[0]
    return state[at : at + 4] if state is not None and len(state) >= at + 4 else None


def _delta(block_list: BlockList, answer: Any) -> int:
    return int.from_bytes(_answered(block_list, answer) or b"", "little")


def _copy_delta(block_list: BlockList, answer: Any) -> None:
    """Copy HostReachabilityDelta of the answered list into the cached state of the one from below."""
    delta = _answered(block_list, answer)
    if delta is not None:
        _write_delta(block_list, delta)


def _write_delta(block_list: BlockList, delta: bytes) -> None:
    at = _place(block_list)
    states = list(values(block_list.columns.get(Key.STATE), len(block_list)))
    if at is None or states[0] is None or len(states[0]) < at + 4:
        return
    states[0] = states[0][:at] + delta + states[0][at + 4 :]
    block_list.columns[Key.STATE] = states
