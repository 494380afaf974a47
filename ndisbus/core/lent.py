"""What a block list lends. It must come back unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ndisbus.ddi.status import NdisStatus
from ndisbus.lists.blocklist import Key

__all__ = ["LENT", "failed_columns", "same"]

_SUCCESS: Final = int(NdisStatus.SUCCESS)
#: Columns that a driver below must hand back exactly as it got them (R-BLK-12, R-BLK-13, R-IM-05).
LENT: Final = (*Key.IM_RESERVED, *Key.PROTOCOL_RESERVED)


def same(a: Any, b: Any, n: int) -> bool:
    """Return whether two columns hold the same ``n`` values. One value may stand for all ``n``."""
    if a == b:
        return True
    if type(a) is list:
        return bool(a == (b if type(b) is list else [b] * n))
    return type(b) is list and b == [a] * n


def failed_columns(
    blocks: list[int], handles: Sequence[int | None], lent: dict[str, Any], status: int
) -> dict[str, Any]:
    """Return the columns of a completion that NDIS makes itself: the lent columns, and one status."""
    columns: dict[str, Any] = {Key.BLOCK: blocks, Key.STATUS: status}
    if None in handles:
        # A placeholder always succeeds (R-TREE-02).
        columns[Key.STATUS] = [_SUCCESS if h is None else status for h in handles]
    for key in LENT:
        if key in lent:
            columns[key] = lent[key]
    return columns
