"""Block lists: columns, views, traversal, the two overlays, release, and the builder."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndisbus.ddi.state_types import Layer
from ndisbus.errors import LocalProtocolError
from ndisbus.lists.blocklist import BLOCK_SIZE, Block, BlockList, BlockListBuilder, Form, Key, values
from ndisbus.lists.heap import Heap
from tests.support.trees import Grown, trees

NEIGHBOR, PATH, TCP = 4, 8, 17
few = settings(max_examples=50)


def miniport_list(n: int = 3) -> BlockList:
    """A list as a miniport gets it, with every column that there is."""
    columns: dict[str, Any] = {
        Key.BLOCK: [0x1000 + 0x100 * i for i in range(n)],
        Key.TYPE: TCP,
        Key.REVISION: 1,
        Key.SIZE: BLOCK_SIZE,
        Key.NEXT: [*(0x1000 + 0x100 * i for i in range(1, n)), None],
        Key.STATUS: [0] * n,
        Key.NDIS_OFFLOAD_HANDLE: [0x9000 + i for i in range(n)],
        Key.CELL: [0x9100 + i for i in range(n)],
        Key.CONTEXT: [None] * n,
        Key.SOURCE_HANDLE: 0x77,
        Key.PORT_NUMBER: 3,
        Key.NBL_CHAIN: [None, 0x8000, None][:n] + [None] * (n - 3),
        Key.STATE: [b"state"] * n,
    }
    reserved = (*Key.PROTOCOL_RESERVED, *Key.MINIPORT_RESERVED, *Key.IM_RESERVED, *Key.SCRATCH)
    columns |= {key: [0x500 + i] * n for i, key in enumerate(reserved)}
    for key in Key.NDIS_RESERVED:
        columns[key] = 0xABC
    return BlockList(Form.MINIPORT, columns)


def build(heap: Heap, *types: int) -> BlockList:
    builder = BlockListBuilder(heap)
    for t in types:
        builder.add(t, heap.address(0x20), state=b"x")
    return builder.build()


# -- views ---------------------------------------------------------------------------------------------


def test_a_block_reads_and_writes_its_columns() -> None:
    blocks = miniport_list()
    first, second = blocks[0], blocks[1]
    assert blocks.address == blocks.root.address == first.address == 0x1000
    assert (first.type, first.layer) == (TCP, Layer.TCP)
    assert (first.source_handle, second.net_buffer_list_chain, second.state) == (0x77, 0x8000, b"state")
    second.status = 0xC0000001
    second.context = 0x42
    assert blocks.columns[Key.STATUS] == [0, 0xC0000001, 0]
    assert blocks.columns[Key.CONTEXT] == [None, 0x42, None]
    first.source_handle = 0x78  # a single value is spread out before one block is written
    assert blocks.columns[Key.SOURCE_HANDLE] == [0x78, 0x77, 0x77]


def test_an_absent_column_is_null_or_zero_in_every_block() -> None:
    block = BlockList(Form.MINIPORT, {Key.BLOCK: [0x10, 0x20]})[1]
    assert (block.type, block.status, block.context, block.state) == (0, 0, None, None)
    assert block.next_block is None
    assert block.dependent_block_list is None
    block.status = 5
    assert block.list.columns[Key.STATUS] == [0, 5]


def test_the_three_kinds_of_node() -> None:
    """R-TREE-01, R-TREE-03, R-TREE-06: what a block is follows from its cell."""
    blocks = miniport_list()
    blocks.columns[Key.CELL] = [None, 0x9101, 0x9102]
    blocks.columns[Key.CONTEXT] = [None, None, 0x5]
    kinds = [(b.is_placeholder, b.is_new, b.is_linker) for b in blocks]
    assert kinds == [(True, False, False), (False, True, False), (False, False, True)]


def test_links_are_followed_by_address() -> None:
    heap = Heap(3)
    blocks = build(heap, NEIGHBOR, PATH, TCP, TCP, PATH)
    neighbor = blocks.root
    path = neighbor.dependent_block_list
    assert path is not None and path.index == 1
    assert path.next_block is not None and path.next_block.index == 4
    assert path.dependent_block_list is not None and path.dependent_block_list.index == 2
    assert path.dependent_block_list.next_block is not None
    assert neighbor.next_block is None


def test_a_dangling_link_names_the_column_and_the_place() -> None:
    blocks = build(Heap(3), NEIGHBOR, NEIGHBOR)
    blocks.columns[Key.NEXT] = [0x123, None]
    with pytest.raises(LocalProtocolError, match=r"NextBlock\[0\] = 0x123 is not a block"):
        list(blocks.traverse())
    with pytest.raises(LocalProtocolError, match="0x123 is not a block"):
        _ = blocks.root.next_block


def test_values_gives_one_per_block() -> None:
    column = [1, 2]
    assert values(column, 2) is column
    assert values(None, 2) == [None, None]
    assert values(7, 3) == [7, 7, 7]


# -- traversal -----------------------------------------------------------------------------------------


def depth_first(block: Block | None) -> list[int]:
    """The order the page describes, in its own words: a node, its dependents, its next."""
    if block is None:
        return []
    return [block.index, *depth_first(block.dependent_block_list), *depth_first(block.next_block)]


@few
@given(trees())
def test_r_tree_08_depth_first_and_breadth_next(tree: Grown) -> None:
    """R-TREE-08, and R-TREE-07: placeholders are passed through like any other block."""
    order = list(tree.block_list.traverse())
    assert order == depth_first(tree.block_list.root)
    assert order == list(range(len(tree.layers)))


@few
@given(trees(), st.randoms(use_true_random=False))
def test_r_tree_08_the_order_does_not_depend_on_where_blocks_are_stored(tree: Grown, rng: Any) -> None:
    """R-TREE-08: the order does not depend on where blocks are stored."""
    columns = tree.block_list.columns
    places = list(range(1, len(tree.layers)))
    rng.shuffle(places)
    places = [0, *places]
    shuffled = {k: [col[i] for i in places] if isinstance(col, list) else col for k, col in columns.items()}
    blocks = BlockList(Form.PROTOCOL, shuffled)
    assert [places[i] for i in blocks.traverse()] == list(tree.block_list.traverse())


def test_r_tree_09_the_reference_tree() -> None:
    """R-TREE-09: the figure's two neighbors, three paths and five connections."""
    names = ["Neighbor1", "Path1", "TCP1", "TCP2", "Path2", "TCP3", "Neighbor2", "Path3", "TCP4", "TCP5"]
    heap = Heap(2)
    address = {n: heap.address(BLOCK_SIZE) for n in names}
    following = {"Neighbor1": "Neighbor2", "Path1": "Path2", "TCP1": "TCP2", "TCP4": "TCP5"}
    dependents = {
        "Neighbor1": "Path1",
        "Neighbor2": "Path3",
        "Path1": "TCP1",
        "Path2": "TCP3",
        "Path3": "TCP4",
    }
    # Stored layer by layer, so that the order cannot come from storage.
    stored = sorted(names, key=lambda n: "NPT".index(n[0]))
    blocks = BlockList(
        Form.MINIPORT,
        {
            Key.BLOCK: [address[n] for n in stored],
            Key.NEXT: [address.get(following.get(n, "")) for n in stored],
            Key.DEPENDENT: [address.get(dependents.get(n, "")) for n in stored],
        },
    )
    assert [stored[i] for i in blocks.traverse()] == names


