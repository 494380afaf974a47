"""Offload block lists, in both forms, held as columns.

A list is a tree of blocks, stored as *columns*: one Python list per member, or a single value if every block
has the same one. That is exactly the wire form (docs/protocol.md, "Block lists"). So a list of 100,000 blocks
is encoded and decoded at C speed. Converting it between the MINIPORT and the PROTOCOL form replaces a few
columns and does not touch every block.

Drivers see :class:`Block` views, which read and write like the structure itself.

Columns with C notation in their names stand for memory that a block points to, not for members.
``*MiniportOffloadContext`` is the PVOID in the cell. ``OffloadHandle->MiniportOffloadContext`` is the pointer
to that cell. ``State`` has the images of the state structures that follow the block.

DDI pages ns-ndischimney-_ndis_miniport_offload_block_list,
ns-ndischimney-_ndis_protocol_offload_block_list, comparison-of-offload-block-list-types,
reusing-an-ndis-miniport-offload-block-list-structure.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, overload

from ndisbus.ddi.state_types import Layer, layer_of
from ndisbus.errors import LocalProtocolError
from ndisbus.lists.heap import Heap

if TYPE_CHECKING:
    from ndisbus.lists.nbl_chain import Attachments

__all__ = ["BLOCK_SIZE", "Block", "BlockList", "BlockListBuilder", "Column", "Form", "Key", "values"]

T = TypeVar("T")

#: A column: one value per block, or one value for all of them.
Column = Any

#: Size of a block on x64, the same in both forms (symbols / computed, chimney pages).
BLOCK_SIZE: Final = 0x98


class Form(enum.Enum):
    """The two forms of a block. They differ only at offsets 0x20 to 0x3F (R-BLK-03)."""

    PROTOCOL = "NDIS_PROTOCOL_OFFLOAD_BLOCK_LIST"
    MINIPORT = "NDIS_MINIPORT_OFFLOAD_BLOCK_LIST"


class Key:
    """Names of the columns, as on the wire."""

    BLOCK: Final = "Block"
    TYPE: Final = "Type"
    REVISION: Final = "Revision"
    SIZE: Final = "Size"
    NEXT: Final = "NextBlock"
    DEPENDENT: Final = "DependentBlockList"
    STATUS: Final = "Status"
    OFFLOAD_HANDLE: Final = "OffloadHandle"
    HANDLE_CELL: Final = "OffloadHandle->MiniportOffloadContext"
    NDIS_OFFLOAD_HANDLE: Final = "NdisOffloadHandle"
    CELL: Final = "MiniportOffloadContext"
    CONTEXT: Final = "*MiniportOffloadContext"
    PROTOCOL_RESERVED: Final = ("ProtocolReserved[0]", "ProtocolReserved[1]")
    MINIPORT_RESERVED: Final = ("MiniportReserved[0]", "MiniportReserved[1]")
    IM_RESERVED: Final = ("ImReserved[0]", "ImReserved[1]")
    NDIS_RESERVED: Final = ("NdisReserved[0]", "NdisReserved[1]", "NdisReserved[2]")
    SCRATCH: Final = ("Scratch[0]", "Scratch[1]")
    SOURCE_HANDLE: Final = "SourceHandle"
    PORT_NUMBER: Final = "PortNumber"
    NBL_CHAIN: Final = "NetBufferListChain"
    STATE: Final = "State"
    #: Not a column: the net buffer lists that blocks and delegated state point to (NDIS does not read them).
    NET_BUFFER_LISTS: Final = "NetBufferLists"


class _Released(dict[str, Any]):
    """Replaces the columns of a list that was handed back: any use raises (R-BLK-11)."""

    def _touched(self, *_: object) -> Any:
        reason = "the block list was handed back and must not be touched any more"
        raise LocalProtocolError(reason, rule="R-BLK-11")

    __getitem__ = __setitem__ = __delitem__ = __contains__ = __iter__ = __len__ = _touched
    get = pop = update = setdefault = items = keys = values = copy = clear = _touched  # type: ignore[assignment]


class _Member(Generic[T]):
    """A member of a block. It reads and writes one column at the block's index."""

    __slots__ = ("default", "key")

    def __init__(self, key: str, default: T) -> None:
        self.key = key
        self.default = default

    @overload
    def __get__(self, block: None, owner: type) -> _Member[T]: ...
    @overload
    def __get__(self, block: Block, owner: type) -> T: ...
    def __get__(self, block: Block | None, owner: type) -> T | _Member[T]:
        if block is None:
            return self
        col = block.list.columns.get(self.key, self.default)
        value: T = col[block.index] if type(col) is list else col
        return value

    def __set__(self, block: Block, value: T) -> None:
        block.list.column(self.key)[block.index] = value


