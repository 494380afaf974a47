"""A host of one's own, in plain blocking Python.

::

    from hoststack import Host, synthetic

    with Host.attach("myhost") as host:
        operation = host.offload(connections)
        print(operation.counts())
        host.terminate(connections, idle=True)

Every method that starts an operation waits for it (``wait=False`` does not) and returns it. A refusal is
an outcome of the operation; only the caller's own mistakes, an absent bus and a deadline that passes are
exceptions. See ``examples/custom_host.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from hoststack.api.runners import ProcessRunner, Runner
from hoststack.chimney.driver import HostDriver
from hoststack.model.events import HostEvent
from hoststack.model.objects import Neighbor, Path, StateObject, Tcb
from hoststack.model.operation import Operation
from ndisbus.errors import BusUnavailable, ChimneyError

__all__ = ["Host", "HostTimeout"]

T = TypeVar("T")


class HostTimeout(ChimneyError):
    """Something did not happen in time; it may still happen."""


class Host:
    """A host stack on a runner. ``timeout``: seconds that a method waits unless told otherwise."""

    def __init__(self, runner: Runner, *, timeout: float = 5.0) -> None:
        self.runner = runner
        self.timeout = timeout

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
    ) -> Self:
        """Join the bus as a host and wait until an adapter is bound and its chimney decided about.

        ``endpoint``: None for ``NDISBUS_ENDPOINT`` or its default. ``bind``: an adapter's name, or
        ``"auto"``. ``upload_policy(tcb, reason)``: whether to follow an upload request that may be
        declined. Raises :class:`~ndisbus.errors.BusUnavailable` without a bus, :class:`HostTimeout`
        without an adapter.
        """
        driver = HostDriver(name, bind=bind)
        if upload_policy is not None:
            driver.upload_policy = upload_policy
        runner = ProcessRunner(driver, name=name, endpoint=endpoint)
        host = cls(runner, timeout=timeout)
        try:
            if wait_bound:
                host.wait_bound()
        except BaseException:
            runner.close()
            raise
        return host

    def __repr__(self) -> str:
        driver = self.driver
        where = "unbound" if driver.binding is None else f"on {driver.binding.adapter}"
        return f"<Host {driver.name!r}, {where}, chimney {driver.chimney.state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the bus. What is offloaded is terminated by NDIS then; upload it first to keep its state."""
        self.runner.close()

    @property
    def driver(self) -> HostDriver:
        """The driver behind it, for what has no method here."""
        return self.runner.driver

    # -- waiting -------------------------------------------------------------------------------

    def pump(self, until: Callable[[], bool] = lambda: False, timeout: float | None = None) -> bool:
        """Move messages until a condition holds or the time is over; whether it holds."""
        return self.runner.run_until(until, self.timeout if timeout is None else timeout)

    def wait(self, operation: Operation, timeout: float | None = None) -> Operation:
        """Wait for an operation. :class:`HostTimeout` names it and what it still waits for."""
        if not self.pump(lambda: operation.done, timeout):
            limit = self.timeout if timeout is None else timeout
            raise HostTimeout(f"{operation!r} was not completed within {limit:g} s: {operation.counts()}")
        return operation

    def wait_attached(self, timeout: float | None = None) -> None:
        """Wait until a bus has let this host in. Raises :class:`BusUnavailable`."""
        if not self.pump(lambda: self.driver.ndis.attached, timeout):
            limit = self.timeout if timeout is None else timeout
            raise BusUnavailable(
                f"no bus let {self.driver.name!r} in within {limit:g} s; is 'ndisbus serve' running, "
                "and NDISBUS_ENDPOINT the same for both?"
            )

    def wait_bound(self, timeout: float | None = None) -> None:
        """Wait until an adapter is bound and its chimney enabled, refused or paused.

        Raises as :meth:`attach` does; either wait may take ``timeout`` seconds.
        """
        self.wait_attached(timeout)
        if not self.pump(lambda: self.driver.chimney.state not in ("unbound", "asking"), timeout):
            driver = self.driver
            limit = self.timeout if timeout is None else timeout
            if driver.binding is not None:
                what = f"the chimney of {driver.binding.adapter} was not decided about"
            else:
                what = f"no adapter was offered to {driver.name!r} (it binds to {driver.bind!r})"
            raise HostTimeout(f"{what} within {limit:g} s; 'ndisbus ps' shows who is there")

    def events(self) -> Iterator[HostEvent]:
        """Take the events that have not been read, oldest first.

        The last 1,024 are kept for a program that does not read them; ``driver.events.dropped`` counts
        older ones.
        """
        while (event := self.driver.next_event()) is not None:
            yield event

    def _do(self, action: Callable[[], Operation], wait: bool, timeout: float | None) -> Operation:
        operation = self.runner.act(action)
        return self.wait(operation, timeout) if wait else operation

    # -- operations ----------------------------------------------------------------------------

    def offload(
        self, objects: Sequence[StateObject], *, wait: bool = True, timeout: float | None = None
    ) -> Operation:
        """See :meth:`HostDriver.offload`."""
        return self._do(lambda: self.driver.offload(objects), wait, timeout)

    def query(
        self,
        objects: Sequence[StateObject],
        classes: str = "delegated",
        *,
        wait: bool = True,
        timeout: float | None = None,
    ) -> Operation:
        """See :meth:`HostDriver.query`."""
        return self._do(lambda: self.driver.query(objects, classes), wait, timeout)

    def update(
        self, objects: Sequence[StateObject], *, wait: bool = True, timeout: float | None = None
    ) -> Operation:
        """See :meth:`HostDriver.update`."""
        return self._do(lambda: self.driver.update(objects), wait, timeout)

    def relink(
        self, paths: Sequence[Path], neighbor: Neighbor, *, wait: bool = True, timeout: float | None = None
    ) -> Operation:
        """See :meth:`HostDriver.relink`."""
        return self._do(lambda: self.driver.relink(paths, neighbor), wait, timeout)

    def failover(
        self,
        old: Neighbor,
        new: Neighbor,
        *,
        invalidate: bool = True,
        wait: bool = True,
        timeout: float | None = None,
    ) -> Operation:
        """See :meth:`HostDriver.failover`."""
        return self._do(lambda: self.driver.failover(old, new, invalidate=invalidate), wait, timeout)

    def invalidate(
        self, objects: Sequence[StateObject], *, wait: bool = True, timeout: float | None = None
    ) -> Operation:
        """See :meth:`HostDriver.invalidate`."""
        return self._do(lambda: self.driver.invalidate(objects), wait, timeout)

    def terminate(
        self,
        objects: Sequence[StateObject],
        *,
        idle: bool = False,
        wait: bool = True,
        timeout: float | None = None,
    ) -> Operation:
        """See :meth:`HostDriver.terminate`."""
        return self._do(lambda: self.driver.terminate(objects, idle=idle), wait, timeout)

    def upload_everything(self, *, wait: bool = True, timeout: float | None = None) -> Operation:
        """See :meth:`HostDriver.upload_everything`."""
        return self._do(self.driver.upload_everything, wait, timeout)

    def disable_chimney(self, *, wait: bool = True, timeout: float | None = None) -> Operation:
        """See :meth:`HostDriver.disable_chimney`."""
        return self._do(self.driver.disable_chimney, wait, timeout)

    def enable_chimney(self, *, wait: bool = True, timeout: float | None = None) -> Operation:
        """See :meth:`HostDriver.enable_chimney`."""
        return self._do(self.driver.enable_chimney, wait, timeout)

    # -- data ----------------------------------------------------------------------------------

    def send(self, tcb: Tcb, data: bytes) -> None:
        """See :meth:`HostDriver.send`."""
        self.runner.act(lambda: self.driver.send(tcb, data))

    def receive(self, tcb: Tcb, size: int) -> None:
        """See :meth:`HostDriver.receive`; the data ends up in ``tcb.read()``."""
        self.runner.act(lambda: self.driver.receive(tcb, size))

    def disconnect(self, tcb: Tcb, *, abortive: bool = False, data: bytes = b"") -> None:
        """See :meth:`HostDriver.disconnect`."""
        self.runner.act(lambda: self.driver.disconnect(tcb, abortive=abortive, data=data))

    def deliver(self, tcb: Tcb, segments: Sequence[bytes]) -> bool:
        """See :meth:`HostDriver.deliver`."""
        return self.runner.act(lambda: self.driver.deliver(tcb, segments))

    # -- the bus -------------------------------------------------------------------------------

    def control(self, verb: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        """A control request to the bus: ``ps``, ``fault.add``, ... Raises what the bus answers."""
        return self.runner.control(verb, arguments or {})
