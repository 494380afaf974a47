"""Stopping transmission at once: NdisInvalidateOffload and its completion.

DDI page invalidate-offload-sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hoststack.chimney import upload
from hoststack.chimney.trees import arrange, by_layer, check_size, write_tree
from hoststack.model.life import LIFE, Event
from hoststack.model.objects import StateObject
from ndisbus.ddi.status import NdisStatus
from ndisbus.lists.blocklist import BlockList, Key, values

if TYPE_CHECKING:
    from hoststack.chimney.engine import Engine
    from hoststack.model.operation import Operation

__all__ = ["completed", "invalidate"]


def invalidate(host: Engine, objects: Sequence[StateObject]) -> Operation:
    """Pass down a tree of blocks without state (R-INV-02). See :meth:`HostDriver.invalidate`."""
    objects = list(dict.fromkeys(objects))
    host.unclaimed(objects, Event.INVALIDATE)
    layers = arrange(*by_layer(objects))
    check_size(layers, host.ndis.largest_list, state=False)
    LIFE.advance_all(objects, Event.INVALIDATE)
    operation = host.new_operation("invalidate", objects)
    if not objects:
        host.finish(operation)
        return operation
    tree = write_tree(host.ndis.heap, layers, lambda o: o.state_type("whole"))
    operation.objects = [o for o in tree.named if o is not None]
    host.pass_down(operation, host.ndis.invalidate_offload, tree)
    return operation


def completed(host: Engine, operation: Operation, block_list: BlockList) -> None:
    """ProtocolInvalidateOffloadComplete. An object that failed is uploaded: its hardware is corrupt."""
    named = operation.aligned
    at = 0
    for obj, status in zip(named, values(block_list.columns[Key.STATUS], len(named)), strict=True):
        if obj is None:
            continue
        operation.statuses[at] = status
        at += 1
        if status == NdisStatus.SUCCESS:
            LIFE.advance(obj, Event.INVALIDATED)
        else:
            LIFE.advance(obj, Event.NOT_INVALIDATED)
            upload.request(host, obj)
    host.finish(operation)
