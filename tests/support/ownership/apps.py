"""An application at each end of a connection: what it writes, what it reads, and what it is told."""

from __future__ import annotations

import random

from hoststack.net.errors import SocketError
from hoststack.net.socket import Socket
from hoststack.net.socket_events import SocketEvent

__all__ = ["Connection", "End", "stream"]


class End:
    """The application at one end. Its stream is position-coded: each place of it looks different.

    ``base``: the sequence number of the first byte that it sends.
    """

    def __init__(self, name: str, socket: Socket, stream: bytes) -> None:
        self.name = name
        self.socket = socket
        self.stream = stream
        self.base = socket.tcb.delegated.snd_una
        #: How many bytes of the stream were written, how many of the other end's were read.
        self.written = 0
        self.read_count = 0
        #: It has closed its sending side; it has read the end of the other's stream.
        self.shut = False
        self.ended = False
        #: It has closed or aborted the connection, which may take data from the other end.
        self.left = False
        self.error: SocketError | None = None
        self.other: End | None = None
        self.problems: list[str] = []
        socket.on_event = self._event

    # -- what it does --------------------------------------------------------------------------

    def write(self, size: int) -> int:
        """Write up to ``size`` further bytes of the stream; returns how many were taken."""
        if self.shut or self.error is not None:
            return 0
        part = self.stream[self.written : self.written + size]
        try:
            taken = self.socket.send(part) if part else 0
        except SocketError as e:
            self._fail(e)
            return 0
        self.written += taken
        return taken

    def read(self, size: int | None) -> int | None:
        """Read and check; returns how many bytes came, None if there was nothing to read."""
        if self.ended or self.left or self.error is not None:
            return None
        try:
            data = self.socket.recv(size)
        except SocketError as e:
            self._fail(e)
            return None
        if data is None:
            return None
        if data or size == 0:
            self._check(data)
        else:
            self._at_end()
        return len(data)

    def shutdown(self) -> None:
        """Close the sending side."""
        if self.error is None:
            self.shut = True
            self.socket.shutdown()

    def close(self) -> None:
        """Close both sides; without everything read, this resets the connection."""
        if self.error is None:
            self.left = self.left or not self.ended
            self.shut = True
            self.socket.close()

    def abort(self) -> None:
        """Reset the connection."""
        if self.error is None:
            self.left = self.shut = True
            self.socket.abort()

    def finish(self) -> None:
        """Write what is left, close, and read to the end."""
        while self.write(4096):
            pass
        if self.written == len(self.stream) and not self.shut:
            self.shutdown()
        while self.read(None):
            pass
        if self.ended and self.shut and not self.socket.closed:
            self.close()

    @property
    def done(self) -> bool:
        """Whether everything was written and read, or the connection was lost or left."""
        return self.error is not None or self.left or (self.shut and self.ended)

    # -- what it is told -----------------------------------------------------------------------

    def _event(self, _: Socket, event: SocketEvent) -> None:
        if event is SocketEvent.CONNECTED:
            self.base = self.socket.tcb.delegated.snd_una
        elif event is SocketEvent.FAILED and self.socket.error is not None:
            self._fail(self.socket.error)

    def _fail(self, error: SocketError) -> None:
        if self.error is None:
            self.error = error

    def _check(self, data: bytes) -> None:
        assert self.other is not None
        at, written = self.read_count, self.other.stream[: self.other.written]
        if written[at : at + len(data)] != data:
            where = written.find(data)
            what = f"bytes {where}..{where + len(data)}" if where >= 0 else "bytes that were not written"
            self.problems.append(f"{self.name} read {what} in place of bytes {at}..{at + len(data)}")
        self.read_count += len(data)

    def _at_end(self) -> None:
        assert self.other is not None
        self.ended = True
        if not self.other.shut or self.read_count < self.other.written:
            state = "closed" if self.other.shut else "open"
            self.problems.append(
                f"{self.name} was told of the end behind byte {self.read_count}; {self.other.written} were "
                f"written, and the other end is {state}"
            )


class Connection:
    """A connection with its two ends. ``remote`` is None until the remote host has accepted it."""

    def __init__(self, number: int, local: End) -> None:
        self.number = number
        self.local = local
        self.remote: End | None = None
        #: Whether it is not served by the host's stack, and from when until when it was so last.
        self.away = False
        self.span = (0.0, 0.0)

    def __str__(self) -> str:
        return f"connection {self.number}"

    @property
    def intact(self) -> bool:
        """Whether both ends still use it, so that every byte must have an owner."""
        remote = self.remote
        return remote is not None and all(e.error is None and not e.left for e in (self.local, remote))

    def note(self, now: float) -> None:
        """Note whether the connection is away from the host's stack."""
        away = self.local.socket.machine is None
        if away:
            self.span = (self.span[0] if self.away else now, now)
        self.away = away


def stream(seed: str, size: int) -> bytes:
    """Return a position-coded stream."""
    return random.Random(seed).randbytes(size)
