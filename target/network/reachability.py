"""Neighbor reachability, the target's side (DDI page making-a-neighborreachabilityquery-indication).

For each neighbor the target keeps two times: NRT, when it last saw forward progress itself, and HRT, when the
host last confirmed the neighbor. Both are tested before each datagram is sent. If both are older than
NceStaleTicks, the target asks the host. Times are ticks modulo 2**32 (R-NUD-03).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ndisbus.ddi.enums import IndicateOffloadEvent
from ndisbus.ddi.state_types import OffloadStateType
from ndisbus.ddi.status import NdisStatus
from ndisbus.driver.base import Steps
from ndisbus.errors import DecodeError
from ndisbus.lists.blocklist import BLOCK_SIZE, BlockList, Form, Key
from ndisbus.state.images import NeighborOffloadStateCached, unpack_state
from target.model.life import Life

if TYPE_CHECKING:
    from target.hardware.adapter import Adapter
    from target.model.contexts import NeighborContext

__all__ = ["confirmed", "current_nrd", "host_says", "test"]

_MASK: Final = 0xFFFFFFFF
_TYPE: Final = int(OffloadStateType.NeighborOffloadState)
_QUERY: Final = int(IndicateOffloadEvent.NeighborReachabilityQuery)
_GONE: Final = frozenset((Life.TERMINATING, Life.GONE, Life.LOST))


def _moments(adapter: Adapter, neighbor: NeighborContext) -> tuple[int, int]:
    """Return NRT and HRT. At first they follow from the state that was handed over (R-NUD-02)."""
    nrt, hrt = neighbor.nrt, neighbor.hrt
    if nrt is None or hrt is None:
        since = adapter.ticks(neighbor.since)
        nrt = neighbor.nrt = (since - neighbor.delegated.nic_reachability_delta) & _MASK
        hrt = neighbor.hrt = (since - neighbor.cached.host_reachability_delta) & _MASK
    return nrt, hrt


def confirmed(adapter: Adapter, neighbor: NeighborContext, ticks: int) -> None:
    """Note forward progress on a connection of the neighbor (R-NUD-04)."""
    _moments(adapter, neighbor)
    neighbor.nrt = ticks & _MASK


def host_says(adapter: Adapter, neighbor: NeighborContext, hrd: int, ticks: int) -> None:
    """Set HRT from a HostReachabilityDelta in an answer or an update (R-NUD-09)."""
    _moments(adapter, neighbor)
    neighbor.hrt = (ticks - hrd) & _MASK


def current_nrd(adapter: Adapter, neighbor: NeighborContext, ticks: int) -> int:
    """Return the current NicReachabilityDelta, for queries, indications and uploads (R-NUD-06)."""
    nrt, _ = _moments(adapter, neighbor)
    return (ticks - nrt) & _MASK


def test(adapter: Adapter, neighbor: NeighborContext, ticks: int) -> None:
    """Ask the host before a datagram if neither side has confirmed the neighbor for too long (R-NUD-05).

    NRT gets old without running connections, so the host is asked before the first datagram (R-NUD-13).
    """
    nrt, hrt = neighbor.nrt, neighbor.hrt
    if nrt is None or hrt is None:
        nrt, hrt = _moments(adapter, neighbor)
    stale = adapter.parameters.nce_stale_ticks
    if (ticks - nrt) & _MASK <= stale or (ticks - hrt) & _MASK <= stale or neighbor.asking:
        return
    neighbor.asking = True
    adapter.indicate(partial(_begin, adapter, neighbor))


def _begin(adapter: Adapter, neighbor: NeighborContext) -> None:
    if neighbor.life in _GONE:
        neighbor.asking = False
    else:
        adapter.ndis.run(_ask(adapter, neighbor))


def _ask(adapter: Adapter, neighbor: NeighborContext) -> Steps:
    """Indicate one block with all three structures (R-NUD-06, R-NUD-07, R-DIS-26, R-DIS-27)."""
    neighbor.delegated.nic_reachability_delta = current_nrd(adapter, neighbor, adapter.ticks())
    block: dict[str, Any] = {
        Key.BLOCK: [adapter.heap.address(BLOCK_SIZE)],
        Key.TYPE: _TYPE,
        Key.REVISION: 1,
        Key.SIZE: BLOCK_SIZE,
        Key.NEXT: None,
        Key.DEPENDENT: None,
        Key.STATUS: int(NdisStatus.SUCCESS),
        Key.STATE: [neighbor.image()],
    }
    answer = yield adapter.ndis.m_offload_event_indicate(
        adapter.handle, BlockList(Form.MINIPORT, block), _QUERY
    )
    neighbor.asking = False
    if neighbor.life not in _GONE:
        host_says(adapter, neighbor, _hrd(adapter, answer), adapter.ticks())


def _hrd(adapter: Adapter, answer: tuple[Any, ...]) -> int:
    """Return HostReachabilityDelta of the answer. A malformed answer counts as 0: the host was just asked."""
    columns = answer[1] if len(answer) > 1 and isinstance(answer[1], dict) else {}
    state = columns.get(Key.STATE)
    try:
        structures = unpack_state(_TYPE, (state[0] if isinstance(state, list) and state else None) or b"")
    except DecodeError:
        adapter.refuse("answer to NeighborReachabilityQuery is not well formed")
        return 0
    cached = structures[1]
    assert isinstance(cached, NeighborOffloadStateCached)
    return cached.host_reachability_delta
