"""From messages to packets: each packet gets as many messages as the limits of the codec allow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from ndisbus.errors import LocalProtocolError
from ndisbus.messages.codec import MAX_MESSAGES, MAX_PACKET, Message, Packer

__all__ = ["packets"]

#: A packet without payload needs no size check if its head is this much below the limit.
_SMALL: Final = 32


def packets(pack: Packer, messages: Sequence[tuple[Message, Sequence[Any]]]) -> Iterator[list[Any]]:
    """Iterate over the packets that carry ``messages``, in order, each as its frames.

    Payload frames are passed through unchanged (bytes, or zmq.Frame). Raises :class:`LocalProtocolError` for
    a single message that is too large for any packet.
    """
    if len(messages) == 1:
        message, payload = messages[0]
        head = pack((message,))
        frames = [head, *payload]
        if len(head) > MAX_PACKET - _SMALL or payload:
            size = sum(map(len, frames))
            if size > MAX_PACKET:
                raise LocalProtocolError(f"{message[0]}: {size} bytes; a packet holds at most {MAX_PACKET}")
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
    yield from packets(pack, messages[:middle])
    yield from packets(pack, messages[middle:])
