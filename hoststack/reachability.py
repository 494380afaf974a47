"""The host's answer to NeighborReachabilityQuery. Page "making-a-neighborreachabilityquery-indication.md"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hoststack.objects import Neighbor
from ndisbus.enums import IndicateOffloadEvent, Layer
from ndisbus.errors import DecodeError
from ndisbus.state import NeighborOffloadStateCached, pack_state, unpack_state

if TYPE_CHECKING:
    from hoststack.engine import Engine
    from ndisbus.blocklist import BlockList

__all__ = ["answer"]


def answer(host: Engine, block_list: BlockList | None, indication_code: int) -> BlockList | None:
    """Put HRD into the cached state behind the block: 0 if the host's entry is stale, else not (R-NUD-08).

    The host knows the neighbor by its link address; one that it does not know is stale. State that is not
    well formed is the other side's violation, and goes back as it came.
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
    for obj in host.held(Layer.NEIGHBOR):
        if isinstance(obj, Neighbor) and obj.cached.dl_destination_address == address:
            return max(obj.cached.host_reachability_delta, 1) if obj.reachable else 0
    return 0
