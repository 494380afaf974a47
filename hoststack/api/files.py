"""``makefile()`` of connections: a file object over one, as ``socket.makefile`` builds it."""

from __future__ import annotations

import io
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

if TYPE_CHECKING:
    from hoststack.api.sockets import Connection

__all__ = ["ConnectionIO", "open_file"]


class ConnectionIO(io.RawIOBase):
    """The raw file below the buffers. The connection stays open until its files are closed."""

    def __init__(self, connection: Connection, *, reads: bool, writes: bool) -> None:
        self._connection = connection
        self._reads = reads
        self._writes = writes
        connection.files += 1

    def readable(self) -> bool:
        """Whether it was opened for reading."""
        return self._reads

    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self._writes

    def readinto(self, buffer: Any) -> int:
        """Wait for data and put it into ``buffer``; 0 at the end of the stream."""
        return self._connection.recv_into(buffer)

    def write(self, data: Any) -> int:
        """Send as much as the send buffer takes."""
        return self._connection.send(data)

    def close(self) -> None:
        """Close the file, and the connection if that was closed before."""
        if not self.closed:
            super().close()
            self._connection.file_closed()


def open_file(
    connection: Connection,
    mode: str,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> IO[Any]:
    """See :meth:`hoststack.api.sockets.Connection.makefile`."""
    if not set(mode) <= set("rwb"):
        raise ValueError(f"mode {mode!r} is not valid: only r, w and b are allowed")
    writes = "w" in mode
    reads = "r" in mode or not writes
    binary = "b" in mode
    if buffering == 0 and not binary:
        raise ValueError("a file without a buffer must be binary: add b to the mode")
    raw = ConnectionIO(connection, reads=reads, writes=writes)
    size = io.DEFAULT_BUFFER_SIZE if buffering < 0 else buffering
    if size == 0:
        return cast(BinaryIO, raw)
    buffer: io.BufferedRWPair | io.BufferedReader | io.BufferedWriter
    if reads and writes:
        buffer = io.BufferedRWPair(raw, raw, size)
    elif reads:
        buffer = io.BufferedReader(raw, size)
    else:
        buffer = io.BufferedWriter(raw, size)
    if binary:
        return cast(BinaryIO, buffer)
    return io.TextIOWrapper(cast(BinaryIO, buffer), encoding, errors, newline)
