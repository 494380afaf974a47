"""Enumerations, flags and constants: numbers, layers and sets."""

from __future__ import annotations

import os
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest
import yaml

from ndisbus.ddi import enums, tcp_enums
from ndisbus.ddi.enums import (
    IndicateOffloadEvent,
    NdisChimneyOffloadType,
    NdisEncapsulation,
    NdisReceiveFlags,
    NdisRequestType,
    NdisReturnFlags,
    NdisSendCompleteFlags,
    NdisSendFlags,
    NetBufferListInfo,
    ObjectType,
    Oid,
)
from ndisbus.ddi.state_types import WHOLE_STATE, Layer, OffloadStateType, classes_of, layer_of
from ndisbus.ddi.tcp_enums import (
    MANDATORY_UPLOAD_REASONS,
    OFFLOADABLE_TCP_STATES,
    OPTIONAL_UPLOAD_REASONS,
    TcpCachedFlags,
    TcpConstFlags,
    TcpDisconnectFlags,
    TcpOffloadConnectionState,
    TcpOffloadEventType,
    TcpUploadReason,
)

#: A YAML file of interface facts (structures, enums, status_codes, ...), for a comparison in full.
FACTS = os.environ.get("CHIMNEY_FACTS", "")


def numbers(cls: type[IntEnum]) -> dict[str, int]:
    """Every member, aliases included."""
    return {name: int(value) for name, value in cls.__members__.items()}


def test_offload_state_types_count_from_one_in_threes_and_a_whole() -> None:
    assert numbers(OffloadStateType) == {
        "NeighborOffloadConstState": 1,
        "NeighborOffloadCachedState": 2,
        "NeighborOffloadDelegatedState": 3,
        "NeighborOffloadState": 4,
        "Ip4OffloadConstState": 5,
        "Ip4OffloadCachedState": 6,
        "Ip4OffloadDelegatedState": 7,
        "Ip4OffloadState": 8,
        "Ip6OffloadConstState": 9,
        "Ip6OffloadCachedState": 10,
        "Ip6OffloadDelegatedState": 11,
        "Ip6OffloadState": 12,
        "TcpOffloadConstState": 13,
        "TcpOffloadCachedState": 14,
        "TcpOffloadDelegatedState": 15,
        "TcpOffloadResourceState": 16,
        "TcpOffloadState": 17,
        "FilterReservedOffloadState": 254,
        "MaximumOffloadState": 255,
    }


def test_small_enumerations() -> None:
    assert numbers(TcpOffloadEventType) == {
        "TcpIndicateSendBacklogChange": 1,
        "TcpIndicateDisconnect": 2,
        "TcpIndicateRetrieve": 3,
        "TcpIndicateAbort": 4,
    }
    assert numbers(IndicateOffloadEvent) == {
        "NeighborReachabilityInDoubt": 1,
        "NeighborReachabilityQuery": 2,
        "MaxOffloadEvent": 3,
    }
    assert numbers(NdisChimneyOffloadType) == {
        "NdisTcpChimneyOffload": 1,
        "NdisIpsecChimneyOffload": 2,
        "NdisRdmaChimneyOffload": 3,
        "NdisMaxChimneyOffload": 4,
    }
    assert numbers(NdisRequestType) == {"NdisRequestQueryInformation": 0, "NdisRequestSetInformation": 1}


def test_oids_and_object_types() -> None:
    assert numbers(Oid) == {
        "OID_GEN_RECEIVE_SCALE_PARAMETERS": 0x00010204,
        "OID_TCP_TASK_OFFLOAD": 0xFC010201,
        "OID_TCP4_OFFLOAD_STATS": 0xFC010207,
        "OID_TCP6_OFFLOAD_STATS": 0xFC010208,
        "OID_IP4_OFFLOAD_STATS": 0xFC010209,
        "OID_IP6_OFFLOAD_STATS": 0xFC01020A,
        "OID_TCP_CONNECTION_OFFLOAD_CURRENT_CONFIG": 0xFC01020E,
        "OID_TCP_CONNECTION_OFFLOAD_HARDWARE_CAPABILITIES": 0xFC01020F,
        "OID_TCP_CONNECTION_OFFLOAD_PARAMETERS": 0xFC030201,
        "OID_PNP_SET_POWER": 0xFD010101,
    }
    assert sorted(ObjectType) == [0x80, 0x8E, 0x8F, 0x93, 0x94, 0x98, 0xA8]


