"""Serving connections of a stack: joins a ``Service`` to a socket; sans-I/O."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from hoststack.net.options import SocketOptions
from hoststack.net.socket_events import SocketEvent
from hoststack.peer.services import SERVICES, Exchange, Service

if TYPE_CHECKING:
    from hoststack.net.listener import Listener
    from hoststack.net.socket import Socket
    from hoststack.net.stack import NetStack

__all__ = ["SERVING", "Servants", "Served"]

#: Bytes read from, and made for, a connection at a time.
_CHUNK: Final = 65_536
#: Errors that are kept; older ones are forgotten.
_ERRORS: Final = 100
#: Options for clients that may vanish: a connection whose client does not answer for 100 s is ended.
SERVING: Final = SocketOptions(keepalive=True, keep_idle=60.0, keep_interval=10.0, keep_count=10)
_WORK: Final = frozenset((SocketEvent.READABLE, SocketEvent.WRITABLE, SocketEvent.REMOTE_CLOSED))


class Served:
    """One connection and the service behind it."""

    __slots__ = ("_ended", "_pending", "done", "service", "socket")

    def __init__(self, socket: Socket, service: Service, done: Callable[[Served], object]) -> None:
        self.socket = socket
        self.service = service
        self.done = done
        self._pending: bytes | memoryview = b""
        self._ended = False
        socket.on_event = self._event
        self.work()

    def _event(self, _: Socket, event: SocketEvent) -> None:
        if event in _WORK:
            self.work()
        elif event in (SocketEvent.FAILED, SocketEvent.CLOSED):
            self.socket.on_event = None
            self.done(self)

    def work(self) -> None:
        """Read while the service takes input, write while the connection takes output."""
        socket, service = self.socket, self.service
        if socket.error is not None or socket.closed:
            return
        while True:
            moved = self._read()
            if not self._write():
                return  # WRITABLE will come
            if not moved:
                break
        if service.finished:
            socket.close()

    def _read(self) -> bool:
        """Give input to the service; whether there was any."""
        socket, service = self.socket, self.service
        if self._ended or service.full or service.finished:
            return False
        data = socket.recv(_CHUNK)
        if data is None:
            return False
        if data:
            service.receive(data)
        else:
            self._ended = True
            service.ended()
        return True

    def _write(self) -> bool:
        """Send the service's output; whether the connection took all of it."""
        while True:
            if not self._pending:
                self._pending = memoryview(self.service.produce(_CHUNK))
                if not self._pending:
                    return True
            taken = self.socket.send(bytes(self._pending))
            self._pending = self._pending[taken:]
            if self._pending:
                return False


class Servants:
    """Listens on the ports of ``services`` and serves each connection.

    ``counts``: connections served so far, by port; ``errors``: connections of the exchange that ended because
    what arrived was not what had been sent.
    """

    def __init__(
        self,
        stack: NetStack,
        services: Mapping[int, Callable[[], Service]] = SERVICES,
        options: SocketOptions | None = None,
        *,
        backlog: int = 1024,
    ) -> None:
        self.serving: dict[Served, None] = {}
        self.counts: Counter[int] = Counter()
        self.errors: deque[str] = deque(maxlen=_ERRORS)
        self._services = services
        more = {} if options is None else {"options": options}
        self.listeners = [
            stack.tcp_listen(None, port, backlog, on_accept=self._accept, **more) for port in services
        ]

    def _accept(self, listener: Listener) -> None:
        while (socket := listener.accept()) is not None:
            self.counts[listener.port] += 1
            self.serving[Served(socket, self._services[listener.port](), self._done)] = None

    def _done(self, served: Served) -> None:
        self.serving.pop(served, None)
        service = served.service
        if isinstance(service, Exchange) and service.error:
            self.errors.append(f"{served.socket!r}: {service.error}")

    def close(self) -> None:
        """Stop listening; connections that are being served continue."""
        for listener in self.listeners:
            listener.close()
