"""A host without a network: a protocol driver on an adapter, and state objects that the program makes up.

::

    from hoststack import Host, synthetic

    with Host.attach("myhost") as host:
        operation = host.offload(connections)
        print(operation.counts())
        host.terminate(connections, idle=True)

See ``examples/custom_host.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from hoststack.api.attaching import describe, join, open_runner
from hoststack.api.chimney import Chimney
from hoststack.chimney.driver import HostDriver
from hoststack.model.objects import Tcb

__all__ = ["Host"]


class Host(Chimney):
    """A host on a runner: the operations of :class:`Chimney`, and the life of the host.

    ``timeout``: seconds that a method waits unless told otherwise.
    """

    @classmethod
    def attach(
        cls,
        name: str = "myhost",
        endpoint: str | None = None,
        *,
        bind: str = "auto",
        timeout: float = 5.0,
        upload_policy: Callable[[Tcb, int], bool] | None = None,
        wait_bound: bool = True,
        threaded: bool = True,
    ) -> Self:
        """Join the bus as a host and wait until an adapter is bound and its chimney decided about.

        ``endpoint``: None for ``NDISBUS_ENDPOINT`` or its default. ``bind``: an adapter's name, or
        ``"auto"``. ``upload_policy(tcb, reason)``: whether to follow an upload request that may be
        declined. ``threaded``: serve the host in a thread of its own, so that it answers the bus whatever
        the program does; without it the host is served while one of its methods runs (:meth:`pump`).
        Raises :class:`~ndisbus.errors.BusUnavailable` without a bus, :class:`HostTimeout` without an
        adapter.
        """
        driver = HostDriver(name, bind=bind)
        if upload_policy is not None:
            driver.upload_policy = upload_policy
        runner = open_runner(driver, name, endpoint, threaded)
        return join(cls(runner, timeout=timeout), wait_bound)

    def __repr__(self) -> str:
        return describe(self, self.driver)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.runner.abandon():
            self.close()

    def close(self) -> None:
        """Leave the bus. NDIS then terminates what is offloaded; upload it first to keep its state."""
        self.runner.close()
