"""Messages go into as few packets as the limits allow, in order, with their payload."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndisbus.errors import LocalProtocolError
from ndisbus.messages import packet as packet_module
from ndisbus.messages.codec import MAX_MESSAGES, Message, Packer, decode_packet
from ndisbus.messages.packet import packets

Messages = list[tuple[Message, Sequence[bytes]]]


def message(i: int, payload: Sequence[bytes] = ()) -> tuple[Message, Sequence[bytes]]:
    m: Message = [f"m{i}", i, ["x" * (i % 7)]]
    return ([*m, len(payload)] if payload else m), payload


def decoded(sent: list[list[bytes]]) -> Messages:
    return [(m, list(p)) for frames in sent for m, p in decode_packet(frames)]


def plain(given_: Messages) -> Messages:
    return [(m, list(p)) for m, p in given_]


@given(
    payloads=st.lists(st.lists(st.binary(max_size=40), max_size=3), min_size=1, max_size=40),
    limit=st.integers(400, 2000),
    most=st.integers(1, 10),
)
def test_everything_arrives_in_order_within_the_limits(
    payloads: list[list[bytes]], limit: int, most: int
) -> None:
    given_ = [message(i, p) for i, p in enumerate(payloads)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packet_module, "MAX_PACKET", limit)
        patch.setattr(packet_module, "MAX_MESSAGES", most)
        sent = list(packets(Packer(), given_))
        assert decoded(sent) == plain(given_)
        assert all(sum(map(len, frames)) <= limit for frames in sent)
        assert all(len(decode_packet(frames)) <= most for frames in sent)


def test_few_messages_are_one_packet() -> None:
    given_ = [message(i, [b"p"]) for i in range(100)]
    [frames] = packets(Packer(), given_)
    assert decoded([frames]) == plain(given_)


def test_more_messages_than_a_packet_holds() -> None:
    given_ = [message(i) for i in range(2 * MAX_MESSAGES + 1)]
    sent = list(packets(Packer(), given_))
    assert decoded(sent) == plain(given_)
    assert len(sent) == 3


@pytest.mark.parametrize("others", [0, 3])
def test_message_too_large_for_any_packet(others: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packet_module, "MAX_PACKET", 90)
    monkeypatch.setattr(packet_module, "ROOM", 10)
    given_ = [message(i) for i in range(others)] + [message(99, [b"x" * 200])]
    sent: list[list[bytes]] = []

    def take() -> None:
        for frames in packets(Packer(), [*given_, message(100)]):
            sent.append(frames)

    with pytest.raises(LocalProtocolError, match=r"m99: \d+ bytes; a packet holds at most 100"):
        take()
    # All others have left.
    assert decoded(sent) == plain([*given_[:-1], message(100)])
