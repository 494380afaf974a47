"""A long block list leaves in parts and is joined again; parts that do not fit are refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndisbus.errors import DecodeError, LocalProtocolError
from ndisbus.messages import parts as parts_module
from ndisbus.messages.codec import Message, Packer, decode_packet
from ndisbus.messages.packet import packets
from ndisbus.messages.parts import MAX_PARTS, PART, Assembly, divide, weight

NAME = "NdisInitiateOffload"


def a_list(blocks: int, *, state: int = 0, chains: int = 0) -> dict[str, Any]:
    columns: dict[str, Any] = {"Block": list(range(1, blocks + 1)), "Revision": 1, "Type": [17] * blocks}
    if state:
        columns["State"] = [bytes(state)] * blocks
    if chains:
        columns["NetBufferLists"] = [[{"NetBufferList": i + 1}] for i in range(chains)]
    return columns


def joined(divided: list[tuple[Message, Any]], rows: int = 10**6) -> tuple[Message, Any]:
    assembly = Assembly(rows)
    for message, frames in divided[:-1]:
        assert assembly.add(message, frames) is None
    done = assembly.add(*divided[-1])
    assert done is not None
    assert not assembly
    return done


@settings(deadline=None)
@given(
    blocks=st.integers(1, 200),
    state=st.sampled_from((0, 1, 200)),
    chains=st.integers(0, 40),
    sizes=st.lists(st.integers(1, 3000), max_size=20),
    part=st.integers(500, 5000),
)
def test_what_is_divided_is_joined(blocks: int, state: int, chains: int, sizes: list[int], part: int) -> None:
    frames = [bytes(size) for size in sizes]
    columns = a_list(blocks, state=state, chains=chains)
    message: Message = [NAME, None, [7, columns]]
    if frames:
        message.append(len(frames))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts_module, "PART_BYTES", part)
        patch.setattr("ndisbus.messages.packet.PART_BYTES", part)
        patch.setattr("ndisbus.messages.packet.FEW", 0)
        sent = [p for f in packets(Packer(), [(message, frames)], divisible=True) for p in decode_packet(f)]
        # No part is much larger than a part should be: one block, one chain or one frame more.
        most = part + 3000 + 1024
        assert all(len(Packer()([m])) + sum(map(len, f)) <= most for m, f in sent) or len(sent) == 1
        again, payload = joined(sent) if sent[0][0][0] == PART else sent[0]
        assert (again, list(payload)) == (message, frames)
        assert weight(columns, frames) >= len(Packer()([message])) + sum(sizes)


def test_a_short_list_stays_one_message() -> None:
    message: Message = [NAME, None, [7, a_list(2000)]]
    [frames] = packets(Packer(), [(message, ())], divisible=True)
    assert decode_packet(frames) == [(message, ())]


def test_a_receiver_that_cannot_join_gets_one_message() -> None:
    message: Message = [NAME, None, [7, a_list(30_000, state=200)]]
    [frames] = packets(Packer(), [(message, ())])
    assert decode_packet(frames) == [(message, ())]
    assert len(list(packets(Packer(), [(message, ())], divisible=True))) > 1


def test_messages_around_a_long_one_keep_their_order() -> None:
    long: Message = [NAME, None, [7, a_list(30_000, state=200)]]
    others: list[Message] = [["x", i, []] for i in range(4)]
    order: list[tuple[Message, Any]] = [
        (others[0], ()),
        (others[1], ()),
        (long, ()),
        (others[2], ()),
        (long, ()),
    ]
    names = [
        m[0] if m[0] != PART else m[2][1]
        for f in packets(Packer(), order, divisible=True)
        for m, _ in decode_packet(f)
    ]
    run = list(range(names.index("x", 2) - 2))
    assert names == ["x", "x", *run, "x", *run]


def test_too_many_parts_are_refused_before_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_module, "PART_BYTES", 10)
    with pytest.raises(LocalProtocolError, match=f"at most {MAX_PARTS}"):
        divide([NAME, None, [7, a_list(MAX_PARTS + 1)]], ())


def part(index: int = 0, count: int = 2, columns: Any = None, name: str = NAME, handle: int = 7) -> Message:
    return [PART, None, [name, index, count, handle, {"Block": [index + 1]} if columns is None else columns]]


WRONG: dict[str, tuple[list[Message], str]] = {
    "no map": ([part(columns=3)], "expected"),
    "no name": ([[PART, None, [None, 0, 2, 7, {}]]], "expected"),
    "other call": ([part(name="NdisOffloadTcpSend")], "not a call that may be divided"),
    "no parts": ([part(count=0)], "parts are accepted"),
    "too many parts": ([part(count=MAX_PARTS + 1)], "parts are accepted"),
    "not the first": ([part(1)], "part 0 expected"),
    "twice": ([part(), part()], "part 1 expected"),
    "other count": ([part(), part(1, 3)], "differ"),
    "other handle": ([part(), part(1, handle=8)], "differ"),
    "other name": ([part(), part(1, name="NdisUpdateOffload")], "differ"),
    "no blocks": ([part(columns={"Type": [1]})], "array of pointers"),
    "too many blocks": ([part(), part(1, columns={"Block": [2, 3, 4]})], "at most 3 blocks"),
    "other value": (
        [part(columns={"Block": [1], "Size": 1}), part(1, columns={"Block": [2], "Size": 2})],
        "Size",
    ),
    "new value": ([part(), part(1, columns={"Block": [2], "Size": 2})], "Size"),
    "new column": ([part(), part(1, columns={"Block": [2], "Type": [2]})], "Type"),
    "array and value": (
        [part(columns={"Block": [1], "Type": [1]}), part(1, columns={"Block": [2], "Type": 1})],
        "Type",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_parts_that_do_not_fit(wrong: str) -> None:
    messages, why = WRONG[wrong]
    assembly = Assembly(3)
    for m in messages[:-1]:
        assert assembly.add(m, ()) is None
    with pytest.raises(DecodeError, match=why):
        assembly.add(messages[-1], ())


def test_the_bytes_of_a_message_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_module, "MAX_JOINED", 10_000)
    assembly = Assembly(1000, room=0)
    assert assembly.add(part(count=9), [b"x" * 4000]) is None
    with pytest.raises(DecodeError, match="more than 10000 bytes"):
        assembly.add(part(1, count=9), [b"x" * 4000])
