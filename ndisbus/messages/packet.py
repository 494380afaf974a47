"""From messages to packets: each packet gets as many messages as the limits of the codec allow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from ndisbus.errors import LocalProtocolError
from ndisbus.messages.codec import MAX_MESSAGES, MAX_PACKET, ROOM, Message, Packer
from ndisbus.messages.parts import DIVISIBLE, FEW, PART_BYTES, divide, weight

__all__ = ["is_long", "packets"]

#: A packet without payload needs no size check if its head is this much below the limit.
_SMALL: Final = 32

_Outgoing = tuple[Message, Sequence[Any]]


def packets(pack: Packer, messages: Sequence[_Outgoing], *, divisible: bool = False) -> Iterator[list[Any]]:
    """Iterate over the packets that carry ``messages``, in order, each as its frames.

    Payload frames are passed through unchanged (bytes, or zmq.Frame). ``divisible``: the receiver can join
    parts, so a long list leaves in several packets. Raises :class:`LocalProtocolError` at the end, when all
    other messages have left, if a single message is too large for any packet.
    """
    if len(messages) == 1 and not messages[0][1] and not is_long(messages[0]):
        # The usual case.
        head = pack((messages[0][0],))
        if len(head) <= MAX_PACKET:
            yield [head]
            return
    problems: list[str] = []
    if divisible and any(map(is_long, messages)):
        at = 0
        for i, m in enumerate(messages):
            if not is_long(m):
                continue
            if i > at:
                yield from _packets(pack, messages[at:i], problems)
            at = i + 1
            try:
                parts = divide(*m)
            except LocalProtocolError as e:
                problems.append(e.reason)
                continue
            for part in parts:
                yield from _packets(pack, (part,), problems)
        if at < len(messages):
            yield from _packets(pack, messages[at:], problems)
    else:
        yield from _packets(pack, messages, problems)
    if problems:
        raise LocalProtocolError("; ".join(problems))


def is_long(outgoing: _Outgoing) -> bool:
    """Return whether a message leaves in parts, if its receiver can join them."""
    message, payload = outgoing
    if message[0] not in DIVISIBLE:
        return False
    columns = message[2][1]
    return (len(columns["Block"]) > FEW or bool(payload)) and weight(columns, payload) > PART_BYTES


def _packets(pack: Packer, messages: Sequence[_Outgoing], problems: list[str]) -> Iterator[list[Any]]:
    most = MAX_PACKET + ROOM
    if len(messages) == 1:
        message, payload = messages[0]
        head = pack((message,))
        frames = [head, *payload]
        if len(head) > most - _SMALL or payload:
            size = sum(map(len, frames))
            if size > most:
                problems.append(f"{message[0]}: {size} bytes; a packet holds at most {most}")
                return
        yield frames
        return
    if len(messages) <= MAX_MESSAGES:
        frames = [pack([message for message, _ in messages])]
        for _, payload in messages:
            if payload:
                frames += payload
        if sum(map(len, frames)) <= MAX_PACKET:
            yield frames
            return
    middle = min(len(messages) // 2, MAX_MESSAGES)
    yield from _packets(pack, messages[:middle], problems)
    yield from _packets(pack, messages[middle:], problems)
