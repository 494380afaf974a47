"""How the bus sends: one packet for each client with messages, and long messages in parts, a part a turn.

While a client still has parts of a message to come, what NDIS has for it waits behind them: the order stays.
All other clients get their messages meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import zmq

from ndisbus.core import NdisCore
from ndisbus.errors import LocalProtocolError
from ndisbus.messages.codec import Message, Packer
from ndisbus.messages.packet import is_long, packets

__all__ = ["Sender"]

#: A packet below this size (bytes) is certainly within all limits.
SMALL: Final = 65536
#: Bytes of one message that leave at once. What is left of it leaves in later turns.
BURST: Final = 1024 * 1024
#: As plain numbers: computing with the flag type is slow.
_MORE: Final = int(zmq.NOBLOCK | zmq.SNDMORE)
_LAST: Final = int(zmq.NOBLOCK)


class Sender:
    """Sends what the core wants sent. ``gone`` is called with the key of a client that cannot be reached."""

    def __init__(self, core: NdisCore, router: zmq.Socket[bytes], gone: Callable[[bytes, str], None]) -> None:
        self._core = core
        self._router = router
        self._gone = gone
        self._pack = Packer()
        #: Whether payload is copied. The broker sets it: copying small frames is cheaper.
        self.copy = True
        #: Packets that are made when they are sent, by client.
        self.backlog: dict[bytes, deque[Iterator[list[Any]]]] = {}

    def flush(self) -> None:
        """Send what the core wants sent: one packet for each client, in the order of its messages."""
        core = self._core
        while core.out.outbox:
            sends = core.drain()
            if len(sends) == 1:
                key, message, payload = sends[0]
                if payload or self.backlog or not self._send_one(key, message):
                    self._send(key, ((message, payload),))
                continue
            by_key: dict[Any, list[Any]] = {}
            for key, message, payload in sends:
                own = by_key.get(key)
                if own is None:
                    by_key[key] = [(message, payload)]
                else:
                    own.append((message, payload))
            for key, own in by_key.items():
                self._send(key, own)

    def turn(self) -> None:
        """Send the next packet of each client that has a long message to come."""
        for key, waiting in list(self.backlog.items()):
            if self._send_some(key, waiting[0]):
                waiting.popleft()
                if not waiting and self.backlog.get(key) is waiting:
                    del self.backlog[key]
        if self._core.out.outbox:
            self.flush()

    def _send_one(self, key: bytes, message: Message) -> bool:
        """Send a message without payload if its packet is certainly small enough. This is the common case."""
        if is_long((message, ())):
            return False
        head = self._pack((message,))
        if len(head) >= SMALL:
            return False
        try:
            self._router.send(key, _MORE)
            self._router.send(head, _LAST)
        except zmq.ZMQError as e:
            if e.errno != zmq.EHOSTUNREACH:
                raise
            self._gone(key, "its connection is gone")
        return True

    def _send(self, key: bytes, messages: Sequence[tuple[Message, Sequence[Any]]]) -> None:
        made = packets(self._pack, messages, divisible=self._core.joins_parts(key))
        waiting = self.backlog.get(key)
        if waiting is not None:
            waiting.append(made)
        elif not self._send_some(key, made):
            self.backlog[key] = deque((made,))

    def _send_some(self, key: bytes, made: Iterator[list[Any]]) -> bool:
        """Send packets until a long one has left. Returns whether that was all."""
        send = self._router.send
        try:
            for frames in made:
                size = len(frames[0])
                send(key, _MORE)
                last = frames.pop()
                for frame in frames:
                    size += len(frame)
                    send(frame, _MORE, self.copy)
                send(last, _LAST, self.copy)
                if size >= BURST:
                    return False
        except zmq.ZMQError as e:
            if e.errno != zmq.EHOSTUNREACH:
                raise
            self._drop(key, "its connection is gone")
        except LocalProtocolError as e:
            self._drop(key, f"nothing can be sent to it any more: {e}")
        return True

    def _drop(self, key: bytes, reason: str) -> None:
        waiting = self.backlog.get(key)
        while waiting is not None and len(waiting) > 1:
            waiting.pop()  # the packets that the caller is sending stand first
        self._gone(key, reason)
