"""Structures that travel as maps: layouts, headers, strict reading."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ndisbus.ddi.enums import NdisEncapsulation, NdisRequestType, Oid
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import (
    OID_STRUCTURES,
    STATUS_STRUCTURES,
    TCP_CONNECTION_OFFLOAD_TASK,
    IpOffloadStats,
    NdisClientChimneyOffloadGenericCharacteristics,
    NdisClientChimneyOffloadTcpCharacteristics,
    NdisEncapsulationFormat,
    NdisObjectHeader,
    NdisOffloadEncapsulation,
    NdisOidRequest,
    NdisProviderChimneyOffloadGenericCharacteristics,
    NdisProviderChimneyOffloadTcpCharacteristics,
    NdisStatusIndication,
    NdisTaskOffload,
    NdisTaskOffloadHeader,
    NdisTaskTcpConnectionOffload,
    NdisTcpConnectionOffload,
    NdisTcpConnectionOffloadParameters,
    NdisTcpOffloadEventHandlers,
    OffloadEncapsulation,
    Struct,
    TcpOffloadStats,
)
from ndisbus.errors import DecodeError, LocalProtocolError

#: A YAML file of interface facts (structures, enums, status_codes, ...), for a comparison in full.
FACTS = os.environ.get("CHIMNEY_FACTS", "")

TABLES = (
    NdisProviderChimneyOffloadGenericCharacteristics,
    NdisProviderChimneyOffloadTcpCharacteristics,
    NdisClientChimneyOffloadGenericCharacteristics,
    NdisClientChimneyOffloadTcpCharacteristics,
    NdisTcpOffloadEventHandlers,
)

SAMPLES: tuple[Struct, ...] = (
    NdisObjectHeader(type=1, revision=2, size=3),
    *(table.full() for table in TABLES),
    *(table() for table in TABLES),
    OffloadEncapsulation(),
    NdisOffloadEncapsulation(),
    NdisTcpConnectionOffload(tcp_connection_offload_capacity=1024),
    NdisTcpConnectionOffloadParameters(),
    NdisEncapsulationFormat(),
    NdisTaskTcpConnectionOffload(),
    NdisTaskOffload(task_buffer=NdisTaskTcpConnectionOffload()),
    NdisTaskOffload(task=2, task_buffer=b"large send"),
    NdisTaskOffloadHeader(),
    NdisTaskOffloadHeader.of(
        [
            NdisTaskOffload(task=0, task_buffer=bytes(16)),
            NdisTaskOffload(task_buffer=NdisTaskTcpConnectionOffload()),
        ]
    ),
    TcpOffloadStats(in_segments=2**64 - 1, out_resets=7),
    IpOffloadStats(in_octets=2**40),
    NdisStatusIndication(status_code=NdisStatus.OFFLOAD_PAUSE),
    NdisStatusIndication(
        status_code=NdisStatus.OFFLOAD_RESUME, status_buffer=NdisTcpConnectionOffload(), source_handle=9
    ),
    NdisStatusIndication(status_code=0x40010006, status_buffer=b"bytes"),
    NdisOidRequest(request_type=0, oid=Oid.OID_TCP4_OFFLOAD_STATS, request_id=1),
    NdisOidRequest(request_type=0, oid=Oid.OID_TCP4_OFFLOAD_STATS, information_buffer=TcpOffloadStats()),
    NdisOidRequest(request_type=1, oid=Oid.OID_PNP_SET_POWER, information_buffer=b"\x04\0\0\0"),
    NdisOidRequest(
        request_type=1,
        oid=Oid.OID_TCP_CONNECTION_OFFLOAD_PARAMETERS,
        information_buffer=NdisTcpConnectionOffloadParameters(),
    ),
)
IDS = [f"{i}-{type(s).__name__}" for i, s in enumerate(SAMPLES)]

#: Size and offsets on x64, written out by hand.
LAYOUT: dict[type[Struct], tuple[int, list[int]]] = {
    NdisObjectHeader: (0x4, [0, 1, 2]),
    NdisProviderChimneyOffloadGenericCharacteristics: (0x30, [0, 4, 0x8, 0x10, 0x18, 0x20, 0x28]),
    NdisProviderChimneyOffloadTcpCharacteristics: (0x38, [0, 4, 0x8, 0x10, 0x18, 0x20, 0x28, 0x30]),
    NdisClientChimneyOffloadGenericCharacteristics: (0x38, [0, 4, 0x8, 0x10, 0x18, 0x20, 0x28, 0x30]),
    NdisClientChimneyOffloadTcpCharacteristics: (0x40, [0, 4, 0x8, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38]),
    NdisTcpOffloadEventHandlers: (0x38, [0, 0x8, 0x10, 0x18, 0x20, 0x28, 0x30]),
    OffloadEncapsulation: (0xC, [0, 4, 8]),
    NdisOffloadEncapsulation: (0x1C, [0, 0x4, 0x10]),
    NdisTcpConnectionOffload: (0x14, [0, 4, 8, 8, 8, 8, 0xC, 0x10]),
    NdisTcpConnectionOffloadParameters: (
        0x38,
        [0, 0x4, 0x20, 0x24, 0x25, 0x26, 0x27, 0x28, 0x2C, 0x30, 0x34],
    ),
    TcpOffloadStats: (0x28, [0, 0x8, 0x10, 0x14, 0x18, 0x1C, 0x20]),
    IpOffloadStats: (0x40, [0, 0x8, 0x10, 0x18, 0x20, 0x28, 0x2C, 0x30, 0x34, 0x38]),
    NdisStatusIndication: (0x70, [0, 0x8, 0x10, 0x14, 0x18, 0x20, 0x28, 0x30, 0x38, 0x3C, 0x50]),
    NdisEncapsulationFormat: (0xC, [0, 4, 8]),
    NdisTaskOffload: (0x18, [0, 4, 8, 0xC, 0x10, 0x14]),
}


@pytest.mark.parametrize("cls", LAYOUT, ids=lambda c: c.NAME)
def test_size_and_offsets(cls: type[Struct]) -> None:
    size, offsets = LAYOUT[cls]
    assert size == cls.SIZE
    assert [m.offset for m in cls.MEMBERS] == offsets


@pytest.mark.parametrize("cls", LAYOUT, ids=lambda c: c.NAME)
def test_members_do_not_overlap_and_end_before_the_size(cls: type[Struct]) -> None:
    taken = 0
    for m in cls.MEMBERS:
        assert m.offset is not None
        assert m.size is not None
        assert m.offset + m.size <= cls.SIZE
        bits = ((1 << (m.bits or 8 * m.size)) - 1) << (8 * m.offset + m.bit_position)
        assert taken & bits == 0, m
        taken |= bits


@pytest.mark.parametrize("sample", SAMPLES, ids=IDS)
def test_a_structure_survives_the_wire(sample: Struct) -> None:
    wire = sample.to_wire()
    assert list(wire) == [m.name for m in sample.MEMBERS]
    again = type(sample).from_wire(wire, "x")
    assert again == sample
    assert again.to_wire() == wire


def plain(value: object) -> bool:
    if type(value) is dict:
        return all(type(k) is str and plain(v) for k, v in value.items())
    if type(value) is list:
        return all(plain(v) for v in value)
    return value is None or type(value) in (int, str, bytes, bool)


@pytest.mark.parametrize("sample", SAMPLES, ids=IDS)
def test_the_wire_form_holds_plain_values_only(sample: Struct) -> None:
    assert plain(sample.to_wire())


@pytest.mark.parametrize("sample", SAMPLES, ids=IDS)
def test_missing_unknown_and_wrong_members_are_named(sample: Struct) -> None:
    for m in sample.MEMBERS:
        wire = sample.to_wire()
        del wire[m.name]
        with pytest.raises(DecodeError, match="missing") as caught:
            type(sample).from_wire(wire, "x")
        assert caught.value.where == f"x.{m.name}"
        for wrong in (1.5, True, object(), -1):
            wire[m.name] = wrong
            with pytest.raises(DecodeError) as caught:
                type(sample).from_wire(wire, "x")
            assert caught.value.where.startswith(f"x.{m.name}")
    wire = sample.to_wire() | {"Surprise": 1}
    with pytest.raises(DecodeError) as caught:
        type(sample).from_wire(wire, "x")
    assert caught.value.where == "x.Surprise"


@pytest.mark.parametrize("sample", SAMPLES, ids=IDS)
def test_numbers_beyond_their_c_type_are_refused(sample: Struct) -> None:
    sizes = {"UCHAR": 8, "USHORT": 16, "ULONG": 32, "ULONG64": 64, "PVOID": 64}
    for m in sample.MEMBERS:
        if m.c_type in sizes:
            wire = sample.to_wire()
            wire[m.name] = 1 << (m.bits or sizes[m.c_type])
            with pytest.raises(DecodeError) as caught:
                type(sample).from_wire(wire, "x")
            assert caught.value.where == f"x.{m.name}"


@pytest.mark.parametrize("obj", [None, [], 5, "Header"])
def test_what_is_no_map_is_refused(obj: object) -> None:
    with pytest.raises(DecodeError, match="NDIS_TCP_CONNECTION_OFFLOAD") as caught:
        NdisTcpConnectionOffload.from_wire(obj, "here")
    assert caught.value.where == "here"


def test_nested_places_are_spelled_out() -> None:
    wire: Any = NdisTcpConnectionOffloadParameters().to_wire()
    wire["Encapsulation"]["IPv6"]["HeaderSize"] = -1
    with pytest.raises(DecodeError) as caught:
        NdisTcpConnectionOffloadParameters.from_wire(wire, "p")
    assert caught.value.where == "p.Encapsulation.IPv6.HeaderSize"


def header_of(table: type[Any]) -> tuple[int, int, int]:
    h = table.full().header
    return (h.type, h.revision, h.size)


def test_headers_of_the_tables_are_those_a_driver_fills_in() -> None:
    assert {t.NAME: header_of(t) for t in TABLES} == {
        "NDIS_PROVIDER_CHIMNEY_OFFLOAD_GENERIC_CHARACTERISTICS": (0x8F, 1, 0x30),
        "NDIS_PROVIDER_CHIMNEY_OFFLOAD_TCP_CHARACTERISTICS": (0x94, 1, 0x38),
        "NDIS_CLIENT_CHIMNEY_OFFLOAD_GENERIC_CHARACTERISTICS": (0x8E, 1, 0x38),
        "NDIS_CLIENT_CHIMNEY_OFFLOAD_TCP_CHARACTERISTICS": (0x93, 1, 0x40),
        "NDIS_TCP_OFFLOAD_EVENT_HANDLERS": (1, 1, 0x38),
    }
    for table in TABLES:
        h = table.expected_header()
        assert (h.type, h.revision, h.size) == header_of(table)


def test_other_headers() -> None:
    headers = [
        NdisOffloadEncapsulation().header,
        NdisTcpConnectionOffload().header,
        NdisTcpConnectionOffloadParameters().header,
        NdisStatusIndication(status_code=0).header,
    ]
    assert [(h.type, h.revision, h.size) for h in headers] == [
        (0xA8, 1, 0x1C),
        (0x80, 1, 0x14),
        (0x80, 1, 0x38),
        (0x98, 1, 0x70),
    ]


def test_r_reg_04_tcp_tables_name_the_tcp_chimney_and_leave_flags_alone() -> None:
    """R-REG-04: OffloadType is NdisTcpChimneyOffload, Flags is the system's."""
    for table in (NdisProviderChimneyOffloadTcpCharacteristics, NdisClientChimneyOffloadTcpCharacteristics):
        wire = table.full().to_wire()
        assert (wire["OffloadType"], wire["Flags"]) == (1, 0)


