"""Offload state trees: block lists in protocol form, written column by column.

A tree names objects of one, two or three layers. Its root layer is the lowest layer of the named objects. A
block that is needed only as the parent of others is a placeholder (R-TREE-01). Blocks stand in traversal
order: a block, its dependents, its next (R-TREE-08).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from hoststack.model.objects import Neighbor, Path, StateObject, Tcb
from ndisbus.ddi.state_types import OffloadStateType
from ndisbus.driver.sizes import list_bytes
from ndisbus.errors import LocalProtocolError
from ndisbus.lists.blocklist import BLOCK_SIZE, BlockList, Form, Key
from ndisbus.lists.heap import Heap
from ndisbus.lists.validate import MAX_BLOCKS
from ndisbus.messages.parts import MAX_FRAME

__all__ = ["Layers", "Tree", "arrange", "by_layer", "check_size", "most_blocks", "write_tree"]

#: Neighbors and paths as a tree over runs of connections; None stands for a placeholder.
Layers = dict[Neighbor | None, dict[Path | None, list[Tcb]]]

_NEIGHBOR_PLACEHOLDER: Final = int(OffloadStateType.NeighborOffloadState)
_PATH_PLACEHOLDER: Final = int(OffloadStateType.Ip4OffloadState)


class Tree:
    """A block list, and the object that each of its blocks names (None for a placeholder)."""

    __slots__ = ("block_list", "named")

    def __init__(self, block_list: BlockList, named: list[StateObject | None]) -> None:
        self.block_list = block_list
        self.named = named


def by_layer(objects: Iterable[StateObject]) -> tuple[list[Neighbor], list[Path], dict[Path, list[Tcb]]]:
    """Objects sorted by layer, and connections by path; the order within each is kept."""
    neighbors: list[Neighbor] = []
    paths: list[Path] = []
    groups: dict[Path, list[Tcb]] = {}
    path: Path | None = None
    group: list[Tcb] = []
    for obj in objects:
        if isinstance(obj, Tcb):
            if obj.path is not path:
                path = obj.path
                group = groups.setdefault(path, [])
            group.append(obj)
        elif isinstance(obj, Path):
            paths.append(obj)
        elif isinstance(obj, Neighbor):
            neighbors.append(obj)
        else:
            raise TypeError(f"{obj!r} is not a neighbor, path or connection")
    return neighbors, paths, groups


def arrange(
    neighbors: Iterable[Neighbor],
    paths: Iterable[Path],
    groups: dict[Path, list[Tcb]],
    *,
    nested: Callable[[Path], bool] = lambda path: True,
) -> Layers:
    """Named objects as layers: each below the object that it depends on, or below a placeholder.

    A path for which ``nested`` returns False stands below a placeholder although its neighbor is named.
    """
    top: Layers = {n: {} for n in neighbors}
    named: set[Path] = set()
    for path in paths:
        named.add(path)
        parent = path.neighbor if path.neighbor in top and nested(path) else None
        top.setdefault(parent, {})[path] = groups.get(path, [])
    for path, group in groups.items():
        if path not in named:
            parent = path.neighbor if path.neighbor in top else None
            top.setdefault(parent, {}).setdefault(None, []).extend(group)
    return top


def most_blocks(most: int) -> int:
    """Return how many objects without data certainly fit into a message of ``most`` bytes.

    A list of objects of several layers may need placeholders besides.
    """
    return min(MAX_BLOCKS * 2 // 3, most // list_bytes(1))


def check_size(layers: Layers, most: int, *, state: bool = True, data: Sequence[int] = ()) -> None:
    """Raise :class:`LocalProtocolError` if a tree does not fit into a message. Ask before anything changes.

    ``most``: the most bytes of the message (:attr:`ndisbus.driver.ndis.Ndis.largest_list`). ``state``:
    whether it or its completion has state. ``data``: the sizes of the pieces of data that go along.
    """
    blocks = len(layers)
    for below in layers.values():
        blocks += len(below) + sum(map(len, below.values()))
    if set(layers) == {None}:
        # Placeholders of layers below that of all named objects are not written.
        blocks -= 2 if set(layers[None]) <= {None} else 1
    if blocks > MAX_BLOCKS:
        raise LocalProtocolError(
            f"a list of {blocks} blocks does not fit into a message: at most {MAX_BLOCKS} do; "
            "take fewer objects at a time"
        )
    size = list_bytes(blocks, data, state=state)
    if size > most:
        raise LocalProtocolError(
            f"{size} bytes of state and data do not fit into a message: at most {most} do; "
            "take fewer objects at a time"
        )
    largest = max(data, default=0)
    if largest > MAX_FRAME:
        raise LocalProtocolError(
            f"{largest} bytes of data in one piece do not fit into a packet: at most {MAX_FRAME} do"
        )


class _Columns:
    """The columns of a tree while it is being written. Links between blocks are indexes."""

    __slots__ = ("chains", "dependents", "following", "handles", "named", "states", "types")

    def __init__(self) -> None:
        self.named: list[StateObject | None] = []
        self.types: list[int] = []
        self.handles: list[int | None] = []
        self.states: list[bytes | None] = []
        self.following: list[int | None] = []
        self.dependents: list[int | None] = []
        self.chains: list[int | None] | None = None

    def block(self, obj: StateObject | None, type_: int, state: bytes | None) -> int:
        """Add a block; returns its index."""
        index = len(self.types)
        self.named.append(obj)
        self.types.append(int(type_))
        self.handles.append(obj.handle.address if obj is not None and obj.handle is not None else None)
        self.states.append(state)
        self.following.append(None)
        self.dependents.append(None)
        return index

    def leaves(self, tcbs: Sequence[Tcb], type_: int, state_of: Callable[[Any], bytes | None] | None) -> int:
        """Add connections, each linked to the one before it; returns the index of the first."""
        index, n = len(self.types), len(tcbs)
        self.named += tcbs
        self.types += [int(type_)] * n
        self.handles += [t.handle.address for t in tcbs]  # type: ignore[union-attr]
        self.states += [None] * n if state_of is None else map(state_of, tcbs)
        self.following += range(index + 1, index + n)
        self.following.append(None)
        self.dependents += [None] * n
        return index


def write_tree(
    heap: Heap,
    layers: Layers,
    type_of: Callable[[StateObject], int],
    state_of: Callable[[Any], bytes | None] | None = None,
    *,
    chain_of: Callable[[Tcb], int | None] | None = None,
) -> Tree:
    """Write a tree. Every named object must have its handle.

    ``type_of`` gives Header.Type, once for all connections of a path. ``state_of`` gives the packed state
    behind a block; None makes a tree without state. ``chain_of`` gives NetBufferListChain.
    """
    cols = _Columns()
    with_neighbors = any(n is not None for n in layers)
    with_paths = with_neighbors or any(p is not None for paths in layers.values() for p in paths)
    last_neighbor = last_path = last_leaf = None
    for neighbor, paths in layers.items():
        at_neighbor: int | None = None
        if with_neighbors:
            if neighbor is None:
                at_neighbor = cols.block(None, _NEIGHBOR_PLACEHOLDER, None)
            else:
                at_neighbor = cols.block(
                    neighbor, type_of(neighbor), state_of(neighbor) if state_of else None
                )
            if last_neighbor is not None:
                cols.following[last_neighbor] = at_neighbor
            last_neighbor, last_path = at_neighbor, None
        for path, tcbs in paths.items():
            at_path: int | None = None
            if with_paths:
                if path is None:
                    at_path = cols.block(None, _PATH_PLACEHOLDER, None)
                else:
                    at_path = cols.block(path, type_of(path), state_of(path) if state_of else None)
                if last_path is not None:
                    cols.following[last_path] = at_path
                elif at_neighbor is not None:
                    cols.dependents[at_neighbor] = at_path
                last_path = at_path
            if tcbs:
                first = cols.leaves(tcbs, type_of(tcbs[0]), state_of)
                if at_path is not None:
                    cols.dependents[at_path] = first
                elif last_leaf is not None:
                    cols.following[last_leaf] = first
                last_leaf = first + len(tcbs) - 1
    if chain_of is not None:
        cols.chains = [chain_of(o) if isinstance(o, Tcb) else None for o in cols.named]
    return Tree(_finish(heap, cols), cols.named)


def _finish(heap: Heap, cols: _Columns) -> BlockList:
    blocks = list(heap.addresses(len(cols.types), BLOCK_SIZE))
    columns: dict[str, Any] = {
        Key.BLOCK: blocks,
        Key.TYPE: cols.types[0] if len(set(cols.types)) == 1 else cols.types,
        Key.REVISION: 1,
        Key.SIZE: BLOCK_SIZE,
        Key.NEXT: [None if i is None else blocks[i] for i in cols.following],
        Key.OFFLOAD_HANDLE: cols.handles,
    }
    if any(i is not None for i in cols.dependents):
        columns[Key.DEPENDENT] = [None if i is None else blocks[i] for i in cols.dependents]
    if any(s is not None for s in cols.states):
        columns[Key.STATE] = cols.states
    if cols.chains is not None and any(c is not None for c in cols.chains):
        columns[Key.NBL_CHAIN] = cols.chains
    return BlockList(Form.PROTOCOL, columns)
