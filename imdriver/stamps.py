"""802.1Q values that this driver may set in the state of an initiate that passes through it (R-IM-17).

DDI page determining-whether-to-fail-an-offload-request-because-of-802-1q-infor.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

from imdriver.config import ImConfig
from ndisbus.ddi.state_types import OffloadStateType
from ndisbus.lists.blocklist import BlockList, Key, values
from ndisbus.state.images import TCP_STATE_OFF, NeighborOffloadStateConst, TcpOffloadStateConst

__all__ = ["stamp"]

_ULONG: Final = Struct("<I")
_VLAN_BITS: Final = 0xFFF
_PRIORITY_BITS: Final = 0x7

#: Offset of VlanId behind a block, by type. The constant state comes first (R-BLK-06).
_VLAN_ID_AT: Final = NeighborOffloadStateConst.offset_of("VlanId")
_VLAN_AT: Final = {
    int(OffloadStateType.NeighborOffloadState): _VLAN_ID_AT,
    int(OffloadStateType.NeighborOffloadConstState): _VLAN_ID_AT,
}
#: Offset of UserPriority: behind the constant state, or at the start of a block of cached state only.
_PRIORITY_AT: Final = {
    int(OffloadStateType.TcpOffloadState): TCP_STATE_OFF["cached.UserPriority"],
    int(OffloadStateType.TcpOffloadCachedState): TCP_STATE_OFF["cached.UserPriority"]
    - TcpOffloadStateConst.SIZE,
}


def stamp(block_list: BlockList, at: Sequence[int], config: ImConfig) -> None:
    """Write the configured VlanId and UserPriority into the images behind the blocks at these indexes.

    Nothing else in an image changes. An image that is too short for the member is not changed.
    """
    cols = block_list.columns
    n = len(block_list)
    types = values(cols.get(Key.TYPE, 0), n)
    states = list(values(cols.get(Key.STATE), n))
    for i in at:
        image = states[i]
        if image is None:
            continue
        vlan_at = _VLAN_AT.get(types[i]) if config.vlan_id is not None else None
        priority_at = _PRIORITY_AT.get(types[i]) if config.user_priority is not None else None
        if vlan_at is not None and config.vlan_id is not None and len(image) >= vlan_at + _ULONG.size:
            edited = bytearray(image)
            (old,) = _ULONG.unpack_from(image, vlan_at)
            _ULONG.pack_into(edited, vlan_at, old & ~_VLAN_BITS | config.vlan_id)
            states[i] = bytes(edited)
        elif priority_at is not None and config.user_priority is not None and len(image) > priority_at:
            edited = bytearray(image)
            edited[priority_at] = image[priority_at] & ~_PRIORITY_BITS | config.user_priority
            states[i] = bytes(edited)
    cols[Key.STATE] = states
