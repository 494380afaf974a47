"""State-manipulation requests through the intermediate driver, by messages on both edges."""

from __future__ import annotations

from typing import Any

import pytest

from imdriver.config import ChimneyPolicy, ImConfig
from imdriver.entries import ImCallEntry, ImOffloadEntry
from imdriver.life import CallEntryState, OffloadEntryState
from ndisbus.ddi.call_rows import STATE_OPERATIONS, OperationRow
from ndisbus.ddi.status import NdisStatus
from ndisbus.errors import RemoteProtocolError
from ndisbus.lists.blocklist import Key
from ndisbus.lists.heap import ADDRESS_BITS

FAILURE = int(NdisStatus.FAILURE)
PARTIAL = int(NdisStatus.OFFLOAD_PARTIAL_SUCCESS)
BY_NAME = {o.op: o for o in STATE_OPERATIONS}
IM0, IM1 = Key.IM_RESERVED


def down(bench: Any, op: str, columns: dict[str, Any], adapter: str = "im0-a") -> dict[str, Any]:
    """Hand a list to the miniport edge; the columns of what was passed down."""
    ((name, params, _),) = bench.tell(BY_NAME[op].handler, bench.context(adapter), dict(columns))
    assert name == BY_NAME[op].request
    assert params[0] == bench.binding
    return dict(params[1])


def up(bench: Any, op: str, completion: dict[str, Any], adapter: str = "im0-a") -> dict[str, Any]:
    """Hand a completion to the protocol edge; the columns of what was completed upward."""
    ((name, params, _),) = bench.tell(BY_NAME[op].completion_handler, bench.binding_context, dict(completion))
    assert name == BY_NAME[op].completion
    assert params[0] == bench.handle(adapter)
    return dict(params[1])


def refused(bench: Any, op: str, columns: dict[str, Any], adapter: str = "im0-a") -> Any:
    """Hand a list to the miniport edge that must come back at once; its Status."""
    ((name, params, _),) = bench.tell(BY_NAME[op].handler, bench.context(adapter), dict(columns))
    assert name == BY_NAME[op].completion
    assert params[0] == bench.handle(adapter)
    for key in (Key.SOURCE_HANDLE, *Key.IM_RESERVED, Key.CONTEXT):
        assert params[1].get(key) == columns.get(key)
    return params[1][Key.STATUS]


def offload(
    bench: Any, upper: Any, nic: Any, count: int = 1, adapter: str = "im0-a", kind: int = 4
) -> list[Any]:
    """Offload some objects; the upper driver's handles, cells filled."""
    handles = upper.new(count)
    wire = down(bench, "initiate", upper.miniport_list(handles, kind=kind), adapter)
    upper.store(handles, up(bench, "initiate", nic.completion(wire), adapter))
    return list(handles)


def entries(bench: Any) -> list[ImOffloadEntry]:
    objects = bench.port.ndis.heap.objects
    return [o for a, o in objects.items() if isinstance(o, ImOffloadEntry) and a == o.entry_address]


@pytest.mark.parametrize("operation", STATE_OPERATIONS, ids=lambda o: o.op)
def test_r_im_01_request_and_completion_keep_their_names(
    bench: Any, upper: Any, nic: Any, operation: OperationRow
) -> None:
    """R-IM-01, R-IM-02, R-IM-06: repeated down and up; a call entry exists while the call is below."""
    handles = upper.new() if operation.op == "initiate" else offload(bench, upper, nic)
    assert bench.counts()[0] == 0
    wire = down(bench, operation.op, upper.miniport_list(handles))
    assert bench.counts()[0] == 1
    (call,) = [o for o in bench.port.ndis.heap.objects.values() if isinstance(o, ImCallEntry)]
    assert (call.operation, call.state) == (operation, CallEntryState.PASSED_DOWN)
    up(bench, operation.op, nic.completion(wire))
    assert bench.counts()[0] == 0
    assert call.state is CallEntryState.FREED


