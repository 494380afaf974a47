"""Hosts for asyncio programs. All calls come from the event loop on which the host was attached."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Interface, IPv6Interface
from types import TracebackType
from typing import Any, Self, TypeVar

from hoststack.api import live, socket_scripts
from hoststack.api.arguments import check_address, check_source
from hoststack.api.attaching import describe
from hoststack.api.chimney import bound, completed, perform
from hoststack.api.network import DEFAULT_TIMEOUT
from hoststack.api.scripts import Script, until
from hoststack.asyncio.connections import Connection, Server
from hoststack.asyncio.runner import LoopRunner
from hoststack.asyncio.streams import SocketTransport
from hoststack.chimney.driver import HostDriver
from hoststack.live.nethost import NetHost
from hoststack.model.objects import Tcb
from hoststack.model.operation import Operation
from hoststack.net.options import DEFAULT_OPTIONS, SocketOptions

__all__ = ["Host", "LiveHost", "connect_host"]

T = TypeVar("T")


class Host:
    """A host without a network. ``timeout``: seconds that operations may take unless told otherwise."""

    def __init__(self, runner: LoopRunner, *, timeout: float = 5.0) -> None:
        self.runner = runner
        self.timeout = timeout

    @classmethod
    async def attach(
        cls,
        name: str = "myhost",
        endpoint: str | None = None,
        *,
        bind: str = "auto",
        timeout: float = 5.0,
        upload_policy: Callable[[Tcb, int], bool] | None = None,
    ) -> Self:
        """Join the bus and wait until an adapter is bound. Raises as :meth:`hoststack.Host.attach`."""
        driver = HostDriver(name, bind=bind)
        if upload_policy is not None:
            driver.upload_policy = upload_policy
        host = cls(LoopRunner(driver, name=name, endpoint=endpoint), timeout=timeout)
        await host._join(bound(driver, timeout))
        return host

    async def _join(self, script: Script[None]) -> None:
        try:
            await self.run(script)
        except BaseException:
            self.runner.abort()
            raise

    def __repr__(self) -> str:
        return describe(self, self.driver)

    @property
    def driver(self) -> HostDriver:
        """The driver behind it. Call its methods from the event loop; :meth:`perform` waits for them."""
        return self.runner.driver

    def _limit(self, timeout: float | None) -> float:
        return self.timeout if timeout is None else timeout

    async def run(self, script: Script[T]) -> T:
        """Run a script of :mod:`hoststack.api` on the host."""
        return await self.runner.run(script)

    async def perform(self, action: Callable[[], Operation], *, timeout: float | None = None) -> Operation:
        """Start an operation of the driver, say ``lambda: host.driver.offload(tcbs)``, and wait for it."""
        return await self.run(perform(action, True, self._limit(timeout)))

    async def wait(self, operation: Operation, timeout: float | None = None) -> Operation:
        """Wait for an operation. :class:`~hoststack.HostTimeout` names it and what it still waits for."""
        return await self.run(completed(operation, self._limit(timeout)))

    async def wait_for(self, condition: Callable[[], object], timeout: float | None = None) -> bool:
        """Wait until a condition on the host holds or the time is over; whether it holds."""
        return await self.run(until(condition, timeout))

    async def control(self, verb: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        """A control request to the bus: ``ps``, ``fault.add``, ... Raises what the bus answers."""
        return await self.runner.control(verb, arguments or {})

    async def close(self) -> None:
        """Leave the bus."""
        await self.runner.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, Exception):
            await self.close()
        else:
            self.runner.abort()  # cancelled: the program does not want to wait


class LiveHost(Host):
    """A host with a network stack: it connects and listens, and moves connections to the adapter and back."""

    def __init__(self, runner: LoopRunner, *, timeout: float = 5.0) -> None:
        super().__init__(runner, timeout=timeout)
        #: Transports of connections that are open.
        self.transports: set[SocketTransport] = set()
        runner.on_over = self._over

    @classmethod
    async def attach(
        cls,
        name: str = "myhost",
        endpoint: str | None = None,
        *,
        bind: str = "auto",
        timeout: float = 5.0,
        upload_policy: Callable[[Tcb, int], bool] | None = None,
        addresses: Iterable[IPv4Interface | IPv6Interface | str] | None = None,
        gateways: Iterable[tuple[str, str]] = (),
        seed: int = 0,
    ) -> Self:
        """Join the bus and wait until the adapter is on the network.

        See :meth:`hoststack.LiveHost.attach`.
        """
        driver = live.new_driver(name, addresses, gateways, bind, upload_policy, seed)
        host = cls(LoopRunner(driver, name=name, endpoint=endpoint), timeout=timeout)
        await host._join(live.joined(driver, timeout))
        return host

    @property
    def driver(self) -> NetHost:
        """The driver behind it."""
        driver = self.runner.driver
        assert isinstance(driver, NetHost)
        return driver

    @property
    def addresses(self) -> tuple[IPv4Interface | IPv6Interface, ...]:
        """The host's own addresses. See :attr:`hoststack.LiveHost.addresses`."""
        return self.driver.addresses.assigned

    def advance(self) -> None:
        """Set the stack's clock, before something is done on it outside a script."""
        self.driver.stack.advance(self.runner.now())

    async def run(self, script: Script[T]) -> T:
        """Run a script of :mod:`hoststack.api` on the stack."""
        return await self.runner.run(socket_scripts.served(self.driver.stack, self.runner.now, script))

    # -- connections ---------------------------------------------------------------------------

    async def connect(
        self,
        address: tuple[str, int],
        *,
        source_address: tuple[str | None, int] | None = None,
        options: SocketOptions = DEFAULT_OPTIONS,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> Connection:
        """Connect to an address and port. A task that is cancelled meanwhile gives the attempt up.

        Raises as :meth:`hoststack.LiveHost.connect`.
        """
        remote, local = check_address(address), check_source(source_address)
        socket = await self.run(socket_scripts.connect(self.driver.stack, remote, local, options, timeout))
        return Connection(self, socket)

    async def listen(
        self, address: tuple[str | None, int], *, backlog: int = 128, options: SocketOptions = DEFAULT_OPTIONS
    ) -> Server:
        """Listen on an address and port. See :meth:`hoststack.LiveHost.listen`."""
        own, port = check_address(address)
        listener = self.driver.stack.tcp_listen(own or None, port, backlog, options)
        return Server(self, listener)

    async def ping(
        self, destination: str, *, size: int = 56, timeout: float | None = DEFAULT_TIMEOUT
    ) -> float:
        """Round trip of one echo, in seconds."""
        return await self.run(socket_scripts.ping(self.driver.stack, destination, size, timeout))

    # -- the chimney ---------------------------------------------------------------------------

    async def offload(self, connections: Sequence[Connection], *, timeout: float | None = None) -> Operation:
        """Hand connections to the adapter in one tree; those that it refuses go on in the host."""
        sockets = [c.socket for c in connections]
        return await self.run(live.offload(self.driver, sockets, True, self._limit(timeout)))

    async def upload(
        self, connections: Sequence[Connection], *, idle: bool = True, timeout: float | None = None
    ) -> Operation:
        """Take connections back; they go on in the host. See :meth:`hoststack.LiveHost.upload`."""
        sockets = [c.socket for c in connections]
        return await self.run(live.upload(self.driver, sockets, idle, True, self._limit(timeout)))

    async def query(
        self, connections: Sequence[Connection], classes: str = "delegated", *, timeout: float | None = None
    ) -> Operation:
        """Read the state of offloaded connections from the adapter. See :meth:`hoststack.LiveHost.query`."""
        sockets = [c.socket for c in connections]
        return await self.run(live.query(self.driver, sockets, classes, True, self._limit(timeout)))

    # -- leaving -------------------------------------------------------------------------------

    async def close(self) -> None:
        """Leave the bus, once what was written has arrived. Waits for ``timeout`` seconds at most."""
        try:
            if self.runner.over is None:
                for transport in tuple(self.transports):
                    transport.close()
                await self.wait_for(lambda: not self.transports, self.timeout)
                await self.run(live.leave(self.driver, self.timeout))
        finally:
            await self.runner.close()

    def _over(self, error: BaseException) -> None:
        for transport in tuple(self.transports):
            transport.lost(error)


@asynccontextmanager
async def connect_host(
    name: str = "myhost",
    endpoint: str | None = None,
    *,
    bind: str = "auto",
    timeout: float = 5.0,
    upload_policy: Callable[[Tcb, int], bool] | None = None,
    addresses: Iterable[IPv4Interface | IPv6Interface | str] | None = None,
    gateways: Iterable[tuple[str, str]] = (),
    seed: int = 0,
) -> AsyncIterator[LiveHost]:
    """A :class:`LiveHost` for the length of an ``async with``. See :meth:`LiveHost.attach`."""
    host = await LiveHost.attach(
        name,
        endpoint,
        bind=bind,
        timeout=timeout,
        upload_policy=upload_policy,
        addresses=addresses,
        gateways=gateways,
        seed=seed,
    )
    async with host:
        yield host
