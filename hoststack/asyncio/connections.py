"""Connections and servers for asyncio programs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from hoststack.api import socket_scripts as scripts
from hoststack.api.endpoints import ConnectionEnds, ServerEnd
from hoststack.asyncio.streams import SocketTransport
from hoststack.net.errors import NotConnected

if TYPE_CHECKING:
    from hoststack.asyncio.host import LiveHost
    from hoststack.model.operation import Operation
    from hoststack.net import Listener, Socket
    from ndisbus.state.images import OffloadState

__all__ = ["Connection", "Server"]


class Connection(ConnectionEnds):
    """A connection: ``reader`` and ``writer`` are streams of asyncio. Leaving ``async with`` closes it."""

    def __init__(self, host: LiveHost, socket: Socket) -> None:
        self.host = host
        self.socket = socket
        loop = asyncio.get_running_loop()
        self.reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(self.reader, loop=loop)
        self.transport = SocketTransport(host, socket, protocol)
        host.transports.add(self.transport)
        self.writer = asyncio.StreamWriter(self.transport, protocol, self.reader, loop)

    def close(self) -> None:
        """Close both sides; what was written still arrives."""
        self.writer.close()

    def abort(self) -> None:
        """Reset the connection."""
        self.transport.abort()

    async def wait_closed(self, timeout: float | None = None) -> None:
        """Wait until the remote end has closed too and the connection is over but for TIME_WAIT."""
        await self.host.run(scripts.finished(self.socket, timeout))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the chimney ---------------------------------------------------------------------------

    def _open(self) -> None:
        if self.socket.closed:
            raise NotConnected(f"{self.socket}: it was closed by this program")

    async def offload(self, *, timeout: float | None = None) -> Operation:
        """Hand the connection to the adapter. If that refuses, the host goes on serving it."""
        self._open()
        return await self.host.offload([self], timeout=timeout)

    async def upload(self, *, timeout: float | None = None) -> Operation:
        """Take the connection back into the host. Does nothing if the host serves it already."""
        self._open()
        return await self.host.upload([self], timeout=timeout)

    async def query(
        self, classes: str = "delegated", *, timeout: float | None = None
    ) -> tuple[OffloadState, ...] | None:
        """Read the connection's state from the adapter. See :meth:`hoststack.Connection.query`."""
        self._open()
        return (await self.host.query([self], classes, timeout=timeout)).result_of(self.tcb)


class Server(ServerEnd):
    """A listening port. ``async for`` gives connections as they come. Leaving ``async with`` closes it."""

    def __init__(self, host: LiveHost, listener: Listener) -> None:
        self.host = host
        self.listener = listener

    async def accept(self) -> Connection:
        """Wait for a connection. ``asyncio.timeout`` limits the wait."""
        return Connection(self.host, await self.host.run(scripts.accept(self.listener, None)))

    async def __aiter__(self) -> AsyncIterator[Connection]:
        while not self.listener.closed:
            yield await self.accept()

    def close(self) -> None:
        """Stop listening; connections that were not accepted are reset."""
        self.listener.close()
        self.host.runner.wake()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
