"""Packed lists: whole frames one behind the other, and lists of other forms."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndisbus.errors import DecodeError
from ndisbus.lists.frame_lists import PACKET_SIZE, check_packet_columns
from ndisbus.lists.heap import Heap
from ndisbus.lists.nbl import NetBuffer, chain, data_of, iter_net_buffers, make_net_buffer_list
from ndisbus.lists.nbl_chain import NblChain

FRAMES = [b"one", b"another frame", b"x"]


def travel(lists: NblChain) -> NblChain:
    """What comes out at the other end."""
    wire, frames = lists.to_wire()
    columns: Any = msgpack.unpackb(msgpack.packb(wire))
    payload = [bytes(f) for f in frames]
    checked, addresses = check_packet_columns(columns, "here", payload, contents=True)
    assert addresses == lists.addresses
    return NblChain.from_wire(checked, payload)


@given(st.lists(st.binary(min_size=1, max_size=100), min_size=1, max_size=20))
def test_any_frames_survive_the_wire(frames: list[bytes]) -> None:
    lists = travel(NblChain.of_frames(Heap(5), frames, source_handle=7))
    assert lists.frames() == frames
    assert (len(lists), lists.source_handle) == (len(frames), 7)
    assert [[data_of(nb) for nb in iter_net_buffers(x)] for x in lists.lists()] == [[f] for f in frames]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_frames_are_bytes_whatever_they_lay_in(kind: Any) -> None:
    for frames in (FRAMES, FRAMES[:1]):
        lists = NblChain.of_frames(Heap(5), [kind(f) for f in frames])
        assert lists.frames() == frames
        assert {type(f) for f in lists.frames()} == {bytes}


def test_a_single_frame_is_not_copied() -> None:
    frame = b"only one"
    lists = NblChain.of_frames(Heap(5), [frame])
    assert lists.to_wire()[1][0] is frame
    assert lists.frames()[0] is frame


def test_a_list_lies_with_its_net_buffer_and_its_mdl_in_one_piece_of_memory() -> None:
    lists = travel(NblChain.of_frames(Heap(5), FRAMES)).lists()
    first = lists[0].address
    for i, nbl in enumerate(lists):
        nb = nbl.first_net_buffer
        assert nb is not None
        assert nb.mdl_chain is not None
        assert [nbl.address, nb.address, nb.mdl_chain.address] == [
            first + i * PACKET_SIZE + offset for offset in (0, 0x10, 0x20)
        ]
    assert [nbl.next for nbl in lists] == [*lists[1:], None]


def test_lists_of_any_make_have_a_frame_per_net_buffer() -> None:
    heap = Heap(5)
    first = make_net_buffer_list(heap.address, [b"in ", b"pieces"])
    more = make_net_buffer_list(heap.address, [b"second"])
    second = NetBuffer(heap.address(), data_length=0)
    assert first.first_net_buffer is not None
    first.first_net_buffer.next = second
    chain([first, more])
    lists = NblChain.of(first)
    assert travel(lists).frames() == [b"in pieces", b"", b"second"]


def test_what_goes_back_leaves_its_contents_behind() -> None:
    lists = NblChain.of_frames(Heap(5), FRAMES, source_handle=7)
    lists.statuses, lists.context = [0, 1, 2], 9
    wire, frames = lists.pointers().to_wire()
    assert wire == {
        "NetBufferList": lists.addresses,
        "SourceHandle": 7,
        "Status": [0, 1, 2],
        "Context": 9,
    }
    assert frames == ()
    check_packet_columns(wire, "here", frames, contents=False)


GOOD = {"NetBufferList": [16, 64], "SourceHandle": 3, "DataLength": [2, 3]}


@pytest.mark.parametrize(
    ("changes", "frames", "where"),
    [
        ({}, [], "here.DataLength"),
        ({}, [b"four"], "here.DataLength"),
        ({}, [b"ab", b"cde"], "here.DataLength"),
        ({"DataLength": [5]}, [b"abcde"], "here.DataLength"),
        ({"DataLength": [5, 0]}, [b"abcde"], "here.DataLength"),
        ({"DataLength": [True, 4]}, [b"abcde"], "here.DataLength"),
        ({"DataLength": [2.0, 3]}, [b"abcde"], "here.DataLength"),
        ({"DataLength": [(1 << 32) + 2, 3]}, [b"abcde"], "here.DataLength"),
        ({"DataLength": None}, [b"abcde"], "here"),
        ({"DataLength": None, "NetBufferLists": {}}, [b"abcde"], "here"),
        ({"NetBufferLists": []}, [b"abcde"], "here.NetBufferLists"),
        ({"NetBufferList": 16}, [b"abcde"], "here.NetBufferList"),
        ({"NetBufferList": [16, 16]}, [b"abcde"], "here.NetBufferList"),
        ({"NetBufferList": [16, 0]}, [b"abcde"], "here.NetBufferList"),
        ({"NetBufferList": [16, None]}, [b"abcde"], "here.NetBufferList"),
        ({"NetBufferList": [16, [64]]}, [b"abcde"], "here.NetBufferList"),
        ({"SourceHandle": "3"}, [b"abcde"], "here.SourceHandle"),
        ({"Context": -3}, [b"abcde"], "here.Context"),
        ({"Status": [0]}, [b"abcde"], "here.Status"),
        ({"Status": [0, 1 << 32]}, [b"abcde"], "here.Status"),
        ({"Status": 0}, [b"abcde"], "here.Status"),
        ({"Flags": 0}, [b"abcde"], "here.Flags"),
    ],
)
def test_what_is_no_packed_chain_is_refused_and_named(
    changes: dict[str, Any], frames: list[bytes], where: str
) -> None:
    check_packet_columns(dict(GOOD), "here", [b"abcde"], contents=True)
    with pytest.raises(DecodeError) as e:
        check_packet_columns(GOOD | changes, "here", frames, contents=True)
    assert e.value.where == where


@pytest.mark.parametrize("obj", [None, [], 7, "lists"])
def test_what_is_no_map_is_refused(obj: object) -> None:
    with pytest.raises(DecodeError, match="a map expected"):
        check_packet_columns(obj, "here", (), contents=False)


@pytest.mark.parametrize(
    ("extra", "frames"), [({"DataLength": [5]}, []), ({"NetBufferLists": []}, []), ({}, [b"x"])]
)
def test_contents_do_not_go_back(extra: dict[str, Any], frames: list[bytes]) -> None:
    with pytest.raises(DecodeError, match="do not travel"):
        check_packet_columns({"NetBufferList": [16], **extra}, "here", frames, contents=False)


_SCALAR = st.none() | st.booleans() | st.integers(-1, 1 << 65) | st.text(max_size=3) | st.binary(max_size=3)
_COLUMN = _SCALAR | st.lists(_SCALAR | st.lists(_SCALAR, max_size=2), max_size=3)


@given(
    st.dictionaries(
        st.sampled_from(
            ["NetBufferList", "SourceHandle", "Status", "Context", "DataLength", "NetBufferLists", "x"]
        ),
        _COLUMN,
    ),
    st.lists(st.binary(max_size=4), max_size=2),
    st.booleans(),
)
def test_anything_is_a_chain_or_raises_decode_error(obj: Any, frames: list[bytes], contents: bool) -> None:
    try:
        columns, _ = check_packet_columns(obj, "here", frames, contents=contents)
    except DecodeError:
        return
    NblChain.from_wire(columns, frames).to_wire()
