"""The common parts of query, update, invalidate and terminate: lists whose blocks name offloaded objects.

A placeholder succeeds in each of them (R-TREE-02). A block fails by itself and is counted if it does not name
an object, names an object of another layer, or names one whose life does not allow the operation. The other
blocks are not affected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ndisbus.ddi.state_types import Layer, OffloadStateType, classes_of, layer_of
from ndisbus.ddi.status import NdisStatus
from ndisbus.driver.pace import paced
from ndisbus.lists.blocklist import BlockList, Key, values
from ndisbus.state.images import state_size
from target.hardware.adapter import Adapter
from target.model.contexts import Context, PathContext
from target.model.life import LIFE, Event

__all__ = ["FAILURE", "SLICES", "SUCCESS", "fail_all", "fits", "named", "resolve", "slice_of"]

SUCCESS: Final = int(NdisStatus.SUCCESS)
FAILURE: Final = int(NdisStatus.FAILURE)

_TYPES: Final = range(
    int(OffloadStateType.NeighborOffloadConstState), int(OffloadStateType.TcpOffloadState) + 1
)
_FIRST_IP6: Final = int(OffloadStateType.Ip6OffloadConstState)
_LAYER: Final[dict[int, Layer]] = {n: layer_of(n) for n in _TYPES}


def _slice(state_type: int) -> slice:
    """Return the position of a type's structures in the image of the whole state of its layer."""
    whole = next(n for n in range(state_type, 18) if len(classes_of(n)) == 3)
    # The unused TcpOffloadResourceState is between the delegated and the whole state of TCP.
    first = (
        whole - 3 if whole != OffloadStateType.TcpOffloadState else int(OffloadStateType.TcpOffloadConstState)
    )
    offset = 0
    for before in range(first, state_type):
        offset += state_size(before)
    if state_type == whole:
        offset = 0
    return slice(offset, offset + state_size(state_type))


#: Type -> its part of the image of the whole state; empty for TcpOffloadResourceState.
SLICES: Final[dict[int, slice]] = {
    n: slice(0, 0) if n == OffloadStateType.TcpOffloadResourceState else _slice(n) for n in _TYPES if n != 17
}
SLICES[17] = slice(0, state_size(17))


def fail_all(
    adapter: Adapter, block_list: BlockList, complete: Callable[[int | None, BlockList], None]
) -> None:
    """Complete a list that is not carried out: every block but placeholders fails."""
    cells = values(block_list.columns.get(Key.CELL), len(block_list))
    block_list.columns[Key.STATUS] = [SUCCESS if cell is None else FAILURE for cell in cells]
    complete(adapter.handle, block_list)


def fits(adapter: Adapter, block_list: BlockList, complete: Callable[[int | None, BlockList], None]) -> bool:
    """Return whether the completion, with state, fits into a message. If not, the list fails at once."""
    if adapter.ndis.takes(block_list):
        return True
    adapter.refuse("list is too long for a message with its state")
    fail_all(adapter, block_list, complete)
    return False


def slice_of(obj: Context, state_type: int) -> slice | None:
    """Return the part of an object's image that a block of this type asks for; None if of another layer."""
    if _LAYER.get(state_type) is not obj.layer:
        return None
    if isinstance(obj, PathContext) and (state_type >= _FIRST_IP6) is not (obj.type >= _FIRST_IP6):
        return None
    return SLICES[state_type]


def named(adapter: Adapter, block_list: BlockList) -> tuple[list[Context | None], list[int]]:
    """Return the object that each block names (None: placeholder, or failed), and each block's Status."""
    columns, n = block_list.columns, len(block_list)
    find = adapter.hardware.find
    found: list[Context | None] = []
    statuses: list[int] = []
    blocks = zip(
        values(columns.get(Key.CELL), n),
        values(columns.get(Key.CONTEXT), n),
        values(columns.get(Key.TYPE, 0), n),
        strict=True,
    )
    for cell, pointer, kind in paced(blocks, adapter.ndis.working):
        obj = None
        status = SUCCESS
        if cell is not None:
            obj = find(pointer)
            if obj is None or _LAYER.get(kind) is not obj.layer:
                adapter.refuse(
                    "block does not name an offloaded object"
                    if obj is None
                    else "block type is of another layer"
                )
                obj, status = None, FAILURE
        found.append(obj)
        statuses.append(status)
    return found, statuses


def resolve(adapter: Adapter, block_list: BlockList, event: Event) -> tuple[list[Context | None], list[int]]:
    """Do as :func:`named`, and step the life of every object. Blocks whose object may not step fail."""
    found, statuses = named(adapter, block_list)
    step = LIFE.column(event)
    for i, obj in paced(enumerate(found), adapter.ndis.working):
        if obj is not None:
            following = step.get(obj.life)
            if following is None:
                adapter.refuse(f"{event.value} is not legal in state {obj.life.value}")
                found[i], statuses[i] = None, FAILURE
            else:
                obj.life = following
    return found, statuses
