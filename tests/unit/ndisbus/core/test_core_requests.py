"""The five operations through NDIS: conversion, routing, and what each side must not do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ndisbus.core.completions import LEGAL as CITED
from ndisbus.ddi.call_rows import STATE_OPERATIONS, OperationRow
from ndisbus.ddi.status import ALLOWED_STATUS, NdisStatus
from ndisbus.lists.blocklist import BLOCK_SIZE, Key, values
from tests.support.core_bench import NEIGHBOR, PATH, TCP, Bench, Client, Host, Im, Nic

SUCCESS, FAILURE, PARTIAL = 0, int(NdisStatus.FAILURE), int(NdisStatus.OFFLOAD_PARTIAL_SUCCESS)
OPS = [o.op for o in STATE_OPERATIONS]
EVERY_OP = pytest.mark.parametrize("operation", STATE_OPERATIONS, ids=OPS)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def nic(bench: Bench) -> Nic:
    return bench.client(Nic, "nic").start("nic0")


@pytest.fixture
def host(bench: Bench, nic: Nic) -> Host:
    return bench.client(Host, "host").start("nic0")


@pytest.fixture
def im(bench: Bench, nic: Nic) -> Im:
    driver = bench.client(Im, "im").start("im0", "im1")
    assert driver.enable() == (0, "")
    return driver


def ask(host: Host, nic: Nic, op: str) -> dict[str, Any]:
    """Pass a good request down for an operation; returns its columns (before NDIS sees them)."""
    if op == "initiate":
        blocks: list[Any] = [(t, host.new_handle(), None) for t in (NEIGHBOR, PATH, TCP)]
    else:
        blocks = list(host.offload(nic))
    columns = host.columns(*blocks)
    sent = dict(columns)
    host.request(op, columns)
    return sent


def cut_off(bench: Bench, offender: Client, call: str, parameter: str, rule: str) -> None:
    """Exactly this driver was cut off, with a report that says what it did; the others go on."""
    report = bench.bug_check
    assert (report.driver, report.call) == (offender.name, call)
    assert report.parameter.startswith(parameter), report
    assert report.rule == rule, report
    assert report.reason
    assert (report.epoch, report.pid) == (offender.ready["Epoch"], 1)
    assert offender.closed is not None
    assert offender.closed["BugCheck"] == report.to_wire()
    assert offender.name in str(report) and call in str(report)
    for client in bench.clients.values():
        assert (client.closed is None) is (client is not offender)
        if client is not offender:
            client.control("fault.list")  # it is served


# -- conversion ----------------------------------------------------------------------------------------


@EVERY_OP
def test_r_blk_02_down_in_the_miniport_form_and_up_in_the_protocol_form(
    bench: Bench, host: Host, nic: Nic, operation: OperationRow
) -> None:
    """R-BLK-01, R-BLK-02: each edge sees its own form, nothing of the other's."""
    sent = ask(host, nic, operation.op)
    lower = nic.given(operation.op)
    for key in (Key.OFFLOAD_HANDLE, Key.HANDLE_CELL, *Key.NDIS_RESERVED):
        assert key not in lower
    assert lower[Key.NDIS_OFFLOAD_HANDLE] == sent[Key.OFFLOAD_HANDLE]
    assert lower[Key.CELL] == sent[Key.HANDLE_CELL]
    assert lower[Key.CONTEXT] == sent[Key.CONTEXT]
    for key in (Key.BLOCK, Key.TYPE, Key.REVISION, Key.SIZE, Key.DEPENDENT, Key.STATE):
        assert lower.get(key) == sent.get(key)
    assert values(lower.get(Key.NEXT), 3) == [None] * 3
    nic.send(operation.completion, nic.handle, nic.up(lower, operation.op))
    upper = host.completed(operation.op)
    assert not {Key.NDIS_OFFLOAD_HANDLE, Key.CELL, *Key.MINIPORT_RESERVED} & upper.keys()
    assert upper[Key.STATUS] == SUCCESS
    assert host.names() == nic.names() == []
    assert bench.core.registry.adapters[nic.handle].requests == {}


def test_r_blk_04_the_upper_drivers_handle_is_ndis_offload_handle_below(host: Host, nic: Nic) -> None:
    """R-BLK-04: also for placeholders, which have none."""
    handles = [host.new_handle(), None, host.new_handle()]
    host.request("initiate", host.columns(*((t, h, None) for t, h in zip((4, 8, 17), handles, strict=True))))
    assert nic.given("initiate")[Key.NDIS_OFFLOAD_HANDLE] == handles


def test_r_blk_10_the_list_is_known_by_its_pointer_all_the_way(host: Host, nic: Nic) -> None:
    """R-BLK-10: the completion is about the very list that was passed down."""
    sent = ask(host, nic, "initiate")
    assert nic.complete("initiate")[Key.BLOCK] == sent[Key.BLOCK]
    assert host.completed("initiate")[Key.BLOCK] == sent[Key.BLOCK]


@EVERY_OP
def test_r_blk_15_the_result_comes_by_the_completion_only(
    host: Host, nic: Nic, operation: OperationRow
) -> None:
    """R-BLK-15: nothing is answered before it, whatever the order of completions."""
    ask(host, nic, operation.op)
    first = nic.given(operation.op)
    assert host.names() == []
    nic.send(operation.completion, nic.handle, nic.up(first, operation.op))
    assert host.names() == [operation.completion_handler]


