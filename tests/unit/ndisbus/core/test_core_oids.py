"""OID requests: what NDIS answers itself, who may have the chimney, and the way down and up."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.core import CoreConfig
from ndisbus.ddi.enums import NdisRequestType, Oid
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import NdisTaskOffloadHeader, NdisTcpConnectionOffloadParameters
from ndisbus.lists.blocklist import Key
from tests.support.core_bench import CAPABILITIES, TCP, Bench, Client, Host, Im, Nic, oid, task_offload

QUERY = int(NdisRequestType.NdisRequestQueryInformation)
SET = int(NdisRequestType.NdisRequestSetInformation)
PARAMETERS = NdisTcpConnectionOffloadParameters(tcp_push_ticks=77)
PENDING, FAILURE = int(NdisStatus.PENDING), int(NdisStatus.FAILURE)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def nic(bench: Bench) -> Nic:
    return bench.client(Nic, "nic").start("nic0")


@pytest.fixture
def host(bench: Bench, nic: Nic) -> Host:
    return bench.client(Host, "host").start("nic0", enable=False)


def done(host: Host) -> tuple[dict[str, Any], int, str]:
    """(request, status, reason) of the oldest completed OID request."""
    context, request, status, reason = host.take("ProtocolOidRequestComplete")[2]
    assert context in host.contexts_of.values()
    return request, status, reason


def alive(bench: Bench) -> list[Client]:
    """The clients that have not been cut off."""
    return [p for p in bench.clients.values() if p.closed is None]


def query(host: Host, number: int) -> tuple[Any, int]:
    """The buffer and the status of a query that NDIS answers."""
    host.send("NdisOidRequest", host.binding, oid(number, QUERY, request_id=0x99))
    request, status, _ = done(host)
    assert (request["RequestId"], request["Oid"]) == (0x99, number)
    return request["InformationBuffer"], status


# -- what NDIS answers ---------------------------------------------------------------------------------


def test_r_oid_12_ndis_answers_for_the_configuration_and_the_hardware(host: Host, nic: Nic) -> None:
    """R-OID-12: neither query reaches the miniport."""
    hardware = int(Oid.OID_TCP_CONNECTION_OFFLOAD_HARDWARE_CAPABILITIES)
    config = int(Oid.OID_TCP_CONNECTION_OFFLOAD_CURRENT_CONFIG)
    assert query(host, hardware) == (CAPABILITIES, 0)
    assert query(host, config) == (None, NdisStatus.NOT_SUPPORTED)
    assert host.enable() == (0, "")
    assert query(host, config) == (CAPABILITIES, 0)
    assert host.enable(False) == (0, "")
    assert query(host, config) == (None, NdisStatus.NOT_SUPPORTED)
    assert nic.names() == []


@pytest.mark.parametrize(
    "number",
    [Oid.OID_TCP_CONNECTION_OFFLOAD_CURRENT_CONFIG, Oid.OID_TCP_CONNECTION_OFFLOAD_HARDWARE_CAPABILITIES],
)
def test_r_oid_12_nor_can_they_be_set(host: Host, nic: Nic, number: int) -> None:
    """R-OID-12: they are NDIS's own."""
    host.send(
        "NdisOidRequest",
        host.binding,
        {**oid(number, QUERY), "RequestType": SET, "InformationBuffer": CAPABILITIES},
    )
    assert done(host)[1] == NdisStatus.NOT_SUPPORTED
    assert nic.names() == []


def test_r_oid_13_parameters_are_set_below_and_queried_here(host: Host, nic: Nic) -> None:
    """R-OID-13: a set travels on to the target; queries are answered by NDIS with what was set last."""
    number = int(Oid.OID_TCP_CONNECTION_OFFLOAD_PARAMETERS)
    assert query(host, number) == (None, NdisStatus.NOT_SUPPORTED)
    for ticks, status in ((77, 0), (88, FAILURE)):
        wanted = NdisTcpConnectionOffloadParameters(tcp_push_ticks=ticks)
        host.send("NdisOidRequest", host.binding, oid(number, SET, wanted))
        asked = nic.take("MiniportOidRequest")
        assert asked[2][0] == nic.contexts["nic0"]
        assert asked[2][1]["InformationBuffer"] == wanted.to_wire()
        nic.answer(asked, status, asked[2][1])
        assert done(host)[1] == status
    assert query(host, number) == (PARAMETERS.to_wire(), 0)
    assert nic.names() == []


# -- the way down and up -------------------------------------------------------------------------------


