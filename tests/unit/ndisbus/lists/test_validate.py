"""Checks of block lists from the wire: columns, the shape of the tree, the kinds of node."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ndisbus.errors import DecodeError
from ndisbus.lists.blocklist import BLOCK_SIZE, BlockListBuilder, Key
from ndisbus.lists.heap import Heap
from ndisbus.lists.validate import (
    DOWN_COLUMNS,
    EVENT_COLUMNS,
    MAX_BLOCKS,
    UP_COLUMNS,
    check_columns,
    check_nodes,
    check_tree,
)
from tests.support.trees import TYPES, Grown, trees

NEIGHBOR, PATH, TCP = 4, 8, 17
B = [0x100, 0x200, 0x300]


few = settings(max_examples=50)


def columns(**changes: Any) -> dict[str, Any]:
    """A good list of three connections; changes by attribute of :class:`Key`."""
    cols: dict[str, Any] = {
        Key.BLOCK: list(B),
        Key.TYPE: TCP,
        Key.REVISION: 1,
        Key.SIZE: BLOCK_SIZE,
        Key.NEXT: [0x200, 0x300, None],
        Key.HANDLE_CELL: [0x11, 0x12, 0x13],
    }
    for name, column in changes.items():
        key = getattr(Key, name)
        cols[key if isinstance(key, str) else key[0]] = column
    return cols


def refused(obj: object, allowed: dict[str, int] = DOWN_COLUMNS) -> DecodeError:
    """The error of a list whose columns are not accepted."""
    with pytest.raises(DecodeError) as caught:
        check_columns(obj, "X", allowed)
    return caught.value


def misshapen(cols: dict[str, Any]) -> DecodeError:
    """The error of a tree that is not accepted."""
    check_columns(cols, "X", DOWN_COLUMNS)
    with pytest.raises(DecodeError) as caught:
        check_tree(cols, "X")
    return caught.value


# -- columns -------------------------------------------------------------------------------------------


def test_good_columns_are_returned_as_they_are() -> None:
    cols = columns(STATE=[b"a", None, b"c"], STATUS=0, PROTOCOL_RESERVED=[None, 5, (1 << 64) - 1])
    assert check_columns(cols, "X", DOWN_COLUMNS) is cols


@pytest.mark.parametrize("obj", [None, [], 1, "Block", b""])
def test_a_list_is_a_map(obj: object) -> None:
    assert refused(obj).where == "X"


@pytest.mark.parametrize("block", [..., [], None, 0x100, {}, "x", (1, 2)])
def test_the_addresses_are_there(block: object) -> None:
    cols: dict[str, Any] = {} if block is ... else {Key.BLOCK: block}
    assert refused(cols).where == "X.Block"


def test_there_are_not_too_many_blocks() -> None:
    error = refused({Key.BLOCK: [1] * (MAX_BLOCKS + 1)})
    assert "1000001 blocks" in str(error)


@pytest.mark.parametrize("key", ["Blocks", "block", "", "NdisOffloadHandle", b"Block"])
def test_unknown_members_are_named(key: Any) -> None:
    error = refused({Key.BLOCK: [1], key: 1})
    assert error.where == f"X.{key}"
    assert "unknown member" in str(error)


@pytest.mark.parametrize(
    "key", [Key.OFFLOAD_HANDLE, Key.TYPE, Key.NEXT, Key.DEPENDENT, Key.HANDLE_CELL, Key.SIZE]
)
def test_a_completion_carries_only_what_a_driver_below_may_write(key: str) -> None:
    assert refused({Key.BLOCK: [1], key: [1]}, UP_COLUMNS).where == f"X.{key}"
    check_columns({Key.BLOCK: [1], key: [1]}, "X", EVENT_COLUMNS)


@pytest.mark.parametrize("bad", [True, 1.0, "1", b"1", [1], {}])
@pytest.mark.parametrize("spread", [True, False])
def test_values_of_another_type_are_named(bad: Any, spread: bool) -> None:
    if spread:
        assert refused(columns(SOURCE_HANDLE=[1, bad, 1])).where == "X.SourceHandle[1]"
    elif not isinstance(bad, list):
        assert refused(columns(SOURCE_HANDLE=bad)).where == "X.SourceHandle"
    assert refused({Key.BLOCK: [1], Key.SOURCE_HANDLE: [bad]}).where == "X.SourceHandle[0]"


def test_state_is_opaque_bytes() -> None:
    assert refused(columns(STATE=[b"", "text", None])).where == "X.State[1]"
    assert refused(columns(STATE=3)).where == "X.State"
    check_columns(columns(STATE=b"the same behind every block"), "X", DOWN_COLUMNS)


@pytest.mark.parametrize("length", [0, 1, 2, 4])
def test_columns_are_as_long_as_the_list(length: int) -> None:
    error = refused(columns(CONTEXT=[None] * length))
    assert error.where == "X.*MiniportOffloadContext"
    assert f"{length} values for 3 blocks" in str(error)


@pytest.mark.parametrize(
    ("name", "bits"),
    [("TYPE", 8), ("REVISION", 8), ("SIZE", 16), ("STATUS", 32), ("PORT_NUMBER", 32), ("SOURCE_HANDLE", 64)],
)
def test_numbers_fit_their_c_type(name: str, bits: int) -> None:
    key, top = getattr(Key, name), 1 << bits
    check_columns(columns(**{name: [0, None, top - 1]}), "X", DOWN_COLUMNS)
    check_columns(columns(**{name: top - 1}), "X", DOWN_COLUMNS)
    for bad in (-1, top):
        error = refused(columns(**{name: [0, None, bad]}))
        assert error.where == f"X.{key}[2]"
        assert f"{bits} bits" in str(error)
        assert refused(columns(**{name: bad})).where.startswith(f"X.{key}")


def test_no_block_lies_at_null() -> None:
    assert refused(columns(BLOCK=[0x100, None, 0x300])).where == "X.Block[1]"


def test_attached_lists_are_an_array_and_otherwise_opaque() -> None:
    check_columns(columns(NET_BUFFER_LISTS=[["whatever", {}]]), "X", DOWN_COLUMNS)
    assert refused(columns(NET_BUFFER_LISTS={})).where == "X.NetBufferLists"


@few
@given(
    st.dictionaries(
        st.sampled_from([*DOWN_COLUMNS, "x"]),
        st.recursive(
            st.none() | st.integers() | st.binary(max_size=3) | st.booleans() | st.text(max_size=3),
            lambda inner: st.lists(inner, max_size=4),
            max_leaves=8,
        ),
    )
)
def test_whatever_comes_is_accepted_or_a_decode_error(cols: dict[str, Any]) -> None:
    try:
        checked = check_columns(cols, "X", DOWN_COLUMNS)
        check_tree(checked, "X")
    except DecodeError as e:
        where = e.where
        assert where.startswith("X")
    else:
        assert len(cols[Key.BLOCK]) >= 1


# -- the tree ------------------------------------------------------------------------------------------


@few
@given(trees())
def test_every_tree_that_was_grown_is_accepted(tree: Grown) -> None:
    """R-BLK-07 and R-BLK-08 hold in it; R-TREE-01: the Type of a placeholder means nothing."""
    cols = check_columns(tree.columns, "X", DOWN_COLUMNS)
    assume(not all(tree.placeholders))
    assert check_tree(cols, "X") == tree.layers


@few
@given(trees(), st.randoms(use_true_random=False))
def test_r_tree_01_the_type_of_a_placeholder_is_not_looked_at(tree: Grown, rng: Any) -> None:
    """R-TREE-01: whatever stands there, the tree is the same."""
    assume(not all(tree.placeholders))
    cols = tree.columns
    cols[Key.TYPE] = [
        rng.choice((0, 1, 5, 17, 200, 254)) if empty else kind
        for kind, empty in zip(cols[Key.TYPE], tree.placeholders, strict=True)
    ]
    assert check_tree(cols, "X") == tree.layers


@few
@given(trees(max_blocks=12), st.data())
def test_mutated_trees_are_refused(tree: Grown, data: st.DataObject) -> None:
    """One thing changed, and the list is not a tree of blocks any more."""
    n = len(tree.layers)
    assume(n > 1)
    cols = {k: list(c) if isinstance(c, list) else c for k, c in tree.columns.items()}
    blocks = cols[Key.BLOCK]
    nexts = cols.setdefault(Key.NEXT, [None] * n)
    deps = cols.setdefault(Key.DEPENDENT, [None] * n)
    links = [(col, i) for col in (nexts, deps) for i in range(n) if col[i] is not None]
    col, i = data.draw(st.sampled_from(links))
    mutation = data.draw(st.sampled_from(["stranger", "back", "self", "shared", "cut", "twice", "swapped"]))
    if mutation == "stranger":
        col[i] = 0xDEAD0
    elif mutation == "back":
        col[i] = blocks[data.draw(st.integers(0, i))]
    elif mutation == "self":
        col[i] = blocks[i]
    elif mutation == "shared":
        free = [(c, j) for c in (nexts, deps) for j in range(n) if c[j] is None and blocks.index(col[i]) > j]
        assume(free)
        other, j = data.draw(st.sampled_from(free))
        other[j] = col[i]
    elif mutation == "cut":
        col[i] = None
    elif mutation == "twice":
        blocks[data.draw(st.integers(1, n - 1))] = blocks[0]
    else:
        # A next becomes a dependent, or the reverse: it leads to the wrong layer.
        j = blocks.index(col[i])
        other = deps if col is nexts else nexts
        assume(other[i] is None)
        real = [k for k in range(n) if not tree.placeholders[k]]
        assume(0 in real and (j in real or any(tree.layers[k] >= 2 for k in real if k > j)))
        assume(j in real)
        col[i], other[i] = None, blocks[j]
    misshapen(cols)


@few
@given(trees(max_blocks=12, placeholders=False), st.data())
def test_a_type_of_another_layer_is_refused(tree: Grown, data: st.DataObject) -> None:
    assume(len(tree.layers) > 1)
    cols = tree.columns
    i = data.draw(st.integers(0, len(tree.layers) - 1))
    others = [t for layer, kinds in TYPES.items() if layer != tree.layers[i] for t in kinds]
    cols[Key.TYPE] = list(cols[Key.TYPE])
    cols[Key.TYPE][i] = data.draw(st.sampled_from([*others, 0, 18, 254, 255]))
    misshapen(cols)


@pytest.mark.parametrize(
    ("changes", "where", "reason"),
    [
        ({"NEXT": [0x200, 0x100, None]}, "X.NextBlock[1]", "leads back to block 0"),
        ({"NEXT": [0x200, 0x200, None]}, "X.NextBlock[1]", "cycle"),
        ({"NEXT": [0x200, None, None]}, "X.Block[2]", "hangs from no block"),
        ({"NEXT": [0x200, 0x999, None]}, "X.NextBlock[1]", "0x999 is not a block of this list"),
        ({"NEXT": [0x300, 0x300, None]}, "X.Block[1]", "hangs from no block"),
        ({"BLOCK": [0x100, 0x200, 0x200]}, "X.Block[1]", "twice"),
        (
            {"DEPENDENT": [0x200, None, None], "NEXT": [0x200, 0x300, None]},
            "X.DependentBlockList[0]",
            "shared",
        ),
        ({"TYPE": 18}, "X.Type[0]", "18"),
    ],
)
def test_errors_name_the_link(changes: dict[str, Any], where: str, reason: str) -> None:
    error = misshapen(columns(**changes))
    assert error.where == where
    assert reason in str(error)


def test_r_blk_07_next_keeps_the_layer() -> None:
    """R-BLK-07: the error names link, layers and rule."""
    error = misshapen(columns(TYPE=[TCP, TCP, PATH]))
    assert (error.where, error.rule) == ("X.NextBlock[1]", "R-BLK-07")
    assert "TCP to block 2 of layer PATH" in str(error)


@pytest.mark.parametrize(
    ("types", "dependents"),
    [
        ([NEIGHBOR, NEIGHBOR, NEIGHBOR], [0x200, 0x300, None]),
        ([NEIGHBOR, TCP, TCP], [0x200, None, None]),
        ([PATH, PATH, PATH], [0x200, None, None]),
        ([TCP, TCP, TCP], [0x200, None, None]),
        ([PATH, TCP, TCP], [0x200, 0x300, None]),
    ],
)
def test_r_blk_08_dependents_are_one_layer_up_and_a_connection_has_none(
    types: list[int], dependents: list[Any]
) -> None:
    """R-BLK-08."""
    nexts = [None, 0x300 if 0x300 not in dependents else None, None]
    error = misshapen(columns(TYPE=types, DEPENDENT=dependents, NEXT=nexts))
    assert error.rule == "R-BLK-08"
    assert error.where.startswith("X.DependentBlockList")


@pytest.mark.parametrize("cells", [[0x11, None, None], [None, None, 0x13]])
def test_r_blk_08_nor_does_a_connection_have_a_placeholder_as_dependent(cells: list[Any]) -> None:
    """R-BLK-08: the Type of a placeholder says nothing, but where it hangs does."""
    cols = columns(HANDLE_CELL=cells, DEPENDENT=[0x200, None, None], NEXT=[0x300, None, None])
    error = misshapen(cols)
    assert (error.where, error.rule) == ("X.DependentBlockList[0]", "R-BLK-08")


def test_a_single_block_leads_nowhere() -> None:
    assert check_tree({Key.BLOCK: [1], Key.TYPE: PATH, Key.HANDLE_CELL: [5]}, "X") == [2]
    for key in (Key.NEXT, Key.DEPENDENT):
        for column in ([0x1], 0x1, [0x2]):
            assert misshapen({Key.BLOCK: [1], Key.TYPE: PATH, key: column}).where == f"X.{key}[0]"


@pytest.mark.parametrize(
    ("kinds", "layers"),
    [
        # (layer by links, placeholder): the layer of a placeholder root follows from any other block.
        ([(1, True), (2, True), (3, False)], [1, 2, 3]),
        ([(2, True), (3, False)], [2, 3]),
        ([(2, True), (3, True), (3, False)], [2, 3, 3]),
        ([(2, True), (2, True), (3, False)], [2, 2, 3]),
        ([(1, True), (2, True), (2, False)], [1, 2, 2]),
        ([(3, True), (3, False)], [3, 3]),
    ],
)
def test_r_tree_01_the_layer_of_a_placeholder_root_follows_from_what_hangs_there(
    kinds: list[tuple[int, bool]], layers: list[int]
) -> None:
    """R-TREE-01: a placeholder says nothing of itself; R-BLK-07 and R-BLK-08 say what it must be."""
    heap = Heap(1)
    builder = BlockListBuilder(heap)
    for layer, empty in kinds:
        builder.add(TYPES[layer][0], None if empty else heap.address(0x20))
    cols = builder.build().columns
    handles = cols[Key.OFFLOAD_HANDLE]
    cols[Key.HANDLE_CELL] = [None if h is None else h + 0x10 for h in handles]
    cols[Key.TYPE] = [200 if h is None else t for h, t in zip(handles, cols[Key.TYPE], strict=True)]
    assert check_tree(cols, "X") == layers


def test_a_placeholder_root_too_high_for_what_hangs_there() -> None:
    cols = columns(TYPE=[0, NEIGHBOR, NEIGHBOR], HANDLE_CELL=[None, 0x12, 0x13])
    cols[Key.NEXT], cols[Key.DEPENDENT] = [None, 0x300, None], [0x200, None, None]
    assert misshapen(cols).rule == "R-BLK-08"


# -- kinds of node -------------------------------------------------------------------------------------


def nodes(handles: list[Any], contexts: list[Any], states: Any, dependents: Any = None) -> None:
    cols = {Key.BLOCK: B, Key.STATE: states}
    if dependents is not None:
        cols[Key.DEPENDENT] = dependents
    check_nodes(cols, handles, contexts, "X")


def test_good_nodes_of_every_kind() -> None:
    nodes([1, 2, 3], [None] * 3, [b"a", b"b", b"c"])
    nodes([1, 2, 3], [None] * 3, b"the same")
    nodes([None, 2, 3], [None, 0x5, None], [None, None, b"c"], [0x200, 0x300, None])
    nodes([None, None, None], [None] * 3, None)


def test_r_tree_01_no_state_follows_a_placeholder() -> None:
    """R-TREE-01."""
    with pytest.raises(DecodeError, match=r"X.State\[1\]: state follows a placeholder \[R-TREE-01\]"):
        nodes([1, None, 3], [None] * 3, [b"a", b"b", b"c"])


def test_r_tree_03_no_state_follows_a_linker() -> None:
    """R-TREE-03."""
    with pytest.raises(DecodeError, match=r"X.State\[0\]: state follows a linker \[R-TREE-03\]"):
        nodes([1, 2, 3], [0x5, None, None], [b"a", b"b", b"c"], [0x200, None, None])


@pytest.mark.parametrize("dependents", [None, [None, 0x300, None]])
def test_r_tree_04_a_linker_has_a_dependent(dependents: Any) -> None:
    """R-TREE-04."""
    with pytest.raises(DecodeError, match=r"X.DependentBlockList\[0\].*\[R-TREE-04\]"):
        nodes([1, 2, 3], [0x5, None, None], [None, b"b", b"c"], dependents)


@pytest.mark.parametrize("states", [None, [b"a", None, b"c"]])
def test_r_tree_06_state_follows_a_new_offload(states: Any) -> None:
    """R-TREE-06."""
    with pytest.raises(DecodeError, match=r"X.State\[[01]\]: no state.*\[R-TREE-06\]"):
        nodes([1, 2, 3], [None] * 3, states)


# -- size ----------------------------------------------------------------------------------------------


def big(n: int, per_path: int) -> dict[str, Any]:
    """A tree of about ``n`` connections on many paths."""
    heap = Heap(1)
    builder = BlockListBuilder(heap)
    builder.add(NEIGHBOR, heap.address(0x20), state=b"")
    for i in range(n):
        if i % per_path == 0:
            builder.add(PATH, heap.address(0x20), state=b"")
        builder.add(TCP, heap.address(0x20), state=b"")
    cols = builder.build().columns
    cols[Key.HANDLE_CELL] = [h + 0x10 for h in cols[Key.OFFLOAD_HANDLE]]
    return cols


@pytest.mark.parametrize("per_path", [1, 100_000])
def test_r_tree_13_width_has_no_limit_and_costs_linear_time(per_path: int) -> None:
    """R-TREE-13: 100,000 connections, on one path or on as many; nothing recurses."""
    cols = big(100_000, per_path)
    n = len(cols[Key.BLOCK])
    # Quadratic time would be minutes, beyond the limit of any test.
    layers = check_tree(check_columns(cols, "X", DOWN_COLUMNS), "X")
    check_nodes(cols, cols[Key.OFFLOAD_HANDLE], [None] * n, "X")
    assert len(layers) == n
    cols[Key.NEXT][-1] = cols[Key.BLOCK][0]
    assert "leads back" in str(misshapen(cols))


def test_a_long_list_of_placeholders_is_linear_too() -> None:
    n = 50_000
    blocks = list(range(0x1000, 0x1000 + n))
    cols: dict[str, Any] = {Key.BLOCK: blocks, Key.NEXT: [*blocks[1:], None], Key.HANDLE_CELL: [None] * n}
    assert check_tree(cols, "X") == [1] * n
    cols[Key.HANDLE_CELL] = [*[None] * (n - 1), 0x9]
    cols[Key.TYPE] = TCP
    assert check_tree(cols, "X") == [3] * n
