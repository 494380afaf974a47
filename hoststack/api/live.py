"""A host on the network: connections through the emulated stack, handed to the chimney and taken back.

::

    from hoststack import LiveHost

    with LiveHost.attach("myhost", addresses=["10.77.0.20/24"]) as host:
        with host.connect(("10.77.0.2", 7)) as connection:
            connection.offload()
            connection.sendall(b"through the chimney")
            print(connection.recv_exactly(19))
            connection.upload()

See ``examples/live_host.py``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from ipaddress import IPv4Interface, IPv6Interface
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from hoststack.api.attaching import describe, join, open_runner
from hoststack.api.chimney import Chimney, bound, perform
from hoststack.api.errors import HostClosed, HostTimeout
from hoststack.api.network import DEFAULT, Default, Network
from hoststack.api.scripts import Script, Wait
from hoststack.api.sockets import Connection, Server
from hoststack.live.nethost import NetHost
from hoststack.model.objects import ConnectionState, Tcb
from hoststack.model.operation import Operation
from hoststack.net.errors import NotConnected
from hoststack.net.options import DEFAULT_OPTIONS, SocketOptions
from ndisbus.errors import LocalProtocolError

if TYPE_CHECKING:
    from hoststack.api.runners import Runner
    from hoststack.net.socket import Socket

__all__ = ["LiveHost", "joined", "leave", "new_driver", "offload", "query", "upload"]

T = TypeVar("T")

#: How long remote ends have to close their side when this host leaves (seconds).
_FAREWELL: Final = 1.0


def new_driver(
    name: str,
    addresses: Iterable[IPv4Interface | IPv6Interface | str] | None,
    gateways: Iterable[tuple[str, str]],
    bind: str,
    upload_policy: Callable[[Tcb, int], bool] | None,
    seed: int,
) -> NetHost:
    """The driver of a live host; see :meth:`LiveHost.attach`."""
    options: dict[str, Any] = {} if upload_policy is None else {"upload_policy": upload_policy}
    rng = random.Random(f"{seed}/{name}")
    return NetHost(name, addresses=addresses, rng=rng, gateways=gateways, bind=bind, **options)


# -- what a live host does, as scripts: for threads and for asyncio alike ---------------------------


def joined(driver: NetHost, seconds: float | None) -> Script[None]:
    """Wait until the host is bound, its adapter is on the network, and its addresses are its own.

    Raises :class:`AddressConflict` if another host has an address that was asked for.
    """
    yield from bound(driver, seconds)
    if driver.interface is None:
        raise HostTimeout(f"the adapter of {driver.name!r} has no station address, and so no network")
    settled = yield Wait(lambda: driver.addresses.settled, seconds)
    driver.addresses.check()
    if not settled:
        raise HostTimeout(f"{driver.name!r}: the test of its addresses did not end within {seconds:g} s")


def offload(
    driver: NetHost, sockets: Sequence[Socket], wait: bool, seconds: float | None
) -> Script[Operation]:
    """Hand connections to the chimney."""
    return perform(lambda: driver.offload_sockets(sockets), wait, seconds)


def upload(
    driver: NetHost, sockets: Sequence[Socket], idle: bool, wait: bool, seconds: float | None
) -> Script[Operation]:
    """Take connections back, except those that came back by themselves."""

    def start() -> Operation:
        away = [s for s in sockets if s.tcb.connection_state is not ConnectionState.IN_HOST]
        return driver.upload_sockets(away, idle=idle)

    return perform(start, wait, seconds)


def query(
    driver: NetHost, sockets: Sequence[Socket], classes: str, wait: bool, seconds: float | None
) -> Script[Operation]:
    """Read the state of connections from the adapter."""

    def start() -> Operation:
        for s in sockets:
            if s.closed and not s.tcb.is_offloaded:
                raise NotConnected(f"{s}: it was closed by this program")
            if not s.tcb.is_offloaded:
                where = s.tcb.connection_state.value
                raise LocalProtocolError(f"{s} is {where}: only what is Offloaded can be queried")
        return driver.query([s.tcb for s in sockets], classes)

    return perform(start, wait, seconds)


def leave(driver: NetHost, seconds: float) -> Script[None]:
    """Close all connections, wait until what was sent has arrived, and shortly for the remote ends."""
    transport = driver.stack.transport
    for socket in list(transport.sockets.values()):
        socket.close()
    left = [s for s in transport.sockets.values() if s.error is None]

    def over(s: Socket) -> bool:
        return s.error is not None or s.finished or transport.sockets.get(s.key) is not s

    def alone() -> bool:
        return driver.binding is None  # nothing goes out any more

    sent = yield Wait(lambda: alone() or all(over(s) or not s.unacknowledged for s in left), seconds)
    if sent:
        yield Wait(lambda: alone() or all(map(over, left)), min(_FAREWELL, seconds))


class LiveHost:
    """A host with a network stack: it connects and listens, and moves connections to the adapter and back.

    ``chimney`` has the raw operations on state objects that the program makes up, beside the connections.
    Several threads may use a host and its connections, unless it was attached with ``threaded=False``.
    """

    def __init__(self, runner: Runner, *, timeout: float = 5.0) -> None:
        self.runner = runner
        self.timeout = timeout
        self.chimney = Chimney(runner, timeout=timeout)
        self._network = Network(self.driver.stack, runner, chimney=self)

    @classmethod
    def attach(
        cls,
        name: str = "myhost",
        endpoint: str | None = None,
        *,
        addresses: Iterable[IPv4Interface | IPv6Interface | str] | None = None,
        gateways: Iterable[tuple[str, str]] = (),
        bind: str = "auto",
        timeout: float = 5.0,
        upload_policy: Callable[[Tcb, int], bool] | None = None,
        wait_bound: bool = True,
        seed: int = 0,
        threaded: bool = True,
    ) -> Self:
        """As :meth:`Host.attach`, and wait until the adapter is on the network.

        ``addresses``: the own ones, with prefix lengths; by default a pair from 10.77.0.0/24 and fd77::/64
        that is free, where the search begins at a place that follows from the name. ``gateways``: (network,
        gateway) pairs. ``seed``: of ports and sequence numbers. Raises what :meth:`Host.attach` does,
        :class:`HostTimeout` for an adapter without a station address, and :class:`AddressConflict` if another
        host has one of the addresses.
        """
        driver = new_driver(name, addresses, gateways, bind, upload_policy, seed)
        runner = open_runner(driver, name, endpoint, threaded)
        return join(cls(runner, timeout=timeout), wait_bound)

    def __repr__(self) -> str:
        return describe(self, self.driver)

    @property
    def driver(self) -> NetHost:
        """The driver behind it. Change it inside :meth:`act` only: another thread may be serving it."""
        driver = self.runner.driver
        assert isinstance(driver, NetHost)
        return driver

    @property
    def addresses(self) -> tuple[IPv4Interface | IPv6Interface, ...]:
        """The host's own addresses with their prefix lengths: those asked for, or those it found free.

        Empty until the adapter is on the network (:meth:`wait_bound`).
        """
        return self.driver.addresses.assigned

    # -- connections ---------------------------------------------------------------------------

    def connect(
        self,
        address: tuple[str, int],
        *,
        source_address: tuple[str | None, int] | None = None,
        options: SocketOptions = DEFAULT_OPTIONS,
        timeout: float | Default | None = DEFAULT,
    ) -> Connection:
        """See :meth:`Network.connect`."""
        return self._network.connect(address, source_address=source_address, options=options, timeout=timeout)

    def listen(
        self,
        address: tuple[str | None, int],
        *,
        backlog: int = 128,
        options: SocketOptions = DEFAULT_OPTIONS,
        timeout: float | Default | None = DEFAULT,
    ) -> Server:
        """See :meth:`Network.listen`."""
        return self._network.listen(address, backlog=backlog, options=options, timeout=timeout)

    def ping(self, destination: str, *, size: int = 56, timeout: float | Default | None = DEFAULT) -> float:
        """See :meth:`Network.ping`."""
        return self._network.ping(destination, size=size, timeout=timeout)

    # -- the chimney ---------------------------------------------------------------------------

    def _run(self, script: Script[T]) -> T:
        return self._network.run(script)

    def _limit(self, timeout: float | None) -> float:
        return self.timeout if timeout is None else timeout

    def offload(
        self, connections: Sequence[Connection], *, wait: bool = True, timeout: float | None = None
    ) -> Operation:
        """Hand connections to the adapter in one tree; those that it refuses go on in the host.

        Raises as :meth:`NetHost.offload_sockets`.
        """
        sockets = [c.socket for c in connections]
        return self._run(offload(self.driver, sockets, wait, self._limit(timeout)))

    def upload(
        self,
        connections: Sequence[Connection],
        *,
        idle: bool = True,
        wait: bool = True,
        timeout: float | None = None,
    ) -> Operation:
        """Take connections back; they go on in the host. Those that it serves already are left out.

        ``idle``: also the paths and neighbors on which nothing depends after that.
        """
        sockets = [c.socket for c in connections]
        return self._run(upload(self.driver, sockets, idle, wait, self._limit(timeout)))

    def query(
        self,
        connections: Sequence[Connection],
        classes: str = "delegated",
        *,
        wait: bool = True,
        timeout: float | None = None,
    ) -> Operation:
        """Read the state of offloaded connections from the adapter: ``result_of(connection.tcb)`` has it.

        ``classes``: ``"const"``, ``"cached"``, ``"delegated"`` or ``"whole"``. Raises
        :class:`LocalProtocolError` for a connection that is not offloaded.
        """
        sockets = [c.socket for c in connections]
        return self._run(query(self.driver, sockets, classes, wait, self._limit(timeout)))

    # -- waiting and leaving -------------------------------------------------------------------

    def act(self, action: Callable[[], T]) -> T:
        """Run ``action()`` in the thread that serves the host, and return what it returns."""
        return self._network.act(action)

    def pump(self, until: Callable[[], object] = lambda: False, timeout: float | None = None) -> bool:
        """See :meth:`Chimney.pump`."""
        return self._network.wait(until, self._limit(timeout))

    def wait_bound(self, timeout: float | None = None) -> None:
        """Wait until an adapter is bound and on the network. Raises as :meth:`attach` does."""
        self._run(joined(self.driver, self._limit(timeout)))

    def close(self) -> None:
        """Leave the bus, once what was sent has arrived: the network stack ends with this host.

        Connections that are open are closed. Waits for ``timeout`` seconds at most. A second call does
        nothing.
        """
        try:
            with suppress(HostClosed):
                self._run(leave(self.driver, self.timeout))
        finally:
            self.runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.runner.abandon():
            return
        if kind is None or issubclass(kind, Exception):
            self.close()
        else:
            self.runner.close()  # interrupted: the user does not want to wait
