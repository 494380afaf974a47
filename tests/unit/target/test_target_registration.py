"""Registration, adapters, OIDs, the end."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.ddi.enums import NdisChimneyOffloadType, NdisEncapsulation, Oid
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import (
    NdisOidRequest,
    NdisTaskOffloadHeader,
    NdisTcpConnectionOffloadParameters,
    NdisTcpOffloadEventHandlers,
)
from ndisbus.errors import LocalProtocolError, RemoteProtocolError
from target import TargetConfig

TASK, PARAMETERS = Oid.OID_TCP_TASK_OFFLOAD, Oid.OID_TCP_CONNECTION_OFFLOAD_PARAMETERS


def test_r_reg_01_two_optional_handler_calls(h: Any) -> None:
    """R-REG-01: first the generic, then the TCP provider structure, all handlers filled in."""
    generic, tcp = h.optional
    assert generic["Header"]["Type"] == 0x8F
    assert generic["InitiateOffloadHandler"] == "MiniportInitiateOffload"
    assert tcp["Header"]["Type"] == 0x94
    assert tcp["TcpOffloadReceiveReturnHandler"] == "MiniportTcpOffloadReceiveReturn"
    assert None not in [*generic.values(), *tcp.values()]


def test_r_reg_04_offload_type_and_flags(h: Any) -> None:
    """R-REG-04: OffloadType is NdisTcpChimneyOffload, Flags is left alone."""
    assert h.optional[1]["OffloadType"] == NdisChimneyOffloadType.NdisTcpChimneyOffload
    assert [t["Flags"] for t in h.optional] == [0, 0]


def test_r_reg_05_entry_points_are_fetched_in_initialize(make: Any) -> None:
    """R-REG-05: once per adapter, for the one chimney type there is."""
    h = make(TargetConfig(adapters=("a", "b")))
    assert h.log.count("NdisMGetOffloadHandlers") == 2
    assert h.log.count("NdisSetOptionalHandlers") == 2
    assert len(h.driver.adapters) == 2


@pytest.mark.parametrize(
    ("member", "value"), [("Type", 2), ("Revision", 9), ("Size", 0x30), ("NdisTcpOffloadSendComplete", None)]
)
def test_r_reg_06_a_table_with_a_strange_header_is_refused(make: Any, member: str, value: Any) -> None:
    """R-REG-06: Type, Revision and Size are checked; nothing stays behind when they are wrong."""
    h = make(start=False)
    table: Any = NdisTcpOffloadEventHandlers.full().to_wire()
    (table if member in table else table["Header"])[member] = value
    h.answers["NdisMGetOffloadHandlers"] = [0, table]
    h.receive("ready", [{"Epoch": 1, "AddressSpace": 5}])
    h.pump()
    assert h.initialize("nic0", 0x10000000010) == NdisStatus.FAILURE
    assert h.driver.adapters == {}
    assert h.port.ndis.heap.objects == {}


def test_r_reg_06_the_table_is_copied(h: Any) -> None:
    """R-REG-06: the target's own copy holds the entry points."""
    assert h.adapter.entry_points.ndis_tcp_offload_send_complete == "NdisTcpOffloadSendComplete"


def test_no_table_no_adapter(make: Any) -> None:
    """R-REG-05: NDIS that knows no chimney gets no adapter of ours."""
    h = make(start=False)
    h.answers["NdisMGetOffloadHandlers"] = [int(NdisStatus.NOT_SUPPORTED), None]
    h.receive("ready", [{"Epoch": 1, "AddressSpace": 5}])
    h.pump()
    assert h.initialize("nic0", 0x10000000010) == NdisStatus.NOT_SUPPORTED
    assert h.port.ndis.heap.objects == {}


def test_r_reg_08_two_pools_with_one_net_buffer_per_list(h: Any) -> None:
    """R-REG-08, R-REG-09."""
    assert h.adapter.chimney_pool is not h.adapter.receive_pool
    nbl = h.adapter.chimney_pool.lend(b"abc")
    assert nbl.first_net_buffer.next is None
    assert nbl.first_net_buffer.data_length == 3
    assert not h.adapter.receive_pool.take_back(nbl.address)
    assert h.adapter.chimney_pool.take_back(nbl.address)


def test_registration_that_is_refused_raises(make: Any) -> None:
    h = make(start=False)
    h.answers["NdisMRegisterMiniportDriver"] = [int(NdisStatus.FAILURE), None]
    h.receive("ready", [{"Epoch": 1, "AddressSpace": 5}])
    with pytest.raises(RemoteProtocolError, match="refused target"):
        h.pump()


