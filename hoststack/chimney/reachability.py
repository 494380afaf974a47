"""The answer to NeighborReachabilityQuery: how long ago the host confirmed a neighbor (R-NUD-08).

DDI page making-a-neighborreachabilityquery-indication.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hoststack.model.objects import Neighbor
from ndisbus.ddi.enums import IndicateOffloadEvent
from ndisbus.ddi.state_types import Layer
from ndisbus.errors import DecodeError
from ndisbus.state.images import NeighborOffloadStateCached, pack_state, unpack_state

if TYPE_CHECKING:
    from hoststack.chimney.engine import Engine
    from ndisbus.lists.blocklist import BlockList

__all__ = ["answer", "neighbor_at"]


def answer(host: Engine, block_list: BlockList | None, indication_code: int) -> BlockList | None:
    """Set HostReachabilityDelta in the cached state behind the block: 0 if the host's entry is stale.

    The host finds the neighbor by its link address; a neighbor that it does not know counts as stale. State
    that cannot be decoded is a violation of the driver below, and is returned unchanged (R-NUD-06).
    """
    if indication_code != IndicateOffloadEvent.NeighborReachabilityQuery or block_list is None:
        return block_list
    block = block_list.root
    try:
        structures = unpack_state(block.type, block.state or b"", where="NeighborReachabilityQuery")
    except DecodeError as e:
        host.violation("R-NUD-06", str(e))
        return block_list
    for structure in structures:
        if isinstance(structure, NeighborOffloadStateCached):
            structure.host_reachability_delta = _delta(host, structure.dl_destination_address)
    block.state = pack_state(structures)
    return block_list


def _delta(host: Engine, address: bytes) -> int:
    """Ticks since the host confirmed the neighbor, at least one; 0 if its entry is stale."""
    obj = neighbor_at(host, address)
    return max(obj.cached.host_reachability_delta, 1) if obj is not None and obj.reachable else 0


def neighbor_at(host: Engine, address: bytes) -> Neighbor | None:
    """The offloaded neighbor with a link address; None if there is none."""
    for obj in host.held(Layer.NEIGHBOR):
        if isinstance(obj, Neighbor) and obj.cached.dl_destination_address == address:
            return obj
    return None
