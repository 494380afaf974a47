"""Reading offloaded state: NdisQueryOffloadState and its completion. DDI page query-offload-sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from hoststack.chimney import upload
from hoststack.chimney.trees import arrange, by_layer, check_size, write_tree
from hoststack.model.life import LIFE, Event
from hoststack.model.objects import StateObject
from ndisbus.ddi.status import NdisStatus
from ndisbus.errors import DecodeError, LocalProtocolError
from ndisbus.lists.blocklist import BlockList, Key, values
from ndisbus.state.images import unpack_state

if TYPE_CHECKING:
    from hoststack.chimney.engine import Engine
    from hoststack.model.operation import Operation

__all__ = ["CLASSES", "completed", "query"]

#: The classes of state that a query can ask for; "whole" stands for all three.
CLASSES: Final = ("const", "cached", "delegated", "whole")


def query(host: Engine, objects: Sequence[StateObject], classes: str) -> Operation:
    """Read state from the driver below. See :meth:`HostDriver.query`."""
    if classes not in CLASSES:
        raise LocalProtocolError(f"{classes!r} is not a class of state; use one of: {', '.join(CLASSES)}")
    objects = list(dict.fromkeys(objects))
    host.unclaimed(objects, Event.QUERY)
    layers = arrange(*by_layer(objects))
    check_size(layers, host.ndis.largest_list)
    LIFE.advance_all(objects, Event.QUERY)
    operation = host.new_operation("query", objects)
    if not objects:
        host.finish(operation)
        return operation
    for obj in objects:
        obj.queries += 1
    tree = write_tree(host.ndis.heap, layers, lambda o: o.state_type(classes))
    operation.objects = [o for o in tree.named if o is not None]
    operation.results = [None] * len(objects)
    host.pass_down(operation, host.ndis.query_offload_state, tree)
    return operation


def completed(host: Engine, operation: Operation, block_list: BlockList) -> None:
    """ProtocolQueryOffloadComplete: note the structures; upload objects that failed (R-QRY-05)."""
    n = len(block_list)
    columns = block_list.columns
    assert operation.results is not None
    at = 0
    for obj, status, kind, state in zip(
        operation.aligned,
        values(columns[Key.STATUS], n),
        values(columns[Key.TYPE], n),
        values(columns.get(Key.STATE), n),
        strict=True,
    ):
        if obj is None:
            continue
        obj.queries -= 1
        LIFE.advance(obj, Event.QUERIED if obj.queries else Event.LAST_QUERIED)
        operation.statuses[at] = status
        if status == NdisStatus.SUCCESS:
            try:
                if state is None:
                    raise DecodeError("State", "is missing although the query succeeded", rule="R-QRY-03")
                operation.results[at] = unpack_state(kind, state)
            except DecodeError as e:
                host.violation(e.rule or "R-QRY-03", f"{obj!r}: {e}")
                operation.reasons[at] = str(e)
        else:
            upload.request(host, obj)
        at += 1
    host.finish(operation)