@pytest.mark.parametrize("op", ["query", "terminate"])
def test_state_comes_back_from_a_query_and_a_terminate(host: Host, nic: Nic, op: str) -> None:
    ask(host, nic, op)
    nic.complete(op, STATE=[b"n", b"p", b"t"])
    assert host.completed(op)[Key.STATE] == [b"n", b"p", b"t"]


def test_status_and_reserved_columns_may_be_spread_out_or_not(host: Host, nic: Nic) -> None:
    """One value for all blocks is the same list as one value per block."""
    sent = ask(host, nic, "initiate")
    lower = nic.given("initiate")
    n = len(sent[Key.BLOCK])
    columns = nic.up(
        lower, "initiate", [SUCCESS] * n, SOURCE_HANDLE=[host.binding] * n, IM_RESERVED=[None] * n
    )
    nic.send("NdisMInitiateOffloadComplete", nic.handle, columns)
    assert host.completed("initiate")[Key.STATUS] == [SUCCESS] * n


def test_payload_of_buffered_data_goes_down_with_its_list(host: Host, nic: Nic) -> None:
    columns = host.columns((TCP, host.new_handle(), None))
    columns[Key.NET_BUFFER_LISTS] = [[{"NetBufferList": host.heap.address()}]]
    host.request("initiate", columns, [b"one", b"two"])
    message, frames = nic.take_with_frames("MiniportInitiateOffload")
    assert list(frames) == [b"one", b"two"]
    assert message[2][1][Key.NET_BUFFER_LISTS] == columns[Key.NET_BUFFER_LISTS]


# -- routing -------------------------------------------------------------------------------------------


def test_completions_go_to_the_binding_that_asked(bench: Bench, nic: Nic, im: Im) -> None:
    """Two hosts over one driver, completed in the other order."""
    a = bench.client(Host, "a").start("im0")
    b = bench.client(Host, "b").start("im1")
    for i, host in enumerate((a, b)):
        host.request("initiate", host.columns((TCP, host.new_handle(), None)))
        im.pass_on("initiate", im.new_handle())
        assert len(nic.names()) == i + 1
    lists = [nic.given("initiate"), nic.given("initiate")]
    # The source of both is the intermediate driver's one binding below; above, each has its own.
    assert {values(c[Key.SOURCE_HANDLE], 1)[0] for c in lists} == {im.binding}
    for lower, host, adapter in zip(reversed(lists), (b, a), ("im1", "im0"), strict=True):
        nic.send("NdisMInitiateOffloadComplete", nic.handle, nic.up(lower, "initiate"))
        came = im.completed("initiate")
        back = {
            Key.BLOCK: came[Key.BLOCK],
            Key.STATUS: 0,
            Key.SOURCE_HANDLE: host.binding,
            Key.CONTEXT: [im.heap.address()],
        }
        im.send("NdisMInitiateOffloadComplete", im.handles[adapter], back)
        assert host.completed("initiate")[Key.BLOCK] == came[Key.BLOCK]
    assert a.names() == b.names() == []


@pytest.mark.parametrize("wrong", ["other binding", "none", "one block"])
def test_r_blk_13_a_wrong_source_handle_is_a_bug_check_and_no_misdelivery(
    bench: Bench, nic: Nic, im: Im, wrong: str
) -> None:
    """R-BLK-13, R-IM-05: an intermediate driver restores SourceHandle, or it is cut off."""
    a = bench.client(Host, "a").start("im0")
    b = bench.client(Host, "b").start("im1")
    a.request("initiate", a.columns((PATH, a.new_handle(), None), (TCP, a.new_handle(), None)))
    upper = im.given("initiate")
    source = {"other binding": b.binding, "none": None, "one block": [a.binding, b.binding]}[wrong]
    columns = im.up(upper, "initiate", SOURCE_HANDLE=source)
    im.send("NdisMInitiateOffloadComplete", im.handles["im0"], columns)
    cut_off(bench, im, "NdisMInitiateOffloadComplete", "OffloadBlockList.SourceHandle", "R-IM-05")
    assert "ProtocolInitiateOffloadComplete" not in b.names()
    assert values(a.completed("initiate")[Key.STATUS], 2) == [FAILURE] * 2


@EVERY_OP
def test_a_target_that_writes_source_handle_is_cut_off(
    bench: Bench, host: Host, nic: Nic, operation: OperationRow
) -> None:
    ask(host, nic, operation.op)
    nic.complete(operation.op, SOURCE_HANDLE=0x1234)
    cut_off(bench, nic, operation.completion, "OffloadBlockList.SourceHandle", "R-BLK-12")
    assert host.completed(operation.op)[Key.STATUS] == FAILURE


# -- what a driver below must not do -------------------------------------------------------------------


@pytest.mark.parametrize("key", [*Key.IM_RESERVED, *Key.PROTOCOL_RESERVED])
@pytest.mark.parametrize("virtual", [False, True])
def test_what_was_lent_comes_back_unharmed(bench: Bench, nic: Nic, key: str, virtual: bool) -> None:
    """ImReserved and ProtocolReserved: the rule named is that of the driver that broke it."""
    below: Nic = nic
    if virtual:
        below = bench.client(Im, "im").start("im0")
    host = bench.client(Host, "host").start("im0" if virtual else "nic0")
    columns = host.columns((PATH, host.new_handle(), None), (TCP, host.new_handle(), None))
    columns[key] = [0x11, None]
    host.request("initiate", columns)
    lower = below.given("initiate")
    assert lower[key] == [0x11, None]
    below.send(
        "NdisMInitiateOffloadComplete", below.handle, {**below.up(lower, "initiate"), key: [0x11, 0x12]}
    )
    rule = "R-IM-05" if virtual else "R-BLK-12"
    cut_off(bench, below, "NdisMInitiateOffloadComplete", f"OffloadBlockList.{key}", rule)


