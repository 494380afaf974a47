"""What is lent with a block list, and must come back as it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ndisbus.ddi.status import NdisStatus
from ndisbus.lists.blocklist import Key

__all__ = ["LENT", "failed_columns", "same"]

_SUCCESS: Final = int(NdisStatus.SUCCESS)
#: What a driver below must hand back exactly as it was given (R-BLK-12, R-BLK-13, R-IM-05).
LENT: Final = (*Key.IM_RESERVED, *Key.PROTOCOL_RESERVED)


def same(a: Any, b: Any, n: int) -> bool:
    """Whether two columns hold the same values, spread out or not."""
    if a == b:
        return True
    if type(a) is list:
        return bool(a == (b if type(b) is list else [b] * n))
    return type(b) is list and b == [a] * n


def failed_columns(
    blocks: list[int], handles: Sequence[int | None], lent: dict[str, Any], status: int
) -> dict[str, Any]:
    """The columns of a completion that NDIS makes itself: lent columns as they were, one status."""
    columns: dict[str, Any] = {Key.BLOCK: blocks, Key.STATUS: status}
    if None in handles:
        # A placeholder always succeeds (R-TREE-02).
        columns[Key.STATUS] = [_SUCCESS if h is None else status for h in handles]
    for key in LENT:
        if key in lent:
            columns[key] = lent[key]
    return columns
