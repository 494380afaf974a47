"""OID requests through the intermediate driver."""

from __future__ import annotations

from typing import Any

import pytest

from imdriver.config import ChimneyPolicy, ImConfig
from ndisbus.ddi.enums import NdisRequestType, Oid
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import (
    NdisOidRequest,
    NdisTaskOffload,
    NdisTaskOffloadHeader,
    NdisTaskTcpConnectionOffload,
    NdisTcpConnectionOffloadParameters,
    TcpOffloadStats,
)
from ndisbus.errors import RemoteProtocolError

QUERY, SET = int(NdisRequestType.NdisRequestQueryInformation), int(NdisRequestType.NdisRequestSetInformation)
FAILURE = int(NdisStatus.FAILURE)


def request(
    kind: int, oid: Oid = Oid.OID_TCP_TASK_OFFLOAD, buffer: Any = None, request_id: int = 1
) -> dict[str, Any]:
    return NdisOidRequest(
        request_type=kind, oid=int(oid), information_buffer=buffer, request_id=request_id
    ).to_wire()


def tasks(*tasks: NdisTaskOffload, **chimney: int) -> NdisTaskOffloadHeader:
    """A header that enables the chimney, if anything is said of it, and the other tasks."""
    mine = [NdisTaskOffload(task_buffer=NdisTaskTcpConnectionOffload(**chimney))] if chimney else []
    return NdisTaskOffloadHeader.of([*mine, *tasks])


def ask(bench: Any, wire: dict[str, Any], adapter: str = "im0-a") -> tuple[list[Any], list[dict[str, Any]]]:
    """A request on the miniport edge: what it answers, and the requests that go down."""
    before = len(bench.calls)
    answer = bench.ask("MiniportOidRequest", bench.context(adapter), wire)
    return answer, [p[1] for name, p, _ in bench.calls[before:] if name == "NdisOidRequest"]


def passed(bench: Any, wire: dict[str, Any], adapter: str = "im0-a") -> dict[str, Any]:
    (status, _), (down,) = ask(bench, wire, adapter)
    assert status == NdisStatus.PENDING
    return down


def complete(bench: Any, down: dict[str, Any], status: int = 0, **more: Any) -> list[Any]:
    wire = {**down, **more}
    return bench.tell("ProtocolOidRequestComplete", bench.binding_context, wire, status, "")  # type: ignore[no-any-return]


def chimney_of(down: dict[str, Any]) -> NdisTaskTcpConnectionOffload | None:
    return header_of(down).chimney()


def header_of(down: dict[str, Any]) -> NdisTaskOffloadHeader:
    header = NdisOidRequest.from_wire(down, "x").information_buffer
    assert isinstance(header, NdisTaskOffloadHeader)
    return header


def test_r_oid_02_a_permitting_driver_passes_the_query_down(bench: Any) -> None:
    """R-OID-02: a permitting driver passes the query down."""
    wire = request(QUERY, request_id=0x77)
    down = passed(bench, wire)
    assert {**down, "RequestId": 0x77} == wire
    answer = tasks(support_ipv4=1).to_wire()
    ((name, params, _),) = complete(bench, down, InformationBuffer=answer)
    assert name == "NdisMOidRequestComplete"
    assert params == [bench.handle(), {**wire, "InformationBuffer": answer}, 0]


def test_r_oid_04_a_blocking_driver_answers_not_supported(make_bench: Any) -> None:
    """R-OID-02, R-OID-04: it hides the driver below."""
    bench = make_bench(ImConfig(chimney=ChimneyPolicy.BLOCK)).attach()
    wire = request(QUERY)
    assert ask(bench, wire) == ([NdisStatus.NOT_SUPPORTED, wire], [])


@pytest.mark.parametrize("policy", ChimneyPolicy)
def test_r_oid_03_a_set_always_travels_on(make_bench: Any, policy: ChimneyPolicy) -> None:
    """R-OID-03: a set always travels on."""
    bench = make_bench(ImConfig(chimney=policy)).attach()
    wire = request(SET, buffer=tasks(support_ipv4=1))
    down = passed(bench, wire)
    assert {**down, "RequestId": 1} == wire
    ((name, params, _),) = complete(bench, down)
    assert (name, params) == ("NdisMOidRequestComplete", [bench.handle(), wire, 0])


@pytest.mark.parametrize(
    "wire",
    [
        request(QUERY, Oid.OID_TCP4_OFFLOAD_STATS),
        request(SET, Oid.OID_TCP_CONNECTION_OFFLOAD_PARAMETERS, NdisTcpConnectionOffloadParameters()),
        request(SET, Oid.OID_GEN_RECEIVE_SCALE_PARAMETERS, b"not understood"),
    ],
    ids=["query", "set", "foreign set"],
)
def test_other_requests_pass_whatever_the_policy(make_bench: Any, wire: dict[str, Any]) -> None:
    bench = make_bench(ImConfig(chimney=ChimneyPolicy.BLOCK)).attach()
    down = passed(bench, wire)
    assert {**down, "RequestId": 1} == wire
    stats = TcpOffloadStats(in_segments=5).to_wire()
    ((_, params, _),) = complete(bench, down, InformationBuffer=stats)
    expected = {**wire, "InformationBuffer": stats} if wire["RequestType"] == QUERY else wire
    assert params[1] == expected
    ((_, params, _),) = complete(bench, passed(bench, wire), FAILURE)
    assert params[2] == FAILURE


