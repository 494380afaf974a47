"""Hosts of asyncio programs on real processes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from hoststack import (
    SHUT_WR,
    BugChecked,
    BusUnavailable,
    ConnectionRefused,
    ConnectionReset,
    ConnectionState,
    HelloRefused,
    HostClosed,
    HostForked,
    LocalProtocolError,
    NotConnected,
    SocketTimeout,
    synthetic,
)
from hoststack.asyncio import Connection, Host, LiveHost, connect_host
from tests.support.cable_host import CableHost
from tools.torture_stack import RealStack, leftovers, three_layers, with_peer

pytestmark = pytest.mark.process

REMOTE = "10.77.0.2"


@pytest.fixture(scope="module")
def stack() -> Iterator[RealStack]:
    with RealStack(with_peer()) as stack:
        yield stack


def run(stack: RealStack, work: Callable[[LiveHost], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine with a host; nothing of it may be left."""

    async def main() -> None:
        async with connect_host("asynchost", stack.endpoint, timeout=20) as host:
            await work(host)

    asyncio.run(main(), debug=True)
    stack.wait_for(lambda survey: not leftovers(survey), "the host left something")


async def echo(connection: Connection, data: bytes) -> bytes:
    connection.writer.write(data)
    await connection.writer.drain()
    return await connection.reader.readexactly(len(data))


def test_a_hundred_connections(stack: RealStack) -> None:
    done = stack.run("examples/asyncio_host.py")
    assert done.returncode == 0, done.stderr
    assert "100 connections" in done.stdout
    stack.wait_for(lambda survey: not leftovers(survey), "the example left something")


def test_streams_through_the_chimney_and_back(stack: RealStack) -> None:
    async def work(host: LiveHost) -> None:
        assert await host.ping("fd77::2") < 20
        async with await host.connect((REMOTE, 7)) as connection:
            assert connection.getpeername() == (REMOTE, 7)
            assert connection.writer.get_extra_info("sockname") == connection.getsockname()
            for move in (connection.offload, connection.upload):
                assert await echo(connection, b"x" * 300_000) == b"x" * 300_000
                assert (await move()).succeeded
            assert (await connection.upload()).succeeded
            assert connection.served_by is ConnectionState.IN_HOST
            await connection.offload()
            state = await connection.query("whole")
            assert state is not None
            assert len(state) == 3
            connection.writer.write_eof()
            assert await connection.reader.read() == b""
        await connection.writer.wait_closed()
        await connection.wait_closed(20)

    run(stack, work)


def test_accepting(stack: RealStack) -> None:
    """The remote host connects, in a thread of its own; its lines come back in capitals."""

    def talk(address: tuple[str, int]) -> list[bytes]:
        with CableHost(stack) as remote, remote.network.connect(address) as connection:
            connection.sendall(b"one\n")
            first = connection.recv_exactly(4)
            connection.sendall(b"two\n")
            connection.shutdown(SHUT_WR)
            return [first, connection.recv_all()]

    async def work(host: LiveHost) -> None:
        own = str(host.driver.addresses.wanted[0].ip)
        async with await host.listen(("", 4000)) as server:
            assert server.getsockname() == ("", 4000)
            talking = asyncio.create_task(asyncio.to_thread(talk, (own, 4000)))
            async for connection in server:
                assert connection.getpeername()[0] == "10.77.0.9"
                async with connection:
                    assert (await connection.offload()).succeeded
                    async for line in connection.reader:
                        connection.writer.write(line.upper())
                break
            assert await talking == [b"ONE\n", b"TWO\n"]

    run(stack, work)


def test_a_reader_that_is_slow_gets_everything_although_the_connection_is_over(stack: RealStack) -> None:
    """The stream of asyncio is full, and the rest is in the socket, when both sides have closed."""
    data = bytes(range(250)) * 1200

    def talk(address: tuple[str, int]) -> bytes:
        with CableHost(stack) as remote, remote.network.connect(address) as connection:
            connection.sendall(data)
            connection.shutdown(SHUT_WR)
            return connection.recv_all()

    async def work(host: LiveHost) -> None:
        own = str(host.driver.addresses.wanted[0].ip)
        async with await host.listen(("", 4000)) as server:
            talking = asyncio.create_task(asyncio.to_thread(talk, (own, 4000)))
            connection = await server.accept()
            assert await host.wait_for(lambda: connection.socket.tcb.remote_closed, 20)
            assert connection.socket.available
            connection.writer.write_eof()
            assert await talking == b""
            assert await host.wait_for(lambda: not host.driver.stack.transport.sockets, 20)
            assert await connection.reader.read() == data
            connection.close()

    run(stack, work)


def test_what_goes_wrong_is_raised_in_the_task(stack: RealStack) -> None:
    async def work(host: LiveHost) -> None:
        with pytest.raises(ConnectionRefused):
            await host.connect((REMOTE, 81))
        with pytest.raises(SocketTimeout, match=r"within 0\.2 s"):
            await host.connect(("10.77.0.250", 7), timeout=0.2)
        connection = await host.connect((REMOTE, 7))
        with pytest.raises(LocalProtocolError, match="only what is Offloaded"):
            await connection.query()
        with pytest.raises(LocalProtocolError, match="belongs to the network stack"):
            await host.perform(lambda: host.driver.offload([connection.tcb]))
        connection.abort()
        with pytest.raises(ConnectionResetError):
            await connection.writer.drain()
        assert await connection.reader.read() == b""

    run(stack, work)


