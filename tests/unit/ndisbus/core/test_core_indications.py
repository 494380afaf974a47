"""Indications: TCP events, received data, generic events, status; to whom they go and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import NdisStatusIndication, NdisTcpConnectionOffload
from ndisbus.ddi.tcp_enums import TcpOffloadEventType, TcpUploadReason
from ndisbus.lists.blocklist import BLOCK_SIZE, Key
from tests.support.core_bench import NEIGHBOR, TCP, Bench, Client, Host, Im, Nic

RETRIEVE, ABORT = int(TcpOffloadEventType.TcpIndicateRetrieve), int(TcpOffloadEventType.TcpIndicateAbort)
DISCONNECT = int(TcpOffloadEventType.TcpIndicateDisconnect)
BACKLOG = int(TcpOffloadEventType.TcpIndicateSendBacklogChange)
NOT_ACCEPTED = int(NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def nic(bench: Bench) -> Nic:
    return bench.client(Nic, "nic").start("nic0")


@pytest.fixture
def host(bench: Bench, nic: Nic) -> Host:
    return bench.client(Host, "host").start("nic0")


def offence(bench: Bench, offender: Client, rule: str, parameter: str) -> None:
    report = bench.bug_check
    assert (report.driver, report.rule, report.parameter) == (offender.name, rule, parameter)
    assert offender.closed is not None


# -- TCP events ----------------------------------------------------------------------------------------


def test_r_hnd_06_and_r_hnd_10_an_event_goes_to_the_owner_of_the_handle(
    bench: Bench, host: Host, nic: Nic
) -> None:
    """R-HND-06: the target gives back what it saved; R-HND-10: the host gets its own handle."""
    other = bench.client(Host, "other").start("nic0", enable=False)
    objects = host.offload(nic)
    nic.send("NdisTcpOffloadEventHandler", objects[2][1], RETRIEVE, int(TcpUploadReason.LowActivity))
    assert host.take("ProtocolTcpOffloadEvent")[2] == [objects[2][1], RETRIEVE, TcpUploadReason.LowActivity]
    assert other.names() == []


def test_r_hnd_10_at_every_layer_it_is_the_drivers_own_handle(bench: Bench, nic: Nic) -> None:
    """R-HND-10: the intermediate driver's below, the host's above."""
    im = bench.client(Im, "im").start("im0")
    im.enable()
    host = bench.client(Host, "host").start("im0")
    handle, own = host.new_handle(), im.new_handle()
    host.request("initiate", host.columns((TCP, handle, None)))
    upper = im.pass_on("initiate", own)
    assert nic.complete("initiate")[Key.NDIS_OFFLOAD_HANDLE] == [own]
    im.completed("initiate")
    im.send("NdisMInitiateOffloadComplete", im.handle, im.up(upper, "initiate"))
    host.completed("initiate")
    nic.send("NdisTcpOffloadEventHandler", own, ABORT, 0)
    assert im.take("ProtocolTcpOffloadEvent")[2] == [own, ABORT, 0]
    im.send("NdisTcpOffloadEventHandler", handle, ABORT, 0)
    assert host.take("ProtocolTcpOffloadEvent")[2] == [handle, ABORT, 0]


FORGED: dict[str, Any] = {
    "context": lambda host, nic, objects: objects[2][2],
    "cell": lambda host, nic, objects: objects[2][1] + 0x10,
    "path": lambda host, nic, objects: objects[1][1],
    "neighbor": lambda host, nic, objects: objects[0][1],
    "never offloaded": lambda host, nic, objects: host.new_handle(),
    "own": lambda host, nic, objects: nic.heap.address(),
    "nobody's": lambda host, nic, objects: 0x7FFF << 40,
    "null": lambda host, nic, objects: None,
}


@pytest.mark.parametrize("what", FORGED)
@pytest.mark.parametrize("call", ["NdisTcpOffloadEventHandler", "NdisTcpOffloadReceiveHandler"])
def test_r_hnd_06_only_the_saved_handle_of_a_connection_will_do(
    bench: Bench, host: Host, nic: Nic, what: str, call: str
) -> None:
    """R-HND-06."""
    handle = FORGED[what](host, nic, host.offload(nic))
    if call == "NdisTcpOffloadEventHandler":
        nic.send(call, handle, ABORT, 0)
    else:
        nic.send(call, handle, {"NetBufferList": [nic.heap.address()]}, 0)
    offence(bench, nic, "R-HND-06", "NdisOffloadHandle")
    assert set(host.names()) == {"ProtocolTcpOffloadEvent", "ProtocolUnbindAdapterEx"}  # of the removal


def test_r_hnd_06_nor_the_handle_of_what_is_offloaded_elsewhere(bench: Bench, host: Host, nic: Nic) -> None:
    """R-HND-06."""
    other = bench.client(Nic, "other").start("nic1")
    handle = host.offload(nic)[2][1]
    other.send("NdisTcpOffloadEventHandler", handle, ABORT, 0)
    offence(bench, other, "R-HND-06", "NdisOffloadHandle")
    assert host.names() == []


def test_an_event_that_crosses_the_end_of_its_owner_is_not_a_bug_check(
    bench: Bench, host: Host, nic: Nic
) -> None:
    """The host has died; NDIS is terminating what it left, and after that it is gone."""
    handle = host.offload(nic, TCP)[0][1]
    host.send("goodbye")
    lower = nic.given("terminate")
    nic.send("NdisTcpOffloadEventHandler", handle, ABORT, 0)
    nic.send("NdisMTerminateOffloadComplete", nic.handle, nic.up(lower, "terminate"))
    nic.send("NdisTcpOffloadEventHandler", handle, ABORT, 0)
    call_id = nic.next_id()
    nic.send("NdisTcpOffloadReceiveHandler", handle, {"NetBufferList": [1]}, 0, call_id=call_id)
    assert nic.returned(call_id) == [NOT_ACCEPTED, 0]
    assert bench.core.bug_checks.reports == []


def test_a_protocol_that_has_closed_its_binding_hears_no_more_of_it(
    bench: Bench, host: Host, nic: Nic
) -> None:
    """It closed without terminating; NDIS does that, and drops events that come before the end of it."""
    handle = host.offload(nic, TCP)[0][1]
    host.call("NdisCloseAdapterEx", host.binding)
    nic.send("NdisTcpOffloadEventHandler", handle, ABORT, 0)
    assert host.names() == []
    nic.complete("terminate")
    assert host.names() == ["ProtocolCloseAdapterCompleteEx"]
    assert bench.core.bug_checks.reports == []


@pytest.mark.parametrize("reason", [int(r) for r in TcpUploadReason if r.name != "MaxUploadReason"])
def test_r_evt_01_a_retrieve_carries_an_upload_reason(host: Host, nic: Nic, reason: int) -> None:
    """R-EVT-01."""
    handle = host.offload(nic, TCP)[0][1]
    nic.send("NdisTcpOffloadEventHandler", handle, RETRIEVE, reason)
    assert host.take("ProtocolTcpOffloadEvent")[2] == [handle, RETRIEVE, reason]


def test_r_evt_01_a_backlog_change_carries_any_size_and_the_others_nothing(host: Host, nic: Nic) -> None:
    """R-EVT-01."""
    handle = host.offload(nic, TCP)[0][1]
    for event, information in ((BACKLOG, 0), (BACKLOG, 0xFFFFFFFF), (DISCONNECT, 0), (ABORT, 0)):
        nic.send("NdisTcpOffloadEventHandler", handle, event, information)
        assert host.take("ProtocolTcpOffloadEvent")[2] == [handle, event, information]


@pytest.mark.parametrize(
    ("event", "information", "parameter", "rule"),
    [
        (0, 0, "EventType", "R-EVT-01"),
        (5, 0, "EventType", "R-EVT-01"),
        (RETRIEVE, 0, "EventSpecificInformation", "R-EVT-01"),
        (RETRIEVE, 12, "EventSpecificInformation", "R-EVT-01"),
        (ABORT, 1, "EventSpecificInformation", "R-EVT-01"),
        (DISCONNECT, 11, "EventSpecificInformation", "R-EVT-01"),
        ([RETRIEVE], 1, "EventType", ""),
        (BACKLOG, 1 << 32, "EventSpecificInformation", ""),
        (BACKLOG, -1, "EventSpecificInformation", ""),
        (BACKLOG, None, "EventSpecificInformation", ""),
    ],
)
def test_r_evt_01_other_values_are_a_bug_check(
    bench: Bench, host: Host, nic: Nic, event: Any, information: Any, parameter: str, rule: str
) -> None:
    """R-EVT-01: no unknown event, no reason that is none, nothing where nothing belongs."""
    nic.send("NdisTcpOffloadEventHandler", host.offload(nic, TCP)[0][1], event, information)
    offence(bench, nic, rule, parameter)


# -- received data -------------------------------------------------------------------------------------


def indicate(nic: Nic, handle: int, *addresses: int, status: int = 0, frames: Any = ()) -> int:
    """NdisTcpOffloadReceiveHandler; returns the call id."""
    call_id = nic.next_id()
    lists = {"NetBufferList": list(addresses) or [nic.heap.address()]}
    nic.send("NdisTcpOffloadReceiveHandler", handle, lists, status, call_id=call_id, frames=frames)
    return call_id


@pytest.mark.parametrize(
    ("status", "consumed"),
    [(0, 100), (NOT_ACCEPTED, 0), (int(NdisStatus.OFFLOAD_DATA_PARTIALLY_ACCEPTED), 7)],
)
def test_the_drivers_answer_to_an_indication_goes_back(
    host: Host, nic: Nic, status: int, consumed: int
) -> None:
    handle = host.offload(nic, TCP)[0][1]
    call_id = indicate(nic, handle, 0x77, frames=[b"payload"])
    message, frames = host.take_with_frames("ProtocolTcpOffloadReceiveIndicate")
    assert message[2] == [handle, {"NetBufferList": [0x77]}, 0]
    assert list(frames) == [b"payload"]
    host.answer(message, status, consumed)
    assert nic.returned(call_id) == [status, consumed]


@pytest.mark.parametrize(
    ("lists", "status", "parameter", "rule"),
    [
        ([1, 2], 0, "NetBufferList", "R-IND-01"),
        ([1], int(NdisStatus.RESOURCES), "Status", "R-IND-02"),
    ],
)
def test_r_ind_01_r_ind_02_an_indication_is_one_list_with_success(
    bench: Bench, host: Host, nic: Nic, lists: list[int], status: int, parameter: str, rule: str
) -> None:
    """R-IND-01, R-IND-02."""
    indicate(nic, host.offload(nic, TCP)[0][1], *lists, status=status)
    offence(bench, nic, rule, parameter)
    assert "ProtocolTcpOffloadReceiveIndicate" not in host.names()


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        ([], ""),
        ([0], ""),
        ([int(NdisStatus.FAILURE), 0], ""),
        ([0, -1], ""),
        ([0, None], ""),
        ([0, 1, 2], ""),
        ([NOT_ACCEPTED, 5], "R-IND-04"),
        (["x", 0], ""),
    ],
)
def test_an_answer_that_makes_no_sense_is_the_upper_drivers_fault(
    bench: Bench, host: Host, nic: Nic, answer: list[Any], rule: str
) -> None:
    """The driver below is told that nothing was accepted, and goes on."""
    call_id = indicate(nic, host.offload(nic, TCP)[0][1])
    host.answer(host.take("ProtocolTcpOffloadReceiveIndicate"), *answer)
    assert (bench.bug_check.driver, bench.bug_check.rule) == ("host", rule)
    assert bench.bug_check.call == "ProtocolTcpOffloadReceiveIndicate"
    assert nic.returned(call_id) == [NOT_ACCEPTED, 0]
    assert nic.closed is None


def test_an_indication_is_answered_when_the_upper_driver_dies(host: Host, nic: Nic) -> None:
    call_id = indicate(nic, host.offload(nic, TCP)[0][1])
    host.send("goodbye")
    assert nic.returned(call_id) == [NOT_ACCEPTED, 0]


# -- status --------------------------------------------------------------------------------------------


def status(code: int, buffer: Any = None) -> dict[str, Any]:
    return NdisStatusIndication(status_code=int(code), status_buffer=buffer).to_wire()


@pytest.mark.parametrize("code", [NdisStatus.OFFLOAD_PAUSE, NdisStatus.UPLOAD_ALL, NdisStatus.OFFLOAD_RESUME])
def test_r_pause_08_status_reaches_every_bound_protocol(bench: Bench, nic: Nic, code: NdisStatus) -> None:
    """R-PAUSE-08: all protocols bound to that adapter, with or without the chimney, and no others."""
    nic2 = bench.client(Nic, "nic2").start("nic1")
    hosts = [bench.client(Host, f"host{i}").start("nic0", enable=i == 0) for i in range(3)]
    stranger = bench.client(Host, "stranger").start("nic1")
    buffer = (
        NdisTcpConnectionOffload(tcp_connection_offload_capacity=3) if code.name.endswith("RESUME") else None
    )
    wire = status(code, buffer)
    nic.send("NdisMIndicateStatusEx", nic.handle, wire)
    for host in hosts:
        assert host.take("ProtocolStatusEx")[2] == [host.contexts_of["nic0"], wire]
    assert stranger.names() == nic2.names() == []


def test_a_pause_is_noted_and_a_resume_brings_the_new_report(bench: Bench, host: Host, nic: Nic) -> None:
    adapters = bench.core.registry.adapters
    nic.send("NdisMIndicateStatusEx", nic.handle, status(NdisStatus.OFFLOAD_PAUSE))
    assert adapters[nic.handle].paused
    report = NdisTcpConnectionOffload(tcp_connection_offload_capacity=3)
    nic.send("NdisMIndicateStatusEx", nic.handle, status(NdisStatus.OFFLOAD_RESUME, report))
    assert not adapters[nic.handle].paused
    assert adapters[nic.handle].capabilities == report.to_wire()


def test_a_malformed_status_indication_is_a_bug_check(bench: Bench, host: Host, nic: Nic) -> None:
    nic.send("NdisMIndicateStatusEx", nic.handle, {"StatusCode": 5})
    assert bench.bug_check.parameter.startswith("StatusIndication.")
    assert "ProtocolStatusEx" not in host.names()


# -- generic events ------------------------------------------------------------------------------------


def event_list(nic: Nic, handle: int, **changes: Any) -> dict[str, Any]:
    """A block list as a target makes one for NeighborReachabilityQuery."""
    return {
        Key.BLOCK: [nic.heap.address(BLOCK_SIZE)],
        Key.TYPE: NEIGHBOR,
        Key.SIZE: BLOCK_SIZE,
        Key.NDIS_OFFLOAD_HANDLE: [handle],
        Key.CELL: [0x5],
        Key.STATE: [b"neighbor"],
        **changes,
    }


def test_a_generic_event_goes_up_in_the_protocol_form_and_its_answer_comes_back(host: Host, nic: Nic) -> None:
    """R-BLK-04 holds for it, too: below NdisOffloadHandle, above OffloadHandle."""
    handle = host.offload(nic, NEIGHBOR)[0][1]
    columns = event_list(nic, handle)
    call_id = nic.next_id()
    nic.send("NdisMOffloadEventIndicate", nic.handle, columns, 0, call_id=call_id)
    asked = host.take("ProtocolIndicateOffloadEvent")
    context, upper, code = asked[2]
    assert (context, code) == (host.contexts_of["nic0"], 0)
    assert upper[Key.OFFLOAD_HANDLE] == [handle]
    assert not {Key.NDIS_OFFLOAD_HANDLE, Key.CELL} & upper.keys()
    answer = {Key.BLOCK: columns[Key.BLOCK], Key.STATE: [b"answered"]}
    host.answer(asked, None, answer)
    assert nic.returned(call_id) == [None, answer]


def test_a_generic_event_without_a_list(host: Host, nic: Nic) -> None:
    call_id = nic.next_id()
    nic.send("NdisMOffloadEventIndicate", nic.handle, None, 1, call_id=call_id)
    asked = host.take("ProtocolIndicateOffloadEvent")
    assert asked[2][1:] == [None, 1]
    host.answer(asked, None, None)
    assert nic.returned(call_id) == [None, None]


def test_a_generic_event_without_a_receiver_is_answered_at_once(nic: Nic) -> None:
    columns = event_list(nic, 0x5)
    assert nic.call("NdisMOffloadEventIndicate", nic.handle, columns, 0) == [None, columns]


@pytest.mark.parametrize(
    "columns", [{}, {Key.BLOCK: [[]]}, {Key.BLOCK: [1], "X": 1}, {Key.BLOCK: [1], Key.STATE: [1]}]
)
def test_a_malformed_list_of_a_generic_event(bench: Bench, host: Host, nic: Nic, columns: Any) -> None:
    nic.send("NdisMOffloadEventIndicate", nic.handle, columns, 0)
    assert bench.bug_check.driver == "nic"
    assert bench.bug_check.parameter.startswith("OffloadBlockList.")
    assert "ProtocolIndicateOffloadEvent" not in host.names()


@pytest.mark.parametrize("answer", [[0, None], [None], [None, {}], [None, {Key.BLOCK: [1], Key.STATE: [7]}]])
def test_a_malformed_answer_to_a_generic_event(bench: Bench, host: Host, nic: Nic, answer: list[Any]) -> None:
    columns = event_list(nic, host.offload(nic, NEIGHBOR)[0][1])
    call_id = nic.next_id()
    nic.send("NdisMOffloadEventIndicate", nic.handle, columns, 0, call_id=call_id)
    host.answer(host.take("ProtocolIndicateOffloadEvent"), *answer)
    assert bench.bug_check.driver == "host"
    assert nic.returned(call_id) == [None, columns]


# -- frames beside the chimney -------------------------------------------------------------------------


def test_frames_go_to_everybody_bound(bench: Bench, nic: Nic) -> None:
    hosts = [bench.client(Host, f"host{i}").start("nic0", enable=False) for i in range(2)]
    lists = {"NetBufferList": [nic.heap.address()], "SourceHandle": nic.handle, "DataLength": [5]}
    nic.send("NdisMIndicateReceiveNetBufferLists", nic.handle, lists, 1, 1, 4, frames=[b"frame"])
    for host in hosts:
        message, frames = host.take_with_frames("ProtocolReceiveNetBufferLists")
        assert message[2] == [host.contexts_of["nic0"], lists, 1, 1, 4]
        assert list(frames) == [b"frame"]


def test_numbers_are_numbers(bench: Bench, host: Host, nic: Nic) -> None:
    lists = {"NetBufferList": [nic.heap.address()]}
    nic.send("NdisMIndicateReceiveNetBufferLists", nic.handle, lists, [1], 1, 4)
    assert bench.bug_check.parameter == "PortNumber"
    assert "ProtocolReceiveNetBufferLists" not in host.names()