def test_r_state_01_three_layers_and_no_other() -> None:
    """R-STATE-01: neighbor below path below TCP."""
    assert list(Layer) == [Layer.NEIGHBOR, Layer.PATH, Layer.TCP] == [1, 2, 3]
    assert {layer_of(n) for n in range(1, 18)} == set(Layer)
    assert [layer_of(n) for n in (1, 4, 5, 12, 13, 17)] == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("state_type", [-1, 0, 18, 100, 254, 255])
def test_a_type_outside_the_layers_is_named_in_the_error(state_type: int) -> None:
    with pytest.raises(ValueError, match=rf"[ (]{state_type}\)? belongs to no layer"):
        layer_of(state_type)
    with pytest.raises(ValueError, match=rf"[ (]{state_type}\)? selects no state"):
        classes_of(state_type)


def test_the_error_gives_the_name_of_a_known_type() -> None:
    with pytest.raises(ValueError, match="FilterReservedOffloadState"):
        layer_of(OffloadStateType.FilterReservedOffloadState)


def test_r_blk_06_a_whole_state_is_const_cached_delegated_in_this_order() -> None:
    """R-BLK-06"""
    for types in WHOLE_STATE.values():
        for whole in types:
            assert classes_of(whole) == ("const", "cached", "delegated")


@pytest.mark.parametrize("first", [1, 5, 9, 13])
def test_single_classes_follow_their_own_type_only(first: int) -> None:
    assert [classes_of(first + n) for n in range(3)] == [("const",), ("cached",), ("delegated",)]


def test_nothing_follows_the_reserved_resource_state() -> None:
    assert classes_of(OffloadStateType.TcpOffloadResourceState) == ()


def test_each_layer_has_its_whole_types() -> None:
    assert {layer.name: [int(t) for t in types] for layer, types in WHOLE_STATE.items()} == {
        "NEIGHBOR": [4],
        "PATH": [8, 12],
        "TCP": [17],
    }


def test_r_state_06_states_in_which_a_connection_may_be_offloaded() -> None:
    """R-STATE-06: all but CLOSED, LISTEN, SYN_SENT, SYN_RCVD and TIME_WAIT."""
    assert numbers(TcpOffloadConnectionState) == {
        "TcpConnectionClosed": 0,
        "TcpConnectionListen": 1,
        "TcpConnectionSynSent": 2,
        "TcpConnectionSynRcvd": 3,
        "TcpConnectionEstablished": 4,
        "TcpConnectionFinWait1": 5,
        "TcpConnectionFinWait2": 6,
        "TcpConnectionCloseWait": 7,
        "TcpConnectionClosing": 8,
        "TcpConnectionLastAck": 9,
        "TcpConnectionTimeWait": 10,
        "TcpConnectionMaxState": 11,
    }
    assert sorted(OFFLOADABLE_TCP_STATES) == [4, 5, 6, 7, 8, 9]


def test_r_dis_32_the_misprint_is_an_alias_of_value_four() -> None:
    """R-DIS-32"""
    assert TcpUploadReason["NoBufferProposting"] is TcpUploadReason.NoBufferPreposting
    assert int(TcpUploadReason.NoBufferPreposting) == 4
    assert "HighOutOfOrderPackets" in TcpUploadReason.__members__


def test_every_upload_reason_is_either_mandatory_or_optional() -> None:
    assert sorted(MANDATORY_UPLOAD_REASONS) == [5, 8, 9, 10, 11]
    assert sorted(OPTIONAL_UPLOAD_REASONS) == [1, 2, 3, 4, 6, 7]


def test_flags_and_their_plain_integers_agree() -> None:
    packets = (NdisSendFlags, NdisSendCompleteFlags, NdisReceiveFlags, NdisReturnFlags)
    connections = (TcpConstFlags, TcpCachedFlags, TcpDisconnectFlags)
    for module, kinds in ((enums, packets), (tcp_enums, connections)):
        for flags in kinds:
            for name, value in flags.__members__.items():
                assert type(getattr(module, name)) is int
                assert getattr(module, name) == value
    assert [int(f) for f in TcpConstFlags] == [1, 2, 4]
    assert [int(f) for f in TcpCachedFlags] == [1, 2, 4, 8, 16]
    assert [int(f) for f in TcpDisconnectFlags] == [1, 2]
    assert [[int(f) for f in flags] for flags in packets] == [[1, 2], [1], [1, 2], [1]]
    assert [int(v) for v in NdisEncapsulation.__members__.values()] == [0, 1, 2, 4, 8, 16]


