"""A program that uses hosts and connections as ``socket`` and ``threading`` are used; mypy checks it."""

from __future__ import annotations

import contextlib
import socket
import threading
from http.client import HTTPConnection
from typing import IO, Any, assert_type

from hoststack import (
    SHUT_WR,
    BusUnavailable,
    Connection,
    ConnectionRefused,
    ConnectionState,
    Host,
    HostForked,
    HostTimeout,
    LiveHost,
    Operation,
    Server,
    SocketError,
    SocketOptions,
    Tcb,
    events,
    synthetic,
)


def talk(connection: Connection) -> bytes:
    """What an application does with a connection."""
    connection.settimeout(None)
    connection.settimeout(2.5)
    assert_type(connection.gettimeout(), float | None)
    connection.sendall(b"hello")
    connection.sendall(bytearray(5))
    assert_type(connection.send(memoryview(b"x")), int)
    assert_type(connection.recv_into(bytearray(10)), int)
    assert_type(connection.getpeername(), tuple[str, int])
    assert_type(connection.served_by, ConnectionState)
    assert_type(connection.offload(), Operation)
    assert_type(connection.tcb, Tcb)
    assert_type(connection.makefile("rb"), IO[Any])
    connection.shutdown(SHUT_WR)
    connection.shutdown(socket.SHUT_WR)
    return b"".join(connection)


def serve(server: Server) -> None:
    """A thread for each connection."""
    while True:
        connection, address = server.accept()
        assert_type(address, tuple[str, int])
        threading.Thread(target=talk, args=(connection,)).start()


def live() -> None:
    """A host with a network."""
    with LiveHost.attach("typed", addresses=["10.77.0.20/24"], threaded=True) as host:
        with host.connect(("10.77.0.2", 7), timeout=None) as connection:
            talk(connection)
            with contextlib.closing(HTTPConnection("remote")) as http:
                http.sock = connection
        options = SocketOptions(rcvbuf=100_000)
        with host.listen(("", 4000), options=options) as server:
            serve(server)
        host.query([connection]).result_of(connection.tcb)
        assert_type(host.ping("10.77.0.2"), float)
        assert_type(host.chimney.offload([]), Operation)


def raw() -> None:
    """A host without one."""
    with Host.attach("typed", timeout=1.0, wait_bound=False) as host:
        neighbor = synthetic.neighbor(b"\2\0\0\0\0\1")
        assert_type(host.offload([neighbor]).succeeded, bool)
        for event in host.events():
            if isinstance(event, events.UploadIndicated):
                assert_type(event.tcb, Tcb)
        assert_type(host.act(lambda: 3), int)


def main() -> int:
    """Errors by their own names and by the built-in ones."""
    try:
        live()
        raw()
    except (ConnectionRefused, ConnectionResetError, HostForked):
        return 1
    except SocketError as error:
        assert_type(error.errno, int | None)
        return 2
    except (BusUnavailable, HostTimeout, TimeoutError):
        return 3
    return 0