def test_r_dis_35_the_client_tcp_table_registers_all_six() -> None:
    """R-DIS-35: ProtocolTcpOffloadForwardComplete among them."""
    assert NdisClientChimneyOffloadTcpCharacteristics.full().handlers() == {
        "ProtocolTcpOffloadSendComplete",
        "ProtocolTcpOffloadReceiveComplete",
        "ProtocolTcpOffloadDisconnectComplete",
        "ProtocolTcpOffloadForwardComplete",
        "ProtocolTcpOffloadEvent",
        "ProtocolTcpOffloadReceiveIndicate",
    }


def test_full_tables_name_every_entry_point() -> None:
    assert NdisProviderChimneyOffloadGenericCharacteristics.full().handlers() == {
        "MiniportInitiateOffload",
        "MiniportTerminateOffload",
        "MiniportUpdateOffload",
        "MiniportInvalidateOffload",
        "MiniportQueryOffload",
    }
    assert NdisProviderChimneyOffloadTcpCharacteristics.full().handlers() == {
        "MiniportTcpOffloadSend",
        "MiniportTcpOffloadReceive",
        "MiniportTcpOffloadDisconnect",
        "MiniportTcpOffloadForward",
        "MiniportTcpOffloadReceiveReturn",
    }
    assert NdisClientChimneyOffloadGenericCharacteristics.full().handlers() == {
        "ProtocolInitiateOffloadComplete",
        "ProtocolTerminateOffloadComplete",
        "ProtocolUpdateOffloadComplete",
        "ProtocolInvalidateOffloadComplete",
        "ProtocolQueryOffloadComplete",
        "ProtocolIndicateOffloadEvent",
    }


