"""The nine state structures: exact images, exact refusals."""

from __future__ import annotations

import copy
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ndisbus.ddi.cstruct import member
from ndisbus.ddi.state_types import OffloadStateType, classes_of
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState
from ndisbus.errors import DecodeError, LocalProtocolError
from ndisbus.state.base import header_length, header_options
from ndisbus.state.images import (
    TCP_STATE_OFF,
    NeighborOffloadStateCached,
    NeighborOffloadStateConst,
    NeighborOffloadStateDelegated,
    OffloadState,
    PathOffloadStateCached,
    PathOffloadStateConst,
    PathOffloadStateDelegated,
    TcpOffloadStateCached,
    TcpOffloadStateConst,
    TcpOffloadStateDelegated,
    pack_state,
    rtt_var_from_ticks,
    rtt_var_to_ticks,
    srtt_from_ticks,
    srtt_to_ticks,
    state_size,
    structures_of,
    unpack_state,
)

#: A YAML file of interface facts (structures, enums, status_codes, ...), for a comparison in full.
FACTS = os.environ.get("CHIMNEY_FACTS", "")

V4 = (bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]))
V6 = (bytes(range(16)), bytes(range(16, 32)))

#: (offset, size, bits, bit position) of each member on x64, written out by hand.
LAYOUT: dict[str, tuple[int, dict[str, tuple[int, int, int, int]]]] = {
    "NEIGHBOR_OFFLOAD_STATE_CONST": (
        0x2C,
        {"DlSourceAddress": (0x8, 32, 0, 0), "VlanId": (0x28, 4, 12, 0)},
    ),
    "NEIGHBOR_OFFLOAD_STATE_CACHED": (
        0x2C,
        {"DlDestinationAddress": (0x8, 32, 0, 0), "HostReachabilityDelta": (0x28, 4, 0, 0)},
    ),
    "NEIGHBOR_OFFLOAD_STATE_DELEGATED": (0xC, {"NicReachabilityDelta": (0x8, 4, 0, 0)}),
    "PATH_OFFLOAD_STATE_CONST": (
        0x18,
        {"SourceAddress": (0x8, 8, 0, 0), "DestinationAddress": (0x10, 8, 0, 0)},
    ),
    "PATH_OFFLOAD_STATE_CACHED": (0xC, {"PathMtu": (0x8, 4, 0, 0)}),
    "PATH_OFFLOAD_STATE_DELEGATED": (0x8, {}),
    "TCP_OFFLOAD_STATE_CONST": (
        0x18,
        {
            "Flags": (0x8, 2, 0, 0),
            "RemotePort": (0xA, 2, 0, 0),
            "LocalPort": (0xC, 2, 0, 0),
            "SndWindScale": (0xE, 1, 4, 0),
            "RcvWindScale": (0xE, 1, 4, 4),
            "RemoteMss": (0x10, 2, 0, 0),
            "HashValue": (0x14, 4, 0, 0),
        },
    ),
    "TCP_OFFLOAD_STATE_CACHED": (
        0x2C,
        {
            "Flags": (0x8, 2, 0, 0),
            "InitialRcvWnd": (0xC, 4, 0, 0),
            "RcvIndicationSize": (0x10, 4, 0, 0),
            "KaProbeCount": (0x14, 1, 0, 0),
            "KaTimeout": (0x18, 4, 0, 0),
            "KaInterval": (0x1C, 4, 0, 0),
            "MaxRT": (0x20, 4, 0, 0),
            "FlowLabel": (0x24, 4, 20, 0),
            "TtlOrHopLimit": (0x28, 1, 0, 0),
            "TosOrTrafficClass": (0x29, 1, 0, 0),
            "UserPriority": (0x2A, 1, 3, 0),
        },
    ),
    "TCP_OFFLOAD_STATE_DELEGATED": (
        0x78,
        {
            "State": (0x8, 4, 0, 0),
            "Flags": (0xC, 2, 0, 0),
            "RcvNxt": (0x10, 4, 0, 0),
            "RcvWnd": (0x14, 4, 0, 0),
            "SndUna": (0x18, 4, 0, 0),
            "SndNxt": (0x1C, 4, 0, 0),
            "SndMax": (0x20, 4, 0, 0),
            "SndWnd": (0x24, 4, 0, 0),
            "MaxSndWnd": (0x28, 4, 0, 0),
            "SendWL1": (0x2C, 4, 0, 0),
            "CWnd": (0x30, 4, 0, 0),
            "SsThresh": (0x34, 4, 0, 0),
            "SRtt": (0x38, 2, 0, 0),
            "RttVar": (0x3A, 2, 0, 0),
            "TsRecent": (0x3C, 4, 0, 0),
            "TsRecentAge": (0x40, 4, 0, 0),
            "TsTime": (0x44, 4, 0, 0),
            "TotalRT": (0x48, 4, 0, 0),
            "DupAckCount": (0x4C, 1, 0, 0),
            "SndWndProbeCount": (0x4D, 1, 0, 0),
            "KeepAlive.ProbeCount": (0x50, 1, 0, 0),
            "KeepAlive.TimeoutDelta": (0x54, 4, 0, 0),
            "Retransmit.Count": (0x58, 1, 0, 0),
            "Retransmit.TimeoutDelta": (0x5C, 4, 0, 0),
            "SendDataHead": (0x60, 8, 0, 0),
            "SendDataTail": (0x68, 8, 0, 0),
            "SendBacklogSize": (0x60, 4, 0, 0),
            "BufferedData": (0x70, 8, 0, 0),
            "ReceiveBacklogSize": (0x70, 4, 0, 0),
        },
    ),
}

