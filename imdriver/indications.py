"""Indications: each goes up with the same name, about the upper driver's own object (R-IM-01, R-IM-13).

Page "propagating-an-indication.md". Status indications go to every virtual adapter.
"""

from __future__ import annotations

from typing import Any, Final

from imdriver.config import ChimneyPolicy
from imdriver.edges import ImEdges
from imdriver.entries import ImOffloadEntry
from ndisbus.blocklist import BlockList, Form, Key, values
from ndisbus.driver import Steps
from ndisbus.enums import OffloadStateType
from ndisbus.nblchain import NblChain
from ndisbus.state import NeighborOffloadStateCached, NeighborOffloadStateConst
from ndisbus.status import NdisStatus

__all__ = ["Indications"]

#: What concerns nobody above where the chimney is blocked.
_CHIMNEY_STATUS: Final = frozenset(
    int(s)
    for s in (
        NdisStatus.OFFLOAD_PAUSE,
        NdisStatus.OFFLOAD_RESUME,
        NdisStatus.UPLOAD_ALL,
        NdisStatus.TCP_CONNECTION_OFFLOAD_HARDWARE_CAPABILITIES,
    )
)
_DELTA_OFFSET: Final = next(
    m.offset for m in NeighborOffloadStateCached.MEMBERS if m.ddi == "HostReachabilityDelta"
)
#: Where HostReachabilityDelta lies behind a block, by its type; constant, cached and delegated state follow
#: one another (R-DIS-26).
_DELTA_AT: Final = {
    int(OffloadStateType.NeighborOffloadState): NeighborOffloadStateConst.SIZE + _DELTA_OFFSET,
    int(OffloadStateType.NeighborOffloadCachedState): _DELTA_OFFSET,
}


class Indications(ImEdges):
    """Indications that pass through."""

    def _object(self, offload_context: int | None) -> ImOffloadEntry | None:
        """The entry whose NDIS_OFFLOAD_HANDLE this is; None, and counted, if there is none any more."""
        entry = self.ndis.heap.objects.get(offload_context or 0)
        if type(entry) is ImOffloadEntry and entry.address == offload_context:
            return entry
        self.strays += 1
        return None

    def protocol_tcp_offload_event(
        self, offload_context: int, event_type: int, event_specific_information: int
    ) -> None:
        """ProtocolTcpOffloadEvent: on with the NdisOffloadHandle from above, all else unchanged (R-IM-13)."""
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
        """ProtocolIndicateOffloadEvent: asked of the driver above, HostReachabilityDelta copied back.

        That is R-OPEN-04. The neighbor, and with it the adapter, is told by its handle: in OffloadHandle, or
        still in NdisOffloadHandle. Returns (None, the list from below). An indication without a list goes
        to every virtual adapter.
        """
        if block_list is None:
            for adapter in list(self.adapters.values()):
                yield self.ndis.call("NdisMOffloadEventIndicate", adapter.handle, None, indication_code)
            return None, None
        cols = block_list.columns
        handles = cols.get(Key.OFFLOAD_HANDLE) or cols.get(Key.NDIS_OFFLOAD_HANDLE)
        entry = self._object(values(handles, len(block_list))[0])
        if entry is None:
            return None, block_list
        columns = {k: c for k, c in cols.items() if k not in (Key.OFFLOAD_HANDLE, Key.HANDLE_CELL)}
        columns[Key.NDIS_OFFLOAD_HANDLE] = [entry.ndis_offload_handle]
        upper = BlockList(Form.MINIPORT, columns)
        answer = yield self.ndis.m_offload_event_indicate(entry.adapter.handle, upper, indication_code)
        _copy_delta(block_list, answer[1])
        return None, block_list

    def protocol_status_ex(self, protocol_binding_context: int, status_indication: dict[str, Any]) -> None:
        """ProtocolStatusEx: to everybody bound above (R-PAUSE-08); a resume brings new capabilities."""
        code = status_indication.get("StatusCode")
        if code == NdisStatus.OFFLOAD_RESUME and self.lower is not None:
            self.lower.capabilities = status_indication.get("StatusBuffer") or self.lower.capabilities
        if self.chimney is ChimneyPolicy.BLOCK and code in _CHIMNEY_STATUS:
            return
        for adapter in list(self.adapters.values()):
            if adapter.handle is not None:
                self.ndis.m_indicate_status_ex(adapter.handle, dict(status_indication))


def _copy_delta(block_list: BlockList, answered: Any) -> None:
    """Copy HostReachabilityDelta of the answered list into the cached state of the one from below."""
    n = len(block_list)
    at = _DELTA_AT.get(values(block_list.columns.get(Key.TYPE, 0), n)[0])
    if at is None or not isinstance(answered, dict):
        return
    states = list(values(block_list.columns.get(Key.STATE), n))
    theirs = values(answered.get(Key.STATE), n)[0]
    if states[0] is None or theirs is None or min(len(states[0]), len(theirs)) < at + 4:
        return
    states[0] = states[0][:at] + theirs[at : at + 4] + states[0][at + 4 :]
    block_list.columns[Key.STATE] = states
