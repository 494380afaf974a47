"""The two overlays: one list, in the MINIPORT form above this driver and in the PROTOCOL form below it.

Every block has its own SourceHandle and ImReserved, so both are saved and restored for every block of the
tree (R-DIS-40). As columns they are a few references, for any number of blocks. DDI pages
reusing-an-ndis-miniport-offload-block-list-structure and
reusing-an-ndis-protocol-offload-block-list-structure.
"""

from __future__ import annotations

from typing import Final

from imdriver.entries import ImCallEntry
from ndisbus.lists.blocklist import BlockList, Column, Key

__all__ = ["go_down", "leads_to", "put_back"]

#: The place of the call entry's address (R-IM-03).
ENTRY: Final = Key.IM_RESERVED[0]

_BORROWED: Final = (Key.SOURCE_HANDLE, *Key.IM_RESERVED)
_COVERED: Final = (Key.CELL, Key.CONTEXT)


def go_down(entry: ImCallEntry, offload_handles: list[int | None]) -> None:
    """Save SourceHandle and ImReserved, and make the overlay of the PROTOCOL form (R-IM-03, R-IM-04).

    The call entry's address is then in ImReserved.

    ``offload_handles``: pointers to this driver's NDIS_OFFLOAD_HANDLEs, one per block, None for placeholders.
    """
    block_list = entry.block_list
    cols = block_list.columns
    entry.saved = {key: cols[key] for key in (*_BORROWED, *_COVERED) if key in cols}
    cols[ENTRY] = entry.address
    block_list.overlay_protocol(offload_handles)


def put_back(entry: ImCallEntry, contexts: Column) -> None:
    """Make the overlay of the MINIPORT form, and restore SourceHandle and ImReserved (R-IM-05).

    ``contexts``: the current values of the upper driver's cells, one per block or one for all.
    """
    block_list, saved = entry.block_list, entry.saved
    cols = block_list.columns
    block_list.overlay_miniport(saved.get(Key.CELL), contexts)
    for key in _BORROWED:
        if key in saved:
            cols[key] = saved[key]
        else:
            cols.pop(key, None)


def leads_to(block_list: BlockList) -> int | None:
    """Return the address in ImReserved; None unless every block has the same one."""
    col = block_list.columns.get(ENTRY)
    if type(col) is not list:
        return col
    first: int | None = col[0]
    return first if col.count(first) == len(col) else None