class Block:
    """One block of a list, as a driver sees it. Cheap to make; it has no data of its own."""

    __slots__ = ("index", "list")

    def __init__(self, block_list: BlockList, index: int) -> None:
        self.list = block_list
        self.index = index

    type: _Member[int] = _Member(Key.TYPE, 0)
    status: _Member[int] = _Member(Key.STATUS, 0)
    offload_handle: _Member[int | None] = _Member(Key.OFFLOAD_HANDLE, None)
    ndis_offload_handle: _Member[int | None] = _Member(Key.NDIS_OFFLOAD_HANDLE, None)
    miniport_offload_context: _Member[int | None] = _Member(Key.CELL, None)
    #: The PVOID in the cell that MiniportOffloadContext points to. Assigning it is the store (R-HND-02).
    context: _Member[int | None] = _Member(Key.CONTEXT, None)
    source_handle: _Member[int | None] = _Member(Key.SOURCE_HANDLE, None)
    net_buffer_list_chain: _Member[int | None] = _Member(Key.NBL_CHAIN, None)
    state: _Member[bytes | None] = _Member(Key.STATE, None)

    @property
    def address(self) -> int:
        """The pointer to this block."""
        return int(self.list.columns[Key.BLOCK][self.index])

    @property
    def next_block(self) -> Block | None:
        """NextBlock: the next block of the same layer."""
        return self.list.link(Key.NEXT, self.index)

    @property
    def dependent_block_list(self) -> Block | None:
        """DependentBlockList: the first block one layer up."""
        return self.list.link(Key.DEPENDENT, self.index)

    @property
    def layer(self) -> Layer:
        """The layer that Header.Type names."""
        return layer_of(self.type)

    @property
    def is_placeholder(self) -> bool:
        """Whether the block has no cell: a placeholder has only links (R-TREE-01)."""
        return self.miniport_offload_context is None

    @property
    def is_linker(self) -> bool:
        """Whether its cell holds a value: a linker names an offloaded object (R-TREE-03)."""
        return self.miniport_offload_context is not None and self.context is not None

    @property
    def is_new(self) -> bool:
        """Whether its cell holds NULL: its state follows and is to be offloaded (R-TREE-06)."""
        return self.miniport_offload_context is not None and self.context is None

    def __repr__(self) -> str:
        return f"<Block {self.index} type {self.type} of {self.list!r}>"


