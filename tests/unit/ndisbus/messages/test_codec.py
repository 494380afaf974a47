"""Packets: any bytes either decode or raise DecodeError, and every limit holds."""

from __future__ import annotations

import re
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ndisbus.errors import DecodeError
from ndisbus.messages import codec
from ndisbus.messages.codec import (
    MAX_DEPTH,
    MAX_MAP,
    MAX_MESSAGES,
    MAX_PARAMS,
    MAX_STR,
    Packer,
    decode_packet,
    encode_packet,
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.text(max_size=20),
    st.binary(max_size=20),
)
params = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
names = st.one_of(
    st.sampled_from(["NdisInitiateOffload", "NdisOffloadTcpSend", "hello", "return", "control"]),
    st.text(min_size=1, max_size=20),
)


@st.composite
def messages(draw: st.DrawFn) -> tuple[list[Any], list[bytes]]:
    """A message and its payload frames."""
    message: list[Any] = [
        draw(names),
        draw(st.none() | st.integers(0, 1 << 32)),
        draw(st.lists(params, max_size=5)),
    ]
    frames = draw(st.lists(st.binary(max_size=30), max_size=3))
    claims: bool = draw(st.booleans())
    if frames or claims:
        message.append(len(frames))
    return message, frames


def deep(depth: int, leaf: Any = 1) -> Any:
    """``leaf`` inside that many arrays."""
    for _ in range(depth):
        leaf = [leaf]
    return leaf


def pack(value: Any) -> bytes:
    data: bytes = msgpack.packb(value, use_bin_type=True)
    return data


# -- whatever comes ------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=200), max_size=4))
@example([])
@example([b""])
@example([b"\xc1"])
@example([pack([["x", None, []]]), b"unclaimed"])
@example([b"\x91" * 5000])
@example([b"\x81" + b"\x91" * 3000])
def test_any_bytes_decode_or_raise_decode_error(frames: list[bytes]) -> None:
    try:
        decoded = decode_packet(frames)
    except DecodeError:
        return
    claimed = [p for _, payload in decoded for p in payload]
    assert claimed == frames[1:]


@given(params, st.lists(st.binary(max_size=8), max_size=2))
def test_any_value_decodes_or_raises_decode_error(value: Any, payload: list[bytes]) -> None:
    try:
        decoded = decode_packet([pack(value), *payload])
    except DecodeError:
        return
    for message, _ in decoded:
        assert type(message[0]) is str
        assert message[1] is None or type(message[1]) is int
        assert type(message[2]) is list


@given(st.lists(messages(), min_size=1, max_size=5))
def test_round_trip(batch: list[tuple[list[Any], list[bytes]]]) -> None:
    head = encode_packet([m for m, _ in batch])
    frames = [f for _, payload in batch for f in payload]
    decoded = decode_packet([head, *frames])
    assert [(m, list(p)) for m, p in decoded] == batch
    assert Packer()([m for m, _ in batch]) == head


@given(st.lists(messages(), min_size=1, max_size=3))
def test_whatever_decodes_can_be_encoded_again(batch: list[tuple[list[Any], list[bytes]]]) -> None:
    """NDIS passes on what it was sent: nothing that it accepts may be too deep or too large to send."""
    head = encode_packet([m for m, _ in batch])
    frames = [f for _, payload in batch for f in payload]
    for message, payload in decode_packet([head, *frames]):
        assert decode_packet([encode_packet([message]), *payload]) == [(message, payload)]


# -- nesting -------------------------------------------------------------------------------------------


def test_nesting_is_limited_for_every_kind_of_parameter() -> None:
    for depth, good in ((MAX_DEPTH, True), (MAX_DEPTH + 1, False), (400, False)):
        for value in (deep(depth), {"Arguments": deep(depth - 1)}):
            for name in ("control", "return", "NdisOidRequest", "anything"):
                frames = [encode_packet([[name, 1, [value]]])]
                if good:
                    decode_packet(frames)
                else:
                    with pytest.raises(DecodeError, match=f"message 0 \\({name}\\).*nested deeper"):
                        decode_packet(frames)


