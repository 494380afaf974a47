"""The socket program of the benchmark, which runs on Linux's own TCP: ``python -m ndisbus.bench.tcp_socket``.

- ``serve ADDRESS``: read what arrives on port 9 and discard it; answer ``GET /bytes/N`` on port 80.
  ``hoststack peer`` does the same, and the other roles use it.
- ``send ADDRESS SECONDS``: send for this time. The clock stops when the other end has received everything.
- ``fetch ADDRESS OCTETS``: ask for this many bytes. The clock stops with the last one.
- ``idle ADDRESS COUNT``: open this many connections, print a line, and keep them until standard input ends.

The clients print one line of JSON. Errors are exceptions. The program that started this one shows its output.
"""

from __future__ import annotations

import json
import resource
import selectors
import socket
import struct
import sys
import threading
import time
from typing import Final

__all__ = ["main"]

_DISCARD: Final = 9
_HTTP: Final = 80
_CHUNK: Final = 262_144
#: Longest time in seconds that a socket may be silent.
_DEADLINE: Final = 30.0
#: Connections that ``idle`` opens at a time.
_OPENING: Final = 200
_SPARE_FILES: Final = 64


def _serve(address: str) -> None:
    for port, serve in ((_DISCARD, _serve_discard), (_HTTP, _serve_bytes)):
        listener = socket.create_server((address, port), backlog=128)
        threading.Thread(target=_accept, args=(listener, serve), daemon=True).start()
    _say({"ready": True})
    sys.stdin.read()


def _accept(listener: socket.socket, serve: object) -> None:
    assert callable(serve)
    while True:
        connection, _ = listener.accept()
        connection.settimeout(_DEADLINE)
        with connection:
            serve(connection)


def _serve_discard(connection: socket.socket) -> None:
    buffer = bytearray(_CHUNK)
    while connection.recv_into(buffer):
        pass


def _serve_bytes(connection: socket.socket) -> None:
    request = b""
    while b"\r\n\r\n" not in request:
        more = connection.recv(4096)
        if not more:
            return
        request += more
    left = int(request.split()[1].removeprefix(b"/bytes/"))
    connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {left}\r\n\r\n".encode())
    data = memoryview(bytes(_CHUNK))
    while left:
        size = min(left, _CHUNK)
        connection.sendall(data[:size])
        left -= size


def _connect(address: str, port: int) -> socket.socket:
    connection = socket.create_connection((address, port), timeout=_DEADLINE)
    connection.settimeout(_DEADLINE)
    return connection


def _send(address: str, seconds: float) -> None:
    data = bytes(_CHUNK)
    with _connect(address, _DISCARD) as connection:
        octets = 0
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds:
            octets += connection.send(data)
        connection.shutdown(socket.SHUT_WR)
        if connection.recv(1):
            raise ConnectionError("discard answered")
        _say({"octets": octets, "seconds": time.perf_counter() - begin})


def _fetch(address: str, octets: int) -> None:
    buffer = bytearray(_CHUNK)
    with _connect(address, _HTTP) as connection:
        begin = time.perf_counter()
        connection.sendall(
            f"GET /bytes/{octets} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += _receive(connection)
        if not head.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(head.partition(b"\r\n")[0].decode("latin-1"))
        got = len(head.partition(b"\r\n\r\n")[2])
        while got < octets:
            size = connection.recv_into(buffer)
            if not size:
                raise ConnectionError(f"{got} bytes of {octets} arrived")
            got += size
        _say({"octets": got, "seconds": time.perf_counter() - begin})


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(_CHUNK)
    if not data:
        raise ConnectionError("the connection ended before the answer began")
    return data


def _idle(address: str, count: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    count = min(count, most - _SPARE_FILES)
    opened: list[socket.socket] = []
    selector = selectors.DefaultSelector()
    begin = time.perf_counter()
    started = 0
    while len(opened) < count:
        while started < count and started - len(opened) < _OPENING:
            fresh = socket.socket()
            fresh.setblocking(False)
            fresh.connect_ex((address, _DISCARD))
            selector.register(fresh, selectors.EVENT_WRITE)
            started += 1
        ready = selector.select(_DEADLINE)
        if not ready:
            raise TimeoutError(f"only {len(opened)} of {count} connections could be opened")
        for key, _ in ready:
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            selector.unregister(connection)
            error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, "connect")
            opened.append(connection)
    _say({"connections": count, "seconds": time.perf_counter() - begin})
    sys.stdin.read()
    for connection in opened:
        # Closes with an RST, so that no connection stays in TIME_WAIT.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


def _say(what: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main(argv: list[str]) -> int:
    """Run one role."""
    match argv:
        case ["serve", address]:
            _serve(address)
        case ["send", address, seconds]:
            _send(address, float(seconds))
        case ["fetch", address, octets]:
            _fetch(address, int(octets))
        case ["idle", address, count]:
            _idle(address, int(count))
        case _:
            sys.stderr.write(f"tcp_socket: unknown role '{' '.join(argv)}'\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
