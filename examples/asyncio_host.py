"""A host of an asyncio program: many connections at once, moved to the adapter together.

Start everything but the host in one terminal, and this in another::

    honcho start bus target im peer
    python examples/asyncio_host.py
"""

from __future__ import annotations

import asyncio
import sys

from hoststack import BusUnavailable, ChimneyError
from hoststack.asyncio import Connection, LiveHost, connect_host

CONNECTIONS = 100
ROUNDS = 20


async def talk(connection: Connection, number: int) -> int:
    """Have the remote host echo some lines; how many bytes came back as they were sent."""
    same = 0
    for i in range(ROUNDS):
        line = f"connection {number}, line {i}\n".encode()
        connection.writer.write(line)
        await connection.writer.drain()
        same += len(line) if await connection.reader.readline() == line else 0
    return same


async def work(host: LiveHost) -> int:
    """Open the connections, offload them half-way, and count what came back."""
    async with asyncio.TaskGroup() as group:
        opening = [group.create_task(host.connect(("10.77.0.2", 7))) for _ in range(CONNECTIONS)]
    connections = [task.result() for task in opening]
    before = await asyncio.gather(*(talk(c, n) for n, c in enumerate(connections)))
    operation = await host.offload(connections)
    print("offload:", operation.counts())  # noqa: T201
    after = await asyncio.gather(*(talk(c, n) for n, c in enumerate(connections)))
    print("upload:", (await host.upload(connections)).counts())  # noqa: T201
    for connection in connections:
        connection.close()
    print(f"{len(connections)} connections, {sum(before) + sum(after)} bytes echoed")  # noqa: T201
    return 0 if before == after and all(before) else 1


async def main() -> int:
    """Exit code 0 if every byte came back, 69 without a bus, else 1."""
    try:
        async with connect_host("asynciohost") as host:
            return await work(host)
    except ChimneyError as error:
        print(f"asyncio_host: {error}", file=sys.stderr)  # noqa: T201
        return 69 if isinstance(error, BusUnavailable) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