def test_r_dis_08_a_query_goes_down_as_ndis_query_offload_state(bench: Any, upper: Any, nic: Any) -> None:
    """R-DIS-08: a query goes down as ndis query offload state."""
    columns = upper.miniport_list(offload(bench, upper, nic))
    ((name, _, _),) = bench.tell("MiniportQueryOffload", bench.context(), columns)
    assert name == "NdisQueryOffloadState"


def test_r_im_03_the_call_entry_is_in_im_reserved(bench: Any, upper: Any) -> None:
    """R-IM-03, R-IM-04: its address in every block, the PROTOCOL form with the driver's own handles."""
    theirs = upper.new(2)
    columns = upper.miniport_list(
        [theirs[0], None, theirs[1]], **{IM0: [7, 8, 9], IM1: 5, Key.STATE: [b"a", None, b"b"]}
    )
    wire = down(bench, "initiate", columns)
    objects = bench.port.ndis.heap.objects
    call = objects[wire[IM0]]
    assert isinstance(call, ImCallEntry)
    assert call.saved[IM0] == [7, 8, 9]
    assert call.saved[Key.SOURCE_HANDLE] == upper.source
    first, placeholder, last = wire[Key.OFFLOAD_HANDLE]
    assert placeholder is None
    assert isinstance(objects[first], ImOffloadEntry)
    assert isinstance(objects[last], ImOffloadEntry)
    assert Key.CELL not in wire
    assert Key.NDIS_OFFLOAD_HANDLE not in wire
    # What it cannot understand, and what is not its business, goes through as it came.
    for key in (Key.BLOCK, Key.TYPE, Key.STATE):
        assert wire[key] == columns[key]


@pytest.mark.parametrize("op", [o.op for o in STATE_OPERATIONS])
def test_r_im_05_source_handle_and_im_reserved_are_restored_in_every_block(
    bench: Any, upper: Any, nic: Any, op: str
) -> None:
    """R-IM-05, R-DIS-40: each block carries its own pair; what NDIS wrote on the way up does not stay."""
    handles = upper.new(3) if op == "initiate" else offload(bench, upper, nic, 3)
    mine = {Key.SOURCE_HANDLE: [11, 12, 13], IM0: [21, None, 23], IM1: [31, 32, None], "Scratch[0]": 1}
    wire = down(bench, op, upper.miniport_list(handles, **mine))
    done = up(bench, op, nic.completion(wire, **{Key.SOURCE_HANDLE: 0xBADBAD}))
    for key in (Key.SOURCE_HANDLE, IM0, IM1):
        assert done[key] == mine[key]


def test_what_was_absent_is_absent_again(bench: Any, upper: Any, nic: Any) -> None:
    columns = upper.miniport_list(upper.new())
    del columns[Key.SOURCE_HANDLE]
    wire = down(bench, "initiate", columns)
    done = up(bench, "initiate", nic.completion(wire, **{Key.SOURCE_HANDLE: 5, IM1: None}))
    assert {Key.SOURCE_HANDLE, IM0, IM1}.isdisjoint(done)


def test_r_blk_13_source_handle_is_not_altered_on_the_way_down(bench: Any, upper: Any) -> None:
    """R-BLK-13: source handle is not altered on the way down."""
    wire = down(bench, "initiate", upper.miniport_list(upper.new()))
    assert wire[Key.SOURCE_HANDLE] == upper.source