def test_a_completion_brings_lent_columns_back_to_the_lender(host: Host, nic: Nic) -> None:
    columns = host.columns((TCP, host.new_handle(), None))
    columns[Key.IM_RESERVED[0]], columns[Key.PROTOCOL_RESERVED[1]] = 0x77, [0x88]
    host.request("initiate", columns)
    nic.complete("initiate")
    done = host.completed("initiate")
    assert (done[Key.IM_RESERVED[0]], done[Key.PROTOCOL_RESERVED[1]]) == (0x77, [0x88])


@EVERY_OP
def test_r_blk_10_a_list_is_completed_once(
    bench: Bench, host: Host, nic: Nic, operation: OperationRow
) -> None:
    """R-BLK-10: the second completion has nothing to complete."""
    ask(host, nic, operation.op)
    columns = nic.up(nic.given(operation.op), operation.op)
    nic.send(operation.completion, nic.handle, columns)
    assert host.names() == [operation.completion_handler]
    nic.send(operation.completion, nic.handle, columns)
    cut_off(bench, nic, operation.completion, "OffloadBlockList", "R-BLK-10")
    assert host.names().count(operation.completion_handler) == 1


@EVERY_OP
def test_r_blk_10_a_list_is_completed_by_its_own_completion(
    bench: Bench, host: Host, nic: Nic, operation: OperationRow
) -> None:
    """R-BLK-10: not by that of another operation."""
    ask(host, nic, operation.op)
    other = STATE_OPERATIONS[(OPS.index(operation.op) + 1) % 5]
    nic.send(other.completion, nic.handle, nic.up(nic.given(operation.op), operation.op))
    cut_off(bench, nic, other.completion, "OffloadBlockList", "R-BLK-10")
    assert operation.request in bench.bug_check.reason
    assert host.completed(operation.op)[Key.STATUS] == FAILURE


def changed_blocks(blocks: list[int]) -> list[list[int]]:
    return [blocks[:-1], [*blocks, 0x99], [blocks[0], blocks[2], blocks[1]], [*blocks[:-1], blocks[0]]]


@pytest.mark.parametrize("case", range(4))
def test_r_blk_10_all_blocks_come_back_and_no_others(bench: Bench, host: Host, nic: Nic, case: int) -> None:
    """R-BLK-10."""
    ask(host, nic, "initiate")
    lower = nic.given("initiate")
    columns = nic.up(lower, "initiate")
    columns = {
        Key.BLOCK: changed_blocks(lower[Key.BLOCK])[case],
        Key.STATUS: 0,
        Key.SOURCE_HANDLE: host.binding,
    }
    nic.send("NdisMInitiateOffloadComplete", nic.handle, columns)
    cut_off(bench, nic, "NdisMInitiateOffloadComplete", "OffloadBlockList.Block", "R-BLK-10")


def test_r_blk_10_a_list_that_was_never_given(bench: Bench, host: Host, nic: Nic) -> None:
    """R-BLK-10."""
    columns = {Key.BLOCK: [nic.heap.address()], Key.STATUS: 0, Key.SOURCE_HANDLE: host.binding}
    nic.send("NdisMQueryOffloadStateComplete", nic.handle, columns)
    cut_off(bench, nic, "NdisMQueryOffloadStateComplete", "OffloadBlockList", "R-BLK-10")


@EVERY_OP
@pytest.mark.parametrize("status", [..., None, [SUCCESS, None, SUCCESS]])
def test_r_blk_09_status_is_written_in_every_block(
    bench: Bench, host: Host, nic: Nic, operation: OperationRow, status: Any
) -> None:
    """R-BLK-09: placeholders included, for all five operations."""
    ask(host, nic, operation.op)
    nic.complete(operation.op, STATUS=status)
    cut_off(bench, nic, operation.completion, "OffloadBlockList.Status", "R-BLK-09")


LEGAL = {
    "query": "R-QRY-04",
    "update": "R-UPD-10",
    "invalidate": "R-INV-06",
    "terminate": "R-TERM-17",
}


@EVERY_OP
def test_r_qry_04_r_upd_10_r_inv_06_r_term_17_only_legal_statuses(operation: OperationRow) -> None:
    """R-QRY-04, R-UPD-10, R-INV-06, R-TERM-17: SUCCESS or FAILURE; an initiate has more to choose from."""
    allowed = {int(s) for s in ALLOWED_STATUS[operation.op]}
    rule = LEGAL.get(operation.op, CITED["initiate"])
    if operation.op != "initiate":
        assert allowed == {SUCCESS, FAILURE}
    for status in [int(s) for s in NdisStatus] + [1, 0xFFFFFFFF]:
        bench = Bench()
        nic = bench.client(Nic, "nic").start("nic0")
        host = bench.client(Host, "host").start("nic0")
        if operation.op == "initiate":
            host.request("initiate", host.columns((TCP, host.new_handle(), None)))
        else:
            host.request(operation.op, host.columns(*host.offload(nic, TCP)))
        nic.complete(operation.op, [status])
        if status in allowed:
            assert host.completed(operation.op)[Key.STATUS] == [status]
            assert bench.core.bug_checks.reports == []
        else:
            cut_off(bench, nic, operation.completion, "OffloadBlockList.Status", rule)
            assert host.completed(operation.op)[Key.STATUS] == FAILURE


