"""Indications through the intermediate driver, and what it may write into state that passes."""

from __future__ import annotations

from typing import Any

import pytest

from imdriver.config import ChimneyPolicy, ImConfig
from ndisbus.ddi.state_types import OffloadStateType
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import NdisStatusIndication, NdisTcpConnectionOffload
from ndisbus.lists.blocklist import Key
from ndisbus.state.images import (
    NeighborOffloadStateCached,
    NeighborOffloadStateConst,
    NeighborOffloadStateDelegated,
    TcpOffloadStateCached,
    TcpOffloadStateConst,
    TcpOffloadStateDelegated,
    pack_state,
    unpack_state,
)

NEIGHBOR, TCP = int(OffloadStateType.NeighborOffloadState), int(OffloadStateType.TcpOffloadState)
QUERY = 2  # NeighborReachabilityQuery


def offload(bench: Any, upper: Any, nic: Any, adapter: str = "im0-a", kind: int = TCP) -> tuple[Any, int]:
    """Offload one object: the upper driver's handle and ours."""
    (h,) = upper.new()
    columns = upper.miniport_list([h], kind=kind)
    ((_, params, _),) = bench.tell("MiniportInitiateOffload", bench.context(adapter), columns)
    below = params[1][Key.OFFLOAD_HANDLE][0]
    ((_, params, _),) = bench.tell(
        "ProtocolInitiateOffloadComplete", bench.binding_context, nic.completion(params[1])
    )
    upper.store([h], params[1])
    return h, below


def test_r_im_13_an_event_goes_up_about_the_upper_drivers_object(
    bench: Any, make_upper: Any, nic: Any
) -> None:
    """R-IM-13: our handle comes in, the NdisOffloadHandle from above goes out, all else unchanged."""
    for i, adapter in enumerate(("im0-a", "im0-b")):
        above, below = offload(bench, make_upper(8 + i), nic, adapter)
        for event, info in ((3, 11), (4, 0), (1, 0xFFFFFFFF)):
            calls = bench.tell("ProtocolTcpOffloadEvent", below, event, info)
            assert calls == [("NdisTcpOffloadEventHandler", [above.address, event, info], ())]


def test_r_dis_36_a_receive_indication_keeps_its_list_and_status(bench: Any, upper: Any, nic: Any) -> None:
    """R-IM-13, R-DIS-36: NetBufferList and Status up, the upper's status and BytesConsumed back down."""
    above, below = offload(bench, upper, nic)
    chain = {"NetBufferList": [0x30], "NetBufferLists": [["opaque"]]}
    seen: list[Any] = []
    partial = int(NdisStatus.OFFLOAD_DATA_PARTIALLY_ACCEPTED)

    def accept(params: list[Any]) -> list[Any]:
        seen.append(params)
        return [partial, 33]

    bench.answers["NdisTcpOffloadReceiveHandler"] = accept
    answer = bench.ask("ProtocolTcpOffloadReceiveIndicate", below, chain, 0x1234, frames=[b"payload"])
    assert seen == [[above.address, chain, 0x1234]]
    assert list(bench.calls[-1][2]) == [b"payload"]
    assert answer == [partial, 33]


def test_several_receive_indications_wait_for_their_own_answers(bench: Any, upper: Any, nic: Any) -> None:
    _, below = offload(bench, upper, nic)
    bench.held.add("NdisTcpOffloadReceiveHandler")
    bench.answers["NdisTcpOffloadReceiveHandler"] = lambda params: [0, params[1]["NetBufferList"][0]]
    ids = []
    for nbl in (0x30, 0x40, 0x50):
        bench.ask("ProtocolTcpOffloadReceiveIndicate", below, {"NetBufferList": [nbl]}, 0)
        ids.append(bench._id)
    bench.waiting.reverse()
    bench.release()
    assert [bench.returns[i] for i in ids] == [[0, 0x30], [0, 0x40], [0, 0x50]]


def test_indications_about_what_is_gone_are_counted_and_dropped(bench: Any, upper: Any, nic: Any) -> None:
    above, below = offload(bench, upper, nic)
    for stray in (0xDEAD, above.context, bench.context()):
        assert bench.tell("ProtocolTcpOffloadEvent", stray, 3, 11) == []
        answer = bench.ask("ProtocolTcpOffloadReceiveIndicate", stray, {"NetBufferList": [0x30]}, 0)
        assert answer == [NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED, 0]
    assert bench.driver.inspect()["stray_indications"] == 6
    assert len(bench.tell("ProtocolTcpOffloadEvent", below, 3, 11)) == 1


@pytest.mark.parametrize("code", ["OFFLOAD_PAUSE", "UPLOAD_ALL", "OFFLOAD_RESUME"])
def test_status_indications_reach_every_virtual_adapter(bench: Any, code: str) -> None:
    buffer = NdisTcpConnectionOffload(tcp_connection_offload_capacity=7) if code == "OFFLOAD_RESUME" else None
    wire = NdisStatusIndication(status_code=int(NdisStatus[code]), status_buffer=buffer).to_wire()
    calls = bench.tell("ProtocolStatusEx", bench.binding_context, wire)
    assert calls == [
        ("NdisMIndicateStatusEx", [bench.handle("im0-a"), wire], ()),
        ("NdisMIndicateStatusEx", [bench.handle("im0-b"), wire], ()),
    ]