MAKERS: tuple[Callable[[], OffloadState], ...] = (
    NeighborOffloadStateConst,
    NeighborOffloadStateCached,
    NeighborOffloadStateDelegated,
    lambda: PathOffloadStateConst(*V4),
    lambda: PathOffloadStateConst(*V6),
    PathOffloadStateCached,
    PathOffloadStateDelegated,
    TcpOffloadStateConst,
    TcpOffloadStateCached,
    TcpOffloadStateDelegated,
)
CLASSES = tuple({type(make()): None for make in MAKERS})
INT_MEMBERS = [
    pytest.param(make, m, id=f"{make().NAME}.{m.name}")
    for make in (*MAKERS[:4], *MAKERS[5:])
    for m in make().MEMBERS
    if m.c_type not in ("PUCHAR", "UCHAR[32]") and m.name not in ("Header.Length", "State")
]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.NAME)
def test_size_and_offsets(cls: type[OffloadState]) -> None:
    size, members = LAYOUT[cls.NAME]
    assert size == cls.SIZE
    ours = {m.name: (m.offset, m.size, m.bits, m.bit_position) for m in cls.MEMBERS}
    assert ours.pop("Header.Length") == (0, 4, 0, 0)
    assert ours.pop("Header.RecognizedOptions") == (4, 4, 0, 0)
    assert ours == members


def test_members_that_do_not_make_up_the_size_are_refused() -> None:
    with pytest.raises(TypeError, match="WRONG: the members make 0xc bytes, SIZE is 0x8"):

        class Wrong(OffloadState):
            NAME = "WRONG"
            SIZE = 0x8

            value: int = member("Value", "ULONG", 0x8, default=0)
            length: int = header_length(0x8)
            recognized_options: int = header_options()


@pytest.mark.parametrize(("make", "member"), INT_MEMBERS)
def test_each_member_is_written_to_its_own_place_only(make: Callable[[], OffloadState], member: Any) -> None:
    """Changing one member changes exactly its bits, and reading gives it back."""
    zero, full = make(), make()
    setattr(zero, member.attr, 0)
    setattr(full, member.attr, member.maximum)
    difference = int.from_bytes(zero.pack(), "little") ^ int.from_bytes(full.pack(), "little")
    assert difference == member.maximum << (8 * member.offset + member.bit_position)
    assert getattr(type(full).unpack_from(full.pack()), member.attr) == member.maximum