@pytest.mark.parametrize("op", ["initiate", "query"])
@pytest.mark.parametrize("status", [FAILURE, [FAILURE, SUCCESS], [FAILURE, FAILURE]])
def test_r_tree_02_a_placeholder_always_succeeds(
    bench: Bench, host: Host, nic: Nic, op: str, status: Any
) -> None:
    """R-TREE-02: whatever becomes of the others, and even without dependents."""
    if op == "initiate":
        host.request(op, host.columns((PATH, None, None), (TCP, host.new_handle(), None)))
    else:
        ((_, handle, context),) = host.offload(nic, TCP)
        host.request(op, host.columns((PATH, None, None), (TCP, handle, context)))
    nic.complete(op, status)
    cut_off(
        bench,
        nic,
        f"NdisM{'InitiateOffload' if op == 'initiate' else 'QueryOffloadState'}Complete",
        "OffloadBlockList.Status[0]",
        "R-TREE-02",
    )
    assert host.completed(op)[Key.STATUS] == [SUCCESS, FAILURE]


def test_r_tree_02_a_lone_placeholder(host: Host, nic: Nic) -> None:
    """R-TREE-02: it has no dependents and succeeds."""
    host.request("initiate", host.columns((NEIGHBOR, None, None)))
    lower = nic.given("initiate")
    assert lower[Key.CELL] == [None]
    nic.send("NdisMInitiateOffloadComplete", nic.handle, nic.up(lower, "initiate"))
    assert host.completed("initiate")[Key.STATUS] == SUCCESS


def test_a_context_is_needed_for_what_was_offloaded(bench: Bench, host: Host, nic: Nic) -> None:
    ask(host, nic, "initiate")
    nic.complete("initiate", [SUCCESS, PARTIAL, FAILURE], CONTEXT=[0x1, None, None])
    cut_off(
        bench, nic, "NdisMInitiateOffloadComplete", "OffloadBlockList.*MiniportOffloadContext[0]", "R-HND-02"
    )


@pytest.mark.parametrize("status", [SUCCESS, PARTIAL])
def test_null_is_no_context(bench: Bench, host: Host, nic: Nic, status: int) -> None:
    ask(host, nic, "initiate")
    mine = [nic.heap.address(), nic.heap.address(), None]
    nic.complete("initiate", [SUCCESS, SUCCESS, status], CONTEXT=mine)
    cut_off(
        bench, nic, "NdisMInitiateOffloadComplete", "OffloadBlockList.*MiniportOffloadContext[2]", "R-HND-02"
    )


@pytest.mark.parametrize("status", [FAILURE, int(NdisStatus.RESOURCES)])
def test_a_cell_is_left_alone_where_nothing_was_offloaded(
    bench: Bench, host: Host, nic: Nic, status: int
) -> None:
    ask(host, nic, "initiate")
    mine = [nic.heap.address() for _ in range(3)]
    nic.complete("initiate", [SUCCESS, PARTIAL, status], CONTEXT=mine)
    cut_off(
        bench, nic, "NdisMInitiateOffloadComplete", "OffloadBlockList.*MiniportOffloadContext[2]", "R-HND-03"
    )


def test_a_list_with_one_bad_block_offloads_nothing(bench: Bench, host: Host, nic: Nic) -> None:
    """The request fails as a whole. What is indicated is that the connection on offer is lost."""
    ask(host, nic, "initiate")
    nic.complete("initiate", CONTEXT=[nic.heap.address(), nic.heap.address(), None])
    assert host.completed("initiate")[Key.STATUS] == FAILURE
    assert host.names() == ["ProtocolTcpOffloadEvent"] * 2 + ["ProtocolUnbindAdapterEx"]


def test_the_cell_of_a_linker_is_left_alone(bench: Bench, host: Host, nic: Nic) -> None:
    (path,) = host.offload(nic, PATH)
    host.request("initiate", host.columns(path, (TCP, host.new_handle(), None)))
    nic.complete("initiate", CONTEXT=[nic.heap.address(), nic.heap.address()])
    cut_off(
        bench, nic, "NdisMInitiateOffloadComplete", "OffloadBlockList.*MiniportOffloadContext[0]", "R-HND-03"
    )


def test_r_dis_42_an_adapter_is_named_by_the_handle_ndis_gave(bench: Bench, host: Host, nic: Nic) -> None:
    """R-DIS-42: neither the registration handle nor the adapter context, nor another driver's handle."""
    other = bench.client(Nic, "other").start("nic1")
    ask(host, nic, "initiate")
    columns = nic.up(nic.given("initiate"), "initiate")
    other.send("NdisMInitiateOffloadComplete", nic.handle, columns)
    cut_off(bench, other, "NdisMInitiateOffloadComplete", "NdisMiniportHandle", "R-DIS-42")
    assert host.names() == []
    for handle in (nic.driver_handle, nic.contexts["nic0"], None, 0):
        bench2 = Bench()
        nic2 = bench2.client(Nic, "nic").start("nic0")
        host2 = bench2.client(Host, "host").start("nic0")
        ask(host2, nic2, "initiate")
        nic2.send("NdisMInitiateOffloadComplete", handle, nic2.up(nic2.given("initiate"), "initiate"))
        cut_off(bench2, nic2, "NdisMInitiateOffloadComplete", "NdisMiniportHandle", "R-DIS-42")
    nic.send("NdisMInitiateOffloadComplete", nic.handle, columns)
    assert host.completed("initiate")[Key.STATUS] == SUCCESS


