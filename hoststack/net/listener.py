"""A port that accepts connections, with the two queues of RFC 9293's LISTEN as everybody builds them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hoststack.net.options import SocketOptions
    from hoststack.net.socket import Socket
    from hoststack.net.transport import Transport

__all__ = ["Listener"]


class Listener:
    """Connections arrive in SYN_RCVD (the SYN queue) and wait in ESTABLISHED (the accept queue).

    ``backlog`` bounds the accept queue: while it is full, SYNs are dropped, and so is the last ACK of a
    handshake, which the peer's first data or our SYN-ACK brings again. ``syn_backlog`` bounds the SYN queue.
    ``on_accept(listener)`` is called when a connection can be accepted. ``overflows``: segments dropped.
    """

    __slots__ = (
        "address",
        "backlog",
        "closed",
        "half_open",
        "on_accept",
        "options",
        "overflows",
        "port",
        "ready",
        "syn_backlog",
        "transport",
    )

    def __init__(
        self,
        transport: Transport,
        address: bytes,
        port: int,
        backlog: int,
        options: SocketOptions,
        on_accept: Callable[[Listener], object] | None,
    ) -> None:
        self.transport = transport
        #: 4 or 16 bytes, all zero for every address of the family; empty for both families.
        self.address = address
        self.port = port
        self.backlog = max(backlog, 1)
        self.syn_backlog = max(2 * backlog, 16)
        self.options = options
        self.on_accept = on_accept
        self.half_open: dict[Socket, None] = {}
        self.ready: deque[Socket] = deque()
        self.overflows = 0
        self.closed = False

    @property
    def full(self) -> bool:
        """Whether the accept queue has no room."""
        return len(self.ready) >= self.backlog

    def accept(self) -> Socket | None:
        """The oldest connection that is established, None if there is none."""
        if not self.ready:
            return None
        socket = self.ready.popleft()
        socket.listener = None
        return socket

    def dropped(self, socket: Socket) -> None:
        """A connection is over before it was accepted."""
        socket.listener = None
        if socket in self.half_open:
            del self.half_open[socket]
        elif socket in self.ready:
            self.ready.remove(socket)

    def close(self) -> None:
        """Listen no more; connections that were not accepted are reset."""
        if self.closed:
            return
        self.closed = True
        self.transport.unlisten(self)
        for socket in (*self.half_open, *self.ready):
            socket.listener = None
            socket.abort()
        self.half_open.clear()
        self.ready.clear()

    def __repr__(self) -> str:
        return f"<Listener port {self.port}, {len(self.ready)}/{self.backlog} to accept>"