@pytest.mark.parametrize(("make", "member"), INT_MEMBERS)
@pytest.mark.parametrize("side", ["below", "above", "type"])
def test_a_value_that_does_not_fit_names_the_member(
    make: Callable[[], OffloadState], member: Any, side: str
) -> None:
    obj = make()
    value: Any = {"below": -1, "above": member.maximum + 1, "type": "7"}[side]

    def set_and_pack() -> None:
        # The two sizes that overlay a pointer refuse at once, the others when they are packed.
        setattr(obj, member.attr, value)
        obj.pack()

    with pytest.raises(LocalProtocolError) as caught:
        set_and_pack()
    assert str(caught.value).startswith(f"{obj.NAME}.{member.name} = ")


def test_a_link_address_of_more_than_32_bytes_is_refused_not_cut() -> None:
    with pytest.raises(LocalProtocolError, match=r"NEIGHBOR_OFFLOAD_STATE_CONST\.DlSourceAddress"):
        NeighborOffloadStateConst(dl_source_address=bytes(33)).pack()
    with pytest.raises(LocalProtocolError, match=r"NEIGHBOR_OFFLOAD_STATE_CACHED\.DlDestinationAddress"):
        NeighborOffloadStateCached(dl_destination_address=bytes(33)).pack()


@pytest.mark.parametrize(
    ("given_address", "read"),
    [
        (b"", b""),
        (bytes(6), b""),
        (b"\x02\x00\x00\x00\x00\x01", b"\x02\x00\x00\x00\x00\x01"),
        (b"\x02\x00\x00\x00\x00\x00", b"\x02\x00\x00\x00\x00\x00"),
        (bytes(range(32)), bytes(range(32))),
        (bytes(8) + b"\x01", bytes(8) + b"\x01" + bytes(23)),
    ],
)
def test_link_addresses_come_back_as_none_as_six_bytes_or_as_32(given_address: bytes, read: bytes) -> None:
    image = NeighborOffloadStateConst(dl_source_address=given_address, vlan_id=7).pack()
    assert image[8:40] == given_address.ljust(32, b"\0")
    assert NeighborOffloadStateConst.unpack_from(image).dl_source_address == read
    image = NeighborOffloadStateCached(dl_destination_address=given_address).pack()
    assert NeighborOffloadStateCached.unpack_from(image).dl_destination_address == read


def test_r_state_16_length_is_the_structures_own_size_whatever_it_was() -> None:
    """R-STATE-16: NDIS fills Length, also over what a driver left there."""
    for make in MAKERS:
        obj: Any = make()
        obj.length = 0xDEAD
        assert struct.unpack_from("<I", obj.pack())[0] == obj.SIZE
        assert type(obj).unpack_from(obj.pack()).length == obj.SIZE


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("wrong", [0, 1, 0xFFFFFFFF])
def test_r_state_16_a_wrong_length_is_refused(make: Callable[[], OffloadState], wrong: int) -> None:
    """R-STATE-16"""
    obj = make()
    image = struct.pack("<I", wrong) + obj.pack()[4:]
    with pytest.raises(DecodeError, match="R-STATE-16") as caught:
        type(obj).unpack_from(image, where="block 3")
    assert caught.value.where == f"block 3.{obj.NAME}.Header.Length"


@pytest.mark.parametrize("make", MAKERS)
def test_every_truncation_is_refused_and_named(make: Callable[[], OffloadState]) -> None:
    obj = make()
    image = obj.pack()
    for n in range(len(image)):
        with pytest.raises(DecodeError) as caught:
            type(obj).unpack_from(image[:n])
        assert caught.value.where.startswith(obj.NAME)


@pytest.mark.parametrize("make", MAKERS)
def test_reading_at_an_offset_and_from_any_buffer(make: Callable[[], OffloadState]) -> None:
    obj = make()
    data = b"\xaa" * 5 + obj.pack() + b"\xbb"
    for buf in (data, bytearray(data), memoryview(data)):
        assert type(obj).unpack_from(buf, 5).pack() == obj.pack()