def test_r_tree_13_a_very_wide_tree_is_traversed_without_recursion() -> None:
    """R-TREE-13: 100,000 connections on one path."""
    blocks = build(Heap(2), PATH, *[TCP] * 100_000)
    assert sum(1 for _ in blocks.traverse()) == 100_001


# -- the overlays --------------------------------------------------------------------------------------

COVERED = {*Key.NDIS_RESERVED, Key.CELL, Key.NDIS_OFFLOAD_HANDLE, Key.CONTEXT}


def test_r_blk_03_and_r_im_04_the_protocol_form_covers_the_middle_and_nothing_else() -> None:
    """R-BLK-03: only what lies at offsets 0x20 to 0x3F differs. R-IM-04: the same block is reused."""
    blocks = miniport_list()
    before = dict(blocks.columns)
    blocks.overlay_protocol([0x51, None, 0x53])
    assert blocks.form is Form.PROTOCOL
    assert blocks.columns.pop(Key.OFFLOAD_HANDLE) == [0x51, None, 0x53]
    assert blocks.columns == {k: c for k, c in before.items() if k not in COVERED}
    assert all(blocks.columns[k] is before[k] for k in blocks.columns)


def test_r_blk_03_and_r_im_05_the_miniport_form_comes_back_and_keeps_everything_else() -> None:
    """R-BLK-03: R-IM-05: what comes up again is the block that came down."""
    blocks = miniport_list()
    before = dict(blocks.columns)
    blocks.overlay_protocol([0x51, 0x52, 0x53])
    blocks.columns[Key.NDIS_RESERVED[0]] = 1  # NDIS may have used what is reserved for it
    blocks.overlay_miniport(before[Key.CELL], [0xA, 0xB, 0xC])
    assert blocks.form is Form.MINIPORT
    gone = {*Key.NDIS_RESERVED, Key.NDIS_OFFLOAD_HANDLE, Key.CONTEXT}
    assert {k: c for k, c in blocks.columns.items() if k != Key.CONTEXT} == {
        k: c for k, c in before.items() if k not in gone
    }
    assert blocks.columns[Key.CONTEXT] == [0xA, 0xB, 0xC]


