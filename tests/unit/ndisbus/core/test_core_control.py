"""Control requests, and faults on calls: what users do to a running stack."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ndisbus.core import CoreConfig
from ndisbus.ddi.call_rows import IO_OPERATIONS, PACKET_SEND, STATE_OPERATIONS
from ndisbus.ddi.calls import CALLS
from ndisbus.ddi.enums import NdisRequestType, Oid
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import NdisStatusIndication
from ndisbus.lists.blocklist import Key
from tests.support.core_bench import (
    NEIGHBOR,
    OPERATIONS,
    PATH,
    TCP,
    Bench,
    Client,
    Host,
    Im,
    Nic,
    oid,
    task_offload,
)

FAILURE, ABORTED = int(NdisStatus.FAILURE), int(NdisStatus.REQUEST_ABORTED)
UPLOADING = int(NdisStatus.UPLOAD_IN_PROGRESS)
OPS = [o.op for o in STATE_OPERATIONS]
IO = [o.op for o in IO_OPERATIONS]


@pytest.fixture
def bench() -> Bench:
    return Bench(CoreConfig(seed=5))


@pytest.fixture
def nic(bench: Bench) -> Nic:
    return bench.client(Nic, "nic").start("nic0")


@pytest.fixture
def host(bench: Bench, nic: Nic) -> Host:
    return bench.client(Host, "host").start("nic0")


@pytest.fixture
def user(bench: Bench) -> Client:
    """A command-line client, which never says hello."""
    bench.clients["user"] = Client(bench, "user")
    return bench.clients["user"]


def refused(user: Client, verb: Any, arguments: Any) -> str:
    """The reason why a control request is refused."""
    user.send("control", verb, arguments)
    return str(user.refusals.pop()["Reason"])


# -- ps ------------------------------------------------------------------------------------------------


def test_ps_of_an_empty_bus(user: Client) -> None:
    ps = user.control("ps")
    for key in ("Processes", "Adapters", "Bindings", "BugChecks", "Faults"):
        assert ps[key] == []
    assert (ps["Seed"], ps["Refused"], ps["Stale"]) == (5, 0, 0)


def test_ps_shows_who_is_there_and_what_is_outstanding(
    bench: Bench, host: Host, nic: Nic, user: Client
) -> None:
    bench.client(Im, "im").start("im0")
    bench.client(Client, "idle")
    ((_, handle, context), *_) = host.offload(nic, NEIGHBOR, PATH, TCP, TCP)
    host.request("query", host.columns((NEIGHBOR, handle, context)))
    bench.tick(1.5)
    ps = user.control("ps")
    assert ps["Now"] == bench.now
    kinds = {p["Name"]: (p["Kind"], p["State"]) for p in ps["Processes"]}
    assert kinds == {
        "nic": ("miniport", "ready"),
        "host": ("protocol", "ready"),
        "im": ("intermediate", "ready"),
        "idle": ("unregistered", "ready"),
    }
    of_nic = next(p for p in ps["Processes"] if p["Name"] == "nic")
    assert of_nic | {"Name": "nic", "Pid": 1, "Epoch": nic.ready["Epoch"], "Space": nic.space} == of_nic
    assert (of_nic["Counters"], of_nic["Sent"], of_nic["Lent"], of_nic["Heap"]) == ({"things": 3}, 1, 2, 4)
    nic0, im0 = ps["Adapters"]
    assert nic0 == {
        "Name": "nic0",
        "Driver": "nic",
        "Epoch": nic.ready["Epoch"],
        "State": "up",
        "Virtual": False,
        "Paused": False,
        "ChimneyOwner": "host",
        "Outstanding": 1,
        "Sends": 0,
        "Receives": 0,
        "OldestAge": 1.5,
        "Completed": 1,
    }
    assert (im0["Name"], im0["Virtual"], im0["ChimneyOwner"]) == ("im0", True, None)
    bindings = {(b["Protocol"], b["Adapter"]): b for b in ps["Bindings"]}
    assert bindings.keys() == {("host", "nic0"), ("im", "nic0")}
    assert bindings["host", "nic0"]["Objects"] == {"neighbor": 1, "path": 1, "tcp": 2}
    assert (bindings["host", "nic0"]["State"], bindings["host", "nic0"]["Outstanding"]) == ("open", 1)


def test_ps_does_not_wait_for_a_stalled_driver(bench: Bench, host: Host, nic: Nic, user: Client) -> None:
    nic.responsive = False
    call_id = user.next_id()
    user.send("control", "ps", {}, call_id=call_id)
    assert user.names() == []
    bench.tick(0.6)
    states = {p["Name"]: p["State"] for p in user.returned(call_id)[1]["Processes"]}
    assert states == {"nic": "no answer", "host": "ready"}
    nic.answer(nic.take("inspect"), 0, {})  # too late, and harmless
    assert user.names() == []


def test_ps_does_not_wait_for_one_that_dies(host: Host, nic: Nic, user: Client) -> None:
    nic.responsive = False
    call_id = user.next_id()
    user.send("control", "ps", {}, call_id=call_id)
    nic.send("goodbye")
    assert {p["Name"] for p in user.returned(call_id)[1]["Processes"]} == {"host"}


@pytest.mark.parametrize(
    "answer",
    [
        [0],
        [0, None],
        [0, 5],
        [0, {"Counters": 7, "Sent": "x"}],
        [0, {"Counters": {"a": [1], "b": 2, b"c": 4}}],
    ],
)
def test_ps_shows_nothing_strange_that_a_driver_says(bench: Bench, user: Client, answer: list[Any]) -> None:
    odd = bench.client(Client, "odd")
    odd.responsive = False
    call_id = user.next_id()
    user.send("control", "ps", {}, call_id=call_id)
    odd.answer(odd.take("inspect"), *answer)
    (process,) = user.returned(call_id)[1]["Processes"]
    assert process["Counters"] in ({}, {"b": 2})
    assert (process["Sent"], process["Lent"], process["Heap"]) == (0, 0, 0)


def test_ps_shows_bug_checks_and_what_was_refused(bench: Bench, host: Host, nic: Nic, user: Client) -> None:
    host.send("NdisFrobnicate")
    user.send("NdisFrobnicate")
    ps = user.control("ps")
    assert ps["BugChecks"] == [bench.bug_check.to_wire()]
    assert ps["Refused"] == 1


def test_ps_shows_a_dead_adapter_until_everybody_has_let_go(host: Host, nic: Nic, user: Client) -> None:
    nic.send("goodbye")
    ps = user.control("ps")
    assert [(a["Name"], a["State"]) for a in ps["Adapters"]] == [("nic0", "dead")]
    assert [(b["Adapter"], b["State"]) for b in ps["Bindings"]] == [("nic0", "unbinding")]
    host.answer(host.take("ProtocolUnbindAdapterEx"), 0)
    assert user.control("ps")["Adapters"] == []


# -- other verbs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "arguments", "reason"),
    [
        ("frobnicate", {}, "unknown verb 'frobnicate'"),
        (5, {}, "takes [verb, arguments map]"),
        ("ps", [], "takes [verb, arguments map]"),
        ("driver", {"Name": "nobody"}, "there is no driver called 'nobody'; drivers on this bus: host, nic"),
        ("driver", {"Name": "nic"}, "Command"),
        ("driver", {"Name": "nic", "Command": "x", "Arguments": 5}, "Arguments"),
        ("fault.add", {"Action": "drop"}, "Call"),
        ("fault.remove", {"Id": 9}, "no fault 9"),
        ("fault.remove", {}, "no fault nil"),
        ("adapter.add", {}, "no intermediate driver"),
        ("adapter.remove", {"Name": "nic0"}, "no virtual adapter called 'nic0'"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_with_a_reason(
    host: Host, nic: Nic, user: Client, verb: Any, arguments: Any, reason: str
) -> None:
    assert reason in refused(user, verb, arguments)
    assert host.closed is None
    assert nic.closed is None


def test_a_long_request_gets_a_short_refusal(user: Client) -> None:
    assert len(refused(user, "driver", {"Name": "x" * 4000})) < 1100


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ([0, {"Armed": 1}], {"Armed": 1}),
        ([FAILURE, "knows no such knob"], "nic: knows no such knob"),
        ([0, 5], "not a map"),
        ([0], "not a map"),
        ([FAILURE], "nic: "),
    ],
)
def test_a_command_is_passed_to_the_driver(nic: Nic, user: Client, answer: list[Any], result: Any) -> None:
    call_id = user.next_id()
    user.send("control", "driver", {"Name": "nic", "Command": "fail", "Arguments": {"A": 1}}, call_id=call_id)
    asked = nic.take("control")
    assert asked[2] == ["fail", {"A": 1}]
    nic.answer(asked, *answer)
    if isinstance(result, dict):
        assert user.returned(call_id) == [0, result]
    else:
        assert result in user.refusals.pop()["Reason"]


def test_a_command_to_a_driver_that_dies_is_refused(nic: Nic, user: Client) -> None:
    user.send("control", "driver", {"Name": "nic", "Command": "x"})
    nic.send("goodbye")
    assert "nic is gone" in user.refusals.pop()["Reason"]


def test_adapters_are_added_and_removed(bench: Bench, nic: Nic, user: Client) -> None:
    im = bench.client(Im, "im").start("im0-a")
    call_id = user.next_id()
    user.send("control", "adapter.add", {}, call_id=call_id)
    asked = im.take("ProtocolNetPnPEvent")
    assert asked[2][1]["Buffer"] == {"AddAdapter": "im0-b"}
    im.expose("im0-b")
    im.answer(asked, 0)
    assert user.returned(call_id) == [0, {"Name": "im0-b", "Driver": "im"}]
    call_id = user.next_id()
    user.send("control", "adapter.remove", {"Name": "im0-b"}, call_id=call_id)
    asked = im.take("ProtocolNetPnPEvent")
    assert asked[2][1]["Buffer"] == {"RemoveAdapter": "im0-b"}
    im.answer(asked, 0)
    assert user.returned(call_id) == [0, {"Name": "im0-b"}]


@pytest.mark.parametrize("name", ["im0-a", "nic0", "x" * 65, ["x"], 5])
def test_a_name_that_cannot_be_had_is_the_users_problem(
    bench: Bench, nic: Nic, user: Client, name: Any
) -> None:
    """And not that of the intermediate driver, which would be cut off for using it."""
    im = bench.client(Im, "im").start("im0-a")
    expected = "there is already an adapter called|1 to 64 characters"
    assert re.search(expected, refused(user, "adapter.add", {"Name": name}))
    assert im.names() == []


def test_names_do_not_run_out(bench: Bench, nic: Nic, user: Client) -> None:
    im = bench.client(Im, "im").start(*(f"im0-{c}" for c in "abcdefghijklmnopqrstuvwxyz"))
    user.send("control", "adapter.add", {})
    assert im.take("ProtocolNetPnPEvent")[2][1]["Buffer"] == {"AddAdapter": "im0-0"}


def test_a_refused_reconfiguration_is_refused(bench: Bench, nic: Nic, user: Client) -> None:
    im = bench.client(Im, "im").start("im0-a")
    user.send("control", "adapter.add", {})
    im.answer(im.take("ProtocolNetPnPEvent"), FAILURE)
    assert "im refused" in user.refusals.pop()["Reason"]


# -- faults --------------------------------------------------------------------------------------------


def arm(user: Client, call: str, action: str, **more: Any) -> int:
    """Arm a fault; returns its id."""
    return int(user.control("fault.add", Action=action, Call=call, **more)["Id"])


def hits(user: Client) -> list[int]:
    """How often each fault has hit."""
    return [f["Hits"] for f in user.control("fault.list")["Faults"]]


def test_faults_are_listed_removed_and_reset(user: Client) -> None:
    ids = [arm(user, "NdisInitiateOffload", "drop"), arm(user, "Ndis*Complete", "delay", Delay=1.0)]
    assert [f["Id"] for f in user.control("fault.list")["Faults"]] == ids
    assert user.control("fault.remove", Id=ids[0]) == {}
    assert [f["Id"] for f in user.control("ps")["Faults"]] == ids[1:]
    assert user.control("fault.reset") == {}
    assert user.control("fault.list") == {"Faults": []}


@pytest.mark.parametrize("call", ["NdisInitiateOffload", "MiniportInitiateOffload"])
def test_a_dropped_request_goes_nowhere(bench: Bench, host: Host, nic: Nic, user: Client, call: str) -> None:
    arm(user, call, "drop")
    host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    assert nic.names() == host.names() == []
    assert hits(user) == [1]
    outstanding = len(bench.core.registry.adapters[nic.handle].requests)
    assert outstanding == (1 if call == "MiniportInitiateOffload" else 0)
    bench.tick(20)  # what NDIS has passed on, it also ends
    assert host.names().count("ProtocolInitiateOffloadComplete") == outstanding


@pytest.mark.parametrize(
    "call",
    [
        "NdisInitiateOffload",
        "MiniportInitiateOffload",
        "NdisMInitiateOffloadComplete",
        "ProtocolInitiateOffloadComplete",
    ],
)
def test_a_delayed_call_arrives_later(bench: Bench, host: Host, nic: Nic, user: Client, call: str) -> None:
    arm(user, call, "delay", Delay=3.0)
    host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    for moment in range(2):
        if "MiniportInitiateOffload" in nic.names():
            nic.complete("initiate")
        if not moment:
            bench.tick(2.9)
            assert host.names() == []
            bench.tick(0.2)
    assert host.completed("initiate")[Key.STATUS] == 0
    assert bench.core.bug_checks.reports == []


def test_a_delayed_call_of_one_that_died_meanwhile_does_not_arrive(
    bench: Bench, host: Host, nic: Nic, user: Client
) -> None:
    arm(user, "NdisMInitiateOffloadComplete", "delay", Delay=3.0)
    host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    nic.complete("initiate")
    nic.send("goodbye")
    assert host.completed("initiate")[Key.STATUS] == FAILURE
    bench.tick(5)
    assert "ProtocolInitiateOffloadComplete" not in host.names()


def test_a_call_that_ndis_held_back_itself_is_no_offence_when_it_comes_late(
    bench: Bench, host: Host, nic: Nic, user: Client
) -> None:
    """The connection was terminated in the meantime, in all innocence."""
    ((_, handle, context),) = host.offload(nic, TCP)
    posted = host.heap.address()
    host.send("NdisOffloadTcpReceive", handle, {"NetBufferList": [posted]})
    for call in (
        "NdisTcpOffloadEventHandler",
        "NdisTcpOffloadReceiveHandler",
        "NdisOffloadTcpSend",
        "NdisTcpOffloadReceiveComplete",
    ):
        arm(user, call, "delay", Delay=3.0)
    nic.send("NdisTcpOffloadEventHandler", handle, 4, 0)
    indicated = nic.next_id()
    nic.send("NdisTcpOffloadReceiveHandler", handle, {"NetBufferList": [5]}, 0, call_id=indicated)
    host.send("NdisOffloadTcpSend", handle, {"NetBufferList": [host.heap.address()]})
    nic.complete_nbls("receive", UPLOADING)
    host.request("terminate", host.columns((TCP, handle, context)))
    nic.complete("terminate")
    # The completion that is on its way is taken for what it will be; the list is home before its connection.
    assert host.names() == ["ProtocolTcpOffloadReceiveComplete", "ProtocolTerminateOffloadComplete"]
    host.inbox.clear()
    bench.tick(4)
    assert nic.returned(indicated) == [NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED, 0]
    assert host.take("ProtocolTcpOffloadSendComplete")[2][1]["Status"] == [ABORTED]
    assert host.names() == nic.names() == []
    assert bench.core.bug_checks.reports == []


def test_a_completion_of_data_that_was_dropped_does_not_make_the_target_guilty(
    bench: Bench, host: Host, nic: Nic, user: Client
) -> None:
    ((_, handle, context),) = host.offload(nic, TCP)
    arm(user, "NdisTcpOffloadSendComplete", "drop")
    host.send("NdisOffloadTcpSend", handle, {"NetBufferList": [host.heap.address()]})
    nic.complete_nbls("send")
    assert host.names() == []
    host.request("terminate", host.columns((TCP, handle, context)))
    nic.complete("terminate")
    assert host.take("ProtocolTcpOffloadSendComplete")[2][1]["Status"] == [ABORTED]
    assert host.completed("terminate")[Key.STATUS] == 0
    assert bench.core.bug_checks.reports == []


def test_a_doubled_completion_is_found_out(bench: Bench, host: Host, nic: Nic, user: Client) -> None:
    arm(user, "NdisMInitiateOffloadComplete", "duplicate")
    host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    nic.complete("initiate")
    assert bench.bug_check.rule == "R-BLK-10"
    assert host.names().count("ProtocolInitiateOffloadComplete") == 1


@pytest.mark.parametrize("name", ["MiniportInitiateOffload", "ProtocolInitiateOffloadComplete"])
def test_a_doubled_call_reaches_the_driver_twice(host: Host, nic: Nic, user: Client, name: str) -> None:
    arm(user, name, "duplicate")
    host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    if name.startswith("Protocol"):
        nic.complete("initiate")
    client = nic if name.startswith("Miniport") else host
    first, second = client.take(name), client.take(name)
    assert first == second
    assert first is not second


def test_a_doubled_question_may_be_answered_twice(bench: Bench, host: Host, nic: Nic, user: Client) -> None:
    """The first answer counts, and the driver is not to blame for the second."""
    arm(user, "MiniportOidRequest", "duplicate")
    host.send("NdisOidRequest", host.binding, task_offload())
    for status in (0, FAILURE):
        asked = nic.take("MiniportOidRequest")
        nic.answer(asked, status, asked[2][1])
    assert host.take("ProtocolOidRequestComplete")[2][2] == 0
    assert host.names() == []
    assert bench.core.bug_checks.reports == []


@pytest.mark.parametrize("edge", ["request", "handler"])
@pytest.mark.parametrize("op", OPS)
def test_a_request_fails_with_the_given_status(
    bench: Bench, host: Host, nic: Nic, user: Client, op: str, edge: str
) -> None:
    """Placeholders succeed all the same. A terminate is carried out below: nothing may be left there."""
    blocks: list[Any] = [(PATH, None, None), (TCP, host.new_handle(), None)]
    if op != "initiate":
        blocks[1] = host.offload(nic, TCP)[0]
    status = int(NdisStatus.RESOURCES) if op == "initiate" else FAILURE
    arm(user, getattr(OPERATIONS[op], edge), "fail", Status=status)
    host.request(op, host.columns(*blocks))
    if op == "terminate":
        assert host.names() == []
        nic.complete(op)
    bench.tick(0)
    assert nic.names() == []
    assert host.completed(op)[Key.STATUS] == [0, status]
    assert hits(user) == [1]
    binding = bench.core.registry.bindings[host.binding]
    assert (binding.outstanding, len(binding.objects)) == (0, 0 if op in ("initiate", "terminate") else 1)
    assert binding.lost == {}
    assert bench.core.bug_checks.reports == []


@pytest.mark.parametrize("edge", ["request", "handler"])
@pytest.mark.parametrize("op", IO)
def test_data_requests_fail_with_the_given_status(
    bench: Bench, host: Host, nic: Nic, user: Client, op: str, edge: str
) -> None:
    ((_, handle, _),) = host.offload(nic, TCP)
    arm(user, getattr(OPERATIONS[op], edge), "fail", Status=UPLOADING)
    extra = [0] if op == "disconnect" else []
    host.send(OPERATIONS[op].request, handle, {"NetBufferList": [host.heap.address()], "Context": 3}, *extra)
    bench.tick(0)
    assert nic.names() == []
    done = host.take(OPERATIONS[op].completion_handler)[2][1]
    assert (done["Status"], done["Context"]) == ([UPLOADING], 3)
    assert hits(user) == [1]
    assert bench.core.registry.bindings[host.binding].outstanding == 0


@pytest.mark.parametrize("call", ["NdisOidRequest", "MiniportOidRequest"])
def test_oid_requests_fail_with_the_given_status(
    bench: Bench, host: Host, nic: Nic, user: Client, call: str
) -> None:
    arm(user, call, "fail", Status="NOT_SUPPORTED")
    request = oid(Oid.OID_TCP4_OFFLOAD_STATS, NdisRequestType.NdisRequestQueryInformation)
    host.send("NdisOidRequest", host.binding, request)
    bench.tick(0)
    assert nic.names() == []
    done = host.take("ProtocolOidRequestComplete")[2]
    assert (done[1], done[2]) == (request, NdisStatus.NOT_SUPPORTED)
    assert hits(user) == [1]
    assert bench.core.registry.adapters[nic.handle].oids == {}


def test_every_call_that_may_be_failed_is_failed(user: Client) -> None:
    """A fault that hits and does nothing would be a lie; these are all that can be armed."""
    can = []
    for name in CALLS:
        user.send("control", "fault.add", {"Action": "fail", "Call": name, "Status": FAILURE})
        reason = str(user.refusals.pop()["Reason"]) if user.refusals else ""
        if "is not a request" not in reason:
            can.append(name)
    state = [n for o in STATE_OPERATIONS for n in (o.request, o.handler)]
    data = [n for o in IO_OPERATIONS for n in (o.request, o.handler)]
    frames = [PACKET_SEND.request, PACKET_SEND.handler]
    assert sorted(can) == sorted([*state, *data, *frames, "NdisOidRequest", "MiniportOidRequest"])


def test_a_fault_is_for_one_adapter_or_driver(bench: Bench, nic: Nic, user: Client) -> None:
    im = bench.client(Im, "im").start("im0")
    im.enable()
    host = bench.client(Host, "host").start("im0")
    arm(user, "NdisInitiateOffload", "fail", Status=FAILURE, Adapter="nic0")
    arm(user, "NdisMIndicateStatusEx", "drop", Driver="im", Direction="up")
    host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    assert hits(user) == [0, 0]
    im.pass_on("initiate", im.new_handle())
    assert im.completed("initiate")[Key.STATUS] == FAILURE
    indication = NdisStatusIndication(status_code=5).to_wire()
    nic.send("NdisMIndicateStatusEx", nic.handle, indication)
    im.send("NdisMIndicateStatusEx", im.handle, im.take("ProtocolStatusEx")[2][1])
    assert host.names() == []
    assert hits(user) == [1, 1]


# -- the trace -----------------------------------------------------------------------------------------


def test_the_trace_shows_who_said_what_about_which_list(bench: Bench, host: Host, nic: Nic) -> None:
    bench.events.clear()
    columns = host.columns((PATH, None, None), (TCP, host.new_handle(), None))
    host.request("initiate", columns)
    nic.complete("initiate", [0, FAILURE])
    root = columns[Key.BLOCK][0]
    calls = [(e["from"], e["to"], e["call"], e["adapter"], e["list"], e["blocks"]) for e in bench.events]
    assert calls == [
        ("host", "ndis", "NdisInitiateOffload", "nic0", root, 2),
        ("ndis", "nic", "MiniportInitiateOffload", "nic0", root, 2),
        ("nic", "ndis", "NdisMInitiateOffloadComplete", "nic0", root, 2),
        ("ndis", "host", "ProtocolInitiateOffloadComplete", "nic0", root, 2),
    ]
    assert bench.events[2]["status"] == {"NDIS_STATUS_SUCCESS": 1, "NDIS_STATUS_FAILURE": 1}


@pytest.mark.parametrize("status", [[[1]], [{}], {}, [0, [1]], "x" * 100])
def test_the_trace_survives_what_the_core_refuses(bench: Bench, host: Host, nic: Nic, status: Any) -> None:
    """It is written before anything of a call is checked."""
    nic.send("NdisMInitiateOffloadComplete", nic.handle, {Key.BLOCK: [1], Key.STATUS: status})
    assert bench.bug_check.driver == "nic"


@pytest.mark.parametrize("params", [(), (1,), (1, None)])
def test_the_trace_survives_too_few_parameters(bench: Bench, params: tuple[Any, ...]) -> None:
    bench.client(Client, "short").send("NdisSendNetBufferLists", *params)
    assert bench.bug_check.driver == "short"