@pytest.mark.parametrize("make", MAKERS)
def test_a_copy_is_equal_and_independent(make: Callable[[], OffloadState]) -> None:
    obj: Any = make()
    twin = copy.copy(obj)
    assert twin == obj
    twin.recognized_options = 5
    assert obj.recognized_options == 0


@pytest.mark.parametrize(("pair", "size"), [(V4, 0x20), (V6, 0x38)])
def test_r_state_07_addresses_trail_the_image_in_network_order(pair: tuple[bytes, bytes], size: int) -> None:
    """R-STATE-07: 4 or 16 bytes, exactly as they stand in a packet."""
    obj = PathOffloadStateConst(*pair)
    image = obj.pack()
    length, options, source, destination = struct.unpack_from("<IIQQ", image)
    n = len(pair[0])
    assert (length, options, source, destination) == (0x18, 0, 0x18, 0x18 + n)
    assert len(image) == size == obj.packed_size()
    assert size % 8 == 0
    assert (image[source : source + n], image[destination:]) == pair


@pytest.mark.parametrize(
    ("source", "destination", "member"),
    [
        (b"", b"", "SourceAddress"),
        (bytes(5), bytes(5), "SourceAddress"),
        (bytes(4), bytes(16), "DestinationAddress"),
        (bytes(16), bytes(4), "DestinationAddress"),
        (bytes(4), b"", "DestinationAddress"),
    ],
)
def test_r_state_07_other_lengths_are_refused(source: bytes, destination: bytes, member: str) -> None:
    """R-STATE-07"""
    with pytest.raises(LocalProtocolError, match=rf"PATH_OFFLOAD_STATE_CONST\.{member}.*R-STATE-07"):
        PathOffloadStateConst(source, destination).pack()


@pytest.mark.parametrize(
    ("source", "destination", "member"),
    [
        (0, 0x1C, "SourceAddress"),
        (0x1C, 0x20, "SourceAddress"),
        (0x18, 0x18, "DestinationAddress"),
        (0x18, 0x20, "DestinationAddress"),
        (0x18, 0, "DestinationAddress"),
        (0x18, 2**64 - 1, "DestinationAddress"),
    ],
)
def test_path_pointers_that_lead_elsewhere_are_refused(source: int, destination: int, member: str) -> None:
    image = struct.pack("<IIQQ", 0x18, 0, source, destination) + bytes(64)
    with pytest.raises(DecodeError) as caught:
        PathOffloadStateConst.unpack_from(image)
    assert caught.value.where == f"PATH_OFFLOAD_STATE_CONST.{member}"


def test_r_dis_24_delegated_path_state_is_a_bare_header() -> None:
    """R-DIS-24"""
    assert structures_of(OffloadStateType.Ip4OffloadDelegatedState) == (PathOffloadStateDelegated,)
    assert PathOffloadStateDelegated().pack() == bytes([8, 0, 0, 0, 0, 0, 0, 0])
    assert PathOffloadStateDelegated().as_dict() == {"Header": {"Length": 8, "RecognizedOptions": 0}}


def test_r_dis_37_keepalive_and_retransmit_are_structs_not_unions() -> None:
    """R-DIS-37: all four nested members keep values of their own."""
    obj = TcpOffloadStateDelegated(
        keep_alive_probe_count=1,
        keep_alive_timeout_delta=2,
        retransmit_count=3,
        retransmit_timeout_delta=4,
    )
    again = TcpOffloadStateDelegated.unpack_from(obj.pack()).as_dict()
    assert again["KeepAlive"] == {"ProbeCount": 1, "TimeoutDelta": 2}
    assert again["Retransmit"] == {"Count": 3, "TimeoutDelta": 4}


