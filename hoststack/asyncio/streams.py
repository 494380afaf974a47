"""A transport of asyncio over one socket of the stack, so that its streams and protocols work as they are."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

from hoststack.net import SocketEvent
from hoststack.net.errors import SocketError

if TYPE_CHECKING:
    from hoststack.asyncio.host import LiveHost
    from hoststack.net import Socket

__all__ = ["SocketTransport"]

#: Bytes that wait in the transport before the protocol is paused, besides those in the socket's send buffer.
_HIGH: Final = 65536
_CHUNK: Final = 65536


class SocketTransport(asyncio.Transport):
    """``get_extra_info`` knows ``peername`` and ``sockname``. The protocol is told in the event loop only."""

    def __init__(self, host: LiveHost, socket: Socket, protocol: asyncio.BaseProtocol) -> None:
        super().__init__({"peername": socket.remote, "sockname": socket.local})
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._socket = socket
        self._protocol = protocol
        self._buffer: deque[memoryview] = deque()
        self._size = 0
        self._high, self._low = _HIGH, _HIGH // 4
        self._writing = True
        self._reading = True
        self._at_end = False
        self._eof = False
        self._closing = False
        #: The connection is closed on both sides. The protocol is told once it has read everything.
        self._over = False
        self._lost = False
        socket.on_event = self._event
        protocol.connection_made(self)
        self._loop.call_soon(self._read)  # what came before anything listened for it

    # -- reading -------------------------------------------------------------------------------

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._loop.call_soon(self._read)

    def _read(self) -> None:
        """Pass on what has arrived, and then what ended the stream."""
        protocol = cast(asyncio.Protocol, self._protocol)
        self._host.advance()
        while self._reading and not self._closing and not self._at_end:
            try:
                data = self._socket.recv(_CHUNK)
            except SocketError as error:
                self.lost(error)
                break
            if data is None:
                break
            if data:
                protocol.data_received(data)
                continue
            self._at_end = True
            if not protocol.eof_received():
                self.close()
        if self._over and (self._reading or self._at_end):
            self.lost(self._socket.error)
        self._host.runner.wake()

    # -- writing -------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._eof:
            raise RuntimeError("nothing can be written after write_eof()")
        if self._closing or self._lost or not data:
            return
        view = memoryview(bytes(data))
        self._buffer.append(view)
        self._size += len(view)
        self._flush()

    def _flush(self) -> None:
        """Move what waits into the socket, then do what was put off until nothing waits."""
        self._host.advance()
        while self._buffer:
            view = self._buffer[0]
            try:
                sent = self._socket.send(bytes(view[:_CHUNK]))
            except SocketError as error:
                self.lost(error)
                return
            if not sent:
                break
            self._size -= sent
            if sent < len(view):
                self._buffer[0] = view[sent:]
            else:
                self._buffer.popleft()
        if not self._buffer and self._closing:
            self._socket.close()
            self.lost(None)
        elif not self._buffer and self._eof:
            self._socket.shutdown()
        self._host.runner.wake()
        self._tell()

    def _tell(self) -> None:
        """Pause the protocol above the high mark, let it go on below the low one."""
        if self._writing and self._size > self._high:
            self._writing = False
            self._protocol.pause_writing()
        elif not self._writing and self._size <= self._low:
            self._writing = True
            self._protocol.resume_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = _HIGH if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must be at least low ({low}), and low at least 0")
        self._high, self._low = high, low
        self._tell()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        return self._size

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._eof and not self._closing:
            self._eof = True
            self._flush()

    # -- the end -------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        return self._closing or self._lost

    def close(self) -> None:
        """Close both sides, once what was written is in the socket."""
        if not self._closing and not self._lost:
            self._closing = True
            self._flush()

    def abort(self) -> None:
        """Reset the connection."""
        if not self._lost:
            self._host.advance()
            self._socket.abort()
            self._host.runner.wake()
            self.lost(None)

    def lost(self, error: BaseException | None) -> None:
        """The connection is over for the protocol, None: in order."""
        if not self._lost:
            self._lost = True
            self._buffer.clear()
            self._size = 0
            self._host.transports.discard(self)
            reason = error if isinstance(error, Exception) else None
            self._loop.call_soon(self._protocol.connection_lost, reason)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return super().get_extra_info(name, default)

    def _event(self, socket: Socket, event: SocketEvent) -> None:
        """Told in the middle of the stack's work: look at the socket once that is done."""
        if event is SocketEvent.WRITABLE:
            self._loop.call_soon(self._flush)
        elif event in (SocketEvent.READABLE, SocketEvent.REMOTE_CLOSED):
            self._loop.call_soon(self._read)
        elif event is SocketEvent.FAILED:
            self._loop.call_soon(self._failed)
        elif event is SocketEvent.CLOSED:
            self._loop.call_soon(self._closed)

    def _failed(self) -> None:
        if self._reading:
            self._read()  # what arrived before is still delivered
        if self._socket.error is not None:
            self.lost(self._socket.error)

    def _closed(self) -> None:
        self._over = True
        if self._reading or self._at_end:
            self._read()
