"""Changing cached state and relinking paths: NdisUpdateOffload and its completion.

DDI pages update-offload-sequence and linking-path-state-objects-to-a-new-neighbor-state-object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hoststack.chimney import upload
from hoststack.chimney.trees import Layers, arrange, by_layer, check_size, write_tree
from hoststack.model.life import LIFE, Event
from hoststack.model.objects import Neighbor, Path, StateObject
from ndisbus.ddi.status import NdisStatus
from ndisbus.errors import LocalProtocolError
from ndisbus.lists.blocklist import BlockList, Key, values

if TYPE_CHECKING:
    from hoststack.chimney.engine import Engine
    from hoststack.model.operation import Operation

__all__ = ["completed", "relink", "update"]


def update(host: Engine, objects: Sequence[StateObject]) -> Operation:
    """Pass the objects' cached state down. See :meth:`HostDriver.update`."""
    objects = list(dict.fromkeys(objects))
    neighbors, paths, groups = by_layer(objects)
    return _send(host, objects, arrange(neighbors, paths, groups), None)


def relink(host: Engine, paths: Sequence[Path], neighbor: Neighbor) -> Operation:
    """Move paths to another neighbor (R-UPD-04). See :meth:`HostDriver.relink`."""
    paths = list(dict.fromkeys(paths))
    for path in paths:
        if not isinstance(path, Path):
            raise LocalProtocolError(f"{path!r} is not a path: only paths can be relinked", rule="R-UPD-01")
    if not neighbor.is_offloaded:
        raise LocalProtocolError(
            f"{neighbor!r} is not offloaded: offload it before moving paths to it", rule="R-UPD-06"
        )
    if not paths:
        raise LocalProtocolError(
            "the list of paths is empty: a relink moves at least one path", rule="R-UPD-04"
        )
    layers: Layers = {neighbor: {path: [] for path in paths}}
    return _send(host, [neighbor, *paths], layers, neighbor)


def _cached(obj: Any) -> bytes:
    image: bytes = obj.cached.pack()
    return image


def _send(host: Engine, objects: list[Any], layers: Layers, target: Neighbor | None) -> Operation:
    host.unclaimed(objects, Event.UPDATE)
    check_size(layers, host.ndis.largest_list)
    LIFE.advance_all(objects, Event.UPDATE)
    operation = host.new_operation("update", objects)
    if not objects:
        host.finish(operation)
        return operation
    try:
        tree = write_tree(host.ndis.heap, layers, lambda o: o.state_type("cached"), _cached)
    except BaseException:
        for obj in objects:
            LIFE.advance(obj, Event.UPDATED)
        raise
    operation.objects = [o for o in tree.named if o is not None]
    operation.target = target
    if target is not None:
        # Until the relink is done a path counts for both neighbors: neither is terminated (R-TERM-02).
        target.dependents += sum(1 for p in objects[1:] if p.neighbor is not target)
    host.pass_down(operation, host.ndis.update_offload, tree)
    return operation


def completed(host: Engine, operation: Operation, block_list: BlockList) -> None:
    """ProtocolUpdateOffloadComplete: link moved paths to the new neighbor; upload objects that failed."""
    named = operation.aligned
    target: Neighbor | None = operation.target
    at = 0
    for obj, status in zip(named, values(block_list.columns[Key.STATUS], len(named)), strict=True):
        if obj is None:
            continue
        LIFE.advance(obj, Event.UPDATED)
        operation.statuses[at] = status
        at += 1
        succeeded = status == NdisStatus.SUCCESS
        if target is not None and type(obj) is Path and obj.neighbor is not target:
            if succeeded:
                obj.neighbor.dependents -= 1
                obj.neighbor = target
            else:
                target.dependents -= 1
        if not succeeded:
            # The driver below keeps using the old values until the object is terminated (R-UPD-10).
            upload.request(host, obj)
    host.finish(operation)
