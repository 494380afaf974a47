"""The status codes: their numbers, their severity, and where each may appear."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from ndisbus.ddi.status import (
    ALLOWED_STATUS,
    INITIATE_LINKER,
    INITIATE_PLACEHOLDER,
    MISPRINTED_STATUS,
    NdisStatus,
    is_success,
    status_symbol,
)

#: A YAML file of interface facts (structures, enums, status_codes, ...), for a comparison in full.
FACTS = os.environ.get("CHIMNEY_FACTS", "")

NUMBERS = {
    "NDIS_STATUS_SUCCESS": 0x00000000,
    "NDIS_STATUS_PENDING": 0x00000103,
    "NDIS_STATUS_NOT_ACCEPTED": 0x00010003,
    "NDIS_STATUS_OFFLOAD_PAUSE": 0x40020001,
    "NDIS_STATUS_UPLOAD_ALL": 0x40020002,
    "NDIS_STATUS_OFFLOAD_RESUME": 0x40020003,
    "NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS": 0x40020004,
    "NDIS_STATUS_OFFLOAD_STATE_INVALID": 0x40020005,
    "NDIS_STATUS_TCP_CONNECTION_OFFLOAD_HARDWARE_CAPABILITIES": 0x4002000B,
    "NDIS_STATUS_FAILURE": 0xC0000001,
    "NDIS_STATUS_RESOURCES": 0xC000009A,
    "NDIS_STATUS_NOT_SUPPORTED": 0xC00000BB,
    "NDIS_STATUS_INVALID_STATE": 0xC0000184,
    "NDIS_STATUS_REQUEST_ABORTED": 0xC001000C,
    "NDIS_STATUS_RESET_IN_PROGRESS": 0xC001000D,
    "NDIS_STATUS_INVALID_LENGTH": 0xC0010014,
    "NDIS_STATUS_ADAPTER_REMOVED": 0xC0010018,
    "NDIS_STATUS_SEND_ABORTED": 0xC023000C,
    "NDIS_STATUS_PAUSED": 0xC023002A,
    "NDIS_STATUS_UPLOAD_IN_PROGRESS": 0xC0231001,
    "NDIS_STATUS_REQUEST_UPLOAD": 0xC0231002,
    "NDIS_STATUS_UPLOAD_REQUESTED": 0xC0231003,
    "NDIS_STATUS_OFFLOAD_TCP_ENTRIES": 0xC0231004,
    "NDIS_STATUS_OFFLOAD_PATH_ENTRIES": 0xC0231005,
    "NDIS_STATUS_OFFLOAD_NEIGHBOR_ENTRIES": 0xC0231006,
    "NDIS_STATUS_OFFLOAD_IP_ADDRESS_ENTRIES": 0xC0231007,
    "NDIS_STATUS_OFFLOAD_HW_ADDRESS_ENTRIES": 0xC0231008,
    "NDIS_STATUS_OFFLOAD_VLAN_ENTRIES": 0xC0231009,
    "NDIS_STATUS_OFFLOAD_TCP_XMIT_BUFFER": 0xC023100A,
    "NDIS_STATUS_OFFLOAD_TCP_RCV_BUFFER": 0xC023100B,
    "NDIS_STATUS_OFFLOAD_TCP_RCV_WINDOW": 0xC023100C,
    "NDIS_STATUS_OFFLOAD_VLAN_MISMATCH": 0xC023100D,
    "NDIS_STATUS_OFFLOAD_DATA_NOT_ACCEPTED": 0xC023100E,
    "NDIS_STATUS_OFFLOAD_POLICY": 0xC023100F,
    "NDIS_STATUS_OFFLOAD_DATA_PARTIALLY_ACCEPTED": 0xC0231010,
    "NDIS_STATUS_OFFLOAD_REQUEST_RESET": 0xC0231011,
    "NDIS_STATUS_OFFLOAD_CONNECTION_REJECTED": 0xC0231012,
    "STATUS_NDIS_OFFLOAD_PATH_REJECTED": 0xC0231013,
    "NDIS_STATUS_OFFLOAD_PATH_MTU": 0xC02310F0,
}


def test_every_number_has_the_published_symbol() -> None:
    assert {s.symbol: int(s) for s in NdisStatus} == NUMBERS


def test_r_open_05_path_mtu_lies_outside_the_published_block() -> None:
    """R-OPEN-05: our own number, so it must not collide with one that a header gives."""
    own = NdisStatus.OFFLOAD_PATH_MTU
    assert not 0xC0231001 <= own <= 0xC0231013
    assert [s for s in NdisStatus if s == own] == [own]
    assert not own.is_success
    assert own in ALLOWED_STATUS["initiate"]


def test_r_dis_01_partial_success_is_the_header_symbol_and_a_success_code() -> None:
    """R-DIS-01: one number, 0x40020004; the other print stands for it."""
    assert int(MISPRINTED_STATUS["NDIS_STATUS_PARTIAL_SUCCESS"]) == 0x40020004
    assert NdisStatus.OFFLOAD_PARTIAL_SUCCESS.symbol == "NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS"
    assert NdisStatus.OFFLOAD_PARTIAL_SUCCESS.is_success


def test_r_dis_04_vlan_codes_are_those_of_the_header() -> None:
    """R-DIS-04"""
    assert int(MISPRINTED_STATUS["NDIS_STATUS_OFFLOAD_VLAN_TAG_ENTRIES"]) == 0xC0231009
    assert int(MISPRINTED_STATUS["NDIS_STATUS_VLAN_MISMATCH"]) == 0xC023100D


def test_r_dis_05_the_slips_stand_for_request_aborted() -> None:
    """R-DIS-05: 0xC001000C, which is not the NDIS_STATUS_SEND_ABORTED of a similar name."""
    assert int(MISPRINTED_STATUS["NDIS_STATUS_REQUEST_ABORT"]) == 0xC001000C
    assert int(MISPRINTED_STATUS["NDIS_STATUS_ABORTED"]) == 0xC001000C
    assert int(NdisStatus.SEND_ABORTED) == 0xC023000C


def test_no_misprint_is_a_symbol_of_its_own() -> None:
    assert not MISPRINTED_STATUS.keys() & {s.symbol for s in NdisStatus}


@pytest.mark.parametrize(
    ("value", "success"),
    [(0, True), (0x3FFFFFFF, True), (0x40020004, True), (0x80000005, False), (0xC0000001, False)],
)
def test_success_is_decided_by_the_severity_bits(value: int, success: bool) -> None:
    assert is_success(value) is success


def test_is_success_of_members_agrees_with_the_function() -> None:
    assert [s for s in NdisStatus if s.is_success != is_success(int(s))] == []
    assert {s.name for s in NdisStatus if s.is_success} == {
        "SUCCESS",
        "PENDING",
        "NOT_ACCEPTED",
        "OFFLOAD_PAUSE",
        "UPLOAD_ALL",
        "OFFLOAD_RESUME",
        "OFFLOAD_PARTIAL_SUCCESS",
        "OFFLOAD_STATE_INVALID",
        "TCP_CONNECTION_OFFLOAD_HARDWARE_CAPABILITIES",
    }


def test_symbol_of_known_and_unknown_numbers() -> None:
    assert status_symbol(0) == "NDIS_STATUS_SUCCESS"
    assert status_symbol(0xC0231013) == "STATUS_NDIS_OFFLOAD_PATH_REJECTED"
    assert status_symbol(0xC0231FFF) == "0xC0231FFF"
    assert status_symbol(5) == "0x00000005"


def test_nodes_of_an_initiate_that_offload_nothing_have_fewer_outcomes() -> None:
    assert {s.name for s in INITIATE_PLACEHOLDER} == {"SUCCESS"}
    assert {s.name for s in INITIATE_LINKER} == {"SUCCESS", "OFFLOAD_PARTIAL_SUCCESS", "FAILURE"}
    assert INITIATE_PLACEHOLDER < INITIATE_LINKER < ALLOWED_STATUS["initiate"]


ALLOWED = {
    "invalidate": {"SUCCESS", "FAILURE"},
    "query": {"SUCCESS", "FAILURE"},
    "update": {"SUCCESS", "FAILURE"},
    "terminate": {"SUCCESS", "FAILURE"},
    "send": {"SUCCESS", "REQUEST_ABORTED", "UPLOAD_IN_PROGRESS", "REQUEST_UPLOAD", "UPLOAD_REQUESTED"},
    "receive": {"SUCCESS", "REQUEST_ABORTED", "UPLOAD_IN_PROGRESS", "INVALID_STATE"},
    "disconnect": {"SUCCESS", "UPLOAD_IN_PROGRESS", "REQUEST_ABORTED"},
    "forward": {"SUCCESS", "UPLOAD_IN_PROGRESS", "REQUEST_ABORTED"},
    "packet send": {
        "SUCCESS",
        "FAILURE",
        "RESOURCES",
        "NOT_SUPPORTED",
        "RESET_IN_PROGRESS",
        "INVALID_LENGTH",
        "SEND_ABORTED",
        "PAUSED",
    },
    "receive_indication_return": {"SUCCESS", "OFFLOAD_DATA_NOT_ACCEPTED", "OFFLOAD_DATA_PARTIALLY_ACCEPTED"},
    "initiate": {
        "SUCCESS",
        "OFFLOAD_PARTIAL_SUCCESS",
        "FAILURE",
        "RESOURCES",
        "OFFLOAD_TCP_ENTRIES",
        "OFFLOAD_PATH_ENTRIES",
        "OFFLOAD_NEIGHBOR_ENTRIES",
        "OFFLOAD_HW_ADDRESS_ENTRIES",
        "OFFLOAD_IP_ADDRESS_ENTRIES",
        "OFFLOAD_TCP_XMIT_BUFFER",
        "OFFLOAD_TCP_RCV_BUFFER",
        "OFFLOAD_TCP_RCV_WINDOW",
        "OFFLOAD_VLAN_ENTRIES",
        "OFFLOAD_VLAN_MISMATCH",
        "OFFLOAD_PATH_MTU",
        "OFFLOAD_CONNECTION_REJECTED",
    },
}


def test_allowed_outcomes_of_each_operation() -> None:
    """R-DIS-33: a forward has three."""
    assert {op: {s.name for s in statuses} for op, statuses in ALLOWED_STATUS.items()} == ALLOWED


@pytest.mark.skipif(not FACTS, reason="CHIMNEY_FACTS names no file of interface facts")
def test_everything_agrees_with_the_facts() -> None:
    facts: Any = yaml.safe_load(Path(FACTS).read_text(encoding="utf-8"))
    ours = {s.symbol: int(s) for s in NdisStatus}
    for symbol, entry in facts["status_codes"].items():
        if entry["value"] is not None:
            assert ours[symbol] == entry["value"], symbol
        elif "read_as" in entry:
            assert MISPRINTED_STATUS[symbol].symbol == entry["read_as"]
    for op, entry in facts["allowed_status"].items():
        assert {s.symbol for s in ALLOWED_STATUS[op]} == set(entry["values"]), op
    initiate = facts["allowed_status"]["initiate"]
    assert {s.symbol for s in INITIATE_PLACEHOLDER} == set(initiate["placeholder_nodes"])
    assert {s.symbol for s in INITIATE_LINKER} == set(initiate["linker_nodes"])
