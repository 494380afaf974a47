"""Real TCP connections over loopback, with both ends in this process.

Only the process that has a socket can read all of its options. The *client* end of each connection counts.
The *server* end only keeps the connection alive, and an inventory leaves it out.
"""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

from ndisbus.errors import LocalProtocolError

__all__ = ["LoopbackConnections"]

_IPV4: Final = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
_IPV6: Final = "::1"
_PAYLOAD: Final = bytes(range(256)) * 4
_ROUNDS: Final = 3
# Of this many connections, the client half-closes one, and the server one.
_HALF_CLOSED_EVERY: Final = 8
_DEADLINE: Final = 10.0
# Errors of a machine without this address or address family: without IPv6, or with 127.0.0.1 only.
_UNUSABLE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EINVAL})
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE})


class LoopbackConnections:
    """A context manager: ``count`` TCP connections over loopback, established when it is entered.

    IPv4 and IPv6 alternate. IPv4 uses 127.0.0.1 to 127.0.0.4 in turn, so that there are several paths.
    ``notes`` says which addresses this machine does not have. Each connection has moved data in both
    directions, so that its round trip is measured. Of every eight connections, the client has half-closed one
    (it is in FIN_WAIT_2), and the server another one (its client is in CLOSE_WAIT).

    ``clients`` and ``servers`` are the ends, in the same order, each with a timeout of 10 seconds. They
    are closed at exit with a reset, which leaves nothing in TIME_WAIT behind.

    Raises :class:`LocalProtocolError` for a count below 1, on a machine without usable loopback, or when
    the process may not open two descriptors for each connection; :class:`OSError` if the kernel fails.
    """

    def __init__(self, count: int = 64) -> None:
        if count < 1:
            raise LocalProtocolError(f"{count} loopback connections: at least 1 is needed")
        self._count = count
        self._stack = ExitStack()
        self.clients: tuple[socket.socket, ...] = ()
        self.servers: tuple[socket.socket, ...] = ()
        self.notes: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        # After a failure the inner stack closes what was opened. After success self keeps it.
        with ExitStack() as stack:
            try:
                self._open(stack)
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                raise LocalProtocolError(
                    f"{self._count} loopback connections need {2 * self._count} descriptors:"
                    f" {error.strerror}; raise the limit (ulimit -n) or ask for fewer"
                ) from error
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Reset and close every connection. A second call does nothing."""
        self._stack.close()
        self.clients = self.servers = ()

    def _open(self, stack: ExitStack) -> None:
        clients: list[socket.socket] = []
        servers: list[socket.socket] = []
        with ExitStack() as temporary:
            listeners4, listeners6 = self._listen(temporary)
            for number in range(self._count):
                turn = listeners6 if listeners6 and (number % 2 or not listeners4) else listeners4
                listener = turn[(number // 2 if listeners6 and listeners4 else number) % len(turn)]
                client, server = _connect(listener, stack)
                clients.append(client)
                servers.append(server)
        for number, (client, server) in enumerate(zip(clients, servers, strict=True)):
            for _ in range(_ROUNDS):
                _transfer(client, server, _PAYLOAD)
                _transfer(server, client, _PAYLOAD)
            # Both IP versions get their share: 8 is even, and connections alternate by number.
            if number % (2 * _HALF_CLOSED_EVERY) in (2, 3):
                _half_close(client, server)
            elif number % (2 * _HALF_CLOSED_EVERY) in (4, 5):
                _half_close(server, client)
        self.clients, self.servers = tuple(clients), tuple(servers)

    def _listen(self, stack: ExitStack) -> tuple[list[socket.socket], list[socket.socket]]:
        notes: list[str] = []
        opened: dict[socket.AddressFamily, list[socket.socket]] = {socket.AF_INET: [], socket.AF_INET6: []}
        wanted = [(socket.AF_INET, address) for address in _IPV4] + [(socket.AF_INET6, _IPV6)]
        for family, address in wanted:
            try:
                listener = stack.enter_context(socket.create_server((address, 0), family=family))
            except OSError as error:
                if error.errno not in _UNUSABLE:
                    raise
                notes.append(f"loopback address {address} is not usable: {error.strerror}")
                continue
            listener.settimeout(_DEADLINE)
            opened[family].append(listener)
        if not any(opened.values()):
            raise LocalProtocolError("no loopback address is usable: " + "; ".join(notes))
        self.notes = tuple(notes)
        return opened[socket.AF_INET], opened[socket.AF_INET6]


def _connect(listener: socket.socket, stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Return (client, server) of one new connection. The caller's stack closes both, with a reset."""
    client = stack.enter_context(socket.socket(listener.family, socket.SOCK_STREAM))
    client.settimeout(_DEADLINE)
    client.connect(listener.getsockname())
    while True:
        server, peer = listener.accept()
        stack.enter_context(server)
        if peer[:2] == client.getsockname()[:2]:
            break
        server.close()  # another process connected to our port
    server.settimeout(_DEADLINE)
    for end in (client, server):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return client, server


def _transfer(sender: socket.socket, receiver: socket.socket, payload: bytes) -> None:
    sender.sendall(payload)
    missing = len(payload)
    while missing:
        received = len(receiver.recv(missing))
        if not received:
            raise ConnectionError(f"loopback connection ended with {missing} bytes still to come")
        missing -= received


def _half_close(closer: socket.socket, other: socket.socket) -> None:
    """Leave ``closer`` in FIN_WAIT_2 and ``other`` in CLOSE_WAIT.

    The returned byte carries the acknowledgement of the FIN (RFC 9293, 3.10.7.4). So FIN_WAIT_1 is over when
    the byte has arrived, and no wait by the clock is needed.
    """
    closer.shutdown(socket.SHUT_WR)
    if other.recv(1):
        raise ConnectionError("loopback connection carried data that was not sent")
    _transfer(other, closer, b"\0")