class BlockList:
    """A block list (a tree) in one of the two forms.

    ``columns`` maps the names in :class:`Key` to columns; a missing column is NULL or 0 in every
    block. ``Block`` is always a list, root first.
    """

    __slots__ = ("_index", "attachments", "columns", "form")

    def __init__(self, form: Form, columns: dict[str, Column]) -> None:
        self.form = form
        self.columns = columns
        #: Net buffer lists that the blocks or their state point to; decoded only when they are read.
        self.attachments: Attachments | None = None
        self._index: dict[int, int] | None = None

    def __len__(self) -> int:
        return len(self.columns[Key.BLOCK])

    def __iter__(self) -> Iterator[Block]:
        """Iterate over all blocks in storage order, which may differ from the traversal order."""
        return (Block(self, i) for i in range(len(self)))

    def __getitem__(self, index: int) -> Block:
        return Block(self, index)

    def __repr__(self) -> str:
        if type(self.columns) is _Released:
            return f"<released {self.form.value}>"
        return f"<{self.form.value} {self.address:#x}, {len(self)} blocks>"

    @property
    def address(self) -> int:
        """The pointer to the root. It identifies the list from request to completion."""
        return int(self.columns[Key.BLOCK][0])

    @property
    def root(self) -> Block:
        """The root block."""
        return Block(self, 0)

    def column(self, key: str) -> list[Any]:
        """Return a column as a list that may be written to. A single value is spread out first."""
        col = self.columns.get(key)
        if type(col) is not list:
            if col is None and key in (Key.STATUS, Key.TYPE):
                col = 0
            col = self.columns[key] = [col] * len(self)
        return col

    def link(self, key: str, index: int) -> Block | None:
        """Return the block that NextBlock or DependentBlockList of a block leads to; None for NULL."""
        col = self.columns.get(key)
        pointer = col[index] if type(col) is list else col
        if pointer is None:
            return None
        return Block(self, self.index_of(pointer))

    def index_of(self, pointer: int) -> int:
        """Return the index of the block with this address. LocalProtocolError if it is not in this list."""
        if self._index is None:
            self._index = {p: i for i, p in enumerate(self.columns[Key.BLOCK])}
        try:
            return self._index[pointer]
        except KeyError:
            raise LocalProtocolError(f"{pointer:#x} is not a block of list {self.address:#x}") from None

    def links(self, key: str) -> list[int]:
        """Return a link column as indexes, -1 for NULL."""
        n = len(self)
        col = self.columns.get(key)
        if col is None:
            return [-1] * n
        if self._index is None:
            self._index = {p: i for i, p in enumerate(self.columns[Key.BLOCK])}
        get = self._index.get
        if type(col) is not list:
            col = [col] * n
        out = [-1 if p is None else get(p, -2) for p in col]
        if -2 in out:
            i = out.index(-2)
            raise LocalProtocolError(f"{key}[{i}] = {col[i]:#x} is not a block of list {self.address:#x}")
        return out

    def traverse(self) -> Iterator[int]:
        """Iterate over the indexes, depth first: a block, then its dependents, then its next (R-TREE-08)."""
        if len(self) == 1:
            yield 0
            return
        following, dependents = self.links(Key.NEXT), self.links(Key.DEPENDENT)
        stack = [0]
        while stack:
            i = stack.pop()
            yield i
            if following[i] >= 0:
                stack.append(following[i])
            if dependents[i] >= 0:
                stack.append(dependents[i])

    def release(self) -> None:
        """Mark the list as handed back: from now on any use raises (R-BLK-11)."""
        self.columns = _Released()

    def overlay_protocol(self, offload_handles: Sequence[int | None]) -> None:
        """Reuse this miniport-form list as a protocol-form list (R-IM-04).

        ``offload_handles`` are the intermediate driver's own NDIS_OFFLOAD_HANDLEs, one per block, NULL for
        placeholders. The overlay overwrites NdisReserved, MiniportOffloadContext and NdisOffloadHandle. The
        driver keeps what it will need in its IM call entry.
        """
        self._expect(Form.MINIPORT)
        cols = self.columns
        for key in (*Key.NDIS_RESERVED, Key.CELL, Key.NDIS_OFFLOAD_HANDLE, Key.CONTEXT):
            cols.pop(key, None)
        cols[Key.OFFLOAD_HANDLE] = offload_handles if type(offload_handles) is list else list(offload_handles)
        self.form = Form.PROTOCOL

    def overlay_miniport(self, cells: Column, contexts: Column) -> None:
        """Reuse this protocol-form list as the miniport-form list that it was (R-IM-05).

        ``cells`` are the pointers to the upper driver's cells, ``contexts`` the values in them. The
        intermediate driver saved both when it made the overlay of the protocol form.
        """
        self._expect(Form.PROTOCOL)
        cols = self.columns
        for key in (*Key.NDIS_RESERVED, Key.OFFLOAD_HANDLE, Key.HANDLE_CELL):
            cols.pop(key, None)
        cols[Key.CELL] = cells
        cols[Key.CONTEXT] = contexts
        self.form = Form.MINIPORT

    def _expect(self, form: Form) -> None:
        if self.form is not form:
            raise LocalProtocolError(
                f"the list has the form {self.form.value}, not {form.value}", rule="R-BLK-01"
            )


