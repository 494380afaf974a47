"""What an application is told when a connection does not work.

Each error belongs to the project's family. It is also the built-in exception that a socket of the operating
system raises, with the same ``errno``, so that code which knows only ``socket`` handles it.
"""

from __future__ import annotations

import errno
from typing import ClassVar

from ndisbus.errors import ChimneyError

__all__ = [
    "AddressConflict",
    "AddressInUse",
    "BrokenPipe",
    "ConnectionAborted",
    "ConnectionRefused",
    "ConnectionReset",
    "ConnectionTimedOut",
    "NotConnected",
    "SocketError",
    "SocketTimeout",
    "Unreachable",
    "WouldBlock",
]


class SocketError(ChimneyError, OSError):
    """Base of what goes wrong with sockets of the emulated stack."""

    NUMBER: ClassVar[int] = errno.EIO

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.errno = self.NUMBER


class ConnectionRefused(SocketError, ConnectionRefusedError):
    """The remote host answered the SYN with a reset: no program listens on that port."""

    NUMBER = errno.ECONNREFUSED


class ConnectionReset(SocketError, ConnectionResetError):
    """The remote end reset the connection, or its state was lost."""

    NUMBER = errno.ECONNRESET


class ConnectionAborted(SocketError, ConnectionAbortedError):
    """This side aborted the connection."""

    NUMBER = errno.ECONNABORTED


class BrokenPipe(SocketError, BrokenPipeError):
    """The sending side of the connection is closed, so nothing more can be sent."""

    NUMBER = errno.EPIPE


class ConnectionTimedOut(SocketError, TimeoutError):
    """The remote end did not acknowledge anything for too long."""

    NUMBER = errno.ETIMEDOUT


class Unreachable(SocketError):
    """There is no route, the neighbor does not answer, or a router reported it."""

    NUMBER = errno.EHOSTUNREACH


class AddressConflict(SocketError):
    """Another host on the link has this host's address."""

    NUMBER = errno.EADDRNOTAVAIL


class AddressInUse(SocketError):
    """The port is taken, or all ports are."""

    NUMBER = errno.EADDRINUSE


class NotConnected(SocketError):
    """The socket is not connected, or it was closed."""

    NUMBER = errno.ENOTCONN


class SocketTimeout(SocketError, TimeoutError):
    """The application's own deadline passed; the connection itself goes on."""

    NUMBER = errno.ETIMEDOUT


class WouldBlock(SocketError, BlockingIOError):
    """The operation would have to wait, and the timeout is 0."""

    NUMBER = errno.EAGAIN
