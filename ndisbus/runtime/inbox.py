"""Messages that a driver's process has received: handled in slices of time, with signs of life.

A queue may hold work for many seconds. The process looks at everything else after each :data:`SLICE`. The
question MiniportCheckForHangEx may be far behind in the queue, so the process tells the bus with a
``progress`` message that it advances. A process that is stopped, or whose handler does not end, sends none.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from ndisbus.messages.codec import PROGRESS, ROOM, decode_packet

if TYPE_CHECKING:
    import zmq

    from ndisbus.driver.port import DriverPort
    from ndisbus.messages.codec import Message

__all__ = ["GOODBYE_LIMIT", "SLICE", "Inbox"]

#: Longest time in seconds for which messages are handled before the process looks at everything else.
SLICE: Final = 0.05
#: Seconds that the bus has to answer a goodbye.
GOODBYE_LIMIT: Final = 0.25


class Inbox:
    """The messages for ``port`` that wait. ``flush()`` sends what the port has to send."""

    __slots__ = ("_advanced", "_clock", "_flush", "_interval", "_port", "_said_at", "waiting")

    def __init__(
        self, port: DriverPort, flush: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._port = port
        self._flush = flush
        self._clock = clock
        self.waiting: deque[tuple[Message, Sequence[Any]]] = deque()
        #: Seconds between two signs of life.
        self._interval = 0.25
        #: When something was last sent. Every message is a sign of life.
        self._said_at = clock()
        self._advanced = 0
        port.working = self.advance

    def admitted(self, ready: dict[str, Any]) -> None:
        """Learn from the bus how often it wants a sign of life."""
        self._interval = min(ready.get("CheckInterval", 0.25), ready.get("HangLimit", 2.0) / 4)

    def put(self, frames: Sequence[Any]) -> None:
        """Add the messages of a packet. Raises DecodeError for bytes that are not a packet."""
        self.waiting.extend(decode_packet(frames, ROOM))

    def clear(self) -> None:
        """Forget everything: the connection is gone."""
        self.waiting.clear()

    def run(self, now: float, until: float) -> float:
        """Handle messages until none waits, until the time is over, or until the port has to be looked at.

        Returns the time.
        """
        port, waiting, clock = self._port, self.waiting, self._clock
        attached = port.attached
        while waiting:
            message, payload = waiting.popleft()
            port.receive(message, payload, now)
            now = clock()
            self._advanced += 1
            if now - self._said_at >= self._interval:
                self._give_sign(now)
            if now >= until or port.attached is not attached or port.refusals:
                break
        return now

    def await_farewell(self, socket: zmq.Socket[bytes]) -> None:
        """Handle messages until the bus has closed the epoch, at most for :data:`GOODBYE_LIMIT` seconds."""
        now = self._clock()
        until = now + GOODBYE_LIMIT
        while self._port.attached and now < until:
            if not self.waiting:
                if not socket.poll(math.ceil((until - now) * 1000)):
                    return
                self.put(socket.recv_multipart())
            now = self.run(self._clock(), until)

    def said(self, now: float) -> None:
        """Note that something was sent."""
        self._said_at = now

    def advance(self) -> None:
        """Note progress inside of a handler (:meth:`ndisbus.driver.port.Ndis.working`)."""
        self._advanced += 1
        now = self._clock()
        if now - self._said_at >= self._interval:
            self._give_sign(now)

    def _give_sign(self, now: float) -> None:
        """Send what is to be sent, or the counter if there is nothing."""
        if self._port.attached:
            if not self._port.outbox:
                self._port.outbox.append(([PROGRESS, None, [self._advanced]], ()))
            self._flush()
        self._said_at = now