def test_set_options_passes_a_refusal_on(make: Any) -> None:
    h = make(start=False)
    h.answers["NdisSetOptionalHandlers"] = [int(NdisStatus.FAILURE)]
    h.receive("ready", [{"Epoch": 1, "AddressSpace": 5}])
    with pytest.raises(RemoteProtocolError):
        h.pump()


def test_r_oid_09_and_10_reported_capabilities(make: Any) -> None:
    """R-OID-09, R-OID-10: an encapsulation bit that counts, the families, the capacity."""
    h = make(TargetConfig(tcp_entries=1234, support_ipv6=False, support_ipv6_extension_headers=True))
    told = h.attributes[0]["TcpConnectionOffloadCapabilities"]
    assert told["Encapsulation"] & (
        NdisEncapsulation.NDIS_ENCAPSULATION_IEEE_802_3
        | NdisEncapsulation.NDIS_ENCAPSULATION_IEEE_LLC_SNAP_ROUTED
    )
    assert (told["SupportIPv4"], told["SupportIPv6"], told["SupportIPv6ExtensionHeaders"]) == (1, 0, 1)
    assert told["TcpConnectionOffloadCapacity"] == 1234


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"encapsulation": 1}, "R-OID-09"),
        ({"support_ipv4": False, "support_ipv6": False}, "R-OID-10"),
        ({"vlan_entries": 0}, "R-VLAN-01"),
        ({"adapters": ()}, ""),
        ({"adapters": ("a", "a")}, ""),
        ({"interface_vlans": frozenset({0})}, ""),
        ({"tcp_entries": -1}, ""),
        ({"latency": -1.0}, ""),
    ],
)
def test_targets_that_the_interface_does_not_allow(options: dict[str, Any], rule: str) -> None:
    """R-OID-09, R-OID-10, R-VLAN-01."""
    with pytest.raises(LocalProtocolError) as e:
        TargetConfig(**options)
    assert e.value.rule == rule


def test_r_oid_05_only_what_the_latest_set_names_is_enabled(h: Any) -> None:
    """R-OID-05, R-OID-07: a set without IPv4 turns IPv4 off, a set without tasks turns everything off."""
    n, p4, p6 = h.neighbor(), h.path(), h.path(src=bytes(16), dst=bytes(15) + b"\1")
    assert h.enable(support_ipv4=0) == 0
    assert h.statuses("initiate", [(n, [p4, p6])]) == ["OFFLOAD_PARTIAL_SUCCESS", "FAILURE", "SUCCESS"]
    assert h.enable(support_ipv6=0) == 0
    assert h.statuses("initiate", [(n, [h.path()])]) == ["SUCCESS", "SUCCESS"]
    assert h.oid(TASK, NdisTaskOffloadHeader.of([]))[0] == 0
    assert h.statuses("initiate", [h.neighbor()]) == ["FAILURE"]
    assert h.statuses("initiate", [(p6, [h.tcp()])]) == ["FAILURE", "FAILURE"]
    # What is offloaded is the host's to upload : it is still there.
    assert h.inspect()["path"] == 2


def test_nothing_is_enabled_before_the_first_set(make: Any) -> None:
    """R-OID-05."""
    h = make(enable=False)
    assert h.statuses("initiate", [h.neighbor()]) == ["FAILURE"]
    assert h.inspect()["refused: the chimney was not enabled by OID_TCP_TASK_OFFLOAD"] == 1


def test_a_set_cannot_enable_what_the_hardware_lacks(make: Any) -> None:
    h = make(TargetConfig(support_ipv6=False))
    assert h.enable(support_ipv6=1) == NdisStatus.NOT_SUPPORTED
    assert h.adapter.enabled.support_ipv6 == 0


def test_query_of_the_task_offload_oid_tells_the_capabilities(make: Any) -> None:
    """R-OID-10."""
    h = make(TargetConfig(tcp_entries=77))
    status, wire = h.oid(TASK)
    answer = NdisOidRequest.from_wire(wire, "answer").information_buffer
    assert status == 0
    assert isinstance(answer, NdisTaskOffloadHeader)
    chimney = answer.chimney()
    assert chimney is not None
    assert chimney.tcp_connection_offload_capacity == 77


def test_r_oid_13_and_14_parameters_are_accepted_and_kept(h: Any) -> None:
    """R-OID-13, R-OID-14: a set succeeds and all nine values are there for the TCP machine."""
    values = NdisTcpConnectionOffloadParameters(
        ticks_per_second=100,
        tcp_ack_frequency=3,
        tcp_delayed_ack_ticks=4,
        tcp_maximum_retransmissions=5,
        tcp_doubt_reachability_retransmissions=6,
        tcp_sws_prevention_ticks=7,
        tcp_duplicate_ack_threshold=8,
        tcp_push_ticks=9,
        nce_stale_ticks=10,
    )
    assert h.oid(PARAMETERS, values)[0] == NdisStatus.SUCCESS
    assert h.adapter.parameters == values
    assert h.oid(PARAMETERS)[0] == NdisStatus.NOT_SUPPORTED


