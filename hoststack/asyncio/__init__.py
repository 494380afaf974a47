"""Hosts for asyncio programs: the same drivers, the same scripts, and streams as ``asyncio`` has them.

::

    import asyncio
    from hoststack.asyncio import connect_host

    async def main() -> None:
        async with connect_host("myhost") as host:
            async with await host.connect(("10.77.0.2", 7)) as connection:
                await connection.offload()
                connection.writer.write(b"through the chimney")
                print(await connection.reader.readexactly(19))

    asyncio.run(main())

What a host does is in :mod:`hoststack.api` and runs here unchanged; only the waiting is different. Files,
from the bottom: ``runner`` (the driver on an event loop), ``streams`` (a transport over one socket),
``connections`` (Connection and Server), ``host``. The last three name one another for the type checker, a
circle: a host makes connections and transports, and each keeps its host. See ``examples/asyncio_host.py``.
"""

from __future__ import annotations

from hoststack.asyncio.connections import Connection, Server
from hoststack.asyncio.host import Host, LiveHost, connect_host
from hoststack.asyncio.streams import SocketTransport

__all__ = ["Connection", "Host", "LiveHost", "Server", "SocketTransport", "connect_host"]