def values(column: Column, count: int) -> list[Any]:
    """Return a column as a list of ``count`` values. It may be the column itself: do not write to it."""
    return column if type(column) is list else [column] * count


class BlockListBuilder:
    """Builds a protocol-form tree in traversal order, one :meth:`add` per block, each in O(1).

    Blocks are added depth first. A block becomes the next block of the last block of its layer. If its layer
    has no block since the last block one layer down, it becomes the first dependent of that block.

    ``type`` is the OffloadStateType of the block. ``handle`` is the NDIS_OFFLOAD_HANDLE of its object, None
    for a placeholder. ``state`` has the images of the structures that follow it.
    """

    __slots__ = ("_columns", "_first", "_heap", "_last", "_root_layer")

    def __init__(self, heap: Heap) -> None:
        self._heap = heap
        self._first: int | None = None
        self._root_layer = 0
        self._last: dict[int, int] = {}
        self._columns: dict[str, list[Any]] = {
            k: []
            for k in (
                Key.BLOCK,
                Key.TYPE,
                Key.NEXT,
                Key.DEPENDENT,
                Key.OFFLOAD_HANDLE,
                Key.STATE,
                Key.NBL_CHAIN,
            )
        }

    def __len__(self) -> int:
        return len(self._columns[Key.BLOCK])

    def add(
        self,
        type: int,  # noqa: A002 - the DDI's name for it
        handle: int | None,
        *,
        state: bytes | None = None,
        net_buffer_list_chain: int | None = None,
    ) -> int:
        """Add a block and return its address.

        Raises :class:`LocalProtocolError` for a block without a block to depend on (R-BLK-07, R-BLK-08).
        """
        cols = self._columns
        layer = layer_of(type)
        index = len(cols[Key.BLOCK])
        address = self._heap.address(BLOCK_SIZE)
        last = self._last
        sibling = last.get(layer)
        if sibling is not None:
            cols[Key.NEXT][sibling] = address
        elif index:
            parent = last.get(layer - 1)
            if parent is None:
                raise LocalProtocolError(
                    f"a {Layer(layer).name} block hangs from nothing in a tree rooted at "
                    f"{Layer(self._root_layer).name}",
                    rule="R-BLK-08",
                )
            cols[Key.DEPENDENT][parent] = address
        else:
            self._root_layer = layer
        last[layer] = index
        for above in (layer + 1, layer + 2):
            last.pop(above, None)
        cols[Key.BLOCK].append(address)
        cols[Key.TYPE].append(int(type))
        cols[Key.NEXT].append(None)
        cols[Key.DEPENDENT].append(None)
        cols[Key.OFFLOAD_HANDLE].append(handle)
        cols[Key.STATE].append(state)
        cols[Key.NBL_CHAIN].append(net_buffer_list_chain)
        return address

    def build(self) -> BlockList:
        """Return the finished list, with its headers filled in as a real driver does (R-BLK-05, R-DIS-47)."""
        if not self._columns[Key.BLOCK]:
            raise LocalProtocolError("a block list must have at least one block")
        columns: dict[str, Column] = {Key.REVISION: 1, Key.SIZE: BLOCK_SIZE}
        for key, col in self._columns.items():
            if key == Key.BLOCK or any(v is not None for v in col):
                columns[key] = col
        return BlockList(Form.PROTOCOL, columns)