def test_r_state_08_round_trip_times_travel_scaled() -> None:
    """R-STATE-08: SRtt times 8, RttVar times 4, and back."""
    assert (srtt_from_ticks(100), rtt_var_from_ticks(25)) == (800, 100)
    assert (srtt_to_ticks(800), rtt_var_to_ticks(100)) == (100, 25)
    assert (srtt_from_ticks(0.125), rtt_var_from_ticks(0.25)) == (1, 1)
    assert (srtt_from_ticks(10_000), rtt_var_from_ticks(20_000)) == (0xFFFF, 0xFFFF)
    assert (srtt_from_ticks(-1), rtt_var_from_ticks(-1)) == (0, 0)


def test_r_state_12_sizes_and_pointers_are_one_storage() -> None:
    """R-STATE-12: what one name writes, the other reads; SendDataTail has storage of its own."""
    obj = TcpOffloadStateDelegated(send_data_head=0x7000000011, send_data_tail=0x99, buffered_data=0x22)
    assert obj.send_backlog_size == 0x11
    assert obj.receive_backlog_size == 0x22
    obj.send_backlog_size = 65536
    obj.receive_backlog_size = 0xFFFFFFFF
    assert obj.send_data_head == 0x7000010000
    assert obj.buffered_data == 0xFFFFFFFF
    assert obj.send_data_tail == 0x99
    image = obj.pack()
    assert struct.unpack_from("<I", image, 0x60) == (65536,)
    assert struct.unpack_from("<I", image, 0x70) == (0xFFFFFFFF,)


def test_r_state_12_a_zero_size_and_a_null_pointer_are_the_same_bits() -> None:
    """R-STATE-12"""
    obj = TcpOffloadStateDelegated(send_data_head=0x11, buffered_data=0x22)
    obj.send_backlog_size = 0
    obj.receive_backlog_size = 0
    assert obj.send_data_head is None
    assert obj.buffered_data is None
    assert TcpOffloadStateDelegated.unpack_from(obj.pack()) == obj


@pytest.mark.parametrize("state", [11, 12, 0xFFFFFFFF])
def test_what_is_no_connection_state_is_refused_both_ways(state: int) -> None:
    image = bytearray(TcpOffloadStateDelegated().pack())
    struct.pack_into("<I", image, 8, state)
    with pytest.raises(DecodeError) as caught:
        TcpOffloadStateDelegated.unpack_from(image)
    assert caught.value.where == "TCP_OFFLOAD_STATE_DELEGATED.State"
    wrong: Any = state
    with pytest.raises(LocalProtocolError, match=r"TCP_OFFLOAD_STATE_DELEGATED\.State"):
        TcpOffloadStateDelegated(state=wrong).pack()


def test_unnamed_bits_beside_a_bit_field_are_dropped() -> None:
    image = bytearray(NeighborOffloadStateConst(vlan_id=5).pack())
    struct.pack_into("<I", image, 0x28, 0xFFFFF005)
    assert NeighborOffloadStateConst.unpack_from(image).vlan_id == 5
    image = bytearray(TcpOffloadStateCached(flow_label=6, user_priority=2).pack())
    struct.pack_into("<I", image, 0x24, 0xFFF00006)
    image[0x2A] = 0xFA
    read = TcpOffloadStateCached.unpack_from(image)
    assert (read.flow_label, read.user_priority) == (6, 2)


WHOLE: dict[int, tuple[OffloadState, ...]] = {
    4: (
        NeighborOffloadStateConst(b"\x02" * 6, 9),
        NeighborOffloadStateCached(b"\x03" * 6, 8),
        NeighborOffloadStateDelegated(7),
    ),
    8: (PathOffloadStateConst(*V4), PathOffloadStateCached(1500), PathOffloadStateDelegated()),
    12: (PathOffloadStateConst(*V6), PathOffloadStateCached(1280), PathOffloadStateDelegated()),
    17: (TcpOffloadStateConst(1, 80, 1234), TcpOffloadStateCached(2), TcpOffloadStateDelegated()),
}


