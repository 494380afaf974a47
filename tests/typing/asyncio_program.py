"""An asyncio program with a host; mypy checks it."""

from __future__ import annotations

import asyncio
from typing import assert_type

from hoststack import Operation
from hoststack.asyncio import Connection, LiveHost, Server, connect_host


async def serve(server: Server) -> None:
    """Echo lines."""
    async for connection in server:
        async for line in connection.reader:
            connection.writer.write(line)


async def work(host: LiveHost) -> None:
    """Connect, move, talk."""
    connection = await host.connect(("10.77.0.2", 7))
    assert_type(connection, Connection)
    assert_type(connection.reader, asyncio.StreamReader)
    assert_type(connection.writer, asyncio.StreamWriter)
    assert_type(await connection.offload(), Operation)
    assert_type(await connection.reader.readexactly(5), bytes)
    async with await host.listen(("", 0)) as server:
        await serve(server)
    assert_type(await host.perform(host.driver.upload_everything), Operation)


async def main() -> None:
    """The host's life."""
    async with connect_host("typed", addresses=["10.77.0.20/24"]) as host:
        await work(host)
