"""The trees a host builds: linkers, placeholders, new offloads, order, types."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoststack.chimney.trees import arrange, by_layer, write_tree
from hoststack.model import synthetic
from hoststack.model.objects import Neighbor, Path, StateObject, Tcb
from ndisbus.ddi.state_types import OffloadStateType
from ndisbus.errors import LocalProtocolError
from ndisbus.lists.blocklist import Key
from ndisbus.lists.heap import Heap
from ndisbus.lists.validate import check_tree
from ndisbus.state.images import pack_state, unpack_state
from tests.support.host_rig import Rig


def test_r_tree_06_and_r_blk_06_a_new_offload_is_followed_by_its_whole_state() -> None:
    """R-TREE-06, R-BLK-06: a new offload is followed by its whole state."""
    rig = Rig()
    neighbor, (path,), tcbs = rig.tree(2)
    rig.act(lambda h: h.offload(tcbs))
    request = rig.take("NdisInitiateOffload")
    blocks = rig.blocks(request)
    assert rig.named(request) == [neighbor, path, *tcbs]
    for block, obj in zip(blocks, (neighbor, path, *tcbs), strict=True):
        assert block.context is None
        assert block.state == pack_state(obj.whole())
        assert unpack_state(block.type, block.state or b"") == obj.whole()


def test_r_tree_03_and_r_tree_04_an_offloaded_path_is_linked_to_without_state() -> None:
    """R-TREE-03, R-TREE-04: an offloaded path is linked to without state."""
    rig = Rig()
    _, (path,), tcbs = rig.offloaded(1)
    more = synthetic.connections(path, 2, rng=rig.rng, first_port=1000)
    operation = rig.act(lambda h: h.offload(more))
    request = rig.take("NdisInitiateOffload")
    blocks = rig.blocks(request)
    assert rig.named(request) == [path, *more]
    assert blocks[0].context is not None
    assert blocks[0].state is None
    assert blocks[0].dependent_block_list is not None
    assert operation.objects == more
    assert path.dependents == 1 + len(more)
    assert len(tcbs) == 1


def test_r_tree_03_a_linked_neighbor_has_new_paths_only_below_it() -> None:
    """R-TREE-03.

    An old path of the same neighbor hangs from a placeholder: a linker's dependents are new objects.
    """
    rig = Rig()
    neighbor, (old,), _ = rig.offloaded(1)
    new = synthetic.path(neighbor, bytes((10, 0, 0, 1)), bytes((10, 9, 9, 9)))
    tcbs = [
        *synthetic.connections(old, 1, rng=rig.rng, first_port=1000),
        *synthetic.connections(new, 1, rng=rig.rng, first_port=2000),
    ]
    rig.act(lambda h: h.offload(tcbs))
    request = rig.take("NdisInitiateOffload")
    blocks = rig.blocks(request)
    named = rig.named(request)
    linker = blocks[named.index(neighbor)]
    assert linker.context is not None
    assert linker.dependent_block_list is not None
    assert named[linker.dependent_block_list.index] is new
    placeholder = blocks[named.index(None)]
    assert placeholder.dependent_block_list is not None
    assert named[placeholder.dependent_block_list.index] is old


def test_r_tree_01_a_placeholder_has_neither_handle_nor_state() -> None:
    """R-TREE-01: a placeholder has neither handle nor state."""
    rig = Rig()
    neighbor, _, tcbs = rig.offloaded(2)
    rig.act(lambda h: h.query([neighbor, *tcbs], "whole"))
    request = rig.take("NdisQueryOffloadState")
    blocks = rig.blocks(request)
    assert rig.named(request) == [neighbor, None, *tcbs]
    assert blocks[1].offload_handle is None
    assert blocks[1].state is None
    assert blocks[1].dependent_block_list is not None


def test_r_inv_02_an_invalidate_tree_has_blocks_only() -> None:
    """R-INV-02: an invalidate tree has blocks only."""
    rig = Rig()
    neighbor, paths, tcbs = rig.offloaded(2)
    rig.act(lambda h: h.invalidate([neighbor, *paths, *tcbs]))
    columns = rig.take("NdisInvalidateOffload")[0][1]
    assert Key.STATE not in columns


def test_r_upd_04_a_relink_has_the_new_neighbor_as_root_and_the_paths_below() -> None:
    """R-UPD-04: a relink has the new neighbor as root and the paths below."""
    rig = Rig()
    _, paths, _ = rig.offloaded(1, paths=3)
    new = synthetic.neighbor(b"\2\0\0\0\0\x99")
    rig.act(lambda h: h.offload([new]))
    rig.initiated()
    rig.act(lambda h: h.relink(paths[:2], new))
    request = rig.take("NdisUpdateOffload")
    blocks = rig.blocks(request)
    assert rig.named(request) == [new, *paths[:2]]
    assert blocks[0].dependent_block_list is not None
    assert blocks[0].dependent_block_list.index == 1
    assert blocks[0].next_block is None
    assert blocks[0].type == OffloadStateType.NeighborOffloadCachedState


def test_r_upd_01_only_paths_are_relinked() -> None:
    """R-UPD-01: only paths are relinked."""
    rig = Rig()
    neighbor, _, tcbs = rig.offloaded(1)
    with pytest.raises(LocalProtocolError, match="R-UPD-01"):
        rig.act(lambda h: h.relink(tcbs, neighbor))
    assert rig.names() == []


def test_a_terminate_asks_for_delegated_structures() -> None:
    rig = Rig()
    neighbor, paths, tcbs = rig.offloaded(1)
    rig.act(lambda h: h.terminate([neighbor, *paths, *tcbs]))
    blocks = rig.blocks(rig.take("NdisTerminateOffload"))
    assert [b.type for b in blocks] == [
        OffloadStateType.NeighborOffloadDelegatedState,
        OffloadStateType.Ip4OffloadDelegatedState,
        OffloadStateType.TcpOffloadDelegatedState,
    ]


@pytest.mark.parametrize(
    ("source", "whole"),
    [(bytes(4), OffloadStateType.Ip4OffloadState), (bytes(16), OffloadStateType.Ip6OffloadState)],
)
def test_the_type_of_a_path_follows_its_addresses(source: bytes, whole: int) -> None:
    path = synthetic.path(synthetic.neighbor(b""), source, source)
    assert path.state_type("whole") == whole
    assert [path.state_type(c) for c in ("const", "cached", "delegated")] == [whole - 3, whole - 2, whole - 1]


def test_a_failed_packing_changes_nothing() -> None:
    rig = Rig()
    neighbor, (path,), tcbs = rig.tree(3)
    tcbs[0].send_queue = [b"data"]
    tcbs[2].const.remote_port = 1 << 20
    with pytest.raises(LocalProtocolError, match="RemotePort"):
        rig.act(lambda h: h.offload(tcbs))
    assert rig.allocated == 0
    assert rig.names() == []
    assert tcbs[0].send_queue == [b"data"]
    assert tcbs[0].delegated.send_data_head is None
    assert (neighbor.dependents, path.dependents) == (0, 0)
    tcbs[2].const.remote_port = 80
    assert rig.act(lambda h: h.offload(tcbs)).blocks == 5


@st.composite
def choices(draw: st.DrawFn) -> list[StateObject]:
    """Some objects of a random forest, in any order."""
    rng = random.Random(0)
    objects: list[StateObject] = []
    for n in range(draw(st.integers(1, 3))):
        neighbor = synthetic.neighbor(bytes((2, 0, 0, 0, 0, n)))
        objects.append(neighbor)
        for p in range(draw(st.integers(0, 3))):
            path = synthetic.path(neighbor, bytes((10, 0, 0, 1)), bytes((10, 0, n, p)))
            objects += [path, *synthetic.connections(path, draw(st.integers(0, 3)), rng=rng)]
    return draw(st.lists(st.sampled_from(objects), min_size=1, unique_by=id))


@given(choices())
def test_r_blk_07_and_r_blk_08_any_choice_of_objects_makes_a_legal_tree(objects: list[StateObject]) -> None:
    """R-BLK-07, R-BLK-08.

    Every named object has one block, links keep to their layers, and each stands below its own object.
    """
    heap = Heap(3)
    for obj in objects:
        obj.handle = heap.handle(obj)
    tree = write_tree(heap, arrange(*by_layer(objects)), lambda o: o.state_type("whole"))
    columns = tree.block_list.columns
    handles = columns[Key.OFFLOAD_HANDLE]
    columns[Key.HANDLE_CELL] = [None if h is None else h + 0x10 for h in handles]
    layers = check_tree(columns, "test")
    assert sorted(map(id, filter(None, tree.named))) == sorted(map(id, objects))
    for named, layer in zip(tree.named, layers, strict=True):
        assert named is None or layer == named.LAYER
    for index, block in enumerate(tree.block_list):
        below = block.dependent_block_list
        while below is not None:
            upper, lower = tree.named[below.index], tree.named[index]
            assert upper is None or lower is None or upper.lower is lower
            below = below.next_block


@given(choices())
def test_r_tree_08_blocks_stand_in_traversal_order(objects: list[StateObject]) -> None:
    """R-TREE-08: blocks stand in traversal order."""
    heap = Heap(3)
    for obj in objects:
        obj.handle = heap.handle(obj)
    tree = write_tree(heap, arrange(*by_layer(objects)), lambda o: o.state_type("whole"))
    assert list(tree.block_list.traverse()) == list(range(len(tree.block_list)))


def test_strangers_are_no_part_of_a_tree() -> None:
    with pytest.raises(TypeError, match="not a neighbor"):
        by_layer([StateObject()])


def test_representations_name_the_object() -> None:
    neighbor: Neighbor = synthetic.neighbor(b"\2\0\0\0\0\1")
    path: Path = synthetic.path(neighbor, bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)))
    tcb: Tcb = synthetic.connection(path, 1, 2, rng=random.Random(0))
    assert "02:00:00:00:00:01" in repr(neighbor)
    assert "10.0.0.1 -> 10.0.0.2" in repr(path)
    assert "1 -> 2" in repr(tcb)