@pytest.mark.parametrize("whole", WHOLE)
def test_r_blk_06_a_whole_layer_is_const_cached_delegated_and_each_class_stands_alone(whole: int) -> None:
    """R-BLK-06: the three images, in this order, and nothing between them."""
    objs = WHOLE[whole]
    data = pack_state(objs)
    assert data == b"".join(o.pack() for o in objs)
    assert state_size(whole) == len(data)
    assert unpack_state(whole, data) == objs
    for n, name in enumerate(("const", "cached", "delegated")):
        single = whole - (4 if whole == 17 else 3) + n
        assert classes_of(single) == (name,)
        assert structures_of(single) == (type(objs[n]),)
        assert unpack_state(single, objs[n].pack()) == (objs[n],)
        assert state_size(single) == len(objs[n].pack())


@pytest.mark.parametrize("whole", WHOLE)
def test_r_blk_06_another_order_is_refused(whole: int) -> None:
    """R-BLK-06"""
    first, second, third = WHOLE[whole]
    for order in ((second, first, third), (first, third, second), (third, second, first)):
        # The neighbor's constant and cached state have the same size, and nothing tells them apart.
        if whole == 4 and order[2] is third:
            continue
        with pytest.raises(DecodeError):
            unpack_state(whole, pack_state(order))


@pytest.mark.parametrize("whole", WHOLE)
def test_wrong_sizes_of_state_are_refused_and_named(whole: int) -> None:
    data = pack_state(WHOLE[whole])
    with pytest.raises(DecodeError, match="1 bytes too many") as caught:
        unpack_state(whole, data + b"\0", where="State[2]")
    assert caught.value.where == "State[2]"
    last = WHOLE[whole][2].NAME
    with pytest.raises(DecodeError) as caught:
        unpack_state(whole, data[:-1], where="State[2]")
    assert caught.value.where == f"State[2].{last}"
    with pytest.raises(DecodeError) as caught:
        unpack_state(whole, b"", where="State[2]")
    assert caught.value.where == f"State[2].{WHOLE[whole][0].NAME}"


@pytest.mark.parametrize(("state_type", "other"), [(8, 12), (12, 8), (5, 9), (9, 5)])
def test_r_state_07_an_address_of_the_other_family_is_refused(state_type: int, other: int) -> None:
    """R-STATE-07: the type of the block and the length of the addresses must agree."""
    objs = WHOLE[other] if other in WHOLE else WHOLE[other + 3][:1]
    with pytest.raises(DecodeError) as caught:
        unpack_state(state_type, pack_state(objs))
    assert caught.value.where == "PATH_OFFLOAD_STATE_CONST"


def test_types_without_state() -> None:
    assert unpack_state(16, b"") == ()
    assert state_size(16) == 0
    with pytest.raises(DecodeError, match="too many behind the block"):
        unpack_state(16, b"x")
    for state_type in (0, 18, 254, 255):
        with pytest.raises(DecodeError) as caught:
            unpack_state(state_type, b"", where="b")
        assert caught.value.where == "b.Header.Type"
        with pytest.raises(ValueError, match=str(state_type)):
            state_size(state_type)


def test_direct_looks_into_a_whole_tcp_image() -> None:
    const = TcpOffloadStateConst(remote_port=443, local_port=51000)
    cached = TcpOffloadStateCached(initial_rcv_wnd=262144, max_rt=77)
    delegated = TcpOffloadStateDelegated(
        state=TcpOffloadConnectionState.TcpConnectionCloseWait, rcv_nxt=5, snd_una=6
    )
    image = pack_state((const, cached, delegated))

    def look(key: str, code: str) -> int:
        value: int = struct.unpack_from(code, image, TCP_STATE_OFF[key])[0]
        return value

    assert look("const.LocalPort", "<H") == 51000
    assert look("const.RemotePort", "<H") == 443
    assert look("cached.InitialRcvWnd", "<I") == 262144
    assert look("cached.MaxRT", "<I") == 77
    assert look("delegated.State", "<I") == 7
    assert look("delegated.RcvNxt", "<I") == 5
    assert look("delegated.SndUna", "<I") == 6
    assert TCP_STATE_OFF["delegated.Retransmit.TimeoutDelta"] == 0x18 + 0x2C + 0x5C


