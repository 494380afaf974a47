"""Who dies, stalls or lets go: each request is completed exactly once, and nothing is left behind."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.core import CoreConfig
from ndisbus.core.model import Adapter, Binding
from ndisbus.core.removal import MAX_CUT_OFF
from ndisbus.ddi.call_rows import IO_OPERATIONS, STATE_OPERATIONS
from ndisbus.ddi.enums import NdisRequestType, Oid
from ndisbus.ddi.state_types import OffloadStateType
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import NdisStatusIndication
from ndisbus.ddi.tcp_enums import TcpOffloadEventType, TcpUploadReason
from ndisbus.lists.blocklist import Key
from tests.support.core_bench import NEIGHBOR, OPERATIONS, PATH, TCP, Bench, Client, Host, Im, Nic, oid

FAILURE, ABORTED, PENDING = int(NdisStatus.FAILURE), int(NdisStatus.REQUEST_ABORTED), int(NdisStatus.PENDING)
RETRIEVE, ABORT = int(TcpOffloadEventType.TcpIndicateRetrieve), int(TcpOffloadEventType.TcpIndicateAbort)
OPS = [o.op for o in STATE_OPERATIONS]
IO = [o.op for o in IO_OPERATIONS]
LIMITS = CoreConfig(check_interval=0.25, hang_limit=2.0, request_limit=10.0, unbind_limit=5.0)


@pytest.fixture
def bench() -> Bench:
    return Bench(LIMITS)


@pytest.fixture
def nic(bench: Bench) -> Nic:
    return bench.client(Nic, "nic").start("nic0")


@pytest.fixture
def host(bench: Bench, nic: Nic) -> Host:
    return bench.client(Host, "host").start("nic0")


def nothing_left(bench: Bench) -> None:
    """No binding, no object, nothing outstanding, and no bug check."""
    assert bench.core.registry.bindings == {}
    for a in bench.core.registry.adapters.values():
        assert (a.requests, a.nbls, a.oids, a.bindings, a.chimney_owner) == ({}, {}, {}, [], None)
    assert bench.core.bug_checks.reports == []


def everything_outstanding(host: Host, nic: Nic) -> dict[str, int]:
    """One request of every kind, each on a connection of its own; returns handles by operation."""
    handles: dict[str, int] = {}
    for op in (*IO, *OPS[1:]):
        ((_, handle, context),) = host.offload(nic, TCP)
        handles[op] = handle
        if op in IO:
            extra = [0] if op == "disconnect" else []
            count = 1 if op == "disconnect" else 2
            lists = {"NetBufferList": list(host.heap.addresses(count)), "Context": handle}
            host.send(OPERATIONS[op].request, handle, lists, *extra)
        else:
            columns = host.columns((PATH, None, None), (TCP, handle, context))
            columns[Key.IM_RESERVED[1]] = handle
            host.request(op, columns)
    host.request("initiate", host.columns((NEIGHBOR, None, None), (PATH, host.new_handle(), None)))
    host.send(
        "NdisOidRequest",
        host.binding,
        oid(Oid.OID_TCP4_OFFLOAD_STATS, NdisRequestType.NdisRequestQueryInformation),
    )
    assert host.names() == []
    return handles


# -- a miniport dies -----------------------------------------------------------------------------------


def test_everything_a_dead_miniport_held_comes_back_once(bench: Bench, host: Host, nic: Nic) -> None:
    """FAILURE in every block but placeholders, REQUEST_ABORTED in every list, lent values as they were."""
    handles = everything_outstanding(host, nic)
    nic.send("goodbye")
    for op in OPS:
        done = host.completed(op)
        assert done[Key.STATUS] == [0, FAILURE]
        assert done[Key.SOURCE_HANDLE] == host.binding
        if op != "initiate":
            assert done[Key.IM_RESERVED[1]] == handles[op]
        assert Key.CONTEXT not in done
    for op in IO:
        done = host.take(OPERATIONS[op].completion_handler)[2][1]
        assert done["Status"] == [ABORTED] * (1 if op == "disconnect" else 2)
        assert done["Context"] == handles[op]
    assert host.take("ProtocolOidRequestComplete")[2][2] == ABORTED
    assert not [n for n in host.names() if n.endswith("Complete")]


def test_each_connection_is_retrieved_and_aborted_and_then_the_binding_goes(
    bench: Bench, host: Host, nic: Nic
) -> None:
    """Before lists complete, also on offer or on their way up. Neighbors and paths have no events."""
    objects = host.offload(nic, NEIGHBOR, PATH, TCP, TCP, TCP)
    host.request("terminate", host.columns((NEIGHBOR, None, None), (PATH, None, None), objects[4]))
    offered = host.new_handle()
    host.request("initiate", host.columns((NEIGHBOR, host.new_handle(), None)))
    host.request("initiate", host.columns((PATH, objects[1][1], objects[1][2]), (TCP, offered, None)))
    nic.send("goodbye")
    events = [host.take("ProtocolTcpOffloadEvent")[2] for _ in range(8)]
    hardware = int(TcpUploadReason.HardwareFailure)
    handles = [*(handle for _, handle, _ in objects[2:]), offered]
    assert events == [e for h in handles for e in ([h, RETRIEVE, hardware], [h, ABORT, 0])]
    assert host.names() == [
        "ProtocolTerminateOffloadComplete",
        "ProtocolInitiateOffloadComplete",
        "ProtocolInitiateOffloadComplete",
        "ProtocolUnbindAdapterEx",
    ]
    assert host.take("ProtocolUnbindAdapterEx")[2][1] == host.contexts_of["nic0"]


def test_net_buffer_lists_come_back_before_the_terminate_of_their_connection(
    bench: Bench, host: Host, nic: Nic
) -> None:
    """As from a living target (R-TERM-08)."""
    ((_, handle, context),) = host.offload(nic, TCP)
    host.send("NdisOffloadTcpReceive", handle, {"NetBufferList": [host.heap.address()]})
    host.request("terminate", host.columns((TCP, handle, context)))
    nic.send("goodbye")
    completed = [name for name in host.names() if name.endswith("Complete")]
    assert completed == ["ProtocolTcpOffloadReceiveComplete", "ProtocolTerminateOffloadComplete"]


def test_requests_made_after_the_death_fail_at_once(bench: Bench, host: Host, nic: Nic) -> None:
    """The host terminates what it had there; the driver below is gone, and nothing is left."""
    objects = host.offload(nic)
    nic.send("goodbye")
    unbind = host.take("ProtocolUnbindAdapterEx")
    for op, blocks in (
        ("query", objects),
        ("terminate", objects),
        ("initiate", [(TCP, host.new_handle(), None)]),
    ):
        host.request(op, host.columns(*blocks))
        assert host.completed(op)[Key.STATUS] == FAILURE
    host.answer(unbind, PENDING)
    assert host.call("NdisCloseAdapterEx", host.binding) == [0]
    assert host.take("ProtocolCloseAdapterCompleteEx")[2] == [host.contexts_of["nic0"]]
    nothing_left(bench)


def test_everybody_bound_is_unbound_and_bound_again(bench: Bench, host: Host, nic: Nic) -> None:
    other = bench.client(Host, "other").start("nic0", enable=False)
    old_epoch = nic.ready["Epoch"]
    nic.send("goodbye")
    nic.hello()
    nic.start("nic0")
    assert "ProtocolBindAdapterEx" not in host.names()  # not before the old binding is closed
    for client in (host, other):
        client.answer(client.take("ProtocolUnbindAdapterEx"), 0)
        client.take("ProtocolCloseAdapterCompleteEx")
        (asked,) = [m for m, _ in client.inbox if m[0] == "ProtocolBindAdapterEx"]
        assert asked[2][2]["Epoch"] == nic.ready["Epoch"] > old_epoch
        client.bind()
    host.enable()
    assert len(host.offload(nic)) == 3


def test_all_adapters_of_a_driver_go_and_none_is_offered_while_they_do(bench: Bench) -> None:
    nic = bench.client(Nic, "nic").start("nic0", "nic1")
    one = bench.client(Host, "one").start("nic0", enable=False)
    both = bench.client(Host, "both")
    both.register_protocol(["nic0", "nic1"])
    both.bind()  # and the other is on offer
    late = bench.client(Host, "late")
    late.register_protocol(["nic1"])
    late.answer(late.take("ProtocolBindAdapterEx"), FAILURE)
    nic.send("goodbye")
    assert one.names() == ["ProtocolUnbindAdapterEx"]
    assert both.names() == ["ProtocolBindAdapterEx", "ProtocolUnbindAdapterEx"]
    assert late.names() == []
    assert bench.core.registry.adapters == {}


def test_none_is_offered_when_the_driver_dies_bringing_another_one_up(bench: Bench) -> None:
    nic = bench.client(Nic, "nic")
    nic.register_miniport(["nic0", "nic1"])
    nic.initialize("nic0")
    host = bench.client(Host, "host")
    host.register_protocol(["nic0"])
    host.answer(host.take("ProtocolBindAdapterEx"), FAILURE)
    nic.send("goodbye")
    assert host.names() == []


def test_a_driver_that_breaks_a_rule_is_removed_like_one_that_dies(
    bench: Bench, host: Host, nic: Nic
) -> None:
    host.offload(nic, TCP)
    host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    nic.complete("initiate", 0x12345)
    assert host.completed("initiate")[Key.STATUS] == FAILURE
    assert host.names() == ["ProtocolTcpOffloadEvent"] * 4 + ["ProtocolUnbindAdapterEx"]


@pytest.mark.parametrize(
    ("said", "lost"),
    [([], 2), ([{"Idle": True}], 1), ([{"Idle": False}], 2), ([{"Idle": 1}], 2), ([7], 2), ([{}, {}], 2)],
)
def test_a_driver_that_left_idle_has_not_served_what_was_on_offer(
    host: Host, nic: Nic, said: list[Any], lost: int
) -> None:
    """R-CONC-03: any other may have served it, so two events tell that it is lost before its list fails."""
    host.offload(nic, TCP)
    host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    nic.send("goodbye", *said)
    assert host.completed("initiate")[Key.STATUS] == FAILURE
    assert host.names() == ["ProtocolTcpOffloadEvent"] * 2 * lost + ["ProtocolUnbindAdapterEx"]


# -- a protocol dies -----------------------------------------------------------------------------------


def test_r_term_02_what_a_dead_protocol_left_is_terminated_from_the_top(
    bench: Bench, host: Host, nic: Nic
) -> None:
    """R-TERM-02: connections, then paths, then neighbors; each layer when the one above it is through."""
    trees = [host.offload(nic, NEIGHBOR, PATH, TCP, TCP) for _ in range(2)]
    host.send("goodbye")
    for layer, kind in ((2, "TcpOffload"), (1, "Ip4Offload"), (0, "NeighborOffload")):
        lower = nic.given("terminate")
        assert nic.names() == []
        assert OffloadStateType(lower[Key.TYPE]).name == f"{kind}DelegatedState"
        named = [t for tree in trees for t in (tree[2:] if layer == 2 else [tree[layer]])]
        assert lower[Key.NDIS_OFFLOAD_HANDLE] == [handle for _, handle, _ in named]
        assert lower[Key.CONTEXT] == [context for _, _, context in named]
        assert lower[Key.CELL] == [handle + 0x10 for _, handle, _ in named]
        assert lower[Key.NEXT] == [*lower[Key.BLOCK][1:], None]
        assert lower[Key.SOURCE_HANDLE] == host.binding
        assert Key.STATE not in lower
        nic.send("NdisMTerminateOffloadComplete", nic.handle, nic.up(lower, "terminate"))
    assert nic.names() == []
    nothing_left(bench)


def test_an_initiate_of_a_dead_protocol_completes_later_and_its_objects_are_freed(
    bench: Bench, host: Host, nic: Nic
) -> None:
    host.request("initiate", host.columns((PATH, host.new_handle(), None), (TCP, host.new_handle(), None)))
    lower = nic.given("initiate")
    host.send("goodbye")
    assert nic.names() == []
    (binding,) = bench.core.registry.bindings.values()
    nic.send("NdisMInitiateOffloadComplete", nic.handle, nic.up(lower, "initiate"))
    assert binding.objects.keys() == set(lower[Key.NDIS_OFFLOAD_HANDLE])
    nic.complete("terminate")
    nic.complete("terminate")
    nothing_left(bench)


@pytest.mark.parametrize("op", OPS[1:])
def test_r_term_03_other_requests_come_back_before_the_terminate(
    bench: Bench, host: Host, nic: Nic, op: str
) -> None:
    """R-TERM-03: NDIS waits for queries and the like on the objects before it terminates them."""
    objects = host.offload(nic)
    host.request(op, host.columns(*objects))
    host.send("goodbye")
    assert nic.names() == [OPERATIONS[op].handler]
    nic.complete(op)
    for _ in range(3 if op != "terminate" else 0):
        nic.complete("terminate")
    assert nic.names() == []
    nothing_left(bench)


def test_a_posted_receive_does_not_keep_the_objects_of_the_dead(bench: Bench, host: Host, nic: Nic) -> None:
    """It may wait for data forever. The terminate is what ends it, and it is completed before that."""
    ((_, handle, _),) = host.offload(nic, TCP)
    host.send("NdisOffloadTcpReceive", handle, {"NetBufferList": [host.heap.address()]})
    host.send("goodbye")
    lower = nic.given("terminate")
    nic.complete_nbls("receive", int(NdisStatus.UPLOAD_IN_PROGRESS))
    nic.send("NdisMTerminateOffloadComplete", nic.handle, nic.up(lower, "terminate"))
    nothing_left(bench)


def test_nor_does_one_whose_terminate_fails(bench: Bench, host: Host, nic: Nic) -> None:
    """R-HWF-01: the receive comes back before the second terminate completes."""
    ((_, handle, _),) = host.offload(nic, TCP)
    host.send("NdisOffloadTcpReceive", handle, {"NetBufferList": [host.heap.address()]})
    host.send("goodbye")
    nic.complete("terminate", FAILURE)
    nic.complete_nbls("receive", ABORTED)
    nic.complete("terminate", FAILURE)
    nothing_left(bench)


def test_objects_whose_terminate_had_failed_are_cleared_up_too(bench: Bench, host: Host, nic: Nic) -> None:
    ((_, handle, context),) = host.offload(nic, TCP)
    host.request("terminate", host.columns((TCP, handle, context)))
    nic.complete("terminate", FAILURE)
    host.send("goodbye")
    assert nic.complete("terminate", FAILURE)[Key.NDIS_OFFLOAD_HANDLE] == [handle]
    bench.tick(LIMITS.lost_limit + 1)
    assert nic.names() == []
    nothing_left(bench)


def test_a_terminate_of_ndis_that_fails_is_repeated_once(bench: Bench, host: Host, nic: Nic) -> None:
    """R-DIS-43: the driver below waits for the second one. That is the end whatever its status."""
    named = [handle for _, handle, _ in host.offload(nic)]
    host.send("goodbye")
    for handle in (h for h in reversed(named) for _ in range(2)):
        assert nic.complete("terminate", FAILURE)[Key.NDIS_OFFLOAD_HANDLE] == [handle]
    nothing_left(bench)


def test_the_miniport_dies_while_it_is_cleared_up_after_the_protocol(
    bench: Bench, host: Host, nic: Nic
) -> None:
    host.offload(nic)
    host.send(
        "NdisOidRequest",
        host.binding,
        oid(Oid.OID_TCP4_OFFLOAD_STATS, NdisRequestType.NdisRequestQueryInformation),
    )
    host.send("goodbye")
    assert nic.given("terminate")
    nic.send("goodbye")
    nothing_left(bench)
    assert bench.core.registry.adapters == {}


def test_a_binding_that_is_closed_carelessly_is_cleared_up_before_it_is_gone(
    bench: Bench, host: Host, nic: Nic
) -> None:
    """The protocol lives, so it hears of the end: after what it left was terminated."""
    host.offload(nic, PATH, TCP)
    host.request("query", host.columns((NEIGHBOR, None, None)))
    assert host.call("NdisCloseAdapterEx", host.binding) == [0]
    assert host.names() == []
    nic.complete("query")
    assert host.names() == ["ProtocolQueryOffloadComplete"]
    nic.complete("terminate")
    nic.complete("terminate")
    assert host.names() == ["ProtocolQueryOffloadComplete", "ProtocolCloseAdapterCompleteEx"]
    nothing_left(bench)


# -- an intermediate driver dies -----------------------------------------------------------------------


def chain(bench: Bench, nic: Nic) -> tuple[Im, Host, int, int]:
    """A host over an intermediate driver with one connection; returns also both handles."""
    im = bench.client(Im, "im").start("im0")
    im.enable()
    host = bench.client(Host, "host").start("im0")
    handle, own = host.new_handle(), im.new_handle()
    host.request("initiate", host.columns((TCP, handle, None)))
    upper = im.pass_on("initiate", own)
    nic.complete("initiate")
    im.completed("initiate")
    im.send("NdisMInitiateOffloadComplete", im.handle, im.up(upper, "initiate"))
    host.completed("initiate")
    return im, host, handle, own


def test_a_dead_intermediate_driver_is_gone_on_both_sides(bench: Bench, nic: Nic) -> None:
    """Above, its requests fail and its objects are aborted; below, what it had offloaded is terminated."""
    im, host, handle, own = chain(bench, nic)
    context = bench.core.registry.bindings[host.binding].objects[handle][1]
    host.request("query", host.columns((TCP, handle, context)))
    im.pass_on("query", own, CONTEXT=[bench.core.registry.bindings[im.binding].objects[own][1]])
    host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    im.send("goodbye")
    assert host.completed("query")[Key.STATUS] == FAILURE
    assert host.completed("initiate")[Key.STATUS] == FAILURE
    assert [host.take("ProtocolTcpOffloadEvent")[2][:2] for _ in range(2)] == [
        [handle, RETRIEVE],
        [handle, ABORT],
    ]
    host.answer(host.take("ProtocolUnbindAdapterEx"), 0)
    nic.complete("query")
    assert nic.complete("terminate")[Key.NDIS_OFFLOAD_HANDLE] == [own]
    nothing_left(bench)


def test_a_list_that_a_dead_driver_lent_further_down_is_not_given_twice(bench: Bench, nic: Nic) -> None:
    """The host passes the very same list down again before the target has handed it back."""
    im = bench.client(Im, "im").start("im0")
    im.enable()
    host = bench.client(Host, "host").start("im0")
    columns = host.columns((TCP, host.new_handle(), None))
    host.request("initiate", dict(columns))
    im.pass_on("initiate", im.new_handle())
    lower = nic.given("initiate")
    im.send("goodbye")
    host.completed("initiate")
    host.answer(host.take("ProtocolUnbindAdapterEx"), 0)
    im.hello()
    im.start("im0")
    im.enable()
    host.bind()
    host.enable()
    host.request("initiate", dict(columns))
    upper = im.pass_on("initiate", im.new_handle())
    assert im.completed("initiate")[Key.STATUS] == FAILURE
    assert nic.names() == []
    im.send("NdisMInitiateOffloadComplete", im.handle, im.up(upper, "initiate", FAILURE))
    assert host.completed("initiate")[Key.STATUS] == FAILURE
    nic.send("NdisMInitiateOffloadComplete", nic.handle, nic.up(lower, "initiate"))
    nic.complete("terminate")
    assert bench.core.bug_checks.reports == []


# -- hangs ---------------------------------------------------------------------------------------------


def test_a_miniport_is_asked_whether_it_hangs(bench: Bench, host: Host, nic: Nic) -> None:
    bench.tick(60)
    assert nic.closed is None
    calls = [e for e in bench.events if e["event"] == "call" and e["call"] == "MiniportCheckForHangEx"]
    assert len(calls) == 60 / LIMITS.check_interval


def test_one_that_does_not_answer_within_the_limit_is_dead(bench: Bench, host: Host, nic: Nic) -> None:
    host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    nic.responsive = False
    bench.tick(LIMITS.check_interval + LIMITS.hang_limit - 0.01)
    assert host.names() == []
    bench.tick(0.02)
    assert host.completed("initiate")[Key.STATUS] == FAILURE
    assert "MiniportCheckForHangEx" in str(nic.closed)
    assert bench.core.bug_checks.reports == []


def test_a_hung_driver_is_listed_until_it_dies_or_says_hello(bench: Bench, host: Host, nic: Nic) -> None:
    epoch = nic.ready["Epoch"]
    for end in ("hello", "death"):
        nic.responsive = False
        bench.tick(LIMITS.check_interval + LIMITS.hang_limit + 0.01)
        survey = bench.core.survey.show({})
        assert [p["Name"] for p in survey["Processes"]] == ["host"]
        [row] = survey["CutOff"]
        assert (row["Name"], row["State"], row["Kind"]) == ("nic", "cut off: hung", "miniport")
        assert row["Epoch"] == epoch
        if end == "hello":
            nic.responsive = True
            nic.hello()
            epoch = nic.ready["Epoch"]
            assert bench.core.survey.show({})["CutOff"] == []
            nic.start("nic0")
    bench.core.removal.process_died(bench.core.registry.clients["nic"], "the process died")
    assert bench.core.survey.show({})["CutOff"] == []


def test_only_so_many_hung_drivers_are_listed(bench: Bench) -> None:
    names = [f"p{i}" for i in range(MAX_CUT_OFF + 3)]
    for name in names:
        bench.client(Client, name)
        bench.core.removal.remove(bench.core.registry.clients[name], "hung", hung=True)
    assert [p["Name"] for p in bench.core.survey.show({})["CutOff"]] == names[3:]


def test_one_that_answers_late_but_within_the_limit_lives(bench: Bench, host: Host, nic: Nic) -> None:
    host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    for _ in range(4):
        nic.responsive = False
        bench.tick(LIMITS.hang_limit - 0.01)
        nic.responsive = True
        nic.answer(nic.take("MiniportCheckForHangEx"), False)
    bench.tick(1)
    nic.complete("initiate")
    assert host.completed("initiate")[Key.STATUS] == 0
    assert nic.closed is None


def test_one_that_says_something_is_alive(bench: Bench, host: Host, nic: Nic) -> None:
    """It is only slow to come to the question."""
    ((_, handle, _),) = host.offload(nic, TCP)
    nic.responsive = False
    for _ in range(10):
        bench.tick(LIMITS.hang_limit / 2)
        nic.send("NdisTcpOffloadEventHandler", handle, 1, 5)
    assert nic.closed is None
    bench.tick(LIMITS.hang_limit)
    assert nic.closed


def test_one_that_advances_is_alive_however_long_its_queue_is(bench: Bench, host: Host, nic: Nic) -> None:
    """It works and has nothing to tell: its counter is the sign of life."""
    nic.responsive = False
    for count in range(1, 20):
        bench.tick(LIMITS.hang_limit / 2)
        nic.send("progress", count)
    assert nic.closed is None
    bench.tick(LIMITS.hang_limit)
    assert "MiniportCheckForHangEx" in str(nic.closed)


def test_progress_does_not_excuse_a_request_for_ever(bench: Bench, host: Host, nic: Nic) -> None:
    """The question and a request have waited for minutes, say: no queue is that long."""
    host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    nic.responsive = False
    for count in range(1, 100):
        bench.tick(LIMITS.hang_limit / 2)
        nic.send("progress", count)
        if nic.closed:
            break
    assert "held NdisInitiateOffload" in str(nic.closed)
    assert bench.now > 6 * LIMITS.request_limit, "a long queue takes its time"
    assert host.completed("initiate")[Key.STATUS] == FAILURE


def test_a_counter_that_stands_still_is_not_progress(bench: Bench, host: Host, nic: Nic) -> None:
    nic.send("progress", 7)
    nic.responsive = False
    for _ in range(2):
        bench.tick(LIMITS.check_interval + LIMITS.hang_limit / 2)
        nic.send("progress", 7)
    assert "MiniportCheckForHangEx" in str(nic.closed)


@pytest.mark.parametrize("counts", [(), ("7",), (-1,), (True,), (1, 2)])
def test_progress_without_a_counter_is_a_bug_check(bench: Bench, nic: Nic, counts: tuple[Any, ...]) -> None:
    nic.send("progress", *counts)
    assert bench.bug_check.call == "progress"


def test_a_pause_of_the_bus_is_not_a_hang_of_its_drivers(bench: Bench, host: Host, nic: Nic) -> None:
    """The whole machine was stopped, say. All limits begin again; then a driver that hangs is found."""
    nic.responsive = False
    bench.tick(LIMITS.hang_limit)
    bench.now += 100.0
    bench.core.resumed(bench.now, 100.0)
    bench.tick(LIMITS.hang_limit - 0.01)
    assert nic.closed is None
    bench.tick(0.02)
    assert "MiniportCheckForHangEx" in str(nic.closed)


def test_short_pauses_again_and_again_do_not_hide_a_hang(bench: Bench, host: Host, nic: Nic) -> None:
    nic.responsive = False
    for _ in range(10):
        bench.tick(LIMITS.hang_limit / 5)
        bench.core.resumed(bench.now, LIMITS.hang_limit / 5)
    assert "MiniportCheckForHangEx" in str(nic.closed)


def test_nor_does_it_make_requests_overdue(bench: Bench, host: Host, nic: Nic) -> None:
    host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    bench.tick(LIMITS.request_limit - 1)
    bench.now += 100.0
    bench.core.resumed(bench.now, 100.0)
    bench.tick(LIMITS.request_limit - 1)
    assert nic.closed is None
    bench.tick(2)
    assert "for more than" in str(nic.closed)


def test_what_a_thawed_driver_still_sends_is_refused(bench: Bench, host: Host, nic: Nic) -> None:
    """Its epoch is closed: the drivers above do not hear of it. Then it starts again from registration."""
    host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    nic.responsive = False
    bench.tick(10)
    host.completed("initiate")
    before = len(host.names())
    lower = nic.given("initiate")
    asked = nic.take("MiniportCheckForHangEx")
    nic.send("NdisMInitiateOffloadComplete", nic.handle, nic.up(lower, "initiate"))
    nic.send("NdisMIndicateStatusEx", nic.handle, NdisStatusIndication(status_code=5).to_wire())
    nic.answer(asked, False)
    assert len(host.names()) == before
    assert [r["Call"] for r in nic.refusals] == [
        "NdisMInitiateOffloadComplete",
        "NdisMIndicateStatusEx",
        "return",
    ]
    assert all("epoch" in r["Reason"] for r in nic.refusals)
    assert bench.core.admission.stale == 3
    assert bench.core.bug_checks.reports == []
    host.answer(host.take("ProtocolUnbindAdapterEx"), 0)
    nic.responsive = True
    nic.hello()
    nic.start("nic0")
    assert host.bind() == "nic0"


@pytest.mark.parametrize("op", OPS)
def test_a_request_that_is_held_for_too_long_is_a_hang(bench: Bench, host: Host, nic: Nic, op: str) -> None:
    blocks: Any = [(TCP, host.new_handle(), None)] if op == "initiate" else host.offload(nic, TCP)
    host.request(op, host.columns(*blocks))
    bench.tick(LIMITS.request_limit - 0.1)
    assert host.names() == []
    bench.tick(0.5)
    assert OPERATIONS[op].request in str(nic.closed)
    assert host.completed(op)[Key.STATUS] == FAILURE


def test_the_driver_that_holds_it_is_the_one_that_hangs(bench: Bench, nic: Nic) -> None:
    """An intermediate driver that waits is none; and it gets time of its own to pass the failure on."""
    im = bench.client(Im, "im").start("im0")
    im.enable()
    host = bench.client(Host, "host").start("im0")
    host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    upper = im.pass_on("initiate", im.new_handle())
    bench.tick(LIMITS.request_limit + 0.5)
    assert nic.closed
    assert im.closed is None
    assert im.completed("initiate")[Key.STATUS] == FAILURE
    bench.tick(LIMITS.request_limit - 1)
    assert im.closed is None
    im.send("NdisMInitiateOffloadComplete", im.handle, im.up(upper, "initiate", FAILURE))
    assert host.completed("initiate")[Key.STATUS] == FAILURE


def test_an_intermediate_driver_that_swallows_a_completion_hangs(bench: Bench, nic: Nic) -> None:
    im = bench.client(Im, "im").start("im0")
    im.enable()
    host = bench.client(Host, "host").start("im0")
    host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    im.pass_on("initiate", im.new_handle())
    nic.complete("initiate")
    bench.tick(LIMITS.request_limit + 0.5)
    assert "held NdisInitiateOffload" in str(im.closed)
    assert host.completed("initiate")[Key.STATUS] == FAILURE
    assert nic.closed is None


@pytest.mark.parametrize(("op", "dead"), [("initiate", False), ("query", True)])
def test_a_paused_miniport_may_queue_initiates_and_nothing_else(
    bench: Bench, host: Host, nic: Nic, op: str, dead: bool
) -> None:
    """It may queue them for as long as it likes; all else has its time."""
    blocks: Any = [(TCP, host.new_handle(), None)] if op == "initiate" else host.offload(nic, TCP)
    pause = NdisStatusIndication(status_code=int(NdisStatus.OFFLOAD_PAUSE)).to_wire()
    nic.send("NdisMIndicateStatusEx", nic.handle, pause)
    host.request(op, host.columns(*blocks))
    bench.tick(LIMITS.request_limit * 3)
    assert bool(nic.closed) is dead


@pytest.mark.parametrize("answer", [0, FAILURE])
def test_a_miniport_that_says_it_hangs_is_reset(bench: Bench, host: Host, nic: Nic, answer: int) -> None:
    nic.responsive = False
    bench.tick(LIMITS.check_interval)
    nic.answer(nic.take("MiniportCheckForHangEx"), True)
    asked = nic.take("MiniportResetEx")
    assert asked[2] == [nic.contexts["nic0"]]
    nic.responsive = True
    nic.answer(asked, answer)
    bench.tick(5)
    assert bool(nic.closed) is bool(answer)


def test_a_driver_whose_adapters_are_gone_is_not_asked(bench: Bench, nic: Nic) -> None:
    im = bench.client(Im, "im").start("im0")
    im.send("NdisIMDeInitializeDeviceInstance", im.handle)
    im.answer(im.take("MiniportHaltEx"), 0)
    im.responsive = False
    bench.tick(60)
    assert im.names() == ["return"]
    assert im.closed is None


# -- unbinding -----------------------------------------------------------------------------------------


def test_a_protocol_that_takes_too_long_is_unbound_by_force(bench: Bench, host: Host, nic: Nic) -> None:
    objects = host.offload(nic)
    nic.send("goodbye")
    bench.tick(LIMITS.unbind_limit - 0.1)
    assert "ProtocolCloseAdapterCompleteEx" not in host.names()
    bench.tick(0.2)
    assert host.take("ProtocolCloseAdapterCompleteEx")[2] == [host.contexts_of["nic0"]]
    nothing_left(bench)
    # It was only slow. What it still does about that binding fails, and is not a bug check.
    context = host.contexts_of["nic0"]
    columns = host.columns(*objects)
    columns[Key.IM_RESERVED[0]] = 0x5
    host.request("terminate", columns)
    done = host.completed("terminate")
    assert (done[Key.STATUS], done[Key.IM_RESERVED[0]]) == (FAILURE, 0x5)
    host.request("initiate", host.columns((PATH, None, None), (TCP, host.new_handle(), None)))
    assert host.completed("initiate")[Key.STATUS] == [0, FAILURE]
    host.send("NdisOffloadTcpSend", objects[2][1], {"NetBufferList": [host.heap.address()]})
    assert host.take("ProtocolTcpOffloadSendComplete")[2][0] == context
    host.send(
        "NdisOidRequest",
        host.binding,
        oid(Oid.OID_TCP4_OFFLOAD_STATS, NdisRequestType.NdisRequestQueryInformation),
    )
    assert host.take("ProtocolOidRequestComplete")[2][::2] == [context, FAILURE]
    host.send("NdisOffloadTcpReceiveReturn", host.binding, {"NetBufferList": [1]})
    host.answer(host.take("ProtocolUnbindAdapterEx"), PENDING)
    assert host.call("NdisCloseAdapterEx", host.binding) == [0]
    nothing_left(bench)


def test_a_forced_unbind_of_a_living_adapter_clears_up_below(bench: Bench, nic: Nic) -> None:
    im, host, handle, _ = chain(bench, nic)
    im.send("NdisIMDeInitializeDeviceInstance", im.handle)
    host.answer(host.take("ProtocolUnbindAdapterEx"), PENDING)
    bench.tick(LIMITS.unbind_limit + 0.1)
    upper = im.given("terminate")
    assert upper[Key.NDIS_OFFLOAD_HANDLE] == [handle]
    assert "MiniportHaltEx" not in im.names()
    im.send("NdisMTerminateOffloadComplete", im.handle, im.up(upper, "terminate"))
    assert host.take("ProtocolCloseAdapterCompleteEx")
    assert im.take("MiniportHaltEx")
    assert bench.core.bug_checks.reports == []


def test_the_limit_of_a_driver_begins_when_those_above_it_have_left(bench: Bench, nic: Nic) -> None:
    im, host, _, _ = chain(bench, nic)
    nic.send("goodbye")
    im.answer(im.take("ProtocolUnbindAdapterEx"), PENDING)
    bench.tick(LIMITS.unbind_limit - 1)
    im.send("NdisIMDeInitializeDeviceInstance", im.handle)
    bench.tick(LIMITS.unbind_limit - 0.1)
    assert "ProtocolCloseAdapterCompleteEx" not in (*im.names(), *host.names())
    bench.tick(0.2)  # the host is late, 9 s after the adapter below went
    im.send("NdisMTerminateOffloadComplete", im.handle, im.up(im.given("terminate"), "terminate"))
    assert host.take("ProtocolCloseAdapterCompleteEx")
    bench.tick(LIMITS.unbind_limit - 0.2)
    assert "ProtocolCloseAdapterCompleteEx" not in im.names()
    bench.tick(0.3)
    assert im.take("ProtocolCloseAdapterCompleteEx")
    assert bench.core.bug_checks.reports == []


def test_drivers_bound_to_each_other_have_a_height(bench: Bench, nic: Nic) -> None:
    one = bench.client(Im, "one").start("one-a")
    two = bench.client(Im, "two").start("two-a", below="one-a")
    clients = {c.name: c for c in bench.core.registry.open_clients()}
    assert [clients[c.name].height() for c in (nic, one, two)] == [2, 1, 0]
    upper = clients["two"].adapters[0]
    upper.bindings.append(clients["one"].bindings[0])  # no sequence of calls leads to this yet
    assert clients["nic"].height() == 2


def test_the_height_of_many_circles_is_known_at_once(bench: Bench) -> None:
    """Each driver is bound to all others: there are about 24! chains, and the bus must not try each."""
    made = [bench.client(Client, f"d{i}") for i in range(24)]
    drivers = [bench.core.registry.clients[c.name] for c in made]
    adapters = [Adapter(d.name, i, d, True, i) for i, d in enumerate(drivers)]
    for adapter in adapters:
        adapter.driver.adapters.append(adapter)
        adapter.bindings += [Binding(1, d, adapter, 1) for d in drivers if d is not adapter.driver]
    assert {d.height() for d in drivers} == {len(drivers) - 1}


def test_a_protocol_that_says_success_and_goes_on_is_at_fault(bench: Bench, host: Host, nic: Nic) -> None:
    nic.send("goodbye")
    host.answer(host.take("ProtocolUnbindAdapterEx"), 0)
    host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    assert bench.bug_check.driver == "host"


def test_a_late_answer_to_an_unbind_that_was_forced_changes_nothing(
    bench: Bench, host: Host, nic: Nic
) -> None:
    nic.send("goodbye")
    bench.tick(LIMITS.unbind_limit + 1)
    nic.hello()
    nic.start("nic0")
    host.bind()
    host.answer(host.take("ProtocolUnbindAdapterEx"), 0)
    assert host.binding in bench.core.registry.bindings
    host.enable()
    assert len(host.offload(nic)) == 3