@pytest.mark.parametrize("key", [Key.TYPE, Key.NEXT, Key.OFFLOAD_HANDLE, Key.NDIS_OFFLOAD_HANDLE, "Sizes"])
def test_a_completion_brings_nothing_that_a_target_does_not_write(
    bench: Bench, host: Host, nic: Nic, key: str
) -> None:
    ask(host, nic, "initiate")
    lower = nic.given("initiate")
    nic.send("NdisMInitiateOffloadComplete", nic.handle, {**nic.up(lower, "initiate"), key: [1, 1, 1]})
    cut_off(bench, nic, "NdisMInitiateOffloadComplete", f"OffloadBlockList.{key}", "")


# -- what a driver above must not do -------------------------------------------------------------------


def test_a_forged_binding_handle(bench: Bench, host: Host, nic: Nic) -> None:
    other = bench.client(Host, "other").start("nic0", enable=False)
    for handle in (other.binding, other.binding + 0x10, None):
        bench.core.bug_checks.reports.clear()
        offender = bench.client(Host, "offender")
        offender.register_protocol([])
        offender.send("NdisInitiateOffload", handle, offender.columns((TCP, offender.new_handle(), None)))
        cut_off(bench, offender, "NdisInitiateOffload", "NdisBindingHandle", "R-HND-08")
        del bench.clients["offender"]
    assert nic.names() == []


def test_a_closed_binding(bench: Bench, host: Host, nic: Nic) -> None:
    host.call("NdisCloseAdapterEx", host.binding)
    host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    cut_off(bench, host, "NdisInitiateOffload", "NdisBindingHandle", "R-HND-08")


@EVERY_OP
def test_a_list_that_is_below_is_not_passed_down_again(
    bench: Bench, host: Host, nic: Nic, operation: OperationRow
) -> None:
    sent = ask(host, nic, operation.op)
    host.request(operation.op, dict(sent))
    cut_off(bench, host, operation.request, "OffloadBlockList", "R-BLK-11")
    assert nic.names().count(operation.handler) == 1


STRANGERS: dict[str, Callable[[Host, Nic], tuple[dict[str, Any], str, str]]] = {
    "list": lambda h, n: (
        {**h.columns((TCP, h.new_handle(), None)), Key.BLOCK: [n.heap.address(BLOCK_SIZE)]},
        "OffloadBlockList.Block",
        "R-BLK-11",
    ),
    "one block": lambda h, n: (
        {
            **h.columns((TCP, h.new_handle(), None), (TCP, h.new_handle(), None)),
            Key.BLOCK: [h.heap.address(), n.heap.address()],
        },
        "OffloadBlockList.Block",
        "R-BLK-11",
    ),
    "handle": lambda h, n: (
        h.columns((TCP, n.heap.address(), None)),
        "OffloadBlockList.OffloadHandle",
        "R-HND-07",
    ),
    "one handle": lambda h, n: (
        h.columns((TCP, h.new_handle(), None), (TCP, n.heap.address(), None)),
        "OffloadBlockList.OffloadHandle",
        "R-HND-07",
    ),
    "cell": lambda h, n: (
        h.columns((TCP, h.new_handle(), None), HANDLE_CELL=[n.heap.address()]),
        "OffloadBlockList.OffloadHandle->MiniportOffloadContext",
        "R-HND-07",
    ),
}


@pytest.mark.parametrize("what", STRANGERS)
def test_r_hnd_07_pointers_into_a_strangers_address_space(
    bench: Bench, host: Host, nic: Nic, what: str
) -> None:
    """R-HND-07: a driver passes handles of its own, in lists of its own."""
    columns, parameter, rule = STRANGERS[what](host, nic)
    host.request("initiate", columns)
    cut_off(bench, host, "NdisInitiateOffload", parameter, rule)
    assert nic.names() == []


@pytest.mark.parametrize(
    "changes", [{"HANDLE_CELL": [None]}, {"HANDLE_CELL": ...}, {"OFFLOAD_HANDLE": [None]}]
)
def test_a_handle_has_a_cell_and_a_cell_a_handle(
    bench: Bench, host: Host, nic: Nic, changes: dict[str, Any]
) -> None:
    host.request("initiate", host.columns((TCP, host.new_handle(), None), **changes))
    cut_off(bench, host, "NdisInitiateOffload", "OffloadBlockList.OffloadHandle", "R-IM-08")


@pytest.mark.parametrize("op", ["initiate", "terminate"])
def test_r_hnd_07_a_handle_stands_for_one_object(bench: Bench, host: Host, nic: Nic, op: str) -> None:
    """R-HND-07: one NDIS_OFFLOAD_HANDLE per object, so not in two blocks of a list."""
    if op == "initiate":
        block: Any = (TCP, host.new_handle(), None)
    else:
        (block,) = host.offload(nic, TCP)
    host.request(op, host.columns(block, block))
    cut_off(bench, host, f"Ndis{op.capitalize()}Offload", "OffloadBlockList.OffloadHandle", "R-HND-07")


