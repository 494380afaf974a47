"""What applications do with sockets of the stack, as scripts: for threads and for asyncio alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from hoststack.api.scripts import Script, Wait
from hoststack.net.errors import NotConnected, SocketError, SocketTimeout, Unreachable, WouldBlock
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState as State

if TYPE_CHECKING:
    from typing import TypeVar

    from hoststack.net.listener import Listener
    from hoststack.net.options import SocketOptions
    from hoststack.net.socket import Socket
    from hoststack.net.stack import NetStack

    T = TypeVar("T")

__all__ = ["CHUNK", "accept", "connect", "drain", "finished", "ping", "receive", "send", "send_all", "served"]

_CLOSED: Final = State.TcpConnectionClosed

#: Bytes that are passed to the stack at once.
CHUNK: Final = 65536


def served(stack: NetStack, now: Callable[[], float], script: Script[T]) -> Script[T]:
    """The same script, with the stack's clock set before each step and its frames sent after it."""
    try:
        stack.advance(now())
        wait = next(script)
        while True:
            stack.flush()
            held = yield wait
            stack.advance(now())
            wait = script.send(held)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        script.close()
        stack.flush()


def late(what: str, seconds: float | None) -> SocketError:
    """The error of a wait that was in vain; a wait of no time means that it would have had to wait."""
    if seconds == 0:
        return WouldBlock(what)
    return SocketTimeout(f"{what} within {seconds:g} s")


def connect(
    stack: NetStack,
    remote: tuple[str, int],
    local: tuple[str | None, int] | None,
    options: SocketOptions,
    seconds: float | None,
) -> Script[Socket]:
    """Connect; the attempt is given up when its time is over or its caller is interrupted."""
    socket = stack.tcp_connect(remote, local, options)
    try:
        done = yield Wait(lambda: socket.connected or socket.error is not None, seconds)
    except BaseException:
        socket.abort()
        raise
    if socket.error is not None:
        raise socket.error
    if not done:
        socket.abort()
        reason = f"; last heard: {socket.soft_error}" if socket.soft_error else ""
        raise SocketTimeout(f"{remote[0]}:{remote[1]}: no connection within {seconds:g} s{reason}")
    return socket


def accept(listener: Listener, seconds: float | None) -> Script[Socket]:
    """The oldest connection that was not accepted."""
    while True:
        if listener.closed:
            raise NotConnected(f"{listener!r} is closed")
        socket = listener.accept()
        if socket is not None:
            return socket
        if not (yield Wait(lambda: listener.ready or listener.closed, seconds)):
            raise late(f"{listener!r}: no connection", seconds)


def receive(socket: Socket, size: int, seconds: float | None) -> Script[bytes]:
    """Up to ``size`` bytes; ``b""`` at the end of the stream, and at once for a size of 0."""
    if not size:
        return b""
    while True:
        data = socket.recv(size)
        if data is not None:
            return data
        if not (yield Wait(lambda: socket.readable, seconds)):
            raise late(f"{socket}: received nothing", seconds)


def _room(socket: Socket, seconds: float | None) -> Script[None]:
    # A connection that is closed has room, but takes nothing; its error may not have been told yet.
    def ready() -> bool:
        return socket.error is not None or (socket.room > 0 and socket.state is not _CLOSED)

    if not (yield Wait(ready, seconds)):
        raise late(f"{socket}: could send nothing", seconds)


def send(socket: Socket, data: bytes, seconds: float | None) -> Script[int]:
    """As much as the send buffer takes, at least one byte; how many it were."""
    while not (sent := socket.send(data)) and data:
        yield from _room(socket, seconds)
    return sent


def send_all(socket: Socket, data: memoryview, seconds: float | None) -> Script[None]:
    """Everything; ends when the last of it is in the send buffer."""
    at = socket.send(bytes(data[:CHUNK]))
    while at < len(data):
        sent = socket.send(bytes(data[at : at + CHUNK]))
        if not sent:
            yield from _room(socket, seconds)
        at += sent


def drain(socket: Socket, seconds: float | None) -> Script[None]:
    """Wait until the remote end has acknowledged everything."""
    if not (yield Wait(lambda: not socket.unacknowledged or socket.error is not None, seconds)):
        raise late(f"{socket}: not acknowledged", seconds)
    if socket.error is not None:
        raise socket.error


def finished(socket: Socket, seconds: float | None) -> Script[None]:
    """Wait until the connection is over but for TIME_WAIT."""
    if not (yield Wait(lambda: socket.finished or socket.error is not None, seconds)):
        raise late(f"{socket}: not closed", seconds)


def ping(stack: NetStack, destination: str, size: int, seconds: float | None) -> Script[float]:
    """Round trip of one echo, in seconds."""
    echo = stack.ping(destination, size)
    yield Wait(lambda: echo.done, seconds)
    if echo.error:
        raise Unreachable(f"{destination}: {echo.error}")
    if echo.seconds is None:
        raise SocketTimeout(f"{destination}: no echo within {seconds:g} s")
    return echo.seconds