@pytest.mark.parametrize("pending", [False, True])
def test_other_requests_go_to_the_miniport_and_bring_its_answer(host: Host, nic: Nic, pending: bool) -> None:
    host.send("NdisOidRequest", host.binding, oid(Oid.OID_TCP_TASK_OFFLOAD, QUERY, request_id=0x55))
    asked = nic.take("MiniportOidRequest")
    request = asked[2][1]
    assert request["RequestId"] not in (None, 0x55)
    answer = {**request, "InformationBuffer": NdisTaskOffloadHeader.of([]).to_wire()}
    if pending:
        nic.answer(asked, PENDING, request)
        assert host.names() == []
        nic.send("NdisMOidRequestComplete", nic.handle, answer, 0)
    else:
        nic.answer(asked, 0, answer)
    assert done(host) == ({**answer, "RequestId": 0x55}, 0, "")
    assert host.names() == []


def test_a_miniport_may_complete_before_it_says_pending(host: Host, nic: Nic) -> None:
    host.send("NdisOidRequest", host.binding, task_offload())
    asked = nic.take("MiniportOidRequest")
    nic.send("NdisMOidRequestComplete", nic.handle, asked[2][1], 0)
    nic.answer(asked, PENDING, asked[2][1])
    assert done(host)[1] == 0
    assert host.names() == []


def test_requests_may_overlap_and_complete_in_any_order(bench: Bench, host: Host, nic: Nic) -> None:
    for i in range(3):
        host.send("NdisOidRequest", host.binding, oid(Oid.OID_TCP4_OFFLOAD_STATS, QUERY, request_id=i))
    asked = [nic.take("MiniportOidRequest") for _ in range(3)]
    for i in (2, 0, 1):
        nic.answer(asked[i], int(NdisStatus.NOT_SUPPORTED), asked[i][2][1])
        assert done(host)[0]["RequestId"] == i
    assert bench.core.registry.bindings[host.binding].outstanding == 0


OFFENCES: dict[str, Any] = {
    "another oid": lambda r: ({**r, "Oid": int(Oid.OID_TCP6_OFFLOAD_STATS)}, 0),
    "another kind": lambda r: ({**r, "RequestType": SET, "InformationBuffer": b""}, 0),
    "another id": lambda r: ({**r, "RequestId": r["RequestId"] + 1}, 0),
    "an id of a strange type": lambda r: ({**r, "RequestId": [1]}, 0),
    "no id": lambda r: ({**r, "RequestId": None}, 0),
    "no map of an OID request": lambda r: ({"RequestId": r["RequestId"]}, 0),
    "a buffer of another type": lambda r: ({**r, "InformationBuffer": "text"}, 0),
    "pending": lambda r: (r, PENDING),
}


@pytest.mark.parametrize("what", OFFENCES)
def test_a_miniport_completes_the_request_it_was_given(bench: Bench, host: Host, nic: Nic, what: str) -> None:
    """The upper driver gets its completion from NDIS then, once; what it could not read it never sees."""
    host.send("NdisOidRequest", host.binding, oid(Oid.OID_TCP4_OFFLOAD_STATS, QUERY))
    asked = nic.take("MiniportOidRequest")
    request, status = OFFENCES[what](asked[2][1])
    nic.answer(asked, PENDING, asked[2][1])
    nic.send("NdisMOidRequestComplete", nic.handle, request, status)
    assert bench.bug_check.driver == "nic"
    assert bench.bug_check.call == "NdisMOidRequestComplete"
    request, status, reason = done(host)
    assert (request["RequestId"], status) == (7, NdisStatus.REQUEST_ABORTED)
    assert "nic0 is gone" in reason
    assert "ProtocolOidRequestComplete" not in host.names()


def test_an_answer_that_is_no_status_is_a_bug_check(bench: Bench, host: Host, nic: Nic) -> None:
    answers: list[list[Any]] = [[], ["fine"], [None, {}]]
    for answer in answers:
        bench.core.bug_checks.reports.clear()
        host.send("NdisOidRequest", host.binding, oid(Oid.OID_TCP4_OFFLOAD_STATS, QUERY))
        nic.answer(nic.take("MiniportOidRequest"), *answer)
        assert (bench.bug_check.call, bench.bug_check.parameter) == ("MiniportOidRequest", "return")
        assert done(host)[1] == NdisStatus.REQUEST_ABORTED
        host.answer(host.take("ProtocolUnbindAdapterEx"), 0)
        nic.hello()
        nic.start("nic0")
        host.bind()


def test_a_request_is_completed_once(bench: Bench, host: Host, nic: Nic) -> None:
    host.send("NdisOidRequest", host.binding, oid(Oid.OID_TCP4_OFFLOAD_STATS, QUERY))
    asked = nic.take("MiniportOidRequest")
    nic.answer(asked, FAILURE, asked[2][1])
    done(host)
    nic.send("NdisMOidRequestComplete", nic.handle, asked[2][1], 0)
    assert bench.bug_check.parameter == "OidRequest.RequestId"
    assert "ProtocolOidRequestComplete" not in host.names()


