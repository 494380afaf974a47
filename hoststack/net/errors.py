"""What an application is told when a connection does not work.

Each error is of the project's family and, so that portable code may catch it by its usual name, also the
built-in exception that a socket of the operating system would raise.
"""

from __future__ import annotations

from ndisbus.errors import ChimneyError

__all__ = [
    "AddressInUse",
    "ConnectionAborted",
    "ConnectionRefused",
    "ConnectionReset",
    "ConnectionTimedOut",
    "NotConnected",
    "SocketError",
    "SocketTimeout",
    "Unreachable",
]


class SocketError(ChimneyError, OSError):
    """Base of what goes wrong with sockets of the emulated stack."""


class ConnectionRefused(SocketError, ConnectionRefusedError):
    """The remote host answered the SYN with a reset: nobody listens there."""


class ConnectionReset(SocketError, ConnectionResetError):
    """The peer reset the connection."""


class ConnectionAborted(SocketError, ConnectionAbortedError):
    """This side aborted the connection."""


class ConnectionTimedOut(SocketError, TimeoutError):
    """The peer did not acknowledge anything for too long."""


class Unreachable(SocketError):
    """There is no route, no neighbor that answers, or a router said so."""


class AddressInUse(SocketError):
    """The port is taken, or no port is left."""


class NotConnected(SocketError):
    """The socket is not connected, or was closed."""


class SocketTimeout(SocketError, TimeoutError):
    """The application's own deadline passed; the connection itself goes on."""