def test_r_im_07_an_entry_per_object_with_both_handles(bench: Any, upper: Any, nic: Any) -> None:
    """R-IM-07, R-HND-07: NdisOffloadHandle from above, an own one for below, while it is offloaded."""
    theirs = upper.new(2)
    wire = down(bench, "initiate", upper.miniport_list(theirs))
    made = {e.address: e for e in entries(bench)}
    assert [made[h].ndis_offload_handle for h in wire[Key.OFFLOAD_HANDLE]] == [h.address for h in theirs]
    assert len(set(wire[Key.OFFLOAD_HANDLE])) == 2
    assert all(h >> ADDRESS_BITS == bench.space for h in wire[Key.OFFLOAD_HANDLE])
    assert {e.state for e in made.values()} == {OffloadEntryState.OFFERED}
    upper.store(theirs, up(bench, "initiate", nic.completion(wire)))
    assert {e.state for e in made.values()} == {OffloadEntryState.OFFLOADED}
    for op in ("query", "update", "invalidate"):
        again = down(bench, op, upper.miniport_list(theirs))
        assert again[Key.OFFLOAD_HANDLE] == wire[Key.OFFLOAD_HANDLE]
        up(bench, op, nic.completion(again))
        assert bench.counts() == (0, 2, 0)
    last = down(bench, "terminate", upper.miniport_list(theirs))
    assert last[Key.OFFLOAD_HANDLE] == wire[Key.OFFLOAD_HANDLE]
    assert {e.state for e in made.values()} == {OffloadEntryState.TERMINATING}
    up(bench, "terminate", nic.completion(last))
    assert {e.state for e in made.values()} == {OffloadEntryState.FREED}
    assert bench.counts() == (0, 0, 0)
    assert not any(h in bench.port.ndis.heap.objects for h in wire[Key.OFFLOAD_HANDLE])


def test_r_im_08_the_own_handle_is_initialised_when_the_object_is_offered(bench: Any, upper: Any) -> None:
    """R-IM-08: an anchor with a cell of its own, holding NULL, is there before the request leaves."""
    wire = down(bench, "initiate", upper.miniport_list(upper.new(2)))
    for handle, cell, context in zip(
        wire[Key.OFFLOAD_HANDLE], wire[Key.HANDLE_CELL], wire[Key.CONTEXT], strict=True
    ):
        assert bench.port.ndis.heap.objects[handle].miniport_offload_context == cell
        assert cell >> ADDRESS_BITS == bench.space
        assert context is None


def test_r_im_09_the_upper_cell_gets_the_address_of_our_entry(bench: Any, upper: Any, nic: Any) -> None:
    """R-IM-09, R-DIS-30: not the PVOID of the driver below, which refers to that driver's context."""
    theirs = upper.new(2)
    wire = down(bench, "initiate", upper.miniport_list(theirs))
    below = nic.completion(wire)
    done = up(bench, "initiate", below)
    by_handle = {e.ndis_offload_handle: e for e in entries(bench)}
    for h, value, pvoid in zip(theirs, done[Key.CONTEXT], below[Key.CONTEXT], strict=True):
        entry = by_handle[h.address]
        assert value == entry.entry_address
        assert value not in (pvoid, entry.address)
        assert entry.context == pvoid
    assert (
        down(bench, "query", upper.miniport_list(theirs, **{Key.CONTEXT: done[Key.CONTEXT]}))[Key.CONTEXT]
        == (below[Key.CONTEXT])
    )


def test_r_dis_09_completions_go_up_with_the_miniport_handle(bench: Any, upper: Any, nic: Any) -> None:
    """R-DIS-09: completions go up with the miniport handle."""
    wire = down(bench, "initiate", upper.miniport_list(upper.new()), "im0-b")
    ((_, params, _),) = bench.tell(
        "ProtocolInitiateOffloadComplete", bench.binding_context, nic.completion(wire)
    )
    assert params[0] == bench.handle("im0-b")
    assert params[0] not in (bench.binding_context, bench.handle("im0-a"), bench.context("im0-b"))


def test_statuses_and_state_pass_upward_untouched(bench: Any, upper: Any, nic: Any) -> None:
    handles = offload(bench, upper, nic, 2)
    wire = down(bench, "query", upper.miniport_list(handles))
    images = [b"\x00\xffnot a state structure", None]
    done = up(bench, "query", nic.completion(wire, [0, FAILURE], **{Key.STATE: images}))
    assert done[Key.STATUS] == [0, FAILURE]
    assert done[Key.STATE] == images