def test_a_resume_brings_new_capabilities_for_adapters_to_come(bench: Any) -> None:
    report = NdisTcpConnectionOffload(tcp_connection_offload_capacity=7)
    wire = NdisStatusIndication(status_code=int(NdisStatus.OFFLOAD_RESUME), status_buffer=report).to_wire()
    bench.tell("ProtocolStatusEx", bench.binding_context, wire)
    bench.ask(
        "ProtocolNetPnPEvent", None, {"NetEvent": "NetEventReconfigure", "Buffer": {"AddAdapter": "new"}}
    )
    attributes = [p[1] for name, p, _ in bench.calls if name == "NdisMSetMiniportAttributes"][-1]
    assert attributes["TcpConnectionOffloadCapabilities"] == report.to_wire()


def test_a_blocking_driver_keeps_the_chimneys_indications_to_itself(make_bench: Any) -> None:
    bench = make_bench(ImConfig(chimney=ChimneyPolicy.BLOCK)).attach()
    pause = NdisStatusIndication(status_code=int(NdisStatus.OFFLOAD_PAUSE)).to_wire()
    assert bench.tell("ProtocolStatusEx", bench.binding_context, pause) == []
    foreign = NdisStatusIndication(status_code=0x4001000B, status_buffer=b"link").to_wire()
    assert len(bench.tell("ProtocolStatusEx", bench.binding_context, foreign)) == 2


def test_frames_go_to_every_virtual_adapter(bench: Any) -> None:
    chain = {"NetBufferList": [0x30], "SourceHandle": 0x77, "NetBufferLists": [["opaque"]]}
    calls = bench.tell(
        "ProtocolReceiveNetBufferLists", bench.binding_context, dict(chain), 1, 2, 3, frames=[b"frame"]
    )
    assert [(n, p[0], p[1:], list(f)) for n, p, f in calls] == [
        (
            "NdisMIndicateReceiveNetBufferLists",
            bench.handle(a),
            [chain | {"SourceHandle": bench.handle(a)}, 1, 2, 3],
            [b"frame"],
        )
        for a in ("im0-a", "im0-b")
    ]


# -- neighbor reachability ---------------------------------------------------------------------------


def neighbor_image(delta: int) -> bytes:
    return pack_state(
        [
            NeighborOffloadStateConst(b"\x02\0\0\0\0\1", 5),
            NeighborOffloadStateCached(b"\x02\0\0\0\0\2", delta),
            NeighborOffloadStateDelegated(77),
        ]
    )


def answer_with(delta: int, seen: list[Any]) -> Any:
    """The driver above: it answers HostReachabilityDelta, and meddles with the rest of the state."""

    def answer(params: list[Any]) -> list[Any]:
        seen.append(params)
        image = neighbor_image(delta).replace(b"\x02\0\0\0\0", b"meddl")
        return [None, {"Block": params[1]["Block"], "State": [image]}]

    return answer


@pytest.mark.parametrize("key", [Key.OFFLOAD_HANDLE, Key.NDIS_OFFLOAD_HANDLE])
def test_r_open_04_a_reachability_query_is_asked_above_and_the_answer_copied_down(
    bench: Any, make_upper: Any, nic: Any, key: str
) -> None:
    """R-OPEN-04, R-IM-13: about the upper driver's neighbor; only HostReachabilityDelta comes back."""
    above, below = offload(bench, make_upper(9), nic, "im0-b", NEIGHBOR)
    seen: list[Any] = []
    bench.answers["NdisMOffloadEventIndicate"] = answer_with(4321, seen)
    columns = {"Block": [0x700], "Type": [NEIGHBOR], key: [below], "State": [neighbor_image(1)]}
    answer = bench.ask("ProtocolIndicateOffloadEvent", bench.binding_context, columns, QUERY)
    ((handle, asked, code),) = seen
    assert (handle, code) == (bench.handle("im0-b"), QUERY)
    assert asked["NdisOffloadHandle"] == [above.address]
    assert asked["State"] == [neighbor_image(1)]
    assert asked["Block"] == [0x700]
    assert answer[1]["State"] == [neighbor_image(4321)]