@pytest.mark.parametrize("operation", STATE_OPERATIONS[1:], ids=OPS[1:])
@pytest.mark.parametrize(
    "how", ["never offloaded", "cell empty", "cell wrong", "another host's", "terminated"]
)
def test_r_hnd_04_a_request_names_objects_that_are_offloaded_through_its_binding(
    bench: Bench, host: Host, nic: Nic, operation: OperationRow, how: str
) -> None:
    """R-HND-04: the handle names an object of this binding, and its cell holds what the target stored."""
    ((_, handle, context),) = host.offload(nic, TCP)
    parameter = "OffloadBlockList.OffloadHandle"
    if how == "never offloaded":
        block: Any = (TCP, host.new_handle(), context)
    elif how == "cell empty":
        block = (TCP, handle, None)
    elif how == "cell wrong":
        block, parameter = (TCP, handle, context + 0x10), "OffloadBlockList.*MiniportOffloadContext"
    elif how == "another host's":
        other = bench.client(Host, "other").start("nic0", enable=False)
        other.request(operation.op, other.columns((TCP, other.new_handle(), context)))
        cut_off(bench, other, operation.request, parameter, "R-HND-04")
        return
    else:
        host.request("terminate", host.columns((TCP, handle, context)))
        nic.complete("terminate")
        host.completed("terminate")
        block = (TCP, handle, context)
    columns = host.columns(block)
    columns.pop(Key.STATE, None)
    host.request(operation.op, columns)
    cut_off(bench, host, operation.request, parameter, "R-HND-04")


def test_r_hnd_04_an_object_that_is_being_terminated_is_not_named_again(
    bench: Bench, host: Host, nic: Nic
) -> None:
    """R-HND-04: its context may be gone before the second request arrives."""
    objects = host.offload(nic)
    host.request("terminate", host.columns(*objects))
    host.request("query", host.columns((PATH, None, None), objects[2]))
    cut_off(bench, host, "NdisQueryOffloadState", "OffloadBlockList.OffloadHandle", "R-HND-04")


def test_r_init_02_an_object_is_not_offered_while_it_is_being_offloaded(
    bench: Bench, host: Host, nic: Nic
) -> None:
    """R-INIT-02: nor when it is offloaded already; after a failed offload it may be."""
    handle = host.new_handle()
    for _ in range(2):
        host.request("initiate", host.columns((TCP, handle, None)))
        nic.complete("initiate", FAILURE)
        assert host.completed("initiate")[Key.STATUS] == FAILURE
    host.request("initiate", host.columns((TCP, handle, None)))
    host.request("initiate", host.columns((PATH, None, None), (TCP, handle, None)))
    cut_off(bench, host, "NdisInitiateOffload", "OffloadBlockList.OffloadHandle", "R-INIT-02")


def test_r_init_02_an_offloaded_object_is_not_offered(bench: Bench, host: Host, nic: Nic) -> None:
    """R-INIT-02."""
    ((_, handle, _),) = host.offload(nic, TCP)
    host.request("initiate", host.columns((TCP, handle, None)))
    cut_off(bench, host, "NdisInitiateOffload", "OffloadBlockList.OffloadHandle", "R-INIT-02")


@pytest.mark.parametrize("operation", STATE_OPERATIONS[1:], ids=OPS[1:])
def test_r_conc_01_nothing_reaches_the_target_for_an_object_being_offloaded(
    bench: Bench, host: Host, nic: Nic, operation: OperationRow
) -> None:
    """R-CONC-01: query, update, invalidate and terminate have to wait for the completion."""
    handle = host.new_handle()
    host.request("initiate", host.columns((TCP, handle, None)))
    nic.given("initiate")
    columns = host.columns((TCP, handle, nic.heap.address()))
    host.request(operation.op, columns)
    cut_off(bench, host, operation.request, "OffloadBlockList.OffloadHandle", "R-CONC-01")
    assert nic.names() == []


@pytest.mark.parametrize("io", ["Send", "Receive", "Disconnect", "Forward"])
def test_r_conc_01_nor_does_data(bench: Bench, host: Host, nic: Nic, io: str) -> None:
    """R-CONC-01: sends, posted receives and forwards included."""
    handle = host.new_handle()
    host.request("initiate", host.columns((TCP, handle, None)))
    nic.given("initiate")
    extra = [0] if io == "Disconnect" else []
    host.send(f"NdisOffloadTcp{io}", handle, {"NetBufferList": [host.heap.address()]}, *extra)
    cut_off(bench, host, f"NdisOffloadTcp{io}", "NdisOffloadHandle", "R-CONC-01")
    assert nic.names() == []


def test_r_conc_02_other_objects_are_offered_meanwhile(host: Host, nic: Nic) -> None:
    """R-CONC-02: initiates of other objects reach the target at any time, and complete in any order."""
    for _ in range(3):
        host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    lists = [nic.given("initiate") for _ in range(3)]
    for lower in (lists[1], lists[2], lists[0]):
        nic.send("NdisMInitiateOffloadComplete", nic.handle, nic.up(lower, "initiate"))
        assert host.completed("initiate")[Key.BLOCK] == lower[Key.BLOCK]