def test_r_dis_07_the_event_handlers_are_table_members_of_these_names() -> None:
    """R-DIS-07: NdisTcpOffloadXxxComplete; no NdisOffloadTcpXxxComplete exists."""
    assert NdisTcpOffloadEventHandlers.full().handlers() == {
        "NdisTcpOffloadEventHandler",
        "NdisTcpOffloadReceiveHandler",
        "NdisTcpOffloadSendComplete",
        "NdisTcpOffloadReceiveComplete",
        "NdisTcpOffloadDisconnectComplete",
        "NdisTcpOffloadForwardComplete",
    }


def test_a_driver_that_implements_less_registers_null() -> None:
    table = NdisProviderChimneyOffloadGenericCharacteristics.of(
        {"MiniportInitiateOffload", "MiniportTcpOffloadSend", "Unrelated"}
    )
    wire = table.to_wire()
    assert wire["InitiateOffloadHandler"] == "MiniportInitiateOffload"
    assert wire["QueryOffloadHandler"] is None
    assert table.handlers() == {"MiniportInitiateOffload"}
    assert NdisProviderChimneyOffloadGenericCharacteristics().handlers() == frozenset()


@pytest.mark.parametrize("name", ["", "x" * 129, b"MiniportQueryOffload", 5])
def test_an_entry_point_must_be_a_name(name: object) -> None:
    wire = NdisProviderChimneyOffloadGenericCharacteristics.full().to_wire()
    wire["QueryOffloadHandler"] = name
    with pytest.raises(DecodeError) as caught:
        NdisProviderChimneyOffloadGenericCharacteristics.from_wire(wire, "x")
    assert caught.value.where == "x.QueryOffloadHandler"