def _values(cls: type[OffloadState]) -> st.SearchStrategy[dict[str, Any]]:
    """Legal values of every member; overlaid sizes are covered by their pointers."""
    strategies: dict[str, st.SearchStrategy[Any]] = {}
    for m in cls.MEMBERS:
        if m.name == "Header.Length" or m.name.endswith("BacklogSize"):
            continue
        if m.name == "State":
            strategies[m.attr] = st.sampled_from(list(TcpOffloadConnectionState)[:-1])
        elif m.c_type == "UCHAR[32]":
            strategies[m.attr] = st.sampled_from([b"", b"\x02\x04\x06\x08\x0a\x0c", bytes(range(32))])
        elif m.c_type == "PVOID":
            strategies[m.attr] = st.none() | st.integers(1, m.maximum)
        else:
            strategies[m.attr] = st.integers(0, m.maximum)
    return st.fixed_dictionaries(strategies)


ORDINARY = [cls for cls in CLASSES if cls is not PathOffloadStateConst]


@pytest.mark.parametrize("cls", ORDINARY, ids=lambda c: c.NAME)
@given(data=st.data())
def test_any_legal_state_survives_the_round_trip(cls: Any, data: st.DataObject) -> None:
    obj = cls(**data.draw(_values(cls)))
    assert cls.unpack_from(obj.pack()) == obj


@given(st.sampled_from([4, 16]), st.data())
def test_any_path_survives_the_round_trip(n: int, data: st.DataObject) -> None:
    address = st.binary(min_size=n, max_size=n)
    obj = PathOffloadStateConst(
        data.draw(address), data.draw(address), recognized_options=data.draw(st.integers(0, 2**32 - 1))
    )
    assert PathOffloadStateConst.unpack_from(obj.pack()) == obj


@given(st.integers(-1, 256), st.binary(max_size=200))
def test_any_bytes_either_decode_or_raise_decode_error(state_type: int, data: bytes) -> None:
    try:
        objs = unpack_state(state_type, data)
    except DecodeError:
        return
    assert len(pack_state(objs)) == len(data)


@given(st.sampled_from(sorted(WHOLE)), st.integers(0, 400), st.integers(0, 255))
def test_a_damaged_byte_decodes_or_raises_decode_error(whole: int, at: int, value: int) -> None:
    data = bytearray(pack_state(WHOLE[whole]))
    data[at % len(data)] = value
    try:
        objs = unpack_state(whole, data)
    except DecodeError:
        return
    assert len(pack_state(objs)) == len(data)


@pytest.mark.skipif(not FACTS, reason="CHIMNEY_FACTS names no file of interface facts")
def test_the_layouts_agree_with_the_facts() -> None:
    facts: Any = yaml.safe_load(Path(FACTS).read_text(encoding="utf-8"))["structures"]

    def x64(value: Any) -> Any:
        return value["x64"] if isinstance(value, dict) else value

    for cls in CLASSES:
        entry = facts[cls.NAME]
        assert x64(entry.get("size_without_DWnd", entry["size"])) == cls.SIZE
        ours = {m.name: m for m in cls.MEMBERS}
        for theirs in entry["members"]:
            if theirs["name"] in ("Header", "KeepAlive", "Retransmit", "DWnd"):
                continue
            mine = ours.pop(theirs["name"])
            assert (mine.offset, mine.size) == (x64(theirs["offset"]), x64(theirs["size"])), mine
            assert (mine.bits, mine.bit_position) == (theirs.get("bits", 0), theirs.get("bit_position", 0))
        for name, nested in entry.get("nested", {}).items():
            assert ours.pop(name).offset == x64(nested["offset"])
        assert set(ours) == {"Header.Length", "Header.RecognizedOptions"}
