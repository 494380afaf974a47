"""Sockets for applications, in plain blocking Python, over the emulated stack.

::

    network = Network(stack, runner)
    with network.connect(("10.77.0.2", 7)) as connection:
        connection.sendall(b"hello")
        print(connection.recv_exactly(5))

The same code runs on a peer's loop, in the process of a host driver and in the simulation: all that it
needs of them is to serve the stack until a condition holds. Every wait has a deadline. What goes wrong is a
:class:`~hoststack.net.errors.SocketError`: refused, timed out, reset, unreachable, each by its own name.
Callbacks instead of waiting: ``on_event`` of :class:`hoststack.net.Socket`, ``on_accept`` of a listener.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

from hoststack.net.errors import (
    AddressInUse,
    ConnectionAborted,
    ConnectionRefused,
    ConnectionReset,
    ConnectionTimedOut,
    NotConnected,
    SocketError,
    SocketTimeout,
    Unreachable,
)
from hoststack.net.options import DEFAULT_OPTIONS, SocketOptions

if TYPE_CHECKING:
    from hoststack.net.listener import Listener
    from hoststack.net.socket import Socket
    from hoststack.net.stack import NetStack

__all__ = [
    "AddressInUse",
    "Connection",
    "ConnectionAborted",
    "ConnectionRefused",
    "ConnectionReset",
    "ConnectionTimedOut",
    "Network",
    "NotConnected",
    "Server",
    "SocketError",
    "SocketOptions",
    "SocketRunner",
    "SocketTimeout",
    "Unreachable",
]

#: Seconds that a wait lasts at most, unless an application says otherwise.
DEFAULT_TIMEOUT: Final = 30.0
_CHUNK: Final = 65536


class SocketRunner(Protocol):
    """Whatever serves the stack: :class:`hoststack.api.runners.Runner` is one."""

    def run_until(self, done: Callable[[], bool], timeout: float) -> bool:
        """Serve the stack until ``done()`` or for ``timeout`` seconds; whether it holds in the end."""
        ...

    def now(self) -> float:
        """The clock by which the stack is driven, in seconds."""
        ...


class Network:
    """A stack and what runs it. ``timeout``: seconds that waits last at most, unless told otherwise."""

    def __init__(self, stack: NetStack, runner: SocketRunner, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        self.stack = stack
        self.runner = runner
        self.timeout = timeout

    def wait(self, done: Callable[[], bool], timeout: float) -> bool:
        """Serve the stack until a condition holds or the time is over; whether it holds."""

        def turn() -> bool:
            self._turn()
            return done()

        return self.runner.run_until(turn, timeout)

    def push(self) -> None:
        """Let what was just done go out."""
        self.wait(lambda: True, 0.0)

    def _turn(self) -> None:
        self.stack.advance(self.runner.now())
        self.stack.flush()

    def connect(
        self,
        remote: tuple[str, int],
        *,
        local: tuple[str | None, int] | None = None,
        options: SocketOptions = DEFAULT_OPTIONS,
        timeout: float | None = None,
    ) -> Connection:
        """Connect to an address and port, and wait for it.

        Raises :class:`ConnectionRefused`, :class:`ConnectionTimedOut`, :class:`Unreachable`;
        :class:`SocketTimeout` after ``timeout`` seconds, when the attempt is given up.
        """
        limit = self.timeout if timeout is None else timeout
        self.stack.advance(self.runner.now())
        socket = self.stack.tcp_connect(remote, local, options)
        connection = Connection(self, socket, limit)
        try:
            done = self.wait(lambda: socket.connected or socket.error is not None, limit)
        except BaseException:
            socket.abort()
            raise
        if socket.error is not None:
            raise socket.error
        if not done:
            socket.abort()
            self.push()
            reason = f"; last heard: {socket.soft_error}" if socket.soft_error else ""
            raise SocketTimeout(f"{remote[0]}:{remote[1]}: no connection within {limit:g} s{reason}")
        return connection

    def listen(
        self,
        address: str | None,
        port: int,
        *,
        backlog: int = 128,
        options: SocketOptions = DEFAULT_OPTIONS,
        timeout: float | None = None,
    ) -> Server:
        """Listen on a port; ``address`` as for :meth:`NetStack.tcp_listen`. Raises :class:`AddressInUse`."""
        listener = self.stack.tcp_listen(address, port, backlog, options)
        return Server(self, listener, self.timeout if timeout is None else timeout)

    def ping(self, destination: str, *, size: int = 56, timeout: float | None = None) -> float:
        """Round trip of one echo, in seconds. Raises :class:`Unreachable` or :class:`SocketTimeout`."""
        limit = self.timeout if timeout is None else timeout
        self.stack.advance(self.runner.now())
        ping = self.stack.ping(destination, size)
        self.wait(lambda: ping.done, limit)
        if ping.error:
            raise Unreachable(f"{destination}: {ping.error}")
        if ping.seconds is None:
            raise SocketTimeout(f"{destination}: no echo within {limit:g} s")
        return ping.seconds


class _Waiting:
    """What connections and servers have in common: a network, a deadline for waits, ``with``."""

    def __init__(self, network: Network, timeout: float) -> None:
        self.network = network
        self.timeout = timeout

    def settimeout(self, seconds: float) -> None:
        """How long each wait may last from now on."""
        self.timeout = seconds

    def _wait(self, done: Callable[[], bool], what: str, left: float | None = None) -> None:
        limit = self.timeout if left is None else left
        if not self.network.wait(done, limit):
            raise SocketTimeout(f"{self!r}: {what} within {self.timeout:g} s")

    def close(self) -> None:
        """Close it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Connection(_Waiting):
    """A connection. Iterating gives what arrives, in pieces as they come, to the end of the stream.

    Every wait is limited by ``timeout`` (:meth:`settimeout`), :meth:`sendall` and :meth:`recv_exactly` by as
    much without any progress; then they raise :class:`SocketTimeout`.
    """

    def __init__(self, network: Network, socket: Socket, timeout: float) -> None:
        super().__init__(network, timeout)
        self.socket = socket

    def __repr__(self) -> str:
        return f"<Connection {self.socket!r}>"

    @property
    def local(self) -> tuple[str, int]:
        """Own address and port."""
        return self.socket.local

    @property
    def remote(self) -> tuple[str, int]:
        """The peer's address and port."""
        return self.socket.remote

    def sendall(self, data: bytes) -> None:
        """Send everything; returns when the last of it is in the send buffer."""
        socket = self.socket
        view = memoryview(data)
        at = 0
        while at < len(view):
            at += socket.send(bytes(view[at : at + _CHUNK]))
            if not socket.room and at < len(view):
                self._wait(lambda: socket.room > 0 or socket.error is not None, "could send nothing")
        self.network.push()

    def drain(self) -> None:
        """Wait until the peer has acknowledged everything."""
        socket = self.socket
        self._wait(lambda: not socket.unacknowledged or socket.error is not None, "not acknowledged")
        if socket.error is not None:
            raise socket.error

    def recv(self, size: int = _CHUNK) -> bytes:
        """Wait for data; up to ``size`` bytes of it, ``b""`` at the end of the stream."""
        socket = self.socket
        if not socket.readable:
            self._wait(lambda: socket.readable or socket.error is not None, "received nothing")
        return socket.recv(size) or b""

    def recv_exactly(self, size: int) -> bytes:
        """Wait for ``size`` bytes. :class:`NotConnected` if the stream ends before."""
        parts: list[bytes] = []
        missing = size
        while missing:
            part = self.recv(missing)
            if not part:
                raise NotConnected(f"{self!r}: the stream ended {missing} bytes before {size}")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def recv_all(self) -> bytes:
        """Everything to the end of the stream."""
        return b"".join(self)

    def __iter__(self) -> Iterator[bytes]:
        while data := self.recv():
            yield data

    def shutdown(self) -> None:
        """Close the sending side; receiving goes on."""
        self.socket.shutdown()
        self.network.push()

    def close(self) -> None:
        """Close both sides; what was sent still arrives. A second call does nothing."""
        if not self.socket.closed:
            self.socket.close()
            self.network.push()

    def abort(self) -> None:
        """Reset the connection."""
        self.socket.abort()
        self.network.push()

    def wait_closed(self) -> None:
        """Wait until the peer has closed too and the connection is over but for TIME_WAIT."""
        socket = self.socket
        self._wait(lambda: socket.finished or socket.error is not None, "not closed")


class Server(_Waiting):
    """A listening port. Iterating gives connections as they come, for ever."""

    def __init__(self, network: Network, listener: Listener, timeout: float) -> None:
        super().__init__(network, timeout)
        self.listener = listener

    def __repr__(self) -> str:
        return f"<Server {self.listener!r}>"

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self.listener.port

    def accept(self) -> Connection:
        """Wait for a connection."""
        if self.listener.closed:
            raise NotConnected(f"{self!r} is closed")
        found: list[Socket] = []

        def one() -> bool:
            socket = self.listener.accept()
            if socket is not None:
                found.append(socket)
            return bool(found)

        self._wait(one, "nobody connected")
        return Connection(self.network, found[0], self.timeout)

    def __iter__(self) -> Iterator[Connection]:
        while True:
            yield self.accept()

    def close(self) -> None:
        """Listen no more; connections that were not accepted are reset."""
        self.listener.close()
        self.network.push()
