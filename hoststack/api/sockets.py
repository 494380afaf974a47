"""Sockets for applications, in plain blocking Python, over the emulated stack.

::

    with host.connect(("10.77.0.2", 7)) as connection:
        connection.sendall(b"hello")
        print(connection.recv_exactly(5))

A :class:`Connection` has the methods of a ``socket.socket`` that is connected, a :class:`Server` those of one
that listens. What goes wrong is a :class:`~hoststack.net.errors.SocketError`, and at the same time the
built-in exception that ``socket`` raises. They have no ``fileno``, because no descriptor of the system is
behind them: use threads instead of ``select``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Final, Self

from hoststack.api import socket_scripts as scripts
from hoststack.api.endpoints import ConnectionEnds, ServerEnd
from hoststack.api.errors import HostClosed, HostForked
from hoststack.api.files import open_file
from hoststack.net.errors import NotConnected
from ndisbus.errors import LocalProtocolError

if TYPE_CHECKING:
    # Networks make connections and servers, which in turn run their scripts there.
    from hoststack.api.network import Chimney, Network
    from hoststack.model.operation import Operation
    from hoststack.net.listener import Listener
    from hoststack.net.socket import Socket
    from ndisbus.state.images import OffloadState

__all__ = ["SHUT_RD", "SHUT_RDWR", "SHUT_WR", "Connection", "Server", "check_timeout"]

#: The values of ``socket.SHUT_RD`` and its siblings.
SHUT_RD: Final = 0
SHUT_WR: Final = 1
SHUT_RDWR: Final = 2


def check_timeout(seconds: float | None) -> float | None:
    """A timeout, if it is one. Raises ValueError."""
    if seconds is not None and not seconds >= 0:
        raise ValueError(f"a timeout is None or at least 0 seconds, not {seconds:g}")
    return seconds


class _Waiting:
    """What connections and servers have in common: a network, a timeout, ``with``."""

    def __init__(self, network: Network, timeout: float | None) -> None:
        self.network = network
        self._timeout: float | None = None
        self.settimeout(timeout)

    def settimeout(self, seconds: float | None) -> None:
        """How long each wait may last from now on: None without limit, 0 not at all."""
        self._timeout = check_timeout(seconds)

    def gettimeout(self) -> float | None:
        """How long each wait may last (seconds), None without limit."""
        return self._timeout

    def setblocking(self, flag: bool) -> None:
        """True: wait without limit. False: raise :class:`WouldBlock` instead of waiting."""
        self.settimeout(None if flag else 0.0)

    def getblocking(self) -> bool:
        """Whether anything waits at all."""
        return self._timeout != 0

    def close(self) -> None:
        """Close it."""
        raise NotImplementedError

    def _end(self, close: Callable[[], None]) -> None:
        with suppress(HostClosed):  # the host has left, and everything of its stack ended with it
            self.network.act(close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(HostForked):  # a child leaves what belongs to its parent, as it leaves the host
            self.close()


class Connection(ConnectionEnds, _Waiting):
    """A connection. Iterating gives what arrives, in pieces as they come, to the end of the stream.

    Every wait is limited by the timeout (:meth:`settimeout`), :meth:`sendall` and :meth:`recv_exactly` by as
    much without any progress; then they raise :class:`SocketTimeout`. ``socket`` is the sans-I/O socket
    behind it, which belongs to the thread that serves the host.
    """

    def __init__(self, network: Network, socket: Socket, timeout: float | None) -> None:
        super().__init__(network, timeout)
        self.socket = socket
        #: Files of :meth:`makefile` that are open.
        self.files = 0
        self._closed = False
        self._deaf = False

    def _open(self) -> Socket:
        if self._closed and not self.files:
            raise NotConnected(f"{self}: it was closed by this program")
        return self.socket

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """Send what the send buffer has room for, after waiting for some; how many bytes that was."""
        socket = self._open()
        return self.network.run(
            scripts.send(socket, bytes(memoryview(data).cast("B")[: scripts.CHUNK]), self._timeout)
        )

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything; returns when the last of it is in the send buffer."""
        socket = self._open()
        self.network.run(scripts.send_all(socket, memoryview(data).cast("B"), self._timeout))

    def drain(self) -> None:
        """Wait until the remote end has acknowledged everything."""
        self.network.run(scripts.drain(self.socket, self._timeout))

    def recv(self, size: int = scripts.CHUNK) -> bytes:
        """Wait for data; up to ``size`` bytes of it, ``b""`` at the end of the stream.

        A size of 0 returns ``b""`` at once, as that of a ``socket.socket`` does.
        """
        if size < 0:
            raise ValueError(f"a number of bytes to receive is at least 0, not {size}")
        socket = self._open()
        if self._deaf:
            return b""
        return self.network.run(scripts.receive(socket, size, self._timeout))

    def recv_into(self, buffer: Any, nbytes: int = 0) -> int:
        """Wait for data and put it into a writable buffer; how many bytes, 0 at the end of the stream."""
        view = memoryview(buffer).cast("B")
        data = self.recv(nbytes or len(view))
        view[: len(data)] = data
        return len(data)

    def recv_exactly(self, size: int) -> bytes:
        """Wait for ``size`` bytes. :class:`NotConnected` if the stream ends before."""
        parts: list[bytes] = []
        missing = size
        while missing:
            part = self.recv(missing)
            if not part:
                self._open()  # another thread may have closed it meanwhile
                raise NotConnected(f"{self}: the stream ended after {size - missing} of {size} bytes")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def recv_all(self) -> bytes:
        """Everything to the end of the stream."""
        return b"".join(self)

    def __iter__(self) -> Iterator[bytes]:
        while data := self.recv():
            yield data

    def makefile(
        self,
        mode: str = "r",
        buffering: int = -1,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """A file object over the connection, as ``socket.makefile`` makes it.

        :meth:`close` of the connection takes effect once its files are closed too.
        """
        self._open()
        return open_file(self, mode, buffering, encoding, errors, newline)

    def file_closed(self) -> None:
        """One of the files of :meth:`makefile` was closed."""
        self.files -= 1
        if self._closed and not self.files:
            self._end(self.socket.close)

    def shutdown(self, how: int) -> None:
        """Close one direction or both: SHUT_WR the sending one, SHUT_RD the receiving one, SHUT_RDWR both.

        After SHUT_RD every ``recv`` returns ``b""``; what still arrives is not read.
        """
        if how not in (SHUT_RD, SHUT_WR, SHUT_RDWR):
            raise ValueError(f"shutdown takes SHUT_RD, SHUT_WR or SHUT_RDWR, not {how}")
        socket = self._open()
        if how != SHUT_WR:
            self._deaf = True
        if how != SHUT_RD:
            self.network.act(socket.shutdown)

    def close(self) -> None:
        """Close both sides; what was sent still arrives. A second call does nothing."""
        if not self._closed:
            self._closed = True
            if not self.files and not self.socket.closed:
                self._end(self.socket.close)

    def abort(self) -> None:
        """Reset the connection."""
        self._closed = True
        self.network.act(self.socket.abort)

    def wait_closed(self) -> None:
        """Wait until the remote end has closed too and the connection is over but for TIME_WAIT."""
        self.network.run(scripts.finished(self.socket, self._timeout))

    # -- the chimney ---------------------------------------------------------------------------

    def _chimney(self) -> Chimney:
        if self.network.chimney is None:
            raise LocalProtocolError(f"{self} cannot be offloaded: its host has no chimney")
        return self.network.chimney

    def offload(self, *, wait: bool = True, timeout: float | None = None) -> Operation:
        """Hand the connection to the adapter. If that refuses, the host goes on serving it.

        ``host.offload([...])`` moves many connections in one tree.
        """
        self._open()
        return self._chimney().offload([self], wait=wait, timeout=timeout)

    def upload(self, *, wait: bool = True, timeout: float | None = None) -> Operation:
        """Take the connection back into the host. Does nothing if the host serves it already."""
        self._open()
        return self._chimney().upload([self], wait=wait, timeout=timeout)

    def query(
        self, classes: str = "delegated", *, timeout: float | None = None
    ) -> tuple[OffloadState, ...] | None:
        """Read the connection's state from the adapter.

        ``classes``: ``"const"``, ``"cached"``, ``"delegated"`` or ``"whole"``.
        None if the adapter could not tell; the connection is uploaded then (R-QRY-05).
        """
        self._open()
        return self._chimney().query([self], classes, timeout=timeout).result_of(self.tcb)


class Server(ServerEnd, _Waiting):
    """A listening port. Iterating gives connections as they come, for ever."""

    def __init__(self, network: Network, listener: Listener, timeout: float | None) -> None:
        super().__init__(network, timeout)
        self.listener = listener

    def accept(self) -> tuple[Connection, tuple[str, int]]:
        """Wait for a connection; it and the address of its remote end.

        Its timeout is the server's.
        """
        socket = self.network.run(scripts.accept(self.listener, self._timeout))
        connection = Connection(self.network, socket, self._timeout)
        return connection, connection.getpeername()

    def __iter__(self) -> Iterator[Connection]:
        while True:
            yield self.accept()[0]

    def close(self) -> None:
        """Stop listening; connections that were not accepted are reset."""
        if not self.listener.closed:
            self._end(self.listener.close)