def test_a_tree_that_is_offloaded_in_part(bench: Any, upper: Any, nic: Any) -> None:
    """New blocks that failed lose their entry and leave the cell alone; partial success is offloaded."""
    (neighbor,) = offload(bench, upper, nic)
    path, tcp1, tcp2 = upper.new(3)
    tree = [None, neighbor, path, tcp1, tcp2]
    wire = down(bench, "initiate", upper.miniport_list(tree))
    assert wire[Key.OFFLOAD_HANDLE][0] is None
    assert wire[Key.CONTEXT][1] is not None
    assert bench.counts() == (1, 4, 0)
    done = up(bench, "initiate", nic.completion(wire, [0, PARTIAL, PARTIAL, 0, FAILURE]))
    assert done[Key.STATUS] == [0, PARTIAL, PARTIAL, 0, FAILURE]
    cells = done[Key.CONTEXT]
    assert cells[0] is None
    assert cells[1] == neighbor.context
    assert None not in cells[2:4]
    assert cells[4] is None
    assert bench.counts() == (0, 3, 0)
    upper.store(tree, done)
    down(bench, "query", upper.miniport_list([path, tcp1]))


@pytest.mark.parametrize("status", [FAILURE, int(NdisStatus.OFFLOAD_CONNECTION_REJECTED)])
def test_an_initiate_that_failed_as_a_whole_leaves_nothing(
    bench: Any, upper: Any, nic: Any, status: int
) -> None:
    wire = down(bench, "initiate", upper.miniport_list(upper.new(3)))
    done = up(bench, "initiate", nic.completion(wire, status))
    assert done[Key.STATUS] == status
    assert done[Key.CONTEXT] == [None] * 3
    assert bench.counts() == (0, 0, 0)


def test_a_terminated_object_is_gone(bench: Any, upper: Any, nic: Any) -> None:
    handles = offload(bench, upper, nic, 2)
    wire = down(bench, "terminate", upper.miniport_list(handles))
    assert up(bench, "terminate", nic.completion(wire, 0))[Key.STATUS] == 0
    assert bench.counts() == (0, 0, 0)


@pytest.mark.parametrize("first", [FAILURE, [0, FAILURE]])
@pytest.mark.parametrize("second", [0, FAILURE])
def test_r_dis_43_an_object_that_fails_its_terminate_can_be_terminated_once_more(
    bench: Any, upper: Any, nic: Any, first: Any, second: int
) -> None:
    """R-DIS-43, R-HWF-01: the entry outlives the first failure, and only a second terminate names it."""
    handles = offload(bench, upper, nic, 2)
    wire = down(bench, "terminate", upper.miniport_list(handles))
    assert up(bench, "terminate", nic.completion(wire, first))[Key.STATUS] == first
    lost = handles if first == FAILURE else handles[1:]
    assert bench.counts() == (0, len(lost), 0)
    assert refused(bench, "query", upper.miniport_list(lost)) == FAILURE
    wire = down(bench, "terminate", upper.miniport_list(lost))
    up(bench, "terminate", nic.completion(wire, second))
    assert bench.counts() == (0, 0, 0)


# -- what is not passed down --------------------------------------------------------------------------


def test_a_value_that_designates_no_entry_fails_the_request(bench: Any, upper: Any, nic: Any) -> None:
    (good,) = offload(bench, upper, nic)
    (entry,) = entries(bench)
    for value in (0xDEAD, entry.address, bench.context(), good.context + 8):
        columns = upper.miniport_list([None, good, good], **{Key.CONTEXT: [None, good.context, value]})
        assert refused(bench, "query", columns) == [0, FAILURE, FAILURE]  # a placeholder always succeeds
    assert bench.driver.inspect()["refused"] == 4
    assert bench.counts() == (0, 1, 0)
    down(bench, "query", upper.miniport_list([good]))


def test_an_object_of_another_virtual_adapter_is_a_stranger(
    bench: Any, upper: Any, make_upper: Any, nic: Any
) -> None:
    (theirs,) = offload(bench, upper, nic)
    thief = make_upper(10)
    columns = thief.miniport_list(thief.new(), **{Key.CONTEXT: [theirs.context]})
    assert refused(bench, "terminate", columns, "im0-b") == FAILURE
    assert bench.counts() == (0, 1, 0)