@pytest.mark.parametrize("front", [0, None, b"", "text"])
def test_nesting_behind_scalars_is_found(front: Any) -> None:
    """A long array of scalars with one deep element among them; NDIS could not encode it again."""
    for name in ("control", "NdisOffloadTcpSend", "NdisInitiateOffload"):
        hidden = [front] * 17 + [deep(400)]
        values: list[Any] = [{"NetBufferLists": hidden}, hidden]
        if name == "control":
            values.append({"A": {"B": hidden}})  # elsewhere no column is called A, and none holds a map
        for value in values:
            with pytest.raises(DecodeError, match="nested deeper"):
                decode_packet([encode_packet([[name, 1, [1, value]]])])


def test_nested_values_in_a_column_are_left_to_the_check_of_columns() -> None:
    """Columns are long and have a check of their own, which accepts scalars only (see test_validate)."""
    message = ["NdisInitiateOffload", None, [1, {"Block": [1, deep(400)]}]]
    ((decoded, _),) = decode_packet([encode_packet([message])])
    assert decoded == message
    with pytest.raises(DecodeError):
        codec.decode_packet([encode_packet([["control", 1, [{"Block": [1, deep(400)]}]]])])


# -- sizes ---------------------------------------------------------------------------------------------


def test_a_packet_is_limited_by_all_its_frames_together(monkeypatch: pytest.MonkeyPatch) -> None:
    head = encode_packet([["x", None, [], 2]])
    monkeypatch.setattr(codec, "MAX_PACKET", len(head) + 20)
    assert len(decode_packet([head, bytes(10), bytes(10)])) == 1
    with pytest.raises(DecodeError, match=r"packet: .* bytes, at most"):
        decode_packet([head, bytes(10), bytes(11)])


def test_the_number_of_messages_is_limited() -> None:
    assert len(decode_packet([encode_packet([["x", None, []]] * MAX_MESSAGES)])) == MAX_MESSAGES
    with pytest.raises(DecodeError, match="4097 messages, at most 4096"):
        decode_packet([encode_packet([["x", None, []]] * (MAX_MESSAGES + 1))])


def test_the_number_of_parameters_is_limited() -> None:
    decode_packet([encode_packet([["x", None, [0] * MAX_PARAMS]])])
    with pytest.raises(DecodeError, match="at most 8"):
        decode_packet([encode_packet([["x", None, [0] * (MAX_PARAMS + 1)]])])


@pytest.mark.parametrize(
    ("reason", "value", "size"),
    [
        ("a string of 4097 bytes, at most 4096 are accepted", "s", MAX_STR),
        ("a map of 257 entries, at most 256 are accepted", {}, MAX_MAP),
    ],
)
def test_strings_and_maps_are_limited(reason: str, value: Any, size: int) -> None:
    def of(n: int) -> Any:
        return value * n if value == "s" else {str(i): 0 for i in range(n)}

    decode_packet([encode_packet([["x", None, [of(size)]]])])
    with pytest.raises(DecodeError, match=f"^packet: {reason}$"):
        decode_packet([encode_packet([["x", None, [of(size + 1)]]])])


def test_arrays_are_limited() -> None:
    with pytest.raises(DecodeError, match="packet: an array of 1000001 elements, at most 1000000"):
        decode_packet([b"\x91\x93\xa1x\xc0\xdd\x00\x0f\x42\x41"])  # an array of 1,000,001


def test_extension_types_are_refused() -> None:
    with pytest.raises(DecodeError, match="packet: an extension type; none is accepted"):
        decode_packet([pack([["x", None, [msgpack.Timestamp(1)]]])])