@pytest.mark.parametrize(("answers", "best"), [((0, 4321), 4321), ((70, 20), 20), ((0, 0), 0)])
def test_a_query_without_a_handle_is_asked_above_every_adapter(
    bench: Any, answers: tuple[int, int], best: int
) -> None:
    """R-OPEN-04: a block as a target makes it (R-NUD-07) names no adapter; the freshest answer counts."""
    given = dict(zip((bench.handle("im0-a"), bench.handle("im0-b")), answers, strict=True))
    seen: list[Any] = []
    bench.answers["NdisMOffloadEventIndicate"] = lambda params: answer_with(given[params[0]], seen)(params)
    columns = {"Block": [0x700], "Type": [NEIGHBOR], "State": [neighbor_image(1)]}
    answer = bench.ask("ProtocolIndicateOffloadEvent", bench.binding_context, columns, QUERY)
    assert [p[0] for p in seen] == list(given)
    assert answer[1]["State"] == [neighbor_image(best)]


@pytest.mark.parametrize("theirs", [None, {}, {"State": None}, {"State": [b"short"]}])
def test_an_answer_without_a_delta_changes_nothing(bench: Any, upper: Any, nic: Any, theirs: Any) -> None:
    _, below = offload(bench, upper, nic, kind=NEIGHBOR)
    bench.answers["NdisMOffloadEventIndicate"] = lambda _: [None, theirs]
    columns = {"Block": [0x700], "Type": NEIGHBOR, "OffloadHandle": [below], "State": [neighbor_image(1)]}
    answer = bench.ask("ProtocolIndicateOffloadEvent", bench.binding_context, columns, QUERY)
    assert answer[1]["State"] == [neighbor_image(1)]


def test_a_query_about_an_unknown_neighbor_is_answered_as_it_came(bench: Any) -> None:
    columns = {"Block": [0x700], "Type": [NEIGHBOR], "OffloadHandle": [0xDEAD], "State": [neighbor_image(1)]}
    answer = bench.ask("ProtocolIndicateOffloadEvent", bench.binding_context, columns, QUERY)
    assert answer[1]["State"] == [neighbor_image(1)]
    assert "NdisMOffloadEventIndicate" not in bench.names()


def test_an_indication_without_a_list_goes_to_every_virtual_adapter(bench: Any) -> None:
    bench.answers["NdisMOffloadEventIndicate"] = lambda _: [None, None]
    assert bench.ask("ProtocolIndicateOffloadEvent", bench.binding_context, None, 1) == [None, None]
    told = [p for name, p, _ in bench.calls if name == "NdisMOffloadEventIndicate"]
    assert told == [[bench.handle("im0-a"), None, 1], [bench.handle("im0-b"), None, 1]]


# -- 802.1Q values -----------------------------------------------------------------------------------


def tcp_image(priority: int = 0) -> bytes:
    return pack_state(
        [
            TcpOffloadStateConst(remote_port=80),
            TcpOffloadStateCached(user_priority=priority),
            TcpOffloadStateDelegated(),
        ]
    )


def initiate(bench: Any, upper: Any, kinds: list[int], images: list[Any], **more: Any) -> list[Any]:
    columns = upper.miniport_list(upper.new(len(kinds)), **{Key.STATE: images}) | {Key.TYPE: kinds} | more
    ((_, params, _),) = bench.tell("MiniportInitiateOffload", bench.context(), columns)
    return params[1][Key.STATE]  # type: ignore[no-any-return]


def test_r_im_17_vlan_id_and_user_priority_are_set_in_what_passes(make_bench: Any, upper: Any) -> None:
    """R-IM-17: in the neighbor constants and the TCP cached state, and nothing else in the images."""
    bench = make_bench(ImConfig(vlan_id=0xABC, user_priority=6)).attach()
    before = [neighbor_image(1), None, tcp_image(1), b"\x01"]
    after = initiate(bench, upper, [NEIGHBOR, 8, TCP, TCP], before)
    const, cached, delegated = unpack_state(NEIGHBOR, after[0])
    assert const.vlan_id == 0xABC  # type: ignore[attr-defined]
    const.vlan_id = 5  # type: ignore[attr-defined]
    assert pack_state([const, cached, delegated]) == before[0]
    assert after[1] is None
    assert after[2] == tcp_image(6)
    assert after[3] == b"\x01"


@pytest.mark.parametrize("config", [{}, {"vlan_id": 7}, {"user_priority": 7}])
def test_state_is_left_alone_unless_it_was_asked_for(
    make_bench: Any, upper: Any, config: dict[str, Any]
) -> None:
    bench = make_bench(ImConfig(**config)).attach()
    after = initiate(bench, upper, [NEIGHBOR, TCP], [neighbor_image(1), tcp_image(2)])
    assert (after[0] != neighbor_image(1)) is ("vlan_id" in config)
    assert (after[1] != tcp_image(2)) is ("user_priority" in config)


def test_only_initiates_are_stamped(make_bench: Any, upper: Any, nic: Any) -> None:
    bench = make_bench(ImConfig(vlan_id=7, user_priority=7)).attach()
    h, _ = offload(bench, upper, nic)
    columns = upper.miniport_list([h], kind=TCP, **{Key.STATE: [tcp_image(2)]})
    ((_, params, _),) = bench.tell("MiniportUpdateOffload", bench.context(), columns)
    assert params[1][Key.STATE] == [tcp_image(2)]