def test_a_cancelled_task_has_taken_nothing(stack: RealStack) -> None:
    async def work(host: LiveHost) -> None:
        connection = await host.connect((REMOTE, 7))
        for _ in range(20):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await connection.reader.readexactly(5)
        assert await echo(connection, b"hello") == b"hello"
        attempts = [asyncio.create_task(host.connect(("10.77.0.251", 7))) for _ in range(5)]
        accepting = asyncio.create_task((await host.listen(("", 4001))).accept())
        await asyncio.sleep(0)
        for task in (*attempts, accepting):
            task.cancel()
        assert all(
            isinstance(e, asyncio.CancelledError)
            for e in await asyncio.gather(*attempts, accepting, return_exceptions=True)
        )
        await host.wait_for(lambda: len(host.driver.stack.transport.sockets) == 1, 20)
        connection.close()

    run(stack, work)


def test_a_writer_is_paused_and_what_it_wrote_arrives(stack: RealStack) -> None:
    async def work(host: LiveHost) -> None:
        connection = await host.connect((REMOTE, 9))
        for _ in range(40):
            connection.writer.write(bytes(100_000))
            await connection.writer.drain()
            assert connection.transport.get_write_buffer_size() <= 65536
        connection.close()
        await connection.writer.wait_closed()
        await connection.wait_closed(20)
        assert connection.socket.error is None

    run(stack, work)


def test_a_host_without_a_network(stack: RealStack) -> None:
    async def main() -> None:
        async with await Host.attach("plain", stack.endpoint, timeout=20) as host:
            neighbor = synthetic.neighbor(b"\2\0\0\0\0\1")
            assert (await host.perform(lambda: host.driver.offload([neighbor]))).succeeded
            assert (await host.wait(host.driver.query([neighbor]))).succeeded
            assert (await host.perform(lambda: host.driver.terminate([neighbor]))).succeeded
            assert "plain" in {p["Name"] for p in (await host.control("ps"))["Processes"]}
            with pytest.raises(HelloRefused, match="plain"):
                await Host.attach("plain", stack.endpoint, timeout=20)
        with pytest.raises(HostClosed):
            await host.control("ps")
        await host.close()

    asyncio.run(main(), debug=True)
    stack.wait_for(lambda survey: not leftovers(survey), "the host left something")


def test_addresses_wrong_addresses_and_closed_connections(stack: RealStack) -> None:
    async def main(host: LiveHost) -> None:
        connection = await host.connect((REMOTE, 7))
        assert connection.getsockname()[0] == str(host.addresses[0].ip)
        wrong: Any = REMOTE
        with pytest.raises(TypeError, match=r"^address is a tuple"):
            await host.connect(wrong)
        with pytest.raises(TypeError, match=r"^address is a tuple"):
            await host.listen(wrong)
        assert (await connection.offload()).succeeded
        connection.close()
        for use in (connection.query, connection.upload, connection.offload):
            with pytest.raises(NotConnected, match=r"it was closed by this program$"):
                await use()
        assert "Established" not in repr(connection)
        await host.close()
        await host.close()

    run(stack, main)


def test_what_ends_the_loop_reaches_every_task() -> None:
    async def main(endpoint: str) -> None:
        host = await LiveHost.attach("sinner", endpoint, timeout=20)
        waiting = [asyncio.create_task(host.wait_for(lambda: False)) for _ in range(3)]
        await asyncio.sleep(0)
        host.driver.ndis.oid_request(0xDEAD, {})
        host.runner.wake()
        told = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(t) for t in told] == [BugChecked] * 3
        with pytest.raises(BugChecked):
            await host.ping(REMOTE)
        await host.close()

    with RealStack(three_layers()) as stack:  # one that may have seen a bug check
        asyncio.run(main(stack.endpoint))


def test_an_idle_host_costs_nothing_and_another_loop_is_refused(stack: RealStack) -> None:
    async def work(host: LiveHost) -> None:
        connection = await host.connect((REMOTE, 7))
        before = time.process_time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await connection.reader.read(1)
        assert time.process_time() - before < 0.3
        ping = host.ping(REMOTE)
        with pytest.raises(LocalProtocolError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, ping)
        connection.close()

    run(stack, work)


def test_without_a_bus_and_in_a_forked_child(stack: RealStack, tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(BusUnavailable, match="no bus let 'alone' in"):
            await LiveHost.attach("alone", f"ipc://{tmp_path}/none", timeout=0.2)

    asyncio.run(main())

    async def work(host: LiveHost) -> None:
        owner, os.getpid = os.getpid, lambda: -1  # as a child would see it
        try:
            with pytest.raises(HostForked):
                await host.ping(REMOTE)
            with pytest.raises(HostForked):
                await host.runner.close()
        finally:
            os.getpid = owner

    run(stack, work)


def test_a_lost_connection_reaches_the_reader(stack: RealStack) -> None:
    async def read(reader: asyncio.StreamReader) -> None:
        while await reader.read(100_000):
            pass

    async def work(host: LiveHost) -> None:
        connection = await host.connect((REMOTE, 19))
        assert await connection.reader.readexactly(1000)
        assert (await connection.offload()).succeeded
        stack.run("-m", "ndisbus", "fault", "restart", "target", "--kill")
        with pytest.raises(ConnectionReset):
            await read(connection.reader)

    run(stack, work)
