"""What an application is told about its connection."""

from __future__ import annotations

import enum

from hoststack.net.errors import (
    ConnectionRefused,
    ConnectionReset,
    ConnectionTimedOut,
    SocketError,
    Unreachable,
)
from ndisbus.tcp.events import EventKind

__all__ = ["SocketEvent", "error_of"]


class SocketEvent(enum.Enum):
    """What ``on_event`` of a socket is called with."""

    CONNECTED = "connected"
    READABLE = "readable"
    #: There is room for more data, after :meth:`Socket.send` took less than it was given.
    WRITABLE = "writable"
    #: The remote end has closed its sending side.
    REMOTE_CLOSED = "remote closed"
    URGENT = "urgent"
    #: The connection is lost: see ``error``.
    FAILED = "failed"
    #: The connection is over, orderly or not, and its port is free.
    CLOSED = "closed"


def error_of(kind: EventKind, text: str, ends: str, soft_error: str) -> SocketError | None:
    """Return the error for an event that ends a connection; None for other events.

    ``ends``: both ends, as text. ``soft_error``: what ICMP or the neighbor cache reported last.
    """
    if kind is EventKind.RESET:
        return ConnectionReset(f"{ends}: reset by the remote end")
    if kind is EventKind.REFUSED:
        return ConnectionRefused(f"{ends}: refused: no program listens on that port")
    if kind is EventKind.TIMED_OUT and soft_error:
        return Unreachable(f"{ends}: {soft_error}; gave up: {text}")
    if kind is EventKind.TIMED_OUT:
        return ConnectionTimedOut(f"{ends}: timed out, {text}")
    return None
