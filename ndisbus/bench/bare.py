"""The floor: a bare ZeroMQ chain with the same hops and no work in them.

host -> bus -> im -> bus -> target -> bus -> im -> bus -> host, one process each, with a ROUTER in the middle
and blocking DEALERs around it. ``python -m ndisbus.bench.bare ROLE ENDPOINT`` is one of the three processes
that the benchmark starts. The benchmark itself is the fourth, the host.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final

import zmq

__all__ = ["BareChain", "main"]

_PAYLOAD: Final = b"12345678"
_DEADLINE_MS: Final = 20_000


def _dealer(context: zmq.Context[zmq.Socket[bytes]], name: bytes, endpoint: str) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.set_hwm(0)
    socket.setsockopt(zmq.IDENTITY, name)
    socket.setsockopt(zmq.RCVTIMEO, _DEADLINE_MS)
    socket.connect(endpoint)
    return socket


def _bus(endpoint: str) -> None:
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    socket.linger = 0
    socket.set_hwm(0)
    socket.bind(endpoint)
    while True:
        source, destination, payload = socket.recv_multipart()
        socket.send_multipart((destination, source, payload))


def _relay(name: bytes, route: Callable[[bytes], bytes], endpoint: str) -> None:
    socket = _dealer(zmq.Context(), name, endpoint)
    socket.setsockopt(zmq.RCVTIMEO, -1)
    while True:
        source, payload = socket.recv_multipart()
        socket.send_multipart((route(source), payload))


class BareChain:
    """The host's end of the chain. Raises ``zmq.Again`` if nothing comes back within 20 s."""

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = _dealer(self._context, b"host", endpoint)

    def wait_ready(self) -> None:
        """Wait until a message has passed the whole chain. Raises ``TimeoutError`` after 20 s."""
        deadline = time.monotonic() + _DEADLINE_MS / 1000
        while not self._round(50):
            if time.monotonic() > deadline:
                raise TimeoutError("the bare chain did not come up")
        while self._socket.poll(100):  # answers of earlier attempts
            self._socket.recv_multipart()

    def _round(self, milliseconds: int) -> bool:
        self._socket.send_multipart((b"im", _PAYLOAD))
        return bool(self._socket.poll(milliseconds)) and bool(self._socket.recv_multipart())

    def round_trips(self, count: int) -> list[float]:
        """Send messages one after the other. Returns the seconds that each took."""
        send, receive, clock = self._socket.send_multipart, self._socket.recv_multipart, time.perf_counter
        out = []
        for _ in range(count):
            t = clock()
            send((b"im", _PAYLOAD))
            receive()
            out.append(clock() - t)
        return out

    def pipelined(self, count: int, window: int) -> float:
        """Keep up to ``window`` messages in flight. Returns operations per second."""
        send, receive = self._socket.send_multipart, self._socket.recv_multipart
        t = time.perf_counter()
        for _ in range(window):
            send((b"im", _PAYLOAD))
        for _ in range(count - window):
            receive()
            send((b"im", _PAYLOAD))
        for _ in range(window):
            receive()
        return count / (time.perf_counter() - t)

    def close(self) -> None:
        """Close the host's end. The caller ends the processes that it started."""
        self._socket.close(linger=0)
        self._context.term()


def main(argv: list[str]) -> int:
    """Run one of the processes."""
    role, endpoint = argv
    if role == "bus":
        _bus(endpoint)
    elif role == "im":
        _relay(b"im", lambda source: b"target" if source == b"host" else b"host", endpoint)
    elif role == "target":
        _relay(b"target", lambda source: source, endpoint)
    else:
        sys.stderr.write(f"bare: unknown role '{role}'\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