@pytest.mark.parametrize(
    ("state", "blocks", "rule"),
    [
        ([None], [(TCP, "new")], "R-TREE-06"),
        ([b"", b"s"], [(PATH, None), (TCP, "new")], "R-TREE-01"),
        ([b"", b"s"], [(PATH, "linker"), (TCP, "new")], "R-TREE-03"),
        ([None, b"s"], [(PATH, "linker"), (PATH, "new")], "R-TREE-04"),
    ],
)
def test_r_tree_01_r_tree_03_r_tree_04_r_tree_06_the_kinds_of_node(
    bench: Bench, host: Host, nic: Nic, state: Any, blocks: Any, rule: str
) -> None:
    """R-TREE-01, R-TREE-03, R-TREE-04, R-TREE-06: NDIS lets no other kind of block pass in an initiate."""
    made: list[Any] = []
    for kind, what in blocks:
        if what == "linker":
            made.append(host.offload(nic, kind)[0])
        else:
            made.append((kind, host.new_handle() if what == "new" else None, None))
    host.request("initiate", host.columns(*made, STATE=state))
    cut_off(bench, host, "NdisInitiateOffload", "OffloadBlockList.", rule)


def test_r_tree_03_a_linker_names_an_offloaded_object(bench: Bench, host: Host, nic: Nic) -> None:
    """R-TREE-03: new connections are attached to a path that is there; a forged one is found out."""
    (path,) = host.offload(nic, PATH)
    host.request("initiate", host.columns(path, (TCP, host.new_handle(), None)))
    lower = nic.complete("initiate")
    assert lower[Key.CONTEXT] == [path[2], None]
    assert host.completed("initiate")[Key.STATUS] == SUCCESS
    host.request("initiate", host.columns((PATH, path[1], path[2] + 1), (TCP, host.new_handle(), None)))
    cut_off(bench, host, "NdisInitiateOffload", "OffloadBlockList.*MiniportOffloadContext", "R-HND-04")


def test_r_blk_05_type_names_the_layer_of_the_object(bench: Bench, host: Host, nic: Nic) -> None:
    """R-BLK-05: a connection is not named by a block of the path layer."""
    ((_, handle, context),) = host.offload(nic, TCP)
    host.request("query", host.columns((PATH, handle, context)))
    cut_off(bench, host, "NdisQueryOffloadState", "OffloadBlockList.Type", "R-BLK-05")


@pytest.mark.parametrize(
    ("changes", "parameter", "rule"),
    [
        ({"NEXT": [0x5, None]}, "OffloadBlockList.NextBlock[0]", ""),
        ({"TYPE": [TCP, PATH]}, "OffloadBlockList.NextBlock[0]", "R-BLK-07"),
        ({"TYPE": [TCP, TCP]}, "OffloadBlockList.DependentBlockList[0]", "R-BLK-08"),
        ({"STATUS": [0]}, "OffloadBlockList.Status", ""),
    ],
)
def test_r_blk_07_r_blk_08_a_misshapen_tree_is_a_bug_check(
    bench: Bench, host: Host, nic: Nic, changes: dict[str, Any], parameter: str, rule: str
) -> None:
    """R-BLK-07, R-BLK-08: the report names the link."""
    columns = host.columns((TCP, host.new_handle(), None), (TCP, host.new_handle(), None), **changes)
    if "R-BLK-08" in rule:
        columns[Key.DEPENDENT], columns[Key.NEXT] = [columns[Key.BLOCK][1], None], [None, None]
    host.request("initiate", columns)
    cut_off(bench, host, "NdisInitiateOffload", parameter, rule)
    assert nic.names() == []


# -- intermediate drivers ------------------------------------------------------------------------------


def test_a_list_is_lent_downward_unchanged_in_shape(bench: Bench, nic: Nic, im: Im) -> None:
    host = bench.client(Host, "host").start("im0")
    host.request(
        "initiate", host.columns(*((t, host.new_handle(), None) for t in (NEIGHBOR, PATH, TCP, TCP)))
    )
    upper = im.pass_on("initiate", *(im.new_handle() for _ in range(4)))
    lower = nic.given("initiate")
    for key in (Key.BLOCK, Key.NEXT, Key.DEPENDENT, Key.TYPE, Key.STATE):
        assert lower[key] == upper[key]
    assert lower[Key.SOURCE_HANDLE] == im.binding
    assert upper[Key.SOURCE_HANDLE] == host.binding


@pytest.mark.parametrize("key", ["NEXT", "DEPENDENT", "TYPE"])
def test_a_list_must_not_be_changed_on_its_way_down(bench: Bench, nic: Nic, im: Im, key: str) -> None:
    host = bench.client(Host, "host").start("im0")
    host.request("initiate", host.columns(*((t, host.new_handle(), None) for t in (PATH, TCP, TCP))))
    other = {key: None if key != "TYPE" else [PATH, TCP, 13]}
    im.pass_on("initiate", *(im.new_handle() for _ in range(3)), **other)
    cut_off(bench, im, "NdisInitiateOffload", f"OffloadBlockList.{getattr(Key, key)}", "R-IM-04")


def test_a_list_that_was_not_lent_is_not_passed_on(bench: Bench, nic: Nic, im: Im) -> None:
    host = bench.client(Host, "host").start("im0")
    columns = host.columns((TCP, im.new_handle(), None))
    im.request("initiate", columns)
    cut_off(bench, im, "NdisInitiateOffload", "OffloadBlockList.Block", "R-BLK-11")