def test_r_blk_01_an_overlay_needs_the_other_form() -> None:
    """R-BLK-01: a form belongs to an edge."""
    blocks = miniport_list()
    with pytest.raises(LocalProtocolError, match="R-BLK-01"):
        blocks.overlay_miniport(None, None)
    blocks.overlay_protocol([None] * 3)
    with pytest.raises(LocalProtocolError, match="R-BLK-01"):
        blocks.overlay_protocol([None] * 3)


# -- release -------------------------------------------------------------------------------------------

TOUCHES: dict[str, Any] = {
    "length": len,
    "address": lambda b: b.address,
    "iteration": lambda b: [x.status for x in b],
    "a block of old": lambda b: b[0].status,
    "a write": lambda b: setattr(b[0], "status", 1),
    "traversal": lambda b: list(b.traverse()),
    "a column": lambda b: b.column(Key.STATUS),
    "an overlay": lambda b: b.overlay_protocol([]),
    "columns[]": lambda b: b.columns[Key.STATUS],
    "columns.get": lambda b: b.columns.get(Key.STATUS),
    "columns in": lambda b: Key.STATUS in b.columns,
    "columns.items": lambda b: list(b.columns.items()),
    "columns.update": lambda b: b.columns.update({Key.STATUS: 1}),
    "copy": lambda b: dict(b.columns),
    "loop": lambda b: list(b.columns),
}


@pytest.mark.parametrize("touch", TOUCHES.values(), ids=TOUCHES)
def test_r_blk_11_a_list_that_was_handed_back_cannot_be_touched(touch: Any) -> None:
    """R-BLK-11: however it is touched."""
    blocks = miniport_list()
    blocks.release()
    with pytest.raises(LocalProtocolError, match="R-BLK-11"):
        touch(blocks)
    assert repr(blocks) == "<released NDIS_MINIPORT_OFFLOAD_BLOCK_LIST>"


# -- the builder ---------------------------------------------------------------------------------------


@few
@given(trees())
def test_r_blk_07_and_r_blk_08_the_builder_links_within_and_between_layers(tree: Grown) -> None:
    """R-BLK-07: next keeps the layer. R-BLK-08: dependents are one layer up, and a connection has none."""
    for block in tree.block_list:
        layer = tree.layers[block.index]
        following, dependent = block.next_block, block.dependent_block_list
        assert following is None or tree.layers[following.index] == layer
        assert dependent is None or tree.layers[dependent.index] == layer + 1


@few
@given(trees())
def test_r_blk_05_the_builder_fills_in_the_headers(tree: Grown) -> None:
    """R-BLK-05: Type names the layer, Size is that of the block; Revision is 1 (R-DIS-47)."""
    blocks = tree.block_list
    assert (blocks.columns[Key.REVISION], blocks.columns[Key.SIZE]) == (1, 0x98)
    assert [int(b.layer) for b in blocks] == tree.layers
    assert blocks.form is Form.PROTOCOL
    assert [b.offload_handle is None for b in blocks] == tree.placeholders
    addresses = blocks.columns[Key.BLOCK]
    assert all(b - a >= 0x98 for a, b in pairwise(addresses))


@pytest.mark.parametrize(
    "types",
    [(TCP, PATH), (PATH, NEIGHBOR), (NEIGHBOR, TCP), (NEIGHBOR, PATH, NEIGHBOR, TCP), (TCP, NEIGHBOR)],
)
def test_r_blk_08_the_builder_refuses_a_block_that_hangs_from_nothing(types: tuple[int, ...]) -> None:
    """R-BLK-08: nothing skips a layer, nothing stands beside the root of another layer."""
    heap = Heap(1)
    builder = BlockListBuilder(heap)
    for t in types[:-1]:
        builder.add(t, None)
    with pytest.raises(LocalProtocolError, match="R-BLK-08"):
        builder.add(types[-1], None)
    assert len(builder) == len(types) - 1
    assert len(builder.build()) == len(types) - 1


def test_the_builder_has_no_empty_list_and_no_types_without_a_layer() -> None:
    builder = BlockListBuilder(Heap(1))
    with pytest.raises(LocalProtocolError, match="at least one block"):
        builder.build()
    with pytest.raises(ValueError, match="FilterReserved"):
        builder.add(254, None)


def test_columns_that_no_block_needs_do_not_travel() -> None:
    builder = BlockListBuilder(Heap(1))
    builder.add(TCP, None)
    assert set(builder.build().columns) == {Key.BLOCK, Key.TYPE, Key.REVISION, Key.SIZE}