@pytest.mark.parametrize(
    ("encapsulation", "recognised"),
    [
        (NdisEncapsulation.NDIS_ENCAPSULATION_IEEE_802_3, True),
        (NdisEncapsulation.NDIS_ENCAPSULATION_IEEE_LLC_SNAP_ROUTED, True),
        (18, True),
        (NdisEncapsulation.NDIS_ENCAPSULATION_NOT_SUPPORTED, False),
        (NdisEncapsulation.NDIS_ENCAPSULATION_NULL, False),
        (NdisEncapsulation.NDIS_ENCAPSULATION_IEEE_802_3_P_AND_Q, False),
    ],
)
def test_r_oid_09_a_chimney_needs_one_of_two_encapsulations(encapsulation: int, recognised: bool) -> None:
    """R-OID-09"""
    assert NdisTcpConnectionOffload(encapsulation=encapsulation).is_recognised() is recognised


def test_r_tmr_02_ticks_per_second_is_10_100_or_1000() -> None:
    """R-TMR-02"""
    assert NdisTcpConnectionOffloadParameters().ticks_per_second == 1000
    for legal in (10, 100, 1000):
        NdisTcpConnectionOffloadParameters(ticks_per_second=legal).validate()
    for illegal in (0, 1, 60, 999, 10_000):
        with pytest.raises(LocalProtocolError, match=rf"TicksPerSecond = {illegal}\b.*R-TMR-02"):
            NdisTcpConnectionOffloadParameters(ticks_per_second=illegal).validate()


def test_r_tmr_21_the_push_timer_is_half_a_second_by_default() -> None:
    """R-TMR-21"""
    parameters = NdisTcpConnectionOffloadParameters()
    assert parameters.tcp_push_ticks / parameters.ticks_per_second == 0.5