def test_an_object_that_is_not_offloaded_cannot_be_named(bench: Any, upper: Any, nic: Any) -> None:
    (new,) = upper.new()
    assert refused(bench, "query", upper.miniport_list([new])) == FAILURE
    down(bench, "initiate", upper.miniport_list([new]))
    (entry,) = entries(bench)
    assert (
        refused(bench, "query", upper.miniport_list([new], **{Key.CONTEXT: [entry.entry_address]})) == FAILURE
    )


def test_an_object_is_terminated_once(bench: Any, upper: Any, nic: Any) -> None:
    (h,) = offload(bench, upper, nic)
    assert refused(bench, "terminate", upper.miniport_list([h, h])) == FAILURE
    wire = down(bench, "terminate", upper.miniport_list([h]))
    for op in ("terminate", "query", "update", "invalidate"):
        assert refused(bench, op, upper.miniport_list([h])) == FAILURE
    up(bench, "terminate", nic.completion(wire))
    assert refused(bench, "terminate", upper.miniport_list([h])) == FAILURE
    assert bench.counts() == (0, 0, 0)


def test_a_blocking_driver_offers_nothing_below(make_bench: Any, upper: Any) -> None:
    bench = make_bench(ImConfig(chimney=ChimneyPolicy.BLOCK)).attach()
    assert refused(bench, "initiate", upper.miniport_list(upper.new(2))) == FAILURE
    assert bench.counts() == (0, 0, 0)


def test_without_an_adapter_below_requests_fail_and_objects_go(bench: Any, upper: Any, nic: Any) -> None:
    (h,) = offload(bench, upper, nic)
    bench.held.add("NdisCloseAdapterEx")
    bench.driver.lower.handle = None
    assert refused(bench, "query", upper.miniport_list([h])) == FAILURE
    assert refused(bench, "initiate", upper.miniport_list(upper.new())) == FAILURE
    assert refused(bench, "terminate", upper.miniport_list([h])) == FAILURE
    assert bench.counts() == (0, 0, 0)


@pytest.mark.parametrize("op", ["query", "update", "invalidate", "terminate", "initiate"])
def test_a_request_for_an_earlier_life_never_goes_down_a_later_binding(
    bench: Any, upper: Any, nic: Any, op: str
) -> None:
    """R-HND-04: NDIS closed the binding by force, and the adapters of that time are not halted yet."""
    (h,) = offload(bench, upper, nic)
    bench.held.add("NdisIMDeInitializeDeviceInstance")
    bench.close(bench.binding)
    assert bench.bind() == [0]
    handles = upper.new() if op == "initiate" else [h]
    assert refused(bench, op, upper.miniport_list(handles)) == FAILURE
    before = bench.handle()
    bench.release()
    assert bench.counts() == (0, 0, 0)
    assert bench.handle() != before  # the adapter of that name in the new life
    assert len(offload(bench, upper, nic)) == 1


@pytest.mark.parametrize(("op", "status"), [("initiate", int(NdisStatus.RESOURCES)), ("query", FAILURE)])
def test_without_memory_a_request_fails(bench: Any, upper: Any, nic: Any, op: str, status: int) -> None:
    handles = upper.new() if op == "initiate" else offload(bench, upper, nic)
    before = bench.counts()
    heap = bench.port.ndis.heap
    heap._next = heap._top
    assert refused(bench, op, upper.miniport_list(handles)) == status
    assert bench.counts() == before


def test_memory_that_ends_between_the_call_entry_and_the_offload_entries(bench: Any, upper: Any) -> None:
    heap = bench.port.ndis.heap
    heap._next = heap._top - 0x20
    assert refused(bench, "initiate", upper.miniport_list(upper.new(2))) == NdisStatus.RESOURCES
    assert bench.counts() == (0, 0, 0)


