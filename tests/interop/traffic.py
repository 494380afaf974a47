"""What Linux's side of a test does with its sockets."""

from __future__ import annotations

import contextlib
import hashlib
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.interop.lab import DEADLINE

__all__ = ["Background", "background", "both_ways", "many_echoes", "read_exactly", "read_to_end", "reset"]


def read_to_end(connection: socket.socket) -> bytes:
    """Everything up to the end of the stream."""
    parts = []
    while part := connection.recv(1 << 18):
        parts.append(part)
    return b"".join(parts)


def read_exactly(connection: socket.socket, size: int) -> bytes:
    """So many bytes; fails if the stream ends before."""
    parts = []
    missing = size
    while missing:
        part = connection.recv(min(missing, 1 << 18))
        assert part, f"the stream ended {missing} bytes before {size}"
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


class Background:
    """A thread of Linux's side; :meth:`result` is what its function returned, or raises what it raised."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self._act = act
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._act()
        except BaseException as error:
            self._error = error

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return not self._thread.is_alive()

    def result(self, timeout: float = DEADLINE) -> Any:
        """Wait for the end."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            pytest.fail(f"not done within {timeout:g} s")
        if self._error is not None:
            raise self._error
        return self._result


@contextlib.contextmanager
def background(act: Callable[[], Any]) -> Iterator[Background]:
    """Do something beside; it has to have ended well when the block is left."""
    beside = Background(act)
    yield beside
    beside.result()


def both_ways(connection: socket.socket, data: bytes, timeout: float = DEADLINE) -> bytes:
    """Send everything and close the sending side, and read to the end at the same time."""
    connection.settimeout(timeout)

    def send() -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)

    sending = Background(send)
    received = read_to_end(connection)
    sending.result(timeout)
    return received


def reset(connection: socket.socket) -> None:
    """Close with a RST, whatever is on its way."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class _Echo:
    """One of many connections: what is still to be sent, and what has come back."""

    def __init__(self, message: bytes) -> None:
        self.left = memoryview(message)
        self.expected = hashlib.sha256(message).digest()
        self.came = hashlib.sha256()


def many_echoes(connections: list[socket.socket], messages: list[bytes], timeout: float) -> None:
    """Send each connection its message and its end; check that each gets back just that, and then the end."""
    end = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for connection, message in zip(connections, messages, strict=True):
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE, _Echo(message))
        while left := selector.get_map():
            assert time.monotonic() < end, f"{len(left)} of {len(messages)} are not done"
            for key, events in selector.select(1.0):
                echo, own = key.data, key.fileobj
                assert isinstance(echo, _Echo) and isinstance(own, socket.socket)
                if events & selectors.EVENT_WRITE:
                    if echo.left:
                        echo.left = echo.left[own.send(echo.left) :]
                    if not echo.left:
                        own.shutdown(socket.SHUT_WR)
                        selector.modify(own, selectors.EVENT_READ, echo)
                if events & selectors.EVENT_READ:
                    part = own.recv(1 << 16)
                    echo.came.update(part)
                    if not part:
                        assert echo.came.digest() == echo.expected, "the echo is another one"
                        selector.unregister(own)
                        own.close()
