"""Address spaces: unique addresses that know where they belong, and what lies at them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndisbus.lists.heap import ADDRESS_BITS, Heap, NdisOffloadHandle, space_of


@given(st.integers(1, (1 << 24) - 1), st.lists(st.integers(1, 500), min_size=1, max_size=30))
def test_addresses_do_not_overlap_and_know_their_space(space: int, sizes: list[int]) -> None:
    heap = Heap(space)
    end = 0
    for size in sizes:
        a = heap.address(size)
        assert a >= end
        assert a % 0x10 == 0
        assert space_of(a) == space_of(a + size - 1) == space
        assert heap.owns(a)
        assert not Heap(space + 1).owns(a)
        assert 0 < a < 1 << 64
        end = a + size


@given(st.integers(1, 300), st.integers(1, 200))
def test_a_run_of_addresses_is_as_good_as_single_ones(count: int, size: int) -> None:
    heap = Heap(2)
    before = heap.address()
    run = heap.addresses(count, size)
    after = heap.address()
    assert len(run) == count
    assert run[0] >= before + 0x10
    assert run[-1] + size <= after
    assert run.step >= size


def test_null_is_no_address() -> None:
    assert Heap(0).address() > 0


def test_objects_are_found_until_they_are_freed_and_addresses_are_never_reused() -> None:
    heap = Heap(3)
    thing = object()
    a = heap.allocate(thing)
    assert heap.objects[a] is thing
    heap.free(a)
    assert heap.objects == {}
    with pytest.raises(KeyError):
        heap.free(a)
    assert heap.allocate(thing) > a


def test_a_handle_has_its_cell_behind_it() -> None:
    heap = Heap(3)
    owner = object()
    handle = heap.handle(owner)
    assert heap.objects[handle.address] is handle
    assert handle.owner is owner
    assert handle.context is None
    assert handle.miniport_offload_context == handle.address + 0x10
    assert heap.address() >= handle.address + 0x20
    assert repr(handle).endswith("-> NULL>")
    handle.context = 0x42
    assert repr(handle).endswith("-> 0x42>")


def test_a_used_up_space_does_not_run_into_the_next() -> None:
    heap = Heap(1)
    heap.addresses(1, (1 << ADDRESS_BITS) - 0x20)
    heap.address()
    with pytest.raises(MemoryError, match="address space 1"):
        heap.address()


def test_a_handle_by_itself() -> None:
    assert NdisOffloadHandle(0x40, "owner").owner == "owner"