# -- a driver below that writes where it must not ----------------------------------------------------


@pytest.mark.parametrize("what", ["nothing", "garbage", "one block", "another call", "an offload entry"])
def test_r_blk_12_a_corrupted_im_reserved_is_an_error_and_disturbs_nothing(
    bench: Any, upper: Any, nic: Any, what: str
) -> None:
    """R-BLK-12, R-IM-05: the offence is raised; the request is completed all the same, so are the others."""
    first, second = offload(bench, upper, nic, 2)
    marks = {Key.SOURCE_HANDLE: [1, 2], IM0: [3, 4]}
    query = down(bench, "query", upper.miniport_list([first, second], **marks))
    update = down(bench, "update", upper.miniport_list([first]))
    bad = nic.completion(query)
    bad[IM0] = {
        "nothing": None,
        "garbage": 0xDEADBEEF,
        "one block": [query[IM0], 5],
        "another call": update[IM0],
        "an offload entry": first.context,
    }[what]
    before = len(bench.calls)
    with pytest.raises(RemoteProtocolError, match=r"ProtocolQueryOffloadComplete.*R-IM-05.*R-BLK-12"):
        bench.tell("ProtocolQueryOffloadComplete", bench.binding_context, bad)
    bench.pump()
    ((name, params, _),) = bench.calls[before:]
    assert name == "NdisMQueryOffloadStateComplete"
    assert params[1][Key.SOURCE_HANDLE] == [1, 2]
    assert params[1][IM0] == [3, 4]
    assert bench.counts() == (1, 2, 0)
    up(bench, "update", nic.completion(update))
    assert bench.counts() == (0, 2, 0)


def test_a_completion_of_a_list_that_was_never_passed_down_is_an_error(bench: Any, nic: Any) -> None:
    stray = {Key.BLOCK: [0x123], Key.STATUS: 0}
    with pytest.raises(RemoteProtocolError, match="0x123 is not outstanding"):
        bench.tell("ProtocolQueryOffloadComplete", bench.binding_context, stray)
    assert bench.names()[-1] != "NdisMQueryOffloadStateComplete"


# -- ends ---------------------------------------------------------------------------------------------


def test_a_halted_adapter_leaves_nothing_and_disturbs_no_other(
    bench: Any, upper: Any, make_upper: Any, nic: Any
) -> None:
    other = make_upper(10)
    a, b = offload(bench, upper, nic, 3), offload(bench, other, nic, 2, "im0-b")
    pending = down(bench, "query", upper.miniport_list(a[:1]))
    offered = down(bench, "initiate", upper.miniport_list(upper.new()))
    assert bench.counts() == (2, 6, 0)
    event = {"NetEvent": "NetEventReconfigure", "Buffer": {"RemoveAdapter": "im0-a"}}
    assert bench.ask("ProtocolNetPnPEvent", None, event) == [0]
    assert bench.counts() == (0, 2, 0)
    # A completion of a request that was below is dropped, and is not a bug check of the driver below.
    assert bench.tell("ProtocolQueryOffloadComplete", bench.binding_context, nic.completion(pending)) == []
    assert bench.tell("ProtocolInitiateOffloadComplete", bench.binding_context, nic.completion(offered)) == []
    assert not bench.driver.orphans
    up(bench, "terminate", nic.completion(down(bench, "terminate", other.miniport_list(b), "im0-b")), "im0-b")
    bench.unbind()
    assert not bench.port.ndis.heap.objects


def test_when_the_bus_is_lost_every_request_is_completed_and_everything_freed(
    bench: Any, upper: Any, nic: Any
) -> None:
    (h,) = offload(bench, upper, nic)
    down(bench, "query", upper.miniport_list([h]))
    down(bench, "initiate", upper.miniport_list(upper.new(4)))
    assert len(bench.port.lent) == 2
    bench.port.lost("the bus is gone", 5.0)
    assert not bench.port.lent
    assert not bench.port.sent
    assert not bench.port.ndis.heap.objects