def test_r_dis_25_parameters_travel_with_their_own_oid() -> None:
    """R-DIS-25: the limits with OID_TCP_CONNECTION_OFFLOAD_PARAMETERS, the task with OID_TCP_TASK_OFFLOAD."""
    assert OID_STRUCTURES[Oid.OID_TCP_CONNECTION_OFFLOAD_PARAMETERS] is NdisTcpConnectionOffloadParameters
    assert OID_STRUCTURES[Oid.OID_TCP_TASK_OFFLOAD] is NdisTaskOffloadHeader
    names = {m.name for m in NdisTcpConnectionOffloadParameters.MEMBERS}
    assert {"TicksPerSecond", "TcpMaximumRetransmissions"} <= names
    assert not {m.name for m in NdisTaskTcpConnectionOffload.MEMBERS} & {"TicksPerSecond"}


def test_r_oid_07_a_header_without_tasks_disables_everything() -> None:
    """R-OID-07: OffsetFirstTask is 0, and no task names the chimney."""
    header = NdisTaskOffloadHeader.of([])
    assert header.to_wire()["OffsetFirstTask"] == 0
    assert header.chimney() is None


def test_offsets_of_tasks_lead_from_one_to_the_next() -> None:
    chimney = NdisTaskTcpConnectionOffload(tcp_connection_offload_capacity=64)
    header = NdisTaskOffloadHeader.of(
        [NdisTaskOffload(task=0, task_buffer=bytes(16)), NdisTaskOffload(task_buffer=chimney)]
    )
    assert header.offset_first_task == 0x1C
    assert [t.offset_next_task for t in header.tasks] == [0x14 + 16, 0]
    assert [t.task_buffer_length for t in header.tasks] == [16, 0x10]
    assert header.chimney() is chimney


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (("OffsetFirstTask",), 0, "h.OffsetFirstTask"),
        (("OffsetFirstTask",), 8, "h.OffsetFirstTask"),
        (("Tasks",), [], "h.OffsetFirstTask"),
        (("Tasks",), {}, "h.Tasks"),
        (("Tasks", 0, "OffsetNextTask"), 0, "h.Tasks[0].OffsetNextTask"),
        (("Tasks", 1, "OffsetNextTask"), 36, "h.Tasks[1].OffsetNextTask"),
        (("Tasks", 0, "TaskBufferLength"), 15, "h.Tasks[0].TaskBufferLength"),
        (("Tasks", 0, "TaskBuffer"), None, "h.Tasks[0].TaskBuffer"),
        (("Tasks", 0, "Task"), TCP_CONNECTION_OFFLOAD_TASK, "h.Tasks[0].TaskBuffer"),
        (("Tasks", 1, "Task"), 1, "h.Tasks[1].TaskBuffer"),
        (("Tasks", 1, "TaskBuffer", "SupportIPv4"), 4, "h.Tasks[1].TaskBuffer.SupportIPv4"),
    ],
)
def test_tasks_that_do_not_hang_together_are_refused(path: tuple[Any, ...], value: Any, where: str) -> None:
    header = NdisTaskOffloadHeader.of(
        [
            NdisTaskOffload(task=0, task_buffer=bytes(16)),
            NdisTaskOffload(task_buffer=NdisTaskTcpConnectionOffload()),
        ]
    )
    wire: Any = header.to_wire()
    at = wire
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    with pytest.raises(DecodeError) as caught:
        NdisTaskOffloadHeader.from_wire(wire, "h")
    assert caught.value.where == where


def test_the_number_of_our_task_is_not_a_published_one() -> None:
    assert TCP_CONNECTION_OFFLOAD_TASK > 3  # MaxNdisTask


def test_a_status_buffer_is_what_its_code_says() -> None:
    assert set(STATUS_STRUCTURES) == {0x40020003, 0x4002000B}
    wire = NdisStatusIndication(
        status_code=NdisStatus.OFFLOAD_RESUME, status_buffer=NdisTcpConnectionOffload()
    ).to_wire()
    assert wire["StatusBufferSize"] == 0x14
    wire["StatusCode"] = int(NdisStatus.OFFLOAD_PAUSE)
    with pytest.raises(DecodeError) as caught:
        NdisStatusIndication.from_wire(wire, "s")
    assert caught.value.where == "s.StatusBuffer"
    wire["StatusCode"] = int(NdisStatus.OFFLOAD_RESUME)
    wire["StatusBufferSize"] = 0x13
    with pytest.raises(DecodeError) as caught:
        NdisStatusIndication.from_wire(wire, "s")
    assert caught.value.where == "s.StatusBufferSize"


