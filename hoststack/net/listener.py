"""A port that accepts connections: the LISTEN state of RFC 9293 with a SYN queue and an accept queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hoststack.net.options import SocketOptions
    from hoststack.net.socket import Socket

__all__ = ["Listener"]


class Listener:
    """Connections arrive in SYN_RCVD (the SYN queue) and wait in ESTABLISHED (the accept queue).

    ``backlog`` bounds the accept queue. While it is full, SYNs are dropped, and so is the last ACK of a
    handshake: the remote end's first data, or our SYN-ACK, brings it again. ``syn_backlog`` bounds the SYN
    queue. ``on_accept(listener)`` is called when a connection can be accepted, ``on_close(listener)`` when
    the listener is closed. ``overflows``: segments dropped.
    """

    __slots__ = (
        "address",
        "backlog",
        "closed",
        "half_open",
        "on_accept",
        "on_close",
        "options",
        "overflows",
        "port",
        "ready",
        "syn_backlog",
    )

    def __init__(
        self,
        address: bytes,
        port: int,
        backlog: int,
        options: SocketOptions,
        *,
        on_accept: Callable[[Listener], object] | None,
        on_close: Callable[[Listener], object],
    ) -> None:
        #: 4 or 16 bytes, all zero for every address of the family; empty for both families.
        self.address = address
        self.port = port
        self.backlog = max(backlog, 1)
        self.syn_backlog = max(2 * backlog, 16)
        self.options = options
        self.on_accept = on_accept
        self.on_close = on_close
        self.half_open: dict[Socket, None] = {}
        self.ready: deque[Socket] = deque()
        self.overflows = 0
        self.closed = False

    @property
    def full(self) -> bool:
        """Whether the accept queue has no room."""
        return len(self.ready) >= self.backlog

    def accept(self) -> Socket | None:
        """Return the oldest connection in the accept queue, None if it is empty."""
        if not self.ready:
            return None
        socket = self.ready.popleft()
        socket.listener = None
        return socket

    def established(self, socket: Socket) -> None:
        """Move a connection whose handshake is complete to the accept queue."""
        if socket in self.half_open:
            del self.half_open[socket]
            self.ready.append(socket)
            if self.on_accept is not None:
                self.on_accept(self)

    def dropped(self, socket: Socket) -> None:
        """Forget a connection that is over before it was accepted."""
        socket.listener = None
        if socket in self.half_open:
            del self.half_open[socket]
        elif socket in self.ready:
            self.ready.remove(socket)

    def close(self) -> None:
        """Stop listening; connections that were not accepted are reset."""
        if self.closed:
            return
        self.closed = True
        self.on_close(self)
        for socket in (*self.half_open, *self.ready):
            socket.listener = None
            socket.abort()
        self.half_open.clear()
        self.ready.clear()

    def __repr__(self) -> str:
        return f"<Listener port {self.port}, {len(self.ready)}/{self.backlog} to accept>"
