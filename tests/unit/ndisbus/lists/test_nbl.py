"""Net buffer lists: the window on the MDLs, sequence numbers in it, and the wire form."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndisbus.ddi.enums import NetBufferListInfo
from ndisbus.errors import DecodeError, LocalProtocolError
from ndisbus.lists import nbl_objects, nbl_wire
from ndisbus.lists.nbl import (
    Mdl,
    NetBuffer,
    NetBufferList,
    advance,
    chain,
    chain_from_wire,
    chain_to_wire,
    data_of,
    iter_chain,
    iter_mdls,
    iter_net_buffers,
    locate,
    locate_in_chain,
    make_net_buffer_list,
    sequence_offset,
)
from ndisbus.messages.codec import decode_packet, encode_packet

#: The sizes of the MDLs in the documentation's example.
FIGURE = (200, 400, 400, 400, 400, 200)


def make(*pieces: bytes, alloc: Callable[[], int] | None = None) -> NetBufferList:
    counter = count(0x1000, 0x10)
    return make_net_buffer_list(alloc or (lambda: next(counter)), pieces)


def first_nb(nbl: NetBufferList) -> NetBuffer:
    assert nbl.first_net_buffer is not None
    return nbl.first_net_buffer


def sample() -> NetBufferList:
    """Two lists, the first with two pieces and every member that travels set."""
    counter = count(0x1000, 0x10)
    one = make(b"hello", b" world", alloc=lambda: next(counter))
    two = make(b"again", alloc=lambda: next(counter))
    one.status = 0xC001000C
    one.source_handle = 0x77
    one.miniport_reserved[1] = 5
    one.protocol_reserved[3] = 2**64 - 1
    one.scratch = 9
    one.flags = 3
    one.net_buffer_list_info[NetBufferListInfo.TcpOffloadBytesTransferred] = 11
    one.net_buffer_list_info[NetBufferListInfo.TcpReceiveNoPush] = 1
    advance(first_nb(one), 2)
    first_nb(two).mdl_chain.byte_offset = 0x80  # type: ignore[union-attr]
    head = chain([one, two])
    assert head is not None
    return head


def picture(first: NetBufferList | None) -> list[Any]:
    """Everything a chain says, for comparisons."""
    return [
        (
            nbl.address,
            nbl.status,
            nbl.source_handle,
            nbl.miniport_reserved,
            nbl.protocol_reserved,
            nbl.scratch,
            nbl.flags,
            nbl.net_buffer_list_info,
            [
                (
                    nb.address,
                    nb.current_mdl and nb.current_mdl.address,
                    nb.current_mdl_offset,
                    nb.data_length,
                    nb.data_offset,
                    [
                        (m.address, m.byte_count, m.byte_offset, m.data and bytes(m.data))
                        for m in iter_mdls(nb.mdl_chain)
                    ],
                )
                for nb in iter_net_buffers(nbl)
            ],
        )
        for nbl in iter_chain(first)
    ]


def test_a_made_list_has_one_net_buffer_over_all_pieces() -> None:
    nbl = make(b"abc", b"", b"defg")
    (nb,) = iter_net_buffers(nbl)
    assert [bytes(m.data or b"") for m in iter_mdls(nb.mdl_chain)] == [b"abc", b"", b"defg"]
    assert (nb.data_length, nb.data_offset, nb.current_mdl, nb.current_mdl_offset) == (7, 0, nb.mdl_chain, 0)
    assert data_of(nb) == b"abcdefg"
    addresses = [nbl.address, nb.address, *(m.address for m in iter_mdls(nb.mdl_chain))]
    assert len(set(addresses)) == 5


def test_an_empty_list_is_a_zero_byte_request() -> None:
    nb = first_nb(make())
    assert (nb.data_length, nb.mdl_chain, nb.current_mdl) == (0, None, None)
    assert data_of(nb) == b""


def test_one_whole_piece_is_not_copied() -> None:
    piece = bytes(1000)
    assert data_of(first_nb(make(piece))) is piece


def test_chain_links_in_order_and_ends_with_null() -> None:
    lists = [NetBufferList(n) for n in (1, 2, 3)]
    lists[2].next = lists[0]
    first = chain(lists)
    assert [nbl.address for nbl in iter_chain(first)] == [1, 2, 3]
    assert chain([]) is None
    assert list(iter_chain(None)) == []


def test_the_loop_over_a_chain_may_unlink_what_it_gets() -> None:
    seen = []
    for nbl in iter_chain(chain([NetBufferList(n) for n in (1, 2, 3)])):
        nbl.next = None
        seen.append(nbl.address)
    assert seen == [1, 2, 3]


def test_a_cycle_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nbl_objects, "MAX_CHAIN", 100)
    nbl = make(b"a")
    nb = first_nb(nbl)
    nbl.next = nbl
    with pytest.raises(LocalProtocolError, match="NET_BUFFER_LISTs"):
        list(iter_chain(nbl))
    nb.next = nb
    with pytest.raises(LocalProtocolError, match="NET_BUFFERs"):
        list(iter_net_buffers(nbl))
    mdl = nb.mdl_chain
    assert mdl is not None
    mdl.next = mdl
    with pytest.raises(LocalProtocolError, match="MDLs"):
        list(iter_mdls(mdl))


def test_r_osd_04_the_first_byte_is_where_current_mdl_says() -> None:
    """R-OSD-04: CurrentMdl and CurrentMdlOffset, not the start of the chain."""
    nb = first_nb(make(*(bytes(n) for n in FIGURE)))
    advance(nb, 250)
    mdls = list(iter_mdls(nb.mdl_chain))
    assert locate(nb, 0) == (mdls[1], 50)
    assert (nb.current_mdl, nb.current_mdl_offset) == (mdls[1], 50)


def test_r_osd_05_snd_nxt_of_the_example() -> None:
    """R-OSD-05: SndNxt - SndUna = 1000 is the first byte of the fourth MDL."""
    nb = first_nb(make(*(bytes(n) for n in FIGURE)))
    mdls = list(iter_mdls(nb.mdl_chain))
    assert locate(nb, sequence_offset(5000, 6000)) == (mdls[3], 0)


def test_r_dis_22_the_arithmetic_decides_not_the_figure() -> None:
    """R-DIS-22: SndMax - SndUna = 1600 is byte 200 of the fifth MDL; the figure draws byte 1800."""
    nb = first_nb(make(*(bytes(n) for n in FIGURE)))
    mdls = list(iter_mdls(nb.mdl_chain))
    assert locate(nb, sequence_offset(5000, 6600)) == (mdls[4], 200)
    assert locate(nb, 1800) == (mdls[5], 0)


def test_r_osd_05_the_distance_is_taken_modulo_2_to_the_32() -> None:
    """R-OSD-05: the sequence numbers wrap between SndUna and SndNxt."""
    assert sequence_offset(0xFFFFFF00, 0x100) == 0x200
    nb = first_nb(make(*(bytes(n) for n in FIGURE)))
    mdls = list(iter_mdls(nb.mdl_chain))
    assert locate(nb, sequence_offset(0xFFFFFF00, 0x100)) == (mdls[1], 0x200 - 200)


def test_r_osd_05_the_distance_counts_through_all_lists_of_the_chain() -> None:
    """R-OSD-05"""
    counter = count(0x1000, 0x10)
    lists = [make(bytes(100), bytes(50), alloc=lambda: next(counter)) for _ in range(3)]
    advance(first_nb(lists[0]), 30)
    head = chain(lists)
    assert head is not None
    nbl, mdl, at = locate_in_chain(head, 120 + 110)
    assert nbl is lists[1]
    assert (mdl, at) == (list(iter_mdls(first_nb(lists[1]).mdl_chain))[1], 10)
    for outside in (-1, 120 + 150 + 150):
        with pytest.raises(LocalProtocolError, match="outside"):
            locate_in_chain(head, outside)


@pytest.mark.parametrize("offset", [-1, 7, 8])
def test_a_byte_that_is_not_there_is_not_located(offset: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"byte {offset} "):
        locate(first_nb(make(b"abc", b"defg")), offset)


@pytest.mark.parametrize("n", [-1, 8])
def test_an_advance_past_the_data_changes_nothing(n: int) -> None:
    nb = first_nb(make(b"abc", b"defg"))
    with pytest.raises(LocalProtocolError, match=f"{n} bytes"):
        advance(nb, n)
    assert data_of(nb) == b"abcdefg"


def test_an_advance_frees_no_mdl() -> None:
    nb = first_nb(make(b"abc", b"defg"))
    before = list(iter_mdls(nb.mdl_chain))
    advance(nb, 7)
    assert list(iter_mdls(nb.mdl_chain)) == before
    assert (nb.data_length, nb.data_offset) == (0, 7)
    assert data_of(nb) == b""


def test_data_that_is_not_here_is_an_error_not_zeros() -> None:
    nb = NetBuffer(1, data_length=10)
    nb.mdl_chain = nb.current_mdl = Mdl(2, byte_count=10)
    with pytest.raises(LocalProtocolError, match="does not hold"):
        data_of(nb)
    nb.mdl_chain.data = b"12345"
    with pytest.raises(LocalProtocolError, match="does not hold"):
        data_of(nb)
    nb.mdl_chain.data = bytes(10)
    nb.data_length = 11
    with pytest.raises(LocalProtocolError, match="end 1 bytes before"):
        data_of(nb)


PIECES = st.lists(st.binary(max_size=20), max_size=6)


@given(PIECES, st.lists(st.integers(0, 30), max_size=5))
def test_advancing_is_slicing(pieces: list[bytes], steps: list[int]) -> None:
    nb = first_nb(make(*pieces))
    expected = b"".join(pieces)
    for step in steps:
        n = min(step, len(expected))
        advance(nb, n)
        expected = expected[n:]
        assert data_of(nb) == expected
        assert nb.data_length == len(expected)
    for i in range(len(expected)):
        mdl, at = locate(nb, i)
        assert mdl.data is not None
        assert mdl.data[at] == expected[i]


def through_the_wire(first: NetBufferList | None, *, payload: bool = True) -> NetBufferList | None:
    frames: list[bytes] = []
    wire = chain_to_wire(first, frames if payload else None)
    ((message, _),) = decode_packet([encode_packet([["NdisOffloadTcpSend", None, [wire]]])])
    return chain_from_wire(message[2][0], "NetBufferList", frames)


def test_a_chain_survives_the_wire() -> None:
    first = sample()
    again = through_the_wire(first)
    assert picture(again) == picture(first)
    assert [data_of(first_nb(nbl)) for nbl in iter_chain(again)] == [b"llo world", b"again"]


def test_null_is_an_empty_array() -> None:
    assert chain_to_wire(None, []) == []
    assert chain_from_wire([], "NetBufferList") is None


def test_payload_travels_in_frames_uncopied_and_in_order() -> None:
    first = sample()
    frames: list[Any] = []
    wire = chain_to_wire(first, frames)
    assert frames == [b"hello", b" world", b"again"]
    mdl = first_nb(first).mdl_chain
    assert mdl is not None
    assert frames[0] is mdl.data
    assert [m["Frame"] for nbl in wire for m in nbl["NetBuffers"][0]["Mdls"]] == [0, 1, 2]
    read = chain_from_wire(wire, "x", frames)
    assert read is not None
    mdl = first_nb(read).mdl_chain
    assert mdl is not None
    assert mdl.data is frames[0]


def test_frames_are_appended_behind_those_of_an_earlier_chain() -> None:
    frames: list[Any] = [b"earlier"]
    wire = chain_to_wire(make(b"later"), frames)
    assert wire[0]["NetBuffers"][0]["Mdls"][0]["Frame"] == 1


def test_without_frames_the_structure_travels_and_the_data_stays() -> None:
    first = sample()
    again = through_the_wire(first, payload=False)
    assert [[m.data for m in iter_mdls(first_nb(nbl).mdl_chain)] for nbl in iter_chain(again)] == [
        [None, None],
        [None],
    ]
    assert [first_nb(nbl).data_length for nbl in iter_chain(again)] == [9, 5]


def test_members_bear_their_ddi_names_and_absent_ones_are_zero() -> None:
    wire = chain_to_wire(make(b"abc"), None)
    assert wire == [
        {
            "NetBufferList": 0x1000,
            "FirstNetBuffer": 0x1010,
            "NetBuffers": [
                {
                    "NetBuffer": 0x1010,
                    "CurrentMdl": 0x1020,
                    "DataLength": 3,
                    "MdlChain": 0x1020,
                    "Mdls": [{"Mdl": 0x1020, "ByteCount": 3}],
                }
            ],
        }
    ]
    info = chain_to_wire(sample(), None)[0]["NetBufferListInfo"]
    assert info == {"TcpOffloadBytesTransferred": 11, "TcpReceiveNoPush": 1}


def test_a_partly_written_buffer_travels_with_what_was_written() -> None:
    nbl = make(bytes(4))
    mdl = first_nb(nbl).mdl_chain
    assert mdl is not None
    mdl.data = b"ab"
    again = through_the_wire(nbl)
    assert again is not None
    read = first_nb(again).mdl_chain
    assert read is not None
    assert (read.byte_count, read.data) == (4, b"ab")


def test_an_object_that_is_there_twice_cannot_be_sent() -> None:
    one, two = make(b"a"), make(b"b")
    one.next = two
    with pytest.raises(LocalProtocolError, match="twice"):
        chain_to_wire(one, None)
    two.address, first_nb(two).address = 1, 2
    shared = first_nb(one).mdl_chain
    first_nb(two).mdl_chain = first_nb(two).current_mdl = shared
    with pytest.raises(LocalProtocolError, match=r"Mdl.*twice"):
        chain_to_wire(one, None)
    one.next = one
    with pytest.raises(LocalProtocolError, match="twice"):
        chain_to_wire(one, None)


def test_an_unknown_slot_cannot_be_sent() -> None:
    nbl = make()
    nbl.net_buffer_list_info[12] = 1
    with pytest.raises(LocalProtocolError, match="12"):
        chain_to_wire(nbl, None)


def edit(path: Sequence[Any], value: Any) -> Callable[[Any], None]:
    """Set the item at ``path``; ``...`` deletes it."""

    def apply(wire: Any) -> None:
        at = wire
        for key in path[:-1]:
            at = at[key]
        if value is ...:
            del at[path[-1]]
        else:
            at[path[-1]] = value

    return apply


NB = (0, "NetBuffers", 0)
MDL = (*NB, "Mdls", 0)
DAMAGE = [
    (edit((0, "NetBufferList"), ...), "n[0].NetBufferList"),
    (edit((0, "NetBufferList"), 0), "n[0].NetBufferList"),
    (edit((0, "NetBufferList"), True), "n[0].NetBufferList"),
    (edit((0, "NetBufferList"), 2**64), "n[0].NetBufferList"),
    (edit((1, "NetBufferList"), 0x1000), "n[1].NetBufferList"),
    (edit((0, "Nxt"), 1), "n[0].Nxt"),
    (edit((0,), 7), "n[0]"),
    (edit((0, "Next"), ...), "n[0].Next"),
    (edit((0, "Next"), 0x1000), "n[0].Next"),
    (edit((1, "Next"), 0x1000), "n[1].Next"),
    (edit((0, "Status"), -1), "n[0].Status"),
    (edit((0, "Status"), 2**32), "n[0].Status"),
    (edit((0, "Status"), 1.0), "n[0].Status"),
    (edit((0, "Flags"), None), "n[0].Flags"),
    (edit((0, "SourceHandle"), "x"), "n[0].SourceHandle"),
    (edit((0, "Scratch"), -1), "n[0].Scratch"),
    (edit((0, "MiniportReserved"), [1]), "n[0].MiniportReserved"),
    (edit((0, "ProtocolReserved"), [1, 2, 3, -4]), "n[0].ProtocolReserved[3]"),
    (edit((0, "NetBufferListInfo"), []), "n[0].NetBufferListInfo"),
    (
        edit((0, "NetBufferListInfo"), {"WhatInfo": 1}),
        "n[0].NetBufferListInfo.WhatInfo",
    ),
    (edit((0, "NetBufferListInfo"), {"TcpReceiveNoPush": -1}), "n[0].NetBufferListInfo.TcpReceiveNoPush"),
    (edit((0, "FirstNetBuffer"), ...), "n[0].FirstNetBuffer"),
    (edit((0, "FirstNetBuffer"), 0x9999), "n[0].FirstNetBuffer"),
    (edit((0, "NetBuffers"), ...), "n[0].FirstNetBuffer"),
    (edit((0, "NetBuffers"), {}), "n[0].NetBuffers"),
    (edit((*NB, "NetBuffer"), 0x1000), "n[0].NetBuffers[0].NetBuffer"),
    (edit((*NB, "Next"), 0x1010), "n[0].NetBuffers[0].Next"),
    (edit((*NB, "CurrentMdl"), 0x1050), "n[0].NetBuffers[0].CurrentMdl"),
    (edit((*NB, "CurrentMdl"), ...), "n[0].NetBuffers[0].CurrentMdl"),
    (edit((*NB, "CurrentMdlOffset"), 3), "n[0].NetBuffers[0].DataOffset"),
    (edit((*NB, "DataLength"), 10), "n[0].NetBuffers[0].DataLength"),
    (edit((*NB, "DataLength"), 2**32), "n[0].NetBuffers[0].DataLength"),
    (edit((*NB, "MdlChain"), ...), "n[0].NetBuffers[0].MdlChain"),
    (edit((*NB, "Mdls"), []), "n[0].NetBuffers[0].MdlChain"),
    (edit((*MDL, "Mdl"), 0x1030), "n[0].NetBuffers[0].MdlChain"),
    (edit((*MDL, "Next"), ...), "n[0].NetBuffers[0].Mdls[0].Next"),
    (edit((*MDL, "Next"), 0x1020), "n[0].NetBuffers[0].Mdls[0].Next"),
    (edit((*MDL, "ByteCount"), 4), "n[0].NetBuffers[0].Mdls[0].Frame"),
    (edit((*MDL, "ByteCount"), "5"), "n[0].NetBuffers[0].Mdls[0].ByteCount"),
    (edit((*MDL, "ByteOffset"), -1), "n[0].NetBuffers[0].Mdls[0].ByteOffset"),
    (edit((*MDL, "Frame"), 3), "n[0].NetBuffers[0].Mdls[0].Frame"),
    (edit((*MDL, "Frame"), -1), "n[0].NetBuffers[0].Mdls[0].Frame"),
    (edit((*NB, "Mdls", 1, "Frame"), 0), "n[0].NetBuffers[0].Mdls[1].Frame"),
]


@pytest.mark.parametrize(("damage", "where"), DAMAGE, ids=lambda v: v if isinstance(v, str) else "")
def test_damage_is_refused_and_named(damage: Callable[[Any], None], where: str) -> None:
    frames: list[bytes] = []
    wire: Any = chain_to_wire(sample(), frames)
    damage(wire)
    with pytest.raises(DecodeError) as caught:
        chain_from_wire(wire, "n", frames)
    assert caught.value.where == where


@pytest.mark.parametrize("obj", [None, {}, "chain", 5, [None], [[]]])
def test_what_is_no_chain_is_refused(obj: object) -> None:
    with pytest.raises(DecodeError):
        chain_from_wire(obj, "n")


def test_a_chain_that_is_too_long_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nbl_wire, "MAX_CHAIN", 10)
    with pytest.raises(DecodeError, match="11 elements, at most 10"):
        chain_from_wire([None] * 11, "n")


def test_reading_leaves_the_wire_form_as_it_was() -> None:
    frames: list[bytes] = []
    wire = chain_to_wire(sample(), frames)
    before = copy.deepcopy(wire)
    chain_from_wire(wire, "n", frames)
    assert wire == before


@given(st.lists(st.tuples(PIECES, st.integers(0, 10)), max_size=4))
def test_any_chain_survives_the_wire(lists: list[tuple[list[bytes], int]]) -> None:
    counter = count(0x1000, 0x10)
    made = [make(*pieces, alloc=lambda: next(counter)) for pieces, _ in lists]
    for nbl, (pieces, n) in zip(made, lists, strict=True):
        advance(first_nb(nbl), min(n, sum(map(len, pieces))))
    first = chain(made)
    assert picture(through_the_wire(first)) == picture(first)


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2**64) | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["NetBufferList", "Next", "FirstNetBuffer", "NetBuffers", "NetBuffer", "Mdls", "Mdl", "Frame"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSONISH)
def test_anything_decodes_or_raises_decode_error(obj: object) -> None:
    try:
        first = chain_from_wire(obj, "n", [b"x"])
    except DecodeError:
        return
    assert len(list(iter_chain(first))) == len(obj)  # type: ignore[arg-type]