@pytest.mark.parametrize(
    ("member", "value"),
    [("Guid", bytes(15)), ("NdisReserved", [None] * 3), ("NdisReserved", [None, 1, -1, None])],
)
def test_arrays_have_their_length_and_their_type(member: str, value: object) -> None:
    wire = NdisStatusIndication(status_code=0).to_wire()
    wire[member] = value
    with pytest.raises(DecodeError) as caught:
        NdisStatusIndication.from_wire(wire, "s")
    assert caught.value.where.startswith(f"s.{member}")


def test_an_oid_request_carries_the_structure_of_its_oid() -> None:
    for oid, structure in OID_STRUCTURES.items():
        for other in set(OID_STRUCTURES.values()):
            wire = NdisOidRequest(
                request_type=NdisRequestType.NdisRequestSetInformation, oid=oid, information_buffer=other()
            ).to_wire()
            if other is structure:
                read = NdisOidRequest.from_wire(wire, "r")
                assert type(read.information_buffer) is structure
            else:
                with pytest.raises(DecodeError) as caught:
                    NdisOidRequest.from_wire(wire, "r")
                assert caught.value.where.startswith("r.InformationBuffer")


def test_a_set_without_data_and_other_request_types_are_refused() -> None:
    wire = NdisOidRequest(request_type=1, oid=Oid.OID_TCP4_OFFLOAD_STATS).to_wire()
    with pytest.raises(DecodeError) as caught:
        NdisOidRequest.from_wire(wire, "r")
    assert caught.value.where == "r.InformationBuffer"
    wire["RequestType"] = 2
    with pytest.raises(DecodeError) as caught:
        NdisOidRequest.from_wire(wire, "r")
    assert caught.value.where == "r.RequestType"


def test_defaults_are_not_shared_between_instances() -> None:
    one, two = NdisTcpConnectionOffloadParameters(), NdisTcpConnectionOffloadParameters()
    one.encapsulation.ipv4.header_size = 18
    one.header.size = 0
    assert (two.encapsulation.ipv4.header_size, two.header.size) == (14, 0x38)


def test_reading_leaves_the_map_as_it_was() -> None:
    for sample in SAMPLES:
        wire = sample.to_wire()
        before = copy.deepcopy(wire)
        type(sample).from_wire(wire, "x")
        assert wire == before


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(SAMPLES), st.data())
def test_any_damage_decodes_or_raises_decode_error(sample: Struct, data: st.DataObject) -> None:
    wire: Any = sample.to_wire()
    at = wire
    key = data.draw(st.sampled_from(sorted(at)))
    while type(at[key]) is dict and at[key] and data.draw(st.booleans()):
        at = at[key]
        key = data.draw(st.sampled_from(sorted(at)))
    at[key] = data.draw(JSONISH)
    try:
        again = type(sample).from_wire(wire, "x")
    except DecodeError:
        return
    assert again.to_wire() == wire


@pytest.mark.skipif(not FACTS, reason="CHIMNEY_FACTS names no file of interface facts")
def test_the_layouts_agree_with_the_facts() -> None:
    facts: Any = yaml.safe_load(Path(FACTS).read_text(encoding="utf-8"))["structures"]

    def x64(value: Any) -> Any:
        return value["x64"] if isinstance(value, dict) else value

    checked = 0
    for cls in LAYOUT:
        entry = facts.get(cls.NAME)
        if entry is None:
            continue
        checked += 1
        # NDIS 6.0 has no CongestionAlgorithm; only in the parameters does it take room of its own.
        without = 4 if cls is NdisTcpConnectionOffloadParameters else 0
        assert x64(entry["size"]) - without == cls.SIZE
        theirs = [m for m in entry["members"] if m["name"] != "CongestionAlgorithm"]
        for mine, member in zip(cls.MEMBERS, theirs, strict=True):
            assert mine.name == member["name"]
            assert (mine.offset, mine.size) == (x64(member["offset"]), x64(member["size"])), mine
            assert (mine.bits, mine.bit_position) == (member.get("bits", 0), member.get("bit_position", 0))
    assert checked == 12