def test_other_and_malformed_oids(h: Any) -> None:
    assert h.oid(Oid.OID_GEN_RECEIVE_SCALE_PARAMETERS, b"x")[0] == NdisStatus.NOT_SUPPORTED
    answer = h.ask("MiniportOidRequest", [h.ctx, {"Oid": int(TASK), "RequestType": 1}])
    assert answer[0] == NdisStatus.FAILURE
    h.control("knob.set", {"point": "oid", "status": "NOT_SUPPORTED"})
    assert h.oid(TASK)[0] == NdisStatus.NOT_SUPPORTED
    assert h.oid(TASK)[0] == NdisStatus.SUCCESS


def test_r_pwr_02_power_waits_for_the_uploads(h: Any) -> None:
    """R-PWR-02: the set pends while a connection is offloaded and completes after the last terminate."""
    assert h.oid(Oid.OID_PNP_SET_POWER, b"\4\0\0\0")[0] == NdisStatus.SUCCESS
    _n, _p, ts = h.stack(2)
    status, wire = h.oid(Oid.OID_PNP_SET_POWER, b"\4\0\0\0")
    assert status == NdisStatus.PENDING
    h.run("terminate", [ts[0]])
    assert h.take("NdisMOidRequestComplete") == []
    h.run("terminate", [ts[1]])
    [(_, request, result)] = h.take("NdisMOidRequestComplete")
    assert (request, result) == (wire, 0)


def test_r_reg_12_an_orderly_halt_waits_for_lent_buffers(h: Any) -> None:
    """R-REG-12: the halt is answered only when the last receive buffer has come back."""
    n, p, (t,) = h.stack(1, buffered=h.nbl(b"data"))
    h.run("terminate", [(n, [(p, [t])])])
    assert h.inspect()["nbls_outstanding"] == 1
    lent = next(iter(h.adapter.chimney_pool.lent))
    ctx = h.ctx
    assert h.ask("MiniportHaltEx", [ctx, 0]) == []
    assert h.driver.adapters
    h.receive("MiniportTcpOffloadReceiveReturn", [ctx, {"NetBufferList": [lent]}])
    h.pump()
    assert list(h.returns.values())[-1] == [0]
    assert h.driver.adapters == {}
    assert h.port.ndis.heap.objects == {}


def test_a_surprise_halt_waits_for_nothing_and_frees_everything(h: Any) -> None:
    h.stack(1, buffered=h.nbl(b"data"))
    h.post("send", h.stack(1)[2][0], h.nbl(b"x"))
    assert h.ask("MiniportHaltEx", [h.ctx, 1]) == [0]
    assert h.port.ndis.heap.objects == {}
    assert h.calls == []


def test_an_orderly_halt_completes_queued_initiates(h: Any) -> None:
    """R-BLK-09: with a status in every block."""
    h.control("pause", {})
    h.take()
    root = h.request("initiate", [(None, [h.neighbor()])])
    assert h.ask("MiniportHaltEx", [h.ctx, 0]) == [0]
    assert [s.name for s in h.done(root).status] == ["SUCCESS", "FAILURE"]


def test_when_the_bus_is_lost_nothing_is_left_and_a_new_start_works(h: Any) -> None:
    h.stack(2)
    h.request("query", [h.neighbor()])
    h.take()
    h.port.lost("gone", h.now)
    assert h.driver.adapters == {}
    assert h.port.ndis.heap.objects == {}
    h.start(space=6)
    h.enable()
    n, _, _ = h.stack(1)
    assert n.context >> 40 == 6


def test_an_injected_failure_of_initialize(make: Any) -> None:
    h = make(start=False)
    h.control("knob.set", {"point": "initialize", "status": "RESOURCES"})
    h.receive("ready", [{"Epoch": 1, "AddressSpace": 5}])
    h.pump()
    assert h.initialize("nic0", 0x10000000010) == NdisStatus.RESOURCES
    assert h.initialize("nic0", 0x10000000010) == NdisStatus.SUCCESS


def test_calls_for_an_adapter_that_is_not_there(h: Any) -> None:
    with pytest.raises(LocalProtocolError, match="has no adapter"):
        h.receive("MiniportCheckForHangEx", [0xDEAD0], 1)
    assert h.driver.adapter_handle(h.ctx) == h.adapter.handle
