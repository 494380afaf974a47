"""Real data on the tour's connections: each message is checked at both ends by its SHA-256.

A round sends one message of random bytes on every connection to the peer's exchange service, which checks its
digest and answers with its own message, checked here. All connections at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from hoststack.net.socket_events import SocketEvent
from hoststack.peer.services import Exchange, frame
from ndisbus.errors import ChimneyError

if TYPE_CHECKING:
    from hoststack.net.socket import Socket

__all__ = ["EXCHANGE_PORT", "Round", "TrafficError", "exchange"]

EXCHANGE_PORT: Final = 5007
_CHUNK: Final = 65_536
#: Bytes that a round sends on all connections together, and on one at least.
_TOTAL: Final = 3_000_000
_LEAST: Final = 600


class TrafficError(ChimneyError):
    """Data did not arrive, or not as it was sent; the text says where."""


@dataclass(slots=True)
class Round:
    """One message on each connection, and its answer. Bytes are those of the messages themselves."""

    name: str
    connections: int = 0
    sent: int = 0
    received: int = 0
    checked: int = 0
    seconds: float = 0.0
    served: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "round": self.name,
            "connections": self.connections,
            "served": dict(self.served),
            "bytes_sent": self.sent,
            "bytes_received": self.received,
            "sha256_checked": self.checked,
            "seconds": round(self.seconds, 4),
        }


class _Message:
    """One message on its way out and its answer on its way back."""

    def __init__(self, socket: Socket, message: bytes) -> None:
        self.socket = socket
        self.message = message
        self.left = memoryview(frame(message))
        self.exchange = Exchange(answer=False)
        self.received = 0
        socket.on_event = self._event
        self.push()

    def _event(self, _: Socket, event: SocketEvent) -> None:
        if event is SocketEvent.WRITABLE:
            self.push()
        elif event in (SocketEvent.READABLE, SocketEvent.PEER_CLOSED):
            self.pull()

    def push(self) -> None:
        """Send what the connection takes."""
        while self.left and self.socket.error is None:
            taken = self.socket.send(bytes(self.left[:_CHUNK]))
            self.left = self.left[taken:]
            if not taken:
                return

    def pull(self) -> None:
        """Read what has arrived."""
        while self.socket.error is None:
            data = self.socket.recv(_CHUNK)
            if not data:
                return
            self.received += len(data)
            self.exchange.receive(data)

    @property
    def done(self) -> bool:
        """Whether nothing more will happen."""
        return bool(self.exchange.messages or self.exchange.error or self.socket.error)

    def problem(self) -> str:
        """What went wrong, if anything did."""
        if self.socket.error is not None:
            return str(self.socket.error)
        if self.exchange.error:
            return f"{self.socket!r}: {self.exchange.error}"
        if not self.exchange.messages:
            unsent = f", {len(self.left)} bytes of the message are still to be sent" if self.left else ""
            return f"{self.socket!r}: no answer{unsent}"
        if self.exchange.last != self.message[::-1]:
            return f"{self.socket!r}: the answer is not the one to this message"
        return ""


def exchange(
    name: str,
    sockets: Sequence[Socket],
    rng: random.Random,
    wait: Callable[[Callable[[], bool], Callable[[], str]], float],
) -> Round:
    """One round. ``wait(condition, progress)`` serves the stack until the condition holds, and returns the
    seconds; ``progress()`` says how far the round is.

    Raises :class:`TrafficError` naming the first connection on which something is wrong.
    """
    most = max(_LEAST, 2 * _TOTAL // max(len(sockets), 1))
    messages = [_Message(s, rng.randbytes(rng.randint(_LEAST // 2, most))) for s in sockets]
    result = Round(name, connections=len(sockets))
    for s in sockets:
        served = s.tcb.connection_state.value
        result.served[served] = result.served.get(served, 0) + 1

    def progress() -> str:
        taken = sum(len(m.message) - len(m.left) - m.socket.unacknowledged for m in messages)
        answers = sum(m.done for m in messages)
        got = sum(m.received for m in messages)
        return f"{answers} of {len(messages)} answers, {max(taken, 0)} bytes taken, {got} received"

    result.seconds = wait(lambda: all(m.done for m in messages), progress)
    for m in messages:
        m.socket.on_event = None
        problem = m.problem()
        if problem:
            raise TrafficError(f"{name}: {problem}")
        result.sent += len(m.message)
        result.received += len(m.exchange.last)
        result.checked += 2  # there and back
    return result