def test_a_malformed_request_is_the_requesters_fault(bench: Bench, host: Host, nic: Nic) -> None:
    host.send("NdisOidRequest", host.binding, {"Oid": 1})
    assert bench.bug_check.driver == "host"
    assert bench.bug_check.parameter == "OidRequest.RequestType"
    assert nic.names() == []


# -- whose the chimney is ------------------------------------------------------------------------------


def test_r_oid_08_one_protocol_at_a_time_has_the_chimney(bench: Bench, host: Host, nic: Nic) -> None:
    """R-OID-08: the second is refused with a reason that says who has it and what to do."""
    assert host.enable() == (0, "")
    other = bench.client(Host, "other").start("nic0", enable=False)
    status, reason = other.enable()
    assert status == NdisStatus.OFFLOAD_POLICY
    for word in ("nic0", "host", "R-OID-08", "auto"):
        assert word in reason
    other.request("initiate", other.columns((TCP, other.new_handle(), None)))
    assert other.completed("initiate")[Key.STATUS] == FAILURE
    # Nor can it take it away.
    status, reason = other.enable(False)
    assert status == NdisStatus.OFFLOAD_POLICY
    assert "only host may disable" in reason
    assert nic.names() == []
    host.offload(nic)
    # The owner may set it again, and give it up.
    assert host.enable() == (0, "")
    assert host.enable(False) == (0, "")
    assert other.enable() == (0, "")
    assert bench.core.bug_checks.reports == []


def test_r_oid_08_a_set_that_is_under_way_claims_the_chimney(bench: Bench, host: Host, nic: Nic) -> None:
    """R-OID-08: two sets may not both reach a miniport that takes its time."""
    other = bench.client(Host, "other").start("nic0", enable=False)
    host.send("NdisOidRequest", host.binding, task_offload())
    asked = nic.take("MiniportOidRequest")
    nic.answer(asked, PENDING, asked[2][1])
    assert other.enable()[0] == NdisStatus.OFFLOAD_POLICY
    nic.send("NdisMOidRequestComplete", nic.handle, asked[2][1], FAILURE)
    assert done(host)[1] == FAILURE
    assert other.enable() == (0, "")


@pytest.mark.parametrize("how", ["dies", "closes"])
def test_the_chimney_is_free_when_its_owner_goes(bench: Bench, host: Host, nic: Nic, how: str) -> None:
    host.enable()
    other = bench.client(Host, "other").start("nic0", enable=False)
    if how == "dies":
        host.send("goodbye")
    else:
        host.call("NdisCloseAdapterEx", host.binding)
    assert other.enable() == (0, "")


@pytest.mark.parametrize("how", ["disabled", "refused", "died"])
def test_the_miniport_is_told_to_disable_what_a_protocol_that_left_had_enabled(
    bench: Bench, host: Host, nic: Nic, how: str
) -> None:
    """R-OID-07: NDIS makes the set itself, and the binding ends with its completion, whatever that is."""
    host.enable()
    host.offload(nic, TCP)
    nic.responsive = False
    host.send("goodbye")
    assert "MiniportOidRequest" not in nic.names()  # R-OID-06: only when nothing is offloaded any more
    nic.complete("terminate")
    asked = nic.take("MiniportOidRequest")
    request = asked[2][1]
    assert (request["Oid"], request["RequestType"]) == (Oid.OID_TCP_TASK_OFFLOAD, SET)
    assert request["InformationBuffer"]["Tasks"] == []
    later = bench.client(Host, "later").start("nic0", enable=False)
    assert bench.core.registry.adapters[nic.handle].chimney_owner is not None
    if how == "died":
        nic.send("goodbye")
        assert list(bench.core.registry.bindings) == [later.binding]
        return
    nic.answer(asked, 0 if how == "disabled" else FAILURE, request)
    assert list(bench.core.registry.bindings) == [later.binding]
    assert bench.core.registry.adapters[nic.handle].chimney_owner is None
    assert later.enable() == (0, "")
    assert bench.core.bug_checks.reports == []


def test_a_protocol_that_comes_while_its_predecessor_leaves_keeps_what_it_enabled(
    bench: Bench, host: Host, nic: Nic
) -> None:
    host.enable()
    nic.responsive = False
    host.send("goodbye")
    later = bench.client(Host, "later").start("nic0", enable=False)
    later.send("NdisOidRequest", later.binding, task_offload())
    first, second = nic.take("MiniportOidRequest"), nic.take("MiniportOidRequest")
    nic.answer(second, 0, second[2][1])
    nic.answer(first, 0, first[2][1])
    assert done(later)[1:] == (0, "")
    owner = bench.core.registry.adapters[nic.handle].chimney_owner
    assert owner is bench.core.registry.bindings[later.binding]