def test_text_that_is_no_utf_8_is_refused() -> None:
    with pytest.raises(DecodeError, match="a string that is not UTF-8: byte 0xff at its offset 0"):
        decode_packet([b"\x91\x93\xa2\xff\xfe\xc0\x90"])


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"", "frame 0 is empty"),
        (b"\xc1", "not msgpack: byte 0xc1 at offset 0"),
        (b"\x91\x93\xa1x\xc1", "not msgpack: byte 0xc1 at offset 4"),
        (b"\x91" * 5000, "nested deeper than 12"),
        (b"\x91\x93\xa1x", "truncated: its 4 bytes end within a value"),
        (b"\x91\x93\xa1x\xc0\x90\x01\x02", "trailing data: one value ends at offset 6, 2 more bytes follow"),
        (b"\x81\x07\x01", "a map with a key of type int, keys are strings"),
        (b"\x81\x90\x01", "a map with a key of type list, keys are strings"),
    ],
)
def test_what_is_no_packet_is_refused_in_words_of_its_own(head: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_packet([head])
    assert str(caught.value) == f"packet: {reason}"


@given(st.binary(max_size=300))
def test_no_refusal_passes_on_the_words_of_msgpack(head: bytes) -> None:
    reason = ""
    try:
        decode_packet([head])
    except DecodeError as e:
        reason = str(e)
    assert not re.search(r"Error|_len|strict_map_key|[Uu]npack|: *$", reason)


@pytest.mark.parametrize("error", codec._UNPACK_ERRORS)
def test_whatever_msgpack_raises_is_a_decode_error(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def unpackb(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(msgpack, "unpackb", unpackb)
    with pytest.raises(DecodeError, match=r"^packet: \w.*\w$"):
        decode_packet([b"\x90"])


# -- shape ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "where", "reason"),
    [
        ({}, "packet", "array of messages"),
        ([], "packet", "array of messages"),
        ([1], "message 0", "an array"),
        ([["x", None]], "message 0", "an array"),
        ([["x", None, [], 0, 0]], "message 0", "an array"),
        ([["x", None, []], [2, None, []]], "message 1", "name is not a string"),
        ([["", None, []]], "message 0", "name is not a string"),
        ([["x", -1, []]], "message 0 (x)", "call id"),
        ([["x", True, []]], "message 0 (x)", "call id"),
        ([["x", None, {}]], "message 0 (x)", "parameters"),
        ([["x", None, [], -1]], "message 0 (x)", "payload frames"),
        ([["x", None, [], None]], "message 0 (x)", "payload frames"),
    ],
)
def test_errors_name_the_place(value: Any, where: str, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_packet([pack(value)])
    assert caught.value.where == where
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("claims", "there", "where", "reason"),
    [
        ([1], 0, "message 0", "claims 1 payload frames, 0 are there"),
        ([2], 1, "message 0", "claims 2 payload frames, 1 are there"),
        ([1, 2], 2, "message 1", "claims 2 payload frames, 1 are there"),
        ([0], 1, "packet", "1 payload frames that no message claims"),
        ([1, 1], 3, "packet", "1 payload frames that no message claims"),
    ],
)
def test_the_claims_of_payload_frames_add_up(claims: list[int], there: int, where: str, reason: str) -> None:
    head = encode_packet([["x", None, [], n] for n in claims])
    with pytest.raises(DecodeError) as caught:
        decode_packet([head, *[b"payload"] * there])
    assert caught.value.where == where
    assert reason in str(caught.value)


def test_payload_goes_to_the_message_that_claims_it() -> None:
    head = encode_packet([["a", None, [], 1], ["b", None, []], ["c", None, [], 2]])
    decoded = decode_packet([head, b"1", b"2", b"3"])
    assert [(m[0], list(p)) for m, p in decoded] == [("a", [b"1"]), ("b", []), ("c", [b"2", b"3"])]


def test_an_error_changes_nothing_for_the_next_packet() -> None:
    packer = Packer()
    with pytest.raises(TypeError):
        packer([["x", None, [object()]]])
    assert decode_packet([packer([["y", None, []]])]) == [(["y", None, []], ())]
