"""A live host of one's own: sockets through the emulated stack, connections handed to the chimney and back.

::

    from hoststack import LiveHost

    with LiveHost.attach("myhost", addresses=["10.77.0.20/24"]) as host:
        with host.network.connect(("10.77.0.2", 7)) as connection:
            host.offload_connections([connection])
            connection.sendall(b"through the chimney")
            print(connection.recv_exactly(19))
            host.upload_connections([connection])

See ``examples/live_host.py``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Interface, IPv6Interface
from types import TracebackType
from typing import Any, Final, Self
from zlib import crc32

from hoststack.api.host import Host, HostTimeout
from hoststack.api.runners import ProcessRunner, Runner
from hoststack.api.sockets import Connection, Network
from hoststack.live.nethost import NetHost
from hoststack.model.objects import Tcb
from hoststack.model.operation import Operation
from hoststack.net.socket import Socket

__all__ = ["LiveHost", "default_addresses"]

#: How long peers have to close their side when this host leaves (seconds).
_FAREWELL: Final = 1.0


def default_addresses(name: str) -> tuple[str, str]:
    """Addresses on the network of ``hoststack peer`` for a host of that name: 10.77.0.16 to .239, and fd77::.

    Names are unique on a bus, so hosts that are attached word for word rarely meet with one address.
    """
    number = 16 + crc32(name.encode()) % 224
    return f"10.77.0.{number}/24", f"fd77::{number}/64"


class LiveHost(Host):
    """A :class:`~hoststack.api.host.Host` whose driver is a :class:`~hoststack.live.nethost.NetHost`."""

    def __init__(self, runner: Runner, *, timeout: float = 5.0) -> None:
        super().__init__(runner, timeout=timeout)
        self.network = Network(self.driver.stack, runner)

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
    ) -> Self:
        """As :meth:`Host.attach`, and wait until the adapter is on the network.

        ``addresses``: the own ones, with prefix lengths; hosts that are there at the same time need different
        ones, so by default they follow from the name (:func:`default_addresses`). ``gateways``: (network,
        gateway) pairs. ``seed``: of ports and sequence numbers. Raises what :meth:`Host.attach` does, and
        :class:`HostTimeout` for an adapter without a station address.
        """
        addresses = default_addresses(name) if addresses is None else addresses
        options: dict[str, Any] = {} if upload_policy is None else {"upload_policy": upload_policy}
        rng = random.Random(f"{seed}/{name}")
        driver = NetHost(name, addresses=addresses, rng=rng, gateways=gateways, bind=bind, **options)
        runner = ProcessRunner(driver, name=name, endpoint=endpoint)
        host = cls(runner, timeout=timeout)
        try:
            if wait_bound:
                host.wait_bound()
                if driver.interface is None:
                    raise HostTimeout(f"the adapter of {name!r} has no station address, and so no network")
        except BaseException:
            runner.close()
            raise
        return host

    @property
    def driver(self) -> NetHost:
        """The driver behind it, for what has no method here."""
        driver = self.runner.driver
        assert isinstance(driver, NetHost)
        return driver

    def close(self) -> None:
        """Leave the bus, once what was sent has arrived: the network stack ends with this host.

        Connections that are open are closed. Waits for ``timeout`` seconds at most.
        """
        try:
            self._finish()
        finally:
            super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, Exception):
            self.close()
        else:
            super().close()  # interrupted: whoever did that does not want to wait

    def _finish(self) -> None:
        """Close connections, and let them come to their end."""
        driver = self.driver
        transport = driver.stack.transport
        driver.stack.advance(self.runner.now())
        for socket in list(transport.sockets.values()):
            socket.close()
        left = [s for s in transport.sockets.values() if s.error is None]

        def over(s: Socket) -> bool:
            return s.error is not None or s.finished or transport.sockets.get(s.key) is not s

        def alone() -> bool:
            return driver.binding is None  # nothing goes out any more

        sent = self.network.wait(
            lambda: alone() or all(over(s) or not s.unacknowledged for s in left), self.timeout
        )
        if sent:
            self.network.wait(lambda: alone() or all(map(over, left)), min(_FAREWELL, self.timeout))

    def offload_connections(
        self, connections: Sequence[Connection], *, wait: bool = True, timeout: float | None = None
    ) -> Operation:
        """Hand connections to the chimney; those that are refused go on in the host.

        Raises as :meth:`NetHost.offload_sockets`.
        """
        sockets = [c.socket for c in connections]
        return self._do(lambda: self.driver.offload_sockets(sockets), wait, timeout)

    def upload_connections(
        self,
        connections: Sequence[Connection],
        *,
        idle: bool = True,
        wait: bool = True,
        timeout: float | None = None,
    ) -> Operation:
        """Take connections back; they go on in the host. ``idle``: as for :meth:`Host.terminate`."""
        sockets = [c.socket for c in connections]
        return self._do(lambda: self.driver.upload_sockets(sockets, idle=idle), wait, timeout)
