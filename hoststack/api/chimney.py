"""The chimney of a host, in plain blocking Python: operations on state objects.

Every method that starts an operation waits for it (``wait=False`` does not) and returns it. A refusal is an
outcome of the operation; only the caller's own mistakes, an absent bus and a deadline that passes are
exceptions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from hoststack.api.errors import HostTimeout
from hoststack.api.scripts import Script, Wait
from hoststack.model.objects import Neighbor, Path, StateObject, Tcb
from hoststack.model.operation import Operation
from ndisbus.errors import BusUnavailable, LocalProtocolError

if TYPE_CHECKING:
    from hoststack.api.runners import Runner
    from hoststack.chimney.driver import HostDriver
    from hoststack.model.events import HostEvent

__all__ = ["Chimney", "attached", "bound", "completed", "perform"]

T = TypeVar("T")


def completed(operation: Operation, seconds: float | None) -> Script[Operation]:
    """Wait for an operation. :class:`HostTimeout` names it and what it still waits for."""
    if not (yield Wait(lambda: operation.done, seconds)):
        raise HostTimeout(f"{operation!r} was not completed within {seconds:g} s: {operation.counts()}")
    return operation


def perform(action: Callable[[], Operation], wait: bool, seconds: float | None) -> Script[Operation]:
    """Start an operation, and wait for it if that is wanted."""
    operation = action()
    if wait:
        yield from completed(operation, seconds)
    return operation


def attached(driver: HostDriver, seconds: float | None) -> Script[None]:
    """Wait until a bus has let the host in. Raises :class:`BusUnavailable`."""
    if not (yield Wait(lambda: driver.ndis.attached, seconds)):
        raise BusUnavailable(
            f"no bus let {driver.name!r} in within {seconds:g} s; is 'ndisbus serve' running, "
            "and NDISBUS_ENDPOINT the same for both?"
        )


def bound(driver: HostDriver, seconds: float | None) -> Script[None]:
    """Wait until an adapter is bound and its chimney enabled, refused or paused."""
    yield from attached(driver, seconds)
    if not (yield Wait(lambda: driver.chimney.state not in ("unbound", "asking"), seconds)):
        if driver.binding is not None:
            what = f"the chimney of {driver.binding.adapter} was not decided about"
        else:
            what = f"no adapter was offered to {driver.name!r} (it binds to {driver.bind!r})"
        raise HostTimeout(f"{what} within {seconds:g} s; 'ndisbus ps' shows which are there")


class Chimney:
    """Operations on state objects. ``timeout``: seconds that a method waits unless told otherwise.

    On a host with a network, the connections of its stack are not for these methods: they raise
    :class:`LocalProtocolError`. Connections have methods of their own (:class:`hoststack.Connection`).
    """

    def __init__(self, runner: Runner, *, timeout: float = 5.0) -> None:
        self.runner = runner
        self.timeout = timeout

    @property
    def driver(self) -> HostDriver:
        """The driver behind it. Change it inside :meth:`act` only: another thread may be serving it."""
        return self.runner.driver

    @property
    def adapter(self) -> str | None:
        """The name of the adapter that the host is bound to, None without one."""
        binding = self.driver.binding
        return None if binding is None else binding.adapter

    def _limit(self, timeout: float | None) -> float:
        return self.timeout if timeout is None else timeout

    # -- waiting -------------------------------------------------------------------------------

    def act(self, action: Callable[[], T]) -> T:
        """Run ``action()`` in the thread that serves the host, and return what it returns."""
        return self.runner.act(action)

    def pump(self, until: Callable[[], object] = lambda: False, timeout: float | None = None) -> bool:
        """Wait until a condition holds or the time is over; whether it holds.

        A host that was attached with ``threaded=False`` moves its messages meanwhile, and only then.
        """
        return self.runner.run_until(until, self._limit(timeout))

    def wait(self, operation: Operation, timeout: float | None = None) -> Operation:
        """Wait for an operation. :class:`HostTimeout` names it and what it still waits for."""
        return self.runner.run(completed(operation, self._limit(timeout)))

    def wait_attached(self, timeout: float | None = None) -> None:
        """Wait until a bus has let this host in. Raises :class:`BusUnavailable`."""
        self.runner.run(attached(self.driver, self._limit(timeout)))

    def wait_bound(self, timeout: float | None = None) -> None:
        """Wait until an adapter is bound and its chimney enabled, refused or paused.

        Raises :class:`BusUnavailable` without a bus, :class:`HostTimeout` without an adapter; either wait
        may take ``timeout`` seconds.
        """
        self.runner.run(bound(self.driver, self._limit(timeout)))

    def events(self) -> Iterator[HostEvent]:
        """Take the events that have not been read, oldest first.

        The last 1,024 are kept for a program that does not read them, fewer if they keep more than 4 MiB
        alive; ``driver.events.dropped`` counts older ones.
        """
        while (event := self.driver.next_event()) is not None:
            yield event

    def _own(self, objects: Sequence[StateObject]) -> None:
        for obj in objects:
            reason = self.driver.reserved(obj)
            if reason:
                raise LocalProtocolError(reason)

    def _start(
        self,
        start: Callable[[], Operation],
        objects: Sequence[StateObject],
        wait: bool = True,
        timeout: float | None = None,
    ) -> Operation:
        def action() -> Operation:
            self._own(objects)
            return start()

        return self.runner.run(perform(action, wait, self._limit(timeout)))

    def _on(self, tcb: Tcb, action: Callable[[], T]) -> T:
        def owned() -> T:
            self._own((tcb,))
            return action()

        return self.runner.act(owned)

    # -- operations ----------------------------------------------------------------------------

    def offload(
        self, objects: Sequence[StateObject], *, wait: bool = True, timeout: float | None = None
    ) -> Operation:
        """See :meth:`HostDriver.offload`."""
        return self._start(lambda: self.driver.offload(objects), objects, wait, timeout)

    def query(
        self,
        objects: Sequence[StateObject],
        classes: str = "delegated",
        *,
        wait: bool = True,
        timeout: float | None = None,
    ) -> Operation:
        """See :meth:`HostDriver.query`."""
        return self._start(lambda: self.driver.query(objects, classes), objects, wait, timeout)

    def update(
        self, objects: Sequence[StateObject], *, wait: bool = True, timeout: float | None = None
    ) -> Operation:
        """See :meth:`HostDriver.update`."""
        return self._start(lambda: self.driver.update(objects), objects, wait, timeout)

    def relink(
        self, paths: Sequence[Path], neighbor: Neighbor, *, wait: bool = True, timeout: float | None = None
    ) -> Operation:
        """See :meth:`HostDriver.relink`."""
        return self._start(lambda: self.driver.relink(paths, neighbor), paths, wait, timeout)

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
        return self._start(
            lambda: self.driver.failover(old, new, invalidate=invalidate), (old, new), wait, timeout
        )

    def invalidate(
        self, objects: Sequence[StateObject], *, wait: bool = True, timeout: float | None = None
    ) -> Operation:
        """See :meth:`HostDriver.invalidate`."""
        return self._start(lambda: self.driver.invalidate(objects), objects, wait, timeout)

    def terminate(
        self,
        objects: Sequence[StateObject],
        *,
        idle: bool = False,
        wait: bool = True,
        timeout: float | None = None,
    ) -> Operation:
        """See :meth:`HostDriver.terminate`."""
        return self._start(lambda: self.driver.terminate(objects, idle=idle), objects, wait, timeout)

    def upload_everything(self, *, wait: bool = True, timeout: float | None = None) -> Operation:
        """See :meth:`HostDriver.upload_everything`."""
        return self._start(self.driver.upload_everything, (), wait, timeout)

    def disable_chimney(self, *, wait: bool = True, timeout: float | None = None) -> Operation:
        """See :meth:`HostDriver.disable_chimney`."""
        return self._start(self.driver.disable_chimney, (), wait, timeout)

    def enable_chimney(self, *, wait: bool = True, timeout: float | None = None) -> Operation:
        """See :meth:`HostDriver.enable_chimney`."""
        return self._start(self.driver.enable_chimney, (), wait, timeout)

    # -- data ----------------------------------------------------------------------------------

    def send(self, tcb: Tcb, data: bytes) -> None:
        """See :meth:`HostDriver.send`."""
        self._on(tcb, lambda: self.driver.send(tcb, data))

    def receive(self, tcb: Tcb, size: int) -> None:
        """See :meth:`HostDriver.receive`; the data ends up in ``tcb.read()``."""
        self._on(tcb, lambda: self.driver.receive(tcb, size))

    def disconnect(self, tcb: Tcb, *, abortive: bool = False, data: bytes = b"") -> None:
        """See :meth:`HostDriver.disconnect`."""
        self._on(tcb, lambda: self.driver.disconnect(tcb, abortive=abortive, data=data))

    def deliver(self, tcb: Tcb, segments: Sequence[bytes]) -> bool:
        """See :meth:`HostDriver.deliver`."""
        return self._on(tcb, lambda: self.driver.deliver(tcb, segments))

    # -- the bus -------------------------------------------------------------------------------

    def control(self, verb: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        """A control request to the bus: ``ps``, ``fault.add``, ... Raises what the bus answers."""
        return self.runner.control(verb, arguments or {})