def test_r_oid_05_only_what_the_latest_set_names_is_enabled(host: Host, nic: Nic) -> None:
    """R-OID-05: a set without the chimney switches it off; requests of that protocol fail from then on."""
    host.enable()
    ((_, handle, context),) = host.offload(nic, TCP)
    header = NdisTaskOffloadHeader.of([])
    host.send("NdisOidRequest", host.binding, oid(Oid.OID_TCP_TASK_OFFLOAD, SET, header))
    done(host)
    host.request("initiate", host.columns((TCP, host.new_handle(), None)))
    assert host.completed("initiate")[Key.STATUS] == FAILURE
    # What is offloaded is still there to be terminated.
    host.request("terminate", host.columns((TCP, handle, context)))
    nic.complete("terminate")
    assert host.completed("terminate")[Key.STATUS] == 0


def test_r_oid_07_an_empty_set_disables_everything(bench: Bench, host: Host, nic: Nic) -> None:
    """R-OID-07: OffsetFirstTask is zero; the configuration that NDIS reports is gone as well."""
    host.enable()
    adapter = bench.core.registry.adapters[nic.handle]
    assert (adapter.chimney_owner, adapter.config) == (
        bench.core.registry.bindings[host.binding],
        CAPABILITIES,
    )
    empty = task_offload(False)
    assert empty["InformationBuffer"]["OffsetFirstTask"] == 0
    assert host.enable(False) == (0, "")
    assert (adapter.chimney_owner, adapter.config) == (None, None)


def test_a_set_that_the_miniport_refuses_changes_nothing(bench: Bench, host: Host, nic: Nic) -> None:
    host.send("NdisOidRequest", host.binding, task_offload())
    asked = nic.take("MiniportOidRequest")
    nic.answer(asked, int(NdisStatus.NOT_SUPPORTED), asked[2][1])
    assert done(host)[1] == NdisStatus.NOT_SUPPORTED
    assert bench.core.registry.adapters[nic.handle].chimney_owner is None


# -- ends ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pending", [False, True])
def test_a_dead_miniport_leaves_no_request_open(bench: Bench, host: Host, nic: Nic, pending: bool) -> None:
    host.send("NdisOidRequest", host.binding, task_offload())
    asked = nic.take("MiniportOidRequest")
    if pending:
        nic.answer(asked, PENDING, asked[2][1])
    nic.send("goodbye")
    _, status, reason = done(host)
    assert status == NdisStatus.REQUEST_ABORTED
    assert "nic0 is gone" in reason
    host.send("NdisOidRequest", host.binding, task_offload())  # it has not closed the binding yet
    assert done(host)[1:] == (FAILURE, "adapter nic0 is gone")
    host.answer(host.take("ProtocolUnbindAdapterEx"), 0)
    assert bench.core.registry.bindings == {}


def test_a_miniport_that_never_completes_is_dead() -> None:
    """It is not waited for longer than for a request on a block list."""
    bench = Bench(CoreConfig(request_limit=3.0))
    nic = bench.client(Nic, "nic").start("nic0")
    host = bench.client(Host, "host").start("nic0", enable=False)
    host.send("NdisOidRequest", host.binding, task_offload())
    asked = nic.take("MiniportOidRequest")
    nic.answer(asked, PENDING, asked[2][1])
    bench.tick(2.9)
    assert nic in alive(bench)
    bench.tick(0.5)
    assert nic not in alive(bench)
    assert "held NdisOidRequest" in str(nic.closed)
    assert done(host)[1] == NdisStatus.REQUEST_ABORTED


def test_an_intermediate_driver_that_waits_for_the_one_below_is_alive() -> None:
    bench = Bench(CoreConfig(request_limit=3.0))
    nic = bench.client(Nic, "nic").start("nic0")
    im = bench.client(Im, "im").start("im0")
    host = bench.client(Host, "host").start("im0", enable=False)
    host.send("NdisOidRequest", host.binding, task_offload())
    upper = im.take("MiniportOidRequest")
    im.answer(upper, PENDING, upper[2][1])
    im.send("NdisOidRequest", im.binding, {**upper[2][1], "RequestId": 0x5})
    lower = nic.take("MiniportOidRequest")
    nic.answer(lower, PENDING, lower[2][1])
    bench.tick(3.4)
    assert alive(bench) == [im, host]
    failed = im.take("ProtocolOidRequestComplete")[2]
    im.send("NdisMOidRequestComplete", im.handle, upper[2][1], failed[2])
    assert done(host)[1] == NdisStatus.REQUEST_ABORTED