def test_requests_of_two_hosts_are_told_apart_below(bench: Any) -> None:
    """Both chose the same RequestId; completed crosswise, each gets its own back."""
    wire = request(QUERY, Oid.OID_TCP4_OFFLOAD_STATS, request_id=9)
    a, b = passed(bench, wire, "im0-a"), passed(bench, wire, "im0-b")
    assert a["RequestId"] != b["RequestId"]
    for down, adapter in ((b, "im0-b"), (a, "im0-a")):
        ((_, params, _),) = complete(bench, down)
        assert params[0] == bench.handle(adapter)
        assert params[1]["RequestId"] == 9


def test_one_host_switching_off_does_not_switch_off_another(bench: Any) -> None:
    """What goes down is what all hosts want together: a set names all that stays enabled."""
    on = request(SET, buffer=tasks(support_ipv4=1, support_ipv6=0, tcp_connection_offload_capacity=10))
    complete(bench, passed(bench, on, "im0-a"))
    other = tasks(support_ipv4=0, support_ipv6=1, tcp_connection_offload_capacity=30)
    both = passed(bench, request(SET, buffer=other), "im0-b")
    complete(bench, both)
    merged = chimney_of(both)
    assert merged is not None
    assert (merged.support_ipv4, merged.support_ipv6, merged.tcp_connection_offload_capacity) == (1, 1, 30)
    off = request(SET, buffer=tasks())
    down = passed(bench, off, "im0-a")
    assert chimney_of(down) == other.chimney()
    ((_, params, _),) = complete(bench, down)
    assert params == [bench.handle("im0-a"), off, 0]
    assert chimney_of(passed(bench, off, "im0-b")) is None


def test_tasks_of_other_kinds_are_united_unread(bench: Any) -> None:
    checksum = NdisTaskOffload(task=0, task_buffer=b"\x01\x02")
    segmentation = NdisTaskOffload(task=2, task_buffer=b"\x03")
    passed(bench, request(SET, buffer=tasks(checksum)), "im0-a")
    down = passed(bench, request(SET, buffer=tasks(segmentation, support_ipv4=1)), "im0-b")
    header = header_of(down)
    assert {t.task: t.task_buffer for t in header.tasks if t.task < 0x100} == {0: b"\x01\x02", 2: b"\x03"}
    assert chimney_of(down) is not None
    ours = NdisTaskOffload(task=0, task_buffer=b"\xff")
    down = passed(bench, request(SET, buffer=tasks(ours)), "im0-b")
    header = header_of(down)
    assert [t.task_buffer for t in header.tasks] == [b"\xff"]


def test_a_set_that_failed_is_not_remembered(bench: Any) -> None:
    first = tasks(support_ipv4=1)
    complete(bench, passed(bench, request(SET, buffer=first)))
    complete(bench, passed(bench, request(SET, buffer=tasks())), FAILURE)
    down = passed(bench, request(SET, buffer=tasks()), "im0-b")
    assert chimney_of(down) == first.chimney()


def test_a_set_that_is_not_well_formed_is_refused_where_it_would_have_to_be_read(bench: Any) -> None:
    complete(bench, passed(bench, request(SET, buffer=tasks(support_ipv4=1))))
    wire = {**request(SET, buffer=tasks()), "InformationBuffer": {"Tasks": 1}}
    assert ask(bench, wire, "im0-b") == ([FAILURE, wire], [])


def test_an_adapter_that_goes_takes_its_wishes_with_it(bench: Any) -> None:
    complete(bench, passed(bench, request(SET, buffer=tasks(support_ipv4=1)), "im0-a"))
    complete(bench, passed(bench, request(SET, buffer=tasks(support_ipv6=1, support_ipv4=0)), "im0-b"))
    before = len(bench.calls)
    event = {"NetEvent": "NetEventReconfigure", "Buffer": {"RemoveAdapter": "im0-a"}}
    assert bench.ask("ProtocolNetPnPEvent", None, event) == [0]
    (down,) = [p[1] for name, p, _ in bench.calls[before:] if name == "NdisOidRequest"]
    left = chimney_of(down)
    assert left is not None and (left.support_ipv4, left.support_ipv6) == (0, 1)
    assert complete(bench, down) == []  # no driver above asked for it
    before = len(bench.calls)
    event["Buffer"] = {"RemoveAdapter": "im0-b"}
    bench.ask("ProtocolNetPnPEvent", None, event)
    (down,) = [p[1] for name, p, _ in bench.calls[before:] if name == "NdisOidRequest"]
    assert chimney_of(down) is None


def test_nothing_is_set_while_the_adapter_below_goes(bench: Any) -> None:
    complete(bench, passed(bench, request(SET, buffer=tasks(support_ipv4=1))))
    before = len(bench.calls)
    bench.unbind()
    assert "NdisOidRequest" not in bench.names(before)
    assert not bench.port.ndis.heap.objects


def test_requests_that_are_below_when_an_end_comes(bench: Any) -> None:
    wire = request(QUERY)
    down = passed(bench, wire)
    event = {"NetEvent": "NetEventReconfigure", "Buffer": {"RemoveAdapter": "im0-a"}}
    assert bench.ask("ProtocolNetPnPEvent", None, event) == [0]
    assert complete(bench, down) == []
    passed(bench, wire, "im0-b")
    bench.port.lost("the bus is gone", 2.0)
    assert not bench.port.ndis.heap.objects


def test_without_an_adapter_below_a_request_fails(bench: Any) -> None:
    bench.driver.lower.handle = None
    wire = request(QUERY)
    assert ask(bench, wire) == ([FAILURE, wire], [])


def test_a_completion_that_is_not_ours_is_an_error(bench: Any) -> None:
    for stray in (None, 0xDEAD, bench.context()):
        with pytest.raises(RemoteProtocolError, match="RequestId"):
            complete(bench, {**request(QUERY), "RequestId": stray})
