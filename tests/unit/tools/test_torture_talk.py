"""tools/torture_talk.py: what is planted into a connection is told at its end."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hoststack.api.live import LiveHost
from hoststack.net.errors import ConnectionReset, SocketError, SocketTimeout
from hoststack.net.socket_events import SocketEvent
from tools import torture_talk
from tools.torture_streams import Kind, Outgoing, Stream
from tools.torture_talk import Talk

SIZE = 50_000
#: What a connection makes of a piece of the echo, given its position.
Fault = Callable[["EchoConnection", bytes, int], bytes]


class EchoConnection:
    """A connection to an echo service, as far as a talk needs one; ``fault`` may change what comes back."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.echo = b""
        self.read = 0
        self.shut = self.aborted = False
        #: Whether the echo ends once this side has closed.
        self.ends = True
        self.served_by = SimpleNamespace(value="InHost")
        self.socket: Any = SimpleNamespace(
            machine=1,
            error=None,
            closed=False,
            on_event=None,
            state_text="",
            unread=0,
            unacknowledged=0,
        )

    def settimeout(self, seconds: float) -> None: ...

    def send(self, data: bytes) -> int:
        if self.socket.error is not None:
            raise self.socket.error
        self.echo += data
        return len(data)

    def recv(self, size: int) -> bytes:
        data = self.fault(self, self.echo[self.read : self.read + size], self.read)
        if self.socket.error is not None:
            raise self.socket.error
        self.read += len(data)
        if not data and not (self.shut and self.ends):
            raise SocketTimeout("nothing")
        return data

    def fail(self, error: SocketError) -> None:
        self.socket.error = error
        self.socket.on_event(self.socket, SocketEvent.FAILED)

    def shutdown(self, how: int) -> None:
        self.shut = True

    def close(self) -> None:
        self.socket.closed = True

    def abort(self) -> None:
        self.aborted = True

    def wait_closed(self) -> None: ...


def play(fault: Fault, *, seed: int = 1) -> tuple[dict[str, Any], EchoConnection]:
    """A talk in a hurry over such a connection; what it tells at its end."""
    connection = EchoConnection(fault)
    host = cast(LiveHost, SimpleNamespace(connect=lambda *_, **__: connection))
    out = Outgoing(0x1234, SIZE)
    hurry = threading.Event()
    hurry.set()
    talk = Talk(
        host, "a.1", Kind("echo", 7, out, Stream(out.piece, SIZE, 0x1234)), random.Random(seed), hurry
    )
    talk.run("10.77.0.2")
    return talk.to_dict(), connection


def once(change: Callable[[bytes], bytes]) -> Fault:
    """Change one piece in the middle."""
    done = False

    def fault(connection: EchoConnection, data: bytes, at: int) -> bytes:
        nonlocal done
        if done or at < SIZE // 2 or len(data) < 100:
            return data
        done = True
        return change(data)

    return fault


def test_a_connection_without_faults_comes_through_whole() -> None:
    told, connection = play(lambda _, data, __: data)
    assert (told["outcome"], told["sent"], told["got"]) == ("whole", SIZE, SIZE)
    assert connection.socket.closed
    assert not connection.aborted


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda data: data[1:], "lost"),
        (lambda data: data[:3] + data[:-3], "3 bytes came again"),
        (lambda data: b"", "the stream ended after"),
    ],
    ids=["lost", "doubled", "truncated"],
)
def test_a_planted_fault_of_the_data_is_wrong(change: Callable[[bytes], bytes], what: str) -> None:
    def fault(connection: EchoConnection, data: bytes, at: int) -> bytes:
        changed = planted(connection, data, at)
        connection.shut = connection.shut or not changed
        return changed

    planted = once(change)
    told, connection = play(fault)
    assert told["outcome"] == "wrong"
    assert what in told["text"]
    assert told["journal"]
    assert connection.aborted


def test_an_error_is_told_with_its_time_and_is_not_wrong_by_itself() -> None:
    def fault(connection: EchoConnection, data: bytes, at: int) -> bytes:
        if at and connection.socket.error is None:
            connection.fail(ConnectionReset("lost"))
        return data

    told, _ = play(fault)
    assert (told["outcome"], told["error"], told["text"]) == ("error", "ConnectionReset", "lost")
    assert len(told["failures"]) == 1
    assert told["opened"] <= told["failures"][0] <= told["at"]


def test_an_error_that_is_told_twice_or_changes_is_wrong() -> None:
    def twice(connection: EchoConnection, data: bytes, at: int) -> bytes:
        if at and connection.socket.error is None:
            connection.fail(ConnectionReset("lost"))
            connection.fail(ConnectionReset("lost"))
        return data

    assert "2 failures were told" in play(twice)[0]["text"]
    count = 0

    def differs(connection: EchoConnection, data: bytes, at: int) -> bytes:
        nonlocal count
        if at:
            count += 1
            connection.socket.error = ConnectionReset(f"reason {count}")
        return data

    assert "and then" in play(differs)[0]["text"]


def test_a_connection_that_does_not_move_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torture_talk, "STUCK", 0.05)

    def fault(connection: EchoConnection, data: bytes, at: int) -> bytes:
        connection.ends = False
        return b"" if at > SIZE // 2 else data

    told, _ = play(fault)
    assert told["outcome"] == "wrong"
    assert "stuck: nothing moves" in told["text"]
