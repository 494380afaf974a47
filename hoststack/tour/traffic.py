"""Data on the tour's connections: each message is checked at both ends by its SHA-256.

A round sends one message of random bytes on all connections at once. The exchange service of the remote host
checks the digest and answers with the message reversed, which is checked here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from hoststack.net.socket_events import SocketEvent
from hoststack.peer.services import Exchange, frame
from ndisbus.errors import ChimneyError

if TYPE_CHECKING:
    from hoststack.net.socket import Socket
    from ndisbus.randomness import Randomness

__all__ = ["EXCHANGE_PORT", "Round", "TrafficError", "exchange"]

EXCHANGE_PORT: Final = 5007
_CHUNK: Final = 65_536
#: Bytes that a round sends on all connections together, and the least on one connection.
_TOTAL: Final = 3_000_000
_LEAST: Final = 600


class TrafficError(ChimneyError):
    """Data did not arrive, or arrived changed; the text says on which connection."""


@dataclass(slots=True)
class Round:
    """One message on each connection, and its answer. Bytes are counted without the messages' headers."""

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
    """One message to send, and its answer to receive."""

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
        elif event in (SocketEvent.READABLE, SocketEvent.REMOTE_CLOSED):
            self.pull()

    def push(self) -> None:
        """Send as much as the connection takes."""
        while self.left and self.socket.error is None:
            taken = self.socket.send(bytes(self.left[:_CHUNK]))
            self.left = self.left[taken:]
            if not taken:
                return

    def pull(self) -> None:
        """Read everything that has arrived."""
        while self.socket.error is None:
            data = self.socket.recv(_CHUNK)
            if not data:
                return
            self.received += len(data)
            self.exchange.receive(data)

    @property
    def done(self) -> bool:
        """Whether the exchange has ended, with or without an error."""
        return bool(self.exchange.messages or self.exchange.error or self.socket.error)

    def _ends(self) -> str:
        (own, own_port), (other, port) = self.socket.local, self.socket.remote
        return f"{own}:{own_port} -> {other}:{port}"

    def problem(self) -> str:
        """What went wrong; ``""`` if nothing did."""
        if self.socket.error is not None:
            return str(self.socket.error)
        if self.exchange.error:
            return f"{self._ends()}: {self.exchange.error}"
        if not self.exchange.messages:
            unsent = f", and {len(self.left)} bytes of the message are not sent yet" if self.left else ""
            return f"{self._ends()}: no answer{unsent}"
        if self.exchange.last != self.message[::-1]:
            return f"{self._ends()}: the answer does not belong to this message"
        return ""


def exchange(
    name: str,
    sockets: Sequence[Socket],
    rng: Randomness,
    wait: Callable[[Callable[[], bool], Callable[[], str]], float],
) -> Round:
    """Do one round. ``wait(condition, progress)`` runs the stack until the condition holds and returns the
    seconds that this took; ``progress()`` says how far the round is.

    Raises :class:`TrafficError` with the first connection on which something is wrong.
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