def test_cached_flags_by_name() -> None:
    assert int(TcpCachedFlags.TCP_FLAG_KEEP_ALIVE_RESTART) == 4
    assert int(TcpCachedFlags.TCP_FLAG_MAX_RT_RESTART) == 8
    assert int(TcpCachedFlags.TCP_FLAG_UPDATE_RCV_WND) == 16


def test_slots_that_the_chimney_shares() -> None:
    assert NetBufferListInfo["TcpOffloadBytesTransferred"] == 0
    assert NetBufferListInfo["TcpReceiveNoPush"] == 2
    assert int(NetBufferListInfo.TcpReceiveBytesTransferred) == 17


def test_r_state_13_special_values_are_all_ones() -> None:
    """R-STATE-13: 0xFFFFFFFF says that a target lacks the backlog feature."""
    assert tcp_enums.BACKLOG_NOT_SUPPORTED == 0xFFFFFFFF
    assert tcp_enums.TIMER_NOT_RUNNING == 0xFFFFFFFF
    assert (tcp_enums.MAX_RT_USE_LIMIT, tcp_enums.MAX_RT_NO_LIMIT) == (0, 0xFFFFFFFF)


def test_r_dis_23_the_target_owns_the_upper_half_of_the_identifications() -> None:
    """R-DIS-23: the IPv6 bound has eight digits."""
    assert (tcp_enums.IPV4_ID_FIRST, tcp_enums.IPV4_ID_LAST) == (0x8000, 0xFFFF)
    assert (tcp_enums.IPV6_FRAGMENT_ID_FIRST, tcp_enums.IPV6_FRAGMENT_ID_LAST) == (0x80000000, 0xFFFFFFFF)


@pytest.mark.skipif(not FACTS, reason="CHIMNEY_FACTS names no file of interface facts")
def test_everything_agrees_with_the_facts() -> None:
    facts: Any = yaml.safe_load(Path(FACTS).read_text(encoding="utf-8"))
    named: dict[str, type[IntEnum]] = {
        "OFFLOAD_STATE_TYPE": OffloadStateType,
        "TCP_OFFLOAD_CONNECTION_STATE": TcpOffloadConnectionState,
        "TCP_UPLOAD_REASON": TcpUploadReason,
        "TCP_OFFLOAD_EVENT_TYPE": TcpOffloadEventType,
        "INDICATE_OFFLOAD_EVENT": IndicateOffloadEvent,
        "NDIS_CHIMNEY_OFFLOAD_TYPE": NdisChimneyOffloadType,
        "NDIS_NET_BUFFER_LIST_INFO": NetBufferListInfo,
    }
    assert facts["enums"].keys() == named.keys()
    for name, cls in named.items():
        assert numbers(cls) == facts["enums"][name]["values"], name
    layers = facts["enums"]["OFFLOAD_STATE_TYPE"]["layer"]
    assert {n: layer_of(n).name.lower() for ns in layers.values() for n in ns} == {
        n: layer for layer, ns in layers.items() for n in ns
    }
    assert {oid: entry["value"] for oid, entry in facts["oids"].items()} == numbers(Oid)
    flags = facts["flags"]
    assert flags["TCP_OFFLOAD_STATE_CONST.Flags"]["values"] == dict(TcpConstFlags.__members__)
    assert flags["TCP_OFFLOAD_STATE_CACHED.Flags"]["values"] == dict(TcpCachedFlags.__members__)
    assert flags["disconnect Flags"]["values"] == dict(TcpDisconnectFlags.__members__)
    assert flags["NDIS_ENCAPSULATION"]["values"] == dict(NdisEncapsulation.__members__)
    assert flags["object header types"]["values"].items() <= numbers(ObjectType).items()
    for name, value in flags["revisions"]["values"].items():
        assert getattr(enums, name) == value
    reasons = facts["enums"]["TCP_UPLOAD_REASON"]["host_reaction"]
    assert {r.name for r in MANDATORY_UPLOAD_REASONS} == set(reasons["mandatory upload"])
    assert {r.name for r in OPTIONAL_UPLOAD_REASONS} == set(reasons["optional upload"])
    states = facts["enums"]["TCP_OFFLOAD_CONNECTION_STATE"]
    assert {s.name for s in OFFLOADABLE_TCP_STATES} == set(states["offloadable"])