def test_r_im_01_a_request_goes_on_as_what_it_is(bench: Bench, nic: Nic, im: Im) -> None:
    """R-IM-01: an initiate goes on by NdisInitiateOffload and by nothing else."""
    host = bench.client(Host, "host").start("im0")
    host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    upper = im.given("initiate")
    columns = {k: v for k, v in upper.items() if k not in (Key.CELL, Key.NDIS_OFFLOAD_HANDLE, Key.STATE)}
    handle = im.new_handle()
    im.request("terminate", {**columns, Key.OFFLOAD_HANDLE: [handle], Key.HANDLE_CELL: [handle + 0x10]})
    cut_off(bench, im, "NdisTerminateOffload", "OffloadBlockList", "R-IM-01")


def test_r_blk_11_a_list_is_not_handed_back_while_it_is_lent_further_down(
    bench: Bench, nic: Nic, im: Im
) -> None:
    """R-BLK-11: the driver below is still working on it."""
    host = bench.client(Host, "host").start("im0")
    host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    upper = im.pass_on("initiate", im.new_handle())
    im.send("NdisMInitiateOffloadComplete", im.handles["im0"], im.up(upper, "initiate", FAILURE))
    cut_off(bench, im, "NdisMInitiateOffloadComplete", "OffloadBlockList", "R-BLK-11")


# -- refused without a fault ---------------------------------------------------------------------------


def test_a_request_without_the_chimney_fails_and_goes_no_further(bench: Bench, nic: Nic) -> None:
    """It is an outcome, not a bug check."""
    host = bench.client(Host, "host").start("nic0", enable=False)
    blocks = [(PATH, None, None), (TCP, host.new_handle(), None)]
    columns = host.columns(*blocks)
    columns[Key.IM_RESERVED[0]] = 0x5
    host.request("initiate", columns)
    done = host.completed("initiate")
    assert done[Key.STATUS] == [SUCCESS, FAILURE]
    assert done[Key.IM_RESERVED[0]] == 0x5
    assert done[Key.SOURCE_HANDLE] == host.binding
    assert Key.CONTEXT not in done
    assert nic.names() == []
    assert bench.core.bug_checks.reports == []
    assert host.enable() == (0, "")
    host.request("initiate", columns)  # the handle is free for another try
    assert nic.complete("initiate")


def test_ndis_takes_objects_that_failed_their_terminate_once_more(host: Host, nic: Nic) -> None:
    """R-DIS-43: FAILURE, events, a further terminate; events are let through, the second end is final."""
    ((_, handle, context),) = host.offload(nic, TCP)
    host.request("terminate", host.columns((TCP, handle, context)))
    nic.complete("terminate", FAILURE)
    assert host.completed("terminate")[Key.STATUS] == FAILURE
    nic.send("NdisTcpOffloadEventHandler", handle, 3, 11)
    nic.send("NdisTcpOffloadEventHandler", handle, 4, 0)
    assert host.names() == ["ProtocolTcpOffloadEvent"] * 2
    host.request("terminate", host.columns((TCP, handle, context)))
    nic.complete("terminate", FAILURE)
    host.completed("terminate")
    assert host.bench.core.registry.bindings[host.binding].lost == {}
    assert host.bench.core.bug_checks.reports == []
    host.request("terminate", host.columns((TCP, handle, context)))
    cut_off(host.bench, host, "NdisTerminateOffload", "OffloadBlockList.OffloadHandle", "R-HND-04")


def test_ndis_terminates_itself_what_is_not_terminated_a_second_time(
    bench: Bench, host: Host, nic: Nic
) -> None:
    """R-DIS-43: some let a single failure be the end; then nothing may be left behind below."""
    objects = host.offload(nic)
    host.request("terminate", host.columns(*objects))
    nic.complete("terminate", FAILURE)
    host.completed("terminate")
    assert nic.names() == []
    bench.tick(bench.core.config.lost_limit + 0.01)
    for layer in (2, 1, 0):
        lower = nic.given("terminate")
        assert lower[Key.NDIS_OFFLOAD_HANDLE] == [objects[layer][1]]
        assert lower[Key.CONTEXT] == [objects[layer][2]]
        nic.send("NdisMTerminateOffloadComplete", nic.handle, nic.up(lower, "terminate", FAILURE))
    assert nic.names() == host.names() == []
    # A second terminate that comes too late finds nothing, and that is not a bug check.
    host.request("terminate", host.columns(*objects))
    assert host.completed("terminate")[Key.STATUS] == FAILURE
    assert nic.names() == []
    assert bench.core.bug_checks.reports == []


# -- what is not a list --------------------------------------------------------------------------------


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("value", [5, None, [1]])
@pytest.mark.parametrize("operation", STATE_OPERATIONS, ids=OPS)
def test_r_blk_01_an_operation_comes_with_a_block_list(
    bench: Bench, host: Host, operation: OperationRow, value: Any, traced: bool
) -> None:
    """R-BLK-01: the report names call, parameter and rule once each, with and without a trace listener."""
    if traced:
        bench.core.out.trace = lambda _: None
    host.send(operation.request, host.binding, value)
    cut_off(bench, host, operation.request, "OffloadBlockList", "R-BLK-01")
    report = bench.bug_check
    assert report.parameter == "OffloadBlockList"
    assert report.reason == f"a block list is a map of columns, got {type(value).__name__}"
    assert str(report).count(operation.request) == str(report).count("OffloadBlockList") == 1


def test_a_reason_does_not_repeat_the_place(bench: Bench, host: Host, nic: Nic) -> None:
    host.send("NdisInitiateOffload", host.binding, {"Block": [1], "Status": ["x"]})
    report = bench.bug_check
    assert report.parameter == "OffloadBlockList.Status[0]"
    assert report.reason == "integer or nil expected, got str"
